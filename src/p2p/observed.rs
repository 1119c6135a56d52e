//! Addresses at which peers say that they reached this relay: how it learns where it is behind a translated address.
//!
//! One peer's word is worth nothing. An address counts once peers in several networks have reached the relay there, and
//! only so many are looked at.

use std::collections::HashSet;
use std::net::IpAddr;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

use crate::security::address::AddressKey;

/// Networks from which an address must have been seen.
const WITNESSES: usize = 4;

/// Addresses that are looked at; the next one takes the place of the one with fewest witnesses.
const CANDIDATES: usize = 16;

/// What peers say.
#[derive(Debug, Default)]
pub struct Observed {
    candidates: Vec<(Multiaddr, HashSet<AddressKey>)>,
}

impl Observed {
    /// A peer in the network `from` says that it reached the relay at `address`. Whether that counts from now on.
    pub fn seen(&mut self, address: &Multiaddr, from: AddressKey) -> bool {
        if !is_public(address) {
            return false;
        }
        let at = match self.candidates.iter().position(|(known, _)| known == address) {
            Some(at) => at,
            None => self.place_for(address),
        };
        let witnesses = &mut self.candidates[at].1;
        witnesses.len() < WITNESSES && witnesses.insert(from) && witnesses.len() == WITNESSES
    }

    /// Those that count.
    pub fn confirmed(&self) -> impl Iterator<Item = &Multiaddr> {
        self.candidates.iter().filter(|(_, witnesses)| witnesses.len() == WITNESSES).map(|(address, _)| address)
    }

    fn place_for(&mut self, address: &Multiaddr) -> usize {
        let fresh = (address.clone(), HashSet::new());
        if self.candidates.len() < CANDIDATES {
            self.candidates.push(fresh);
            return self.candidates.len() - 1;
        }
        let fewest = (0..CANDIDATES).min_by_key(|at| self.candidates[*at].1.len()).unwrap_or(0);
        self.candidates[fewest] = fresh;
        fewest
    }
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
fn is_global(ip: IpAddr) -> bool {
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

    fn from(network: u8) -> AddressKey {
        AddressKey::from(IpAddr::from([198, 51, 100, network]))
    }

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_counts_once_enough_networks_have_seen_it() {
        let (mut observed, public) = (Observed::default(), address("/ip4/8.8.4.4/tcp/4001"));
        for _ in 0..10 {
            assert!(!observed.seen(&public, from(0)), "one network is one witness");
        }
        assert!(!observed.seen(&public, from(1)) && !observed.seen(&public, from(2)));
        assert_eq!(observed.confirmed().count(), 0);
        assert!(observed.seen(&public, from(3)));
        assert!(!observed.seen(&public, from(4)), "that is known already");
        assert_eq!(observed.confirmed().collect::<Vec<_>>(), [&public]);
    }

    #[test]
    fn what_nobody_can_dial_never_counts() {
        let mut observed = Observed::default();
        for text in [
            "/ip4/10.0.0.1/tcp/1",
            "/ip4/100.64.0.1/tcp/1",
            "/ip4/127.0.0.1/tcp/1",
            "/ip6/fe80::1/tcp/1",
            "/ip6/2001:db8::1/tcp/1",
            "/ip4/8.8.4.4",
            "/dns4/example.org/tcp/1",
            "/ip4/8.8.4.4/tcp/1/p2p-circuit",
        ] {
            for network in 0..9 {
                assert!(!observed.seen(&address(text), from(network)), "{text}");
            }
        }
        assert!(observed.candidates.is_empty());
    }

    #[test]
    fn a_flood_of_addresses_is_bounded_and_does_not_push_out_what_counts() {
        let (mut observed, public) = (Observed::default(), address("/ip4/8.8.4.4/tcp/4001"));
        for network in 0..4 {
            observed.seen(&public, from(network));
        }
        for port in 1..1000 {
            observed.seen(&address(&format!("/ip4/8.8.4.4/tcp/{port}")), from(9));
        }
        assert_eq!(observed.candidates.len(), CANDIDATES);
        assert_eq!(observed.confirmed().collect::<Vec<_>>(), [&public]);
    }
}
