//! Addresses at which peers say that they reached this relay: how it learns where it is behind a translated address.
//!
//! One peer's word is worth nothing. An address counts once peers in several networks have reached the relay there, and
//! only so many are looked at.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

/// Networks from which an address must have been seen.
const WITNESSES: usize = 4;

/// Addresses that are looked at; the next one takes the place of the one with fewest witnesses.
const CANDIDATES: usize = 16;

/// What peers say.
#[derive(Debug, Default)]
pub struct Observed {
    candidates: Vec<(Multiaddr, HashSet<IpNet>)>,
}

impl Observed {
    /// A peer at `from` says that it reached the relay at `address`. Whether that counts from now on. Only ports on which the
    /// relay listens are believed.
    pub fn seen(&mut self, address: &Multiaddr, from: IpAddr, listening: &[Multiaddr]) -> bool {
        if !is_public(address) || !listening.iter().any(|listening| same_port(listening, address)) {
            return false;
        }
        let known = self.candidates.iter().position(|(known, _)| known == address);
        let Some(at) = known.or_else(|| self.place_for(address)) else { return false };
        let from = network(from);
        let witnesses = &mut self.candidates[at].1;
        witnesses.len() < WITNESSES && witnesses.insert(from) && witnesses.len() == WITNESSES
    }

    /// Those that count.
    pub fn confirmed(&self) -> impl Iterator<Item = &Multiaddr> {
        self.candidates.iter().filter(|(_, witnesses)| witnesses.len() == WITNESSES).map(|(address, _)| address)
    }

    /// A place for one more, unless all are taken by what counts.
    fn place_for(&mut self, address: &Multiaddr) -> Option<usize> {
        let fresh = (address.clone(), HashSet::new());
        if self.candidates.len() < CANDIDATES {
            self.candidates.push(fresh);
            return Some(self.candidates.len() - 1);
        }
        let fewest = (0..CANDIDATES).min_by_key(|at| self.candidates[*at].1.len())?;
        let (_, witnesses) = &self.candidates[fewest];
        if witnesses.len() == WITNESSES {
            return None;
        }
        self.candidates[fewest] = fresh;
        Some(fewest)
    }
}

/// A network that one subscriber seldom has four of: a /16, or a /32 of IPv6.
fn network(ip: IpAddr) -> IpNet {
    let ip = ip.to_canonical();
    let bits = if ip.is_ipv4() { 16 } else { 32 };
    IpNet::new(ip, bits).map_or_else(|_| ip.into(), |network| network.trunc())
}

/// Whether both are of one transport and port.
fn same_port(one: &Multiaddr, other: &Multiaddr) -> bool {
    one.iter().skip(1).eq(other.iter().skip(1))
}

/// Whether `address` is one of an IP network that anybody can reach, and of a transport.
fn is_public(address: &Multiaddr) -> bool {
    let ip = match address.iter().next() {
        Some(Protocol::Ip4(v4)) => IpAddr::V4(v4),
        Some(Protocol::Ip6(v6)) => IpAddr::V6(v6),
        _ => return false,
    };
    let bare = !address.iter().any(|part| matches!(part, Protocol::P2pCircuit | Protocol::P2p(_)));
    bare && address.iter().count() > 1 && is_global(ip)
}

/// Whether an address is routed in the Internet (RFC 6890, as far as it concerns hosts).
pub fn is_global(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let shared = a == 100 && (64..128).contains(&b);
            let inner = v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || shared;
            !(inner || v4.is_documentation() || v4.is_multicast() || v4.is_broadcast() || a == 0 || a >= 240)
        }
        IpAddr::V6(v6) => {
            v6.segments()[0] & 0xe000 == 0x2000 && !(v6.segments()[0] == 0x2001 && v6.segments()[1] == 0xdb8)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(network: u8) -> IpAddr {
        IpAddr::from([198, network, 100, 1])
    }

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    fn listening() -> [Multiaddr; 2] {
        [address("/ip4/0.0.0.0/tcp/4001"), address("/ip4/10.0.0.1/udp/4001/quic-v1")]
    }

    #[test]
    fn an_address_counts_once_enough_networks_have_seen_it() {
        let (mut observed, public) = (Observed::default(), address("/ip4/8.8.4.4/tcp/4001"));
        for host in 0..10 {
            assert!(
                !observed.seen(&public, IpAddr::from([198, 0, host, 1]), &listening()),
                "one network is one witness"
            );
        }
        assert!(!observed.seen(&public, from(1), &listening()) && !observed.seen(&public, from(2), &listening()));
        assert_eq!(observed.confirmed().count(), 0);
        assert!(observed.seen(&public, from(3), &listening()));
        assert!(!observed.seen(&public, from(4), &listening()), "that is known already");
        assert_eq!(observed.confirmed().collect::<Vec<_>>(), [&public]);
    }

    #[test]
    fn what_nobody_can_dial_never_counts() {
        let mut observed = Observed::default();
        for text in [
            "/ip4/10.0.0.1/tcp/4001",
            "/ip4/100.64.0.1/tcp/4001",
            "/ip4/127.0.0.1/tcp/4001",
            "/ip6/fe80::1/tcp/4001",
            "/ip6/2001:db8::1/tcp/4001",
            "/ip4/8.8.4.4",
            "/ip4/8.8.4.4/tcp/4002",
            "/ip4/8.8.4.4/udp/4001",
            "/dns4/example.org/tcp/4001",
            "/ip4/8.8.4.4/tcp/4001/p2p-circuit",
        ] {
            for network in 0..9 {
                assert!(!observed.seen(&address(text), from(network), &listening()), "{text}");
            }
        }
        assert!(observed.candidates.is_empty());
    }

    #[test]
    fn a_flood_of_addresses_is_bounded_and_does_not_push_out_what_counts() {
        let (mut observed, public) = (Observed::default(), address("/ip4/8.8.4.4/tcp/4001"));
        let all = |observed: &mut Observed, address: &Multiaddr| {
            for network in 0..4 {
                observed.seen(address, from(network), &listening());
            }
        };
        all(&mut observed, &public);
        for host in 1..=200 {
            observed.seen(&address(&format!("/ip4/8.8.8.{host}/tcp/4001")), from(9), &listening());
        }
        assert_eq!(observed.candidates.len(), CANDIDATES);
        for host in 1..=200 {
            all(&mut observed, &address(&format!("/ip4/8.8.8.{host}/tcp/4001")));
        }
        assert_eq!(observed.candidates.len(), CANDIDATES);
        assert!(observed.confirmed().any(|known| *known == public));
    }
}
