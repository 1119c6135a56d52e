//! How many circuits there may be: in all, of each peer, and from each address.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use libp2p::PeerId;
use parking_lot::Mutex;

use crate::security::address::AddressKey;

use super::limits::CircuitLimits;

/// Which bound is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// That of the node.
    Node,
    /// That of the peer that asks.
    Source,
    /// That of the peer that is asked for.
    Target,
    /// That of the address.
    Address,
}

impl Full {
    /// One word for figures.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Node => "circuits",
            Self::Source => "source_circuits",
            Self::Target => "target_circuits",
            Self::Address => "address_circuits",
        }
    }
}

/// The circuits of one node; clones share them.
#[derive(Debug, Clone, Default)]
pub struct CircuitQuota {
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    peers: HashMap<PeerId, usize>,
    addresses: HashMap<AddressKey, usize>,
}

impl CircuitQuota {
    /// No circuits yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One more circuit between these peers, within the bounds that hold of it. The address is that of the peer that asks,
    /// if it is at this node.
    ///
    /// # Errors
    /// Which bound is reached; nothing is counted then.
    pub fn enter(
        &self,
        limits: &CircuitLimits,
        (source, target): (PeerId, PeerId),
        address: Option<AddressKey>,
    ) -> Result<Circuit, Full> {
        let (per_peer, per_address) = (limits.circuits_per_peer, limits.circuits_per_address);
        let mut open = self.open.lock();
        let taken = |peer| open.peers.get(&peer).copied().unwrap_or(0);
        if open.total >= limits.circuits {
            return Err(Full::Node);
        }
        if taken(source) >= per_peer {
            return Err(Full::Source);
        }
        if taken(target) >= per_peer {
            return Err(Full::Target);
        }
        if address.is_some_and(|address| open.addresses.get(&address).is_some_and(|count| *count >= per_address)) {
            return Err(Full::Address);
        }
        open.total += 1;
        *open.peers.entry(source).or_default() += 1;
        *open.peers.entry(target).or_default() += 1;
        if let Some(address) = address {
            *open.addresses.entry(address).or_default() += 1;
        }
        Ok(Circuit { open: self.open.clone(), source, target, address })
    }

    /// Circuits of that peer now.
    #[must_use]
    pub fn of(&self, peer: &PeerId) -> usize {
        self.open.lock().peers.get(peer).copied().unwrap_or(0)
    }

    /// Circuits now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.lock().total
    }
}

/// The right to a circuit; given back when dropped.
#[derive(Debug)]
pub struct Circuit {
    open: Arc<Mutex<Open>>,
    source: PeerId,
    target: PeerId,
    address: Option<AddressKey>,
}

impl Drop for Circuit {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        open.total -= 1;
        one_less(&mut open.peers, self.source);
        one_less(&mut open.peers, self.target);
        if let Some(address) = self.address {
            one_less(&mut open.addresses, address);
        }
    }
}

fn one_less<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::p2p::circuit::limits::tests::limits;

    fn address(host: u8) -> Option<AddressKey> {
        Some(AddressKey::from(IpAddr::from([192, 0, 2, host])))
    }

    #[test]
    fn each_bound_bites_and_is_given_back() {
        let [a, b, c] = [(); 3].map(|()| PeerId::random());
        let cases: [(CircuitLimits, Full, (PeerId, PeerId, Option<AddressKey>)); 4] = [
            (CircuitLimits { circuits: 1, ..limits() }, Full::Node, (c, c, None)),
            (CircuitLimits { circuits_per_peer: 1, ..limits() }, Full::Source, (a, c, address(2))),
            (CircuitLimits { circuits_per_peer: 1, ..limits() }, Full::Target, (c, b, address(2))),
            (CircuitLimits { circuits_per_address: 1, ..limits() }, Full::Address, (c, c, address(1))),
        ];
        for (limits, full, (source, target, from)) in cases {
            let quota = CircuitQuota::new();
            let first = quota.enter(&limits, (a, b), address(1)).unwrap();
            assert_eq!(quota.enter(&limits, (source, target), from).unwrap_err(), full);
            assert_eq!(quota.open(), 1);
            drop(first);
            drop(quota.enter(&limits, (a, b), address(1)).unwrap());
            let open = quota.open.lock();
            assert!(open.total == 0 && open.peers.is_empty() && open.addresses.is_empty());
        }
    }
}
