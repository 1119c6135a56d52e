//! Where this relay, and the others of its cluster, are reached by peers.

use std::sync::Arc;

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::cluster::facts::MAX_EXTRA_BYTES;
use crate::cluster::view::View;

use super::observed::is_global;

/// The fact by which nodes tell one another where peers reach them: addresses with a blank between.
pub const FACT: &str = "p2p.addrs";

/// Most addresses that a node says of itself.
const MAX_OWN: usize = 8;

/// Other nodes whose addresses a peer is told with its place. Any of them completes a circuit to it; more would only
/// make what it announces longer.
const OTHERS: usize = 3;

/// Addresses of each of them.
const EACH: usize = 2;

/// The addresses of the relay.
#[derive(Debug)]
pub struct Addresses {
    me: PeerId,
    /// What the operator says: then nothing else counts.
    given: Vec<Multiaddr>,
    own: RwLock<Vec<Multiaddr>>,
    /// Those of them that the node knows of itself: nobody else said so.
    sure: RwLock<Vec<Multiaddr>>,
    view: watch::Receiver<Arc<View>>,
}

impl Addresses {
    /// With those that the operator gives, if any.
    #[must_use]
    pub fn new(me: PeerId, given: &[Multiaddr], view: watch::Receiver<Arc<View>>) -> Self {
        let given: Vec<_> = given.iter().map(|address| of_relay(address, me)).collect();
        Self { me, own: RwLock::new(given.clone()), sure: RwLock::new(given.clone()), given, view }
    }

    /// The relay listens at some addresses, and peers have seen it at others. Those count that most others can dial: loopback,
    /// and what only the same link can reach, only if there is nothing else.
    pub fn learnt<'a>(
        &self,
        listening: impl IntoIterator<Item = &'a Multiaddr>,
        observed: impl IntoIterator<Item = &'a Multiaddr>,
    ) {
        if !self.given.is_empty() {
            return;
        }
        let listening: Vec<_> = listening.into_iter().collect();
        let all = listening.iter().copied().chain(observed);
        *self.own.write() = self.usable(all);
        *self.sure.write() = self.usable(listening.iter().copied());
    }

    fn usable<'a>(&self, addresses: impl Iterator<Item = &'a Multiaddr>) -> Vec<Multiaddr> {
        let mut usable: Vec<_> = addresses.map(|address| (reach(address), address)).collect();
        usable.sort_by_key(|(reach, _)| *reach);
        let widest = usable.first().map_or(Reach::Machine, |(reach, _)| *reach);
        let usable = usable.into_iter().filter(|(reach, _)| *reach <= Reach::Network || *reach == widest);
        usable.take(MAX_OWN).map(|(_, address)| of_relay(address, self.me)).collect()
    }

    /// Where this node is reached; each ends in its peer id.
    #[must_use]
    pub fn own(&self) -> Vec<Multiaddr> {
        self.own.read().clone()
    }

    /// The same as a fact for the others.
    #[must_use]
    pub fn as_fact(&self) -> String {
        let mut fact = String::new();
        for address in self.own() {
            let text = address.to_string();
            if fact.len() + text.len() + 1 > MAX_EXTRA_BYTES {
                break;
            }
            if !fact.is_empty() {
                fact.push(' ');
            }
            fact.push_str(&text);
        }
        fact
    }

    /// Where strangers are sent to dial this node that speak nothing but TCP, if it is reached so; else where it is reached
    /// first. It is an address that the operator gives, or at which the node listens: where peers say that they see it there may
    /// be somebody else.
    #[must_use]
    pub fn to_dial(&self) -> Option<Multiaddr> {
        let sure = self.sure.read();
        sure.iter().find(|address| is_plain_tcp(address)).or(sure.first()).cloned()
    }

    /// Whether that peer is a node of the cluster, this one included.
    #[must_use]
    pub fn is_of_cluster(&self, peer: &PeerId) -> bool {
        let view = self.view.borrow().clone();
        let said = view.others().filter_map(|member| member.facts.extras.get(FACT));
        let mut others = said.flat_map(|said| said.split(' ')).filter_map(|text| text.parse().ok());
        *peer == self.me || others.any(|address: Multiaddr| address.iter().last() == Some(Protocol::P2p(*peer)))
    }

    /// What a peer is told with its place: where this node is reached, and then others in service.
    #[must_use]
    pub fn of_cluster(&self) -> Vec<Multiaddr> {
        let mut all = self.own();
        let view = self.view.borrow().clone();
        let serving = view.others().filter(|member| !member.facts.draining);
        let said = serving.filter_map(|member| member.facts.extras.get(FACT)).filter(|said| !said.is_empty());
        for said in said.take(OTHERS) {
            all.extend(said.split(' ').filter_map(|text| text.parse().ok()).filter(is_of_a_relay).take(EACH));
        }
        all
    }
}

/// `address` with the relay's peer id at its end.
fn of_relay(address: &Multiaddr, relay: PeerId) -> Multiaddr {
    let bare: Multiaddr = address.iter().filter(|part| !matches!(part, Protocol::P2p(_))).collect();
    bare.with(Protocol::P2p(relay))
}

/// Whether clients can take `address` for one of a relay.
fn is_of_a_relay(address: &Multiaddr) -> bool {
    let ends_in_a_peer = matches!(address.iter().last(), Some(Protocol::P2p(_)));
    ends_in_a_peer && !address.iter().any(|part| part == Protocol::P2pCircuit)
}

/// Whether `address` is of TCP, with nothing between it and the peers' own handshake.
fn is_plain_tcp(address: &Multiaddr) -> bool {
    let mut from_tcp = address.iter().skip_while(|part| !matches!(part, Protocol::Tcp(_)));
    from_tcp.next().is_some() && from_tcp.all(|part| matches!(part, Protocol::P2p(_)))
}

/// Who can dial an address, the most first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    /// Everybody.
    World,
    /// Those in a network that is not the Internet.
    Network,
    /// Those on the same link.
    Link,
    /// This machine.
    Machine,
}

fn reach(address: &Multiaddr) -> Reach {
    match address.iter().next() {
        Some(Protocol::Ip4(v4)) if v4.is_loopback() => Reach::Machine,
        Some(Protocol::Ip6(v6)) if v6.is_loopback() => Reach::Machine,
        Some(Protocol::Ip4(v4)) if v4.is_link_local() => Reach::Link,
        Some(Protocol::Ip6(v6)) if v6.is_unicast_link_local() => Reach::Link,
        Some(Protocol::Ip4(v4)) if !is_global(v4.into()) => Reach::Network,
        Some(Protocol::Ip6(v6)) if !is_global(v6.into()) => Reach::Network,
        _ => Reach::World,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cluster::facts::Facts;
    use crate::cluster::view::Member;
    use crate::domain::ids::{Generation, NodeRun};

    fn member(node: &str, said: &str) -> Member {
        let run = NodeRun { node: node.parse().unwrap(), generation: Generation(1) };
        let mut facts = Facts::new("127.0.0.1:1".into(), "here".parse().unwrap());
        facts.extras.insert(FACT.to_owned(), said.to_owned());
        Member::new(run, ([127, 0, 0, 1], 1).into(), facts)
    }

    fn addresses(given: &[&str], others: Vec<Member>) -> Addresses {
        let (view, _) = View::assemble(member("me", ""), others);
        let given: Vec<_> = given.iter().map(|text| text.parse().unwrap()).collect();
        Addresses::new(PeerId::random(), &given, watch::channel(Arc::new(view)).1)
    }

    /// Of a node that is reached there, in a cluster with these.
    pub fn addresses_of(me: PeerId, given: &[&str], others: &[PeerId]) -> Addresses {
        let said = |id: &PeerId| member(&id.to_base58()[..40], &format!("/ip4/192.0.2.2/tcp/1/p2p/{id}"));
        let (view, _) = View::assemble(member("me", ""), others.iter().map(said).collect::<Vec<_>>());
        let given: Vec<_> = given.iter().map(|text| text.parse().unwrap()).collect();
        Addresses::new(me, &given, watch::channel(Arc::new(view)).1)
    }

    fn bare(addresses: &[Multiaddr]) -> Vec<String> {
        let bare = |address: &Multiaddr| {
            let id = address.iter().last().unwrap();
            assert!(matches!(id, Protocol::P2p(_)), "{address}");
            address.iter().filter(|part| *part != id).collect::<Multiaddr>().to_string()
        };
        addresses.iter().map(bare).collect()
    }

    #[test]
    fn loopback_counts_only_if_there_is_nothing_else() {
        let addresses = addresses(&[], Vec::new());
        assert!(addresses.own().is_empty());
        let near: Multiaddr = "/ip4/127.0.0.1/tcp/4001".parse().unwrap();
        addresses.learnt([&near], []);
        assert_eq!(bare(&addresses.own()), ["/ip4/127.0.0.1/tcp/4001"]);
        let all: Vec<_> = ["/ip6/fe80::1/tcp/1", "/ip4/10.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/1", "/ip4/8.8.4.4/tcp/1"]
            .map(|text| text.parse().unwrap())
            .into();
        addresses.learnt(&all[..1], &all[1..]);
        assert_eq!(bare(&addresses.own()), ["/ip4/8.8.4.4/tcp/1", "/ip4/10.0.0.1/tcp/1"], "the widest first");
        let many: Vec<_> =
            (1..=20).map(|host| format!("/ip4/10.0.0.{host}/tcp/1").parse().unwrap()).chain(all).collect();
        addresses.learnt(&many, []);
        assert_eq!(bare(&addresses.own())[0], "/ip4/8.8.4.4/tcp/1", "not cut off by others");
    }

    #[test]
    fn nobody_is_sent_where_only_peers_say_that_the_node_is() {
        let addresses = addresses(&[], Vec::new());
        assert_eq!(addresses.to_dial(), None);
        let observed: Multiaddr = "/ip4/8.8.4.4/tcp/1".parse().unwrap();
        addresses.learnt([], [&observed]);
        assert_eq!(addresses.to_dial(), None);
        let listening: Vec<_> =
            ["/ip4/10.0.0.1/udp/1/quic-v1", "/ip4/10.0.0.1/tcp/1"].map(|text| text.parse().unwrap()).into();
        addresses.learnt(&listening, [&observed]);
        assert_eq!(bare(&addresses.own())[0], "/ip4/8.8.4.4/tcp/1");
        assert_eq!(bare(addresses.to_dial().as_slice()), ["/ip4/10.0.0.1/tcp/1"]);
    }

    #[test]
    fn what_the_operator_says_is_what_counts() {
        let addresses = addresses(&["/dns4/relay.example/tcp/4001"], Vec::new());
        addresses.learnt(&["/ip4/192.0.2.1/tcp/4001".parse().unwrap()], []);
        assert_eq!(bare(&addresses.own()), ["/dns4/relay.example/tcp/4001"]);
    }

    #[test]
    fn a_place_comes_with_the_addresses_of_others_in_service() {
        let id = PeerId::random();
        let said = |host: u8| format!("/ip4/192.0.2.{host}/tcp/1/p2p/{id}");
        let mut drains = member("b", &said(2));
        drains.facts.draining = true;
        let nonsense = format!("x /ip4/192.0.2.9/tcp/1 {} {}/p2p-circuit {} {}", said(3), said(4), said(5), said(6));
        let addresses = addresses(&["/ip4/192.0.2.1/tcp/1"], vec![drains, member("c", &nonsense), member("d", "")]);
        let told = bare(&addresses.of_cluster());
        assert_eq!(told, ["/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.3/tcp/1", "/ip4/192.0.2.5/tcp/1"]);
    }

    #[test]
    fn the_fact_fits_and_is_read_again() {
        let many: Vec<_> = (0..8).map(|n| format!("/dns4/{}/tcp/{n}", "long-name.".repeat(20))).collect();
        let given: Vec<_> = many.iter().map(String::as_str).collect();
        let fact = addresses(&given, Vec::new()).as_fact();
        assert!(fact.len() <= MAX_EXTRA_BYTES && fact.split(' ').count() >= 3, "{fact}");
        assert!(fact.split(' ').all(|text| text.parse::<Multiaddr>().is_ok()));
    }
}
