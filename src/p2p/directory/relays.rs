//! Through which relays a peer may say that it is reached.
//!
//! Whoever searches dials what it is told, and shows its own address to whoever is there. So nothing of what a peer says is
//! told to others but which relay it means, and only of relays that are known: any node of the cluster, for which the answer
//! names the one that was asked, because each completes a circuit to the peer, at an address of which it is sure; or one that the operator lists, at the
//! address that the operator gives.

use std::sync::Arc;

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use crate::p2p::addresses::Addresses;

use super::limits::MAX_RELAY_BYTES;

/// The address is none through a relay that is known, to the peer that says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("relay_addr must be empty, or lead to you by a circuit through a relay of this cluster")]
pub struct NoRelay;

/// The relays that are known.
#[derive(Debug)]
pub struct Relays {
    addresses: Arc<Addresses>,
    listed: Vec<(PeerId, Arc<str>)>,
}

impl Relays {
    /// Those of the cluster, and those that the operator lists.
    #[must_use]
    pub fn new(addresses: Arc<Addresses>, listed: &[Multiaddr]) -> Self {
        let listed = listed.iter().filter_map(|address| Some((relay_at(address)?, address.to_string().into())));
        Self { addresses, listed: listed.filter(|(_, text): &(_, Arc<str>)| text.len() <= MAX_RELAY_BYTES).collect() }
    }

    /// What is kept of an address at which `peer` says that it is reached: of a relay that is listed, its address; nothing, if
    /// any node of the cluster will do, as for a peer that does not say.
    ///
    /// # Errors
    /// [`NoRelay`].
    pub fn kept(&self, said: &str, peer: &PeerId) -> Result<Arc<str>, NoRelay> {
        if said.trim().is_empty() {
            return Ok("".into());
        }
        let circuit: Multiaddr = said.trim().parse().map_err(|_| NoRelay)?;
        let relay = relay_of(&circuit, peer).ok_or(NoRelay)?;
        if self.addresses.is_of_cluster(&relay) {
            return Ok("".into());
        }
        self.listed.iter().find(|(listed, _)| *listed == relay).map(|(_, text)| text.clone()).ok_or(NoRelay)
    }

    /// What others are told of what was kept: a circuit to `peer`; nothing, if there is none.
    #[must_use]
    pub fn told(&self, kept: &str, peer: &PeerId) -> String {
        let relay = if kept.is_empty() {
            self.addresses.to_dial().map(|own| own.to_string())
        } else {
            // As long as it is listed.
            self.listed.iter().find(|(_, text)| **text == *kept).map(|(_, text)| text.to_string())
        };
        relay.map_or_else(String::new, |relay| format!("{relay}/p2p-circuit/p2p/{peer}"))
    }
}

/// The relay of an address that is one of a relay: it ends in the relay's id, and is no circuit.
#[must_use]
pub fn relay_at(address: &Multiaddr) -> Option<PeerId> {
    let mut ids = address.iter().filter(|part| matches!(part, Protocol::P2p(_) | Protocol::P2pCircuit));
    match (ids.next(), ids.next(), address.iter().last()) {
        (Some(Protocol::P2p(relay)), None, Some(Protocol::P2p(_))) if address.iter().nth(1).is_some() => Some(relay),
        _ => None,
    }
}

/// The relay of a circuit that leads to `peer`, and to nobody else on the way.
fn relay_of(circuit: &Multiaddr, peer: &PeerId) -> Option<PeerId> {
    let ids = circuit.iter().filter(|part| matches!(part, Protocol::P2p(_) | Protocol::P2pCircuit));
    let mut ends = circuit.iter().skip(circuit.iter().count().saturating_sub(3));
    match (ends.next(), ends.next(), ends.next(), ids.count()) {
        (Some(Protocol::P2p(relay)), Some(Protocol::P2pCircuit), Some(Protocol::P2p(whose)), 3) if whose == *peer => {
            Some(relay)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::p2p::addresses::tests::addresses_of;

    #[test]
    fn only_circuits_to_the_peer_itself_through_known_relays_are_kept() {
        let (me, other, listed, stranger, peer, victim) = (
            PeerId::random(),
            PeerId::random(),
            PeerId::random(),
            PeerId::random(),
            PeerId::random(),
            PeerId::random(),
        );
        let there = format!("/ip4/192.0.2.3/tcp/3/p2p/{listed}");
        let own = addresses_of(me, &["/ip4/192.0.2.1/udp/1/quic-v1", "/ip4/192.0.2.1/tcp/1"], &[other]);
        let relays = Relays::new(Arc::new(own), &[there.parse().unwrap(), "/ip4/192.0.2.4/tcp/4".parse().unwrap()]);
        let circuit = |at: &str, relay: &PeerId, to: &PeerId| format!("{at}/p2p/{relay}/p2p-circuit/p2p/{to}");
        let evil = "/ip4/198.51.100.66/tcp/1";
        for good in
            ["".to_owned(), " ".into(), circuit(evil, &me, &peer), circuit("/dns4/a.example/tcp/1", &other, &peer)]
        {
            assert_eq!(relays.kept(&good, &peer).as_deref(), Ok(""), "{good}");
        }
        assert_eq!(relays.kept(&circuit(evil, &listed, &peer), &peer).as_deref(), Ok(there.as_str()));
        for bad in [
            "x".into(),
            evil.into(),
            format!("{evil}/p2p/{peer}"),
            format!("{evil}/p2p/{me}"),
            format!("{evil}/p2p/{me}/p2p-circuit"),
            format!("/p2p-circuit/p2p/{peer}"),
            circuit(evil, &stranger, &peer),
            circuit(evil, &me, &victim),
            circuit(&format!("{evil}/p2p/{stranger}/p2p-circuit"), &me, &peer),
            format!("{}/p2p/{peer}", circuit(evil, &me, &peer)),
            format!("{}/ip4/198.51.100.66/tcp/1", circuit(evil, &me, &peer)),
            format!("{evil}/p2p/{stranger}/p2p/{me}/p2p-circuit/p2p/{peer}"),
        ] {
            assert_eq!(relays.kept(&bad, &peer), Err(NoRelay), "{bad}");
        }
        assert_eq!(relays.told("", &peer), circuit("/ip4/192.0.2.1/tcp/1", &me, &peer), "Dusk dials TCP only");
        assert_eq!(relays.told(&there, &peer), circuit("/ip4/192.0.2.3/tcp/3", &listed, &peer));
        assert_eq!(relays.told("/ip4/192.0.2.4/tcp/4", &peer), "", "not listed any more");
    }

    #[test]
    fn a_relay_is_listed_by_an_address_that_ends_in_its_id() {
        let id = PeerId::random();
        let relay = |text: String| relay_at(&text.parse().unwrap());
        assert_eq!(relay(format!("/dns4/a.example/tcp/1/p2p/{id}")), Some(id));
        for bad in [
            "/dns4/a.example/tcp/1".to_owned(),
            format!("/p2p/{id}"),
            format!("/p2p/{id}/p2p-circuit"),
            format!("/ip4/192.0.2.1/tcp/1/p2p/{id}/p2p-circuit/p2p/{id}"),
            format!("/ip4/192.0.2.1/tcp/1/p2p/{id}/tcp/1"),
        ] {
            assert_eq!(relay(bad.clone()), None, "{bad}");
        }
    }
}
