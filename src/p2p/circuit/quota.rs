//! How many circuits there may be: in all, of each peer, and from each address.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use libp2p::PeerId;
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;

use crate::cluster::shares::Party;
use crate::security::address::AddressKey;

use super::limits::CircuitLimits;

/// Circuits from one peer to another.
const PER_PAIR: usize = 16;

/// The part of a peer's circuits that peers behind one address, or another cluster, may take.
const SHARE: usize = 4;

/// The part of them that all other clusters may take.
const SHARE_OF_CLUSTERS: usize = 2;

/// Which bound is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// That of the node.
    Node,
    /// That of the peer that asks.
    Source,
    /// That of the peer that is asked for.
    Target,
    /// That of these two peers.
    Pair,
    /// That of the address.
    Address,
    /// That of the address and the peer that is asked for.
    AddressShare,
    /// That of another cluster, or of all others, and the peer that is asked for.
    ClusterShare,
}

impl Full {
    /// One word for figures.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Node => "circuits",
            Self::Source => "source_circuits",
            Self::Target => "target_circuits",
            Self::Pair => "pair_circuits",
            Self::Address => "address_circuits",
            Self::AddressShare => "address_share",
            Self::ClusterShare => "cluster_share",
        }
    }
}

/// The circuits of one node; clones share them.
#[derive(Debug, Clone, Default)]
pub struct CircuitQuota {
    open: Arc<Mutex<Open>>,
    gauge: Gauge,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    from: HashMap<PeerId, usize>,
    to: HashMap<PeerId, usize>,
    pairs: HashMap<(PeerId, PeerId), usize>,
    addresses: HashMap<AddressKey, usize>,
    /// From each origin to each peer.
    reached: HashMap<(Origin, PeerId), usize>,
}

/// Where a circuit is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Origin {
    /// At this node, from that address.
    Address(AddressKey),
    /// At this node, by a peer that is bound by no address; or at another of this cluster, where it has been counted.
    Counted,
    /// In another cluster, of which this party calls this node.
    Cluster(Party),
    /// In another cluster, which has called another node of this one.
    Crossed,
}

impl Origin {
    /// Whether this cluster has a proof of who asks.
    fn is_proven(&self) -> bool {
        matches!(self, Self::Address(_) | Self::Counted)
    }
}

/// Between whom a circuit is.
#[derive(Debug, Clone)]
pub struct Ends {
    /// Who asks for it.
    pub source: PeerId,
    /// Who is reached.
    pub target: PeerId,
    /// Whether the bounds on peers do not hold for them.
    pub trusted: (bool, bool),
    /// Where it is asked for.
    pub origin: Origin,
}

impl CircuitQuota {
    /// No circuits yet; how many there are is told by `gauge`.
    #[must_use]
    pub fn new(gauge: Gauge) -> Self {
        Self { open: Arc::default(), gauge }
    }

    /// One more circuit between these ends, within the bounds that hold of it.
    ///
    /// # Errors
    /// Which bound is reached; nothing is counted then.
    pub fn enter(&self, limits: &CircuitLimits, ends: Ends) -> Result<Circuit, Full> {
        let Ends { source, target, trusted, ref origin } = ends;
        let is_proven = origin.is_proven();
        let mut open = self.open.lock();
        let is_full = |count: Option<&usize>, most: usize| count.copied().unwrap_or(0) >= most;
        if open.total >= limits.circuits {
            return Err(Full::Node);
        }
        if is_proven && !trusted.0 && is_full(open.from.get(&source), limits.circuits_per_peer) {
            return Err(Full::Source);
        }
        if !trusted.1 && is_full(open.to.get(&target), limits.circuits_per_peer) {
            return Err(Full::Target);
        }
        if is_proven && trusted == (false, false) && is_full(open.pairs.get(&(source, target)), PER_PAIR) {
            return Err(Full::Pair);
        }
        if let Origin::Address(address) = origin
            && is_full(open.addresses.get(address), limits.circuits_per_address)
        {
            return Err(Full::Address);
        }
        let reached = (origin.clone(), target);
        let share = match origin {
            Origin::Address(_) => Some((SHARE, Full::AddressShare)),
            Origin::Cluster(_) => Some((SHARE, Full::ClusterShare)),
            Origin::Crossed => Some((SHARE_OF_CLUSTERS, Full::ClusterShare)),
            Origin::Counted => None,
        };
        if let Some((share, full)) = share {
            if is_full(open.reached.get(&reached), limits.circuits_per_peer.div_ceil(share)) {
                return Err(full);
            }
            *open.reached.entry(reached).or_default() += 1;
        }
        if let Origin::Address(address) = origin {
            *open.addresses.entry(*address).or_default() += 1;
        }
        open.total += 1;
        *open.to.entry(target).or_default() += 1;
        // Whoever nobody has proven to be the source must not use up what the source may have.
        if is_proven {
            *open.from.entry(source).or_default() += 1;
            *open.pairs.entry((source, target)).or_default() += 1;
        }
        self.gauge.inc();
        Ok(Circuit { quota: self.clone(), ends })
    }

    /// Circuits of that peer now.
    #[must_use]
    pub fn of(&self, peer: &PeerId) -> usize {
        let open = self.open.lock();
        open.from.get(peer).copied().unwrap_or(0) + open.to.get(peer).copied().unwrap_or(0)
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
    quota: CircuitQuota,
    ends: Ends,
}

impl Drop for Circuit {
    fn drop(&mut self) {
        let Ends { source, target, ref origin, .. } = self.ends;
        let mut open = self.quota.open.lock();
        self.quota.gauge.dec();
        open.total -= 1;
        one_less(&mut open.to, target);
        if origin.is_proven() {
            one_less(&mut open.from, source);
            one_less(&mut open.pairs, (source, target));
        }
        if let Origin::Address(address) = origin {
            one_less(&mut open.addresses, *address);
        }
        one_less(&mut open.reached, (origin.clone(), target));
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

    fn ends(source: PeerId, target: PeerId, host: u8) -> Ends {
        let origin = Origin::Address(IpAddr::from([192, 0, 2, host]).into());
        Ends { source, target, trusted: (false, false), origin }
    }

    fn is_empty(quota: &CircuitQuota) -> bool {
        let open = quota.open.lock();
        let peers = open.from.is_empty() && open.to.is_empty() && open.pairs.is_empty();
        open.total == 0 && quota.gauge.get() == 0 && peers && open.addresses.is_empty() && open.reached.is_empty()
    }

    #[test]
    fn each_bound_bites_and_is_given_back() {
        let [a, b, c, d] = [(); 4].map(|()| PeerId::random());
        let of_peer = CircuitLimits { circuits_per_peer: 1, ..limits() };
        for (limits, full, next) in [
            (CircuitLimits { circuits: 1, ..limits() }, Full::Node, ends(c, d, 2)),
            (of_peer, Full::Source, ends(a, c, 2)),
            (of_peer, Full::Target, ends(c, b, 2)),
            (CircuitLimits { circuits_per_address: 1, ..limits() }, Full::Address, ends(c, d, 1)),
            (CircuitLimits { circuits_per_peer: SHARE, ..limits() }, Full::AddressShare, ends(c, b, 1)),
        ] {
            let quota = CircuitQuota::default();
            let first = quota.enter(&limits, ends(a, b, 1)).unwrap();
            assert_eq!(quota.enter(&limits, next.clone()).unwrap_err(), full);
            assert_eq!(quota.open(), 1);
            drop(first);
            drop(quota.enter(&limits, next).unwrap());
            assert!(is_empty(&quota));
        }
    }

    #[test]
    fn two_peers_have_some_circuits_between_them_and_not_all() {
        let ([a, b], quota) = ([(); 2].map(|()| PeerId::random()), CircuitQuota::default());
        let open: Vec<_> = (0..PER_PAIR).map(|_| quota.enter(&limits(), ends(a, b, 1)).unwrap()).collect();
        assert_eq!(quota.enter(&limits(), ends(a, b, 1)).unwrap_err(), Full::Pair);
        assert!(quota.enter(&limits(), ends(b, a, 1)).is_ok());
        drop(open);
        assert!(is_empty(&quota));
    }

    #[test]
    fn other_clusters_take_a_part_of_a_peer_and_nothing_of_whom_they_name() {
        let ([victim, b], quota) = ([(); 2].map(|()| PeerId::random()), CircuitQuota::default());
        let limits = CircuitLimits { circuits_per_peer: 8, ..limits() };
        let party = |host| Origin::Cluster(Party::at(IpAddr::from([192, 0, 2, host])));
        let from = |origin, source| Ends { origin, ..ends(source, b, 1) };
        let enter = |origin: &Origin| quota.enter(&limits, from(origin.clone(), victim));
        let first: Vec<_> = std::iter::from_fn(|| enter(&party(1)).ok()).collect();
        assert_eq!((first.len(), enter(&party(1)).unwrap_err()), (8 / SHARE, Full::ClusterShare));
        let other = enter(&party(2)).unwrap();
        drop((first, other));
        let crossed: Vec<_> = std::iter::from_fn(|| enter(&Origin::Crossed).ok()).collect();
        assert_eq!(crossed.len(), 8 / SHARE_OF_CLUSTERS);
        // Whom they name has all that it may have, itself and as a pair.
        let own: Vec<_> = (0..4).map(|_| quota.enter(&limits, from(Origin::Counted, victim)).unwrap()).collect();
        drop((crossed, own));
        assert!(is_empty(&quota));
    }

    #[test]
    fn who_is_called_by_many_may_still_call() {
        let ([a, b, c], quota) = ([(); 3].map(|()| PeerId::random()), CircuitQuota::default());
        let limits = CircuitLimits { circuits_per_peer: 1, ..limits() };
        let _called = quota.enter(&limits, ends(a, b, 1)).unwrap();
        assert!(quota.enter(&limits, ends(b, c, 2)).is_ok());
    }

    #[test]
    fn a_trusted_peer_is_not_bound_and_strangers_who_call_it_are() {
        let ([a, b, c, d], quota) = ([(); 4].map(|()| PeerId::random()), CircuitQuota::default());
        let limits = CircuitLimits { circuits_per_peer: 1, ..limits() };
        let trusted = |source, host| Ends { trusted: (false, true), ..ends(source, d, host) };
        let _first = quota.enter(&limits, trusted(a, 1)).unwrap();
        let _second = quota.enter(&limits, trusted(b, 2)).unwrap();
        assert_eq!(quota.enter(&limits, trusted(a, 3)).unwrap_err(), Full::Source);
        assert_eq!(quota.enter(&limits, trusted(c, 1)).unwrap_err(), Full::AddressShare);
    }
}
