//! All entries of one kind, as this node knows them.
//!
//! Of two entries under one key the one with the larger stamp stands, so nodes that have heard the same agree, in whichever
//! order they heard it. One that was taken back leaves a mark until it would have ended.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use libp2p::PeerId;

use crate::domain::clock::{Epoch, Millis};

use super::account::Account;

/// The part of a node's memory for entries that those which came from one address may fill.
const ADDRESS_SHARE: usize = 8;

/// What peers say of themselves, and all nodes know.
pub trait Entry: Send + Sync + 'static {
    /// What there is one of for each.
    type Key: Clone + Eq + Hash + Send + Sync + 'static;

    /// Its key.
    fn key(&self) -> Self::Key;

    /// Who says it.
    fn peer(&self) -> PeerId;

    /// Orders it among all.
    fn stamp(&self) -> Epoch;

    /// Until when it holds.
    fn until(&self) -> Millis;

    /// The address from which it came to the cluster, if it came from one.
    fn account(&self) -> Option<Account>;

    /// The memory that it is charged, in bytes.
    fn charge(&self) -> usize;
}

/// What finds entries in another way than by their keys. It is told of each that comes and goes.
pub trait Index<E>: Default + Send + 'static {
    /// The same entry with what it has in common with others.
    fn shared(&self, entry: E) -> E {
        entry
    }

    /// It is known from now on.
    fn added(&mut self, place: Place, entry: &Arc<E>);

    /// It is not known any more.
    fn removed(&mut self, place: Place, entry: &E);
}

/// Which bound is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// That of the peer.
    Peer,
    /// That of the address.
    Address,
    /// That of the namespace.
    Namespace,
    /// That of the node.
    Node,
}

impl Full {
    /// One word for figures.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Peer => "peer_full",
            Self::Address => "address_full",
            Self::Namespace => "namespace_full",
            Self::Node => "full",
        }
    }
}

/// The order in which all are known: by stamp, and of one stamp, as they came.
pub type Place = (Epoch, u64);

/// Entries in that order.
pub type Listed<E> = BTreeMap<Place, Arc<E>>;

/// All entries.
#[derive(Debug)]
pub struct Book<E: Entry, I> {
    /// What finds them.
    pub index: I,
    all: Listed<E>,
    places: HashMap<E::Key, Place>,
    ends: BTreeSet<(Millis, Place)>,
    of_peers: HashMap<PeerId, Use>,
    of_addresses: HashMap<Account, usize>,
    bytes: usize,
    came: u64,
}

/// What a peer has.
#[derive(Debug, Clone, Copy, Default)]
pub struct Use {
    /// Entries.
    pub entries: usize,
    /// What they are charged.
    pub bytes: usize,
}

impl<E: Entry, I: Index<E>> Default for Book<E, I> {
    fn default() -> Self {
        Self {
            index: I::default(),
            all: Listed::new(),
            places: HashMap::new(),
            ends: BTreeSet::new(),
            of_peers: HashMap::new(),
            of_addresses: HashMap::new(),
            bytes: 0,
            came: 0,
        }
    }
}

impl<E: Entry, I: Index<E>> Book<E, I> {
    /// On whose account an entry is kept, if there is memory for it: `bytes` for all, of which one address may fill its share,
    /// and `peer_bytes` for those of one peer. These bind what takes more of it than what it replaces; who renews what it has
    /// from an address whose share is full stays on the account it is on.
    ///
    /// # Errors
    /// Which bound is reached.
    pub fn fits(&self, entry: &E, bytes: usize, peer_bytes: usize) -> Result<Option<Account>, Full> {
        let (charge, replaced) = (entry.charge(), self.of(&entry.key()));
        let more = charge.saturating_sub(replaced.map_or(0, |replaced| replaced.charge()));
        let account = match entry.account() {
            Some(account) if !self.has_share(account, charge, replaced, bytes / ADDRESS_SHARE) => match replaced {
                Some(replaced) if more == 0 => replaced.account(),
                _ => return Err(Full::Address),
            },
            account => account,
        };
        if more > 0 && self.used_by(&entry.peer()).bytes + more > peer_bytes {
            return Err(Full::Peer);
        }
        if more > 0 && self.bytes + more > bytes { Err(Full::Node) } else { Ok(account) }
    }

    /// Whether so much has room in the share of an address. What it replaces may be on another's account, or on nobody's.
    fn has_share(&self, account: Account, charge: usize, replaced: Option<&Arc<E>>, share: usize) -> bool {
        let own = replaced.filter(|replaced| replaced.account() == Some(account));
        let own = own.map_or(0, |replaced| replaced.charge());
        let others = self.of_addresses.get(&account).copied().unwrap_or(0).saturating_sub(own);
        charge <= own || others + charge <= share
    }

    /// Takes note of an entry; false if a newer one is known.
    pub fn put(&mut self, entry: E) -> bool {
        let entry = self.index.shared(entry);
        let key = entry.key();
        if let Some(place) = self.places.get(&key).copied() {
            if place.0 >= entry.stamp() {
                return false;
            }
            self.remove(place);
        }
        self.came += 1;
        let (place, charge) = ((entry.stamp(), self.came), entry.charge());
        self.bytes += charge;
        let of_peer = self.of_peers.entry(entry.peer()).or_default();
        (of_peer.entries, of_peer.bytes) = (of_peer.entries + 1, of_peer.bytes + charge);
        if let Some(account) = entry.account() {
            *self.of_addresses.entry(account).or_default() += charge;
        }
        self.ends.insert((entry.until(), place));
        self.places.insert(key, place);
        let entry = Arc::new(entry);
        self.index.added(place, &entry);
        self.all.insert(place, entry);
        true
    }

    /// The entry under that key.
    #[must_use]
    pub fn of(&self, key: &E::Key) -> Option<&Arc<E>> {
        self.at(self.places.get(key)?)
    }

    /// The entry at that place.
    #[must_use]
    pub fn at(&self, place: &Place) -> Option<&Arc<E>> {
        self.all.get(place)
    }

    /// What that peer has.
    #[must_use]
    pub fn used_by(&self, peer: &PeerId) -> Use {
        self.of_peers.get(peer).copied().unwrap_or_default()
    }

    /// Forgets what has ended by `now`; at most so many at a time.
    pub fn expire(&mut self, now: Millis, most: usize) {
        for _ in 0..most {
            match self.ends.first() {
                Some((until, place)) if *until <= now => self.remove(*place),
                _ => return,
            }
        }
    }

    /// Entries that stand or were taken back, and what they are charged.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.all.len(), self.bytes)
    }

    /// The newest stamp that is known, of those up to `latest`.
    #[must_use]
    pub fn newest(&self, latest: Epoch) -> Epoch {
        self.all.range(..=(latest, u64::MAX)).next_back().map_or(Epoch::default(), |((stamp, _), _)| *stamp)
    }

    /// Forgets what is under that key if its stamp is larger than `latest`.
    pub fn forget_beyond(&mut self, key: &E::Key, latest: Epoch) {
        if let Some(place) = self.places.get(key).copied().filter(|(stamp, _)| *stamp > latest) {
            self.remove(place);
        }
    }

    /// Some of all entries after that stamp, in their order, those taken back included: `most`, and the rest of those with the
    /// stamp of the last.
    #[must_use]
    pub fn after(&self, stamp: Epoch, most: usize) -> Vec<Arc<E>> {
        let mut page = Vec::new();
        for entry in newer(&self.all, stamp) {
            if page.len() >= most && page.last().is_some_and(|last: &Arc<E>| last.stamp() < entry.stamp()) {
                break;
            }
            page.push(entry.clone());
        }
        page
    }

    fn remove(&mut self, place: Place) {
        let Some(entry) = self.all.remove(&place) else { return };
        let charge = entry.charge();
        self.bytes -= charge;
        self.ends.remove(&(entry.until(), place));
        self.places.remove(&entry.key());
        if let Some(of_peer) = self.of_peers.get_mut(&entry.peer()) {
            (of_peer.entries, of_peer.bytes) = (of_peer.entries - 1, of_peer.bytes - charge);
            if of_peer.entries == 0 {
                self.of_peers.remove(&entry.peer());
            }
        }
        if let Some(account) = entry.account()
            && let Some(bytes) = self.of_addresses.get_mut(&account)
        {
            *bytes -= charge;
            if *bytes == 0 {
                self.of_addresses.remove(&account);
            }
        }
        self.index.removed(place, &entry);
    }

    /// Whether nothing at all is kept.
    #[cfg(test)]
    pub fn is_bare(&self) -> bool {
        let Self { index: _, all, places, ends, of_peers, of_addresses, bytes, came: _ } = self;
        let maps = places.is_empty() && of_peers.is_empty() && of_addresses.is_empty();
        maps && all.is_empty() && ends.is_empty() && *bytes == 0
    }
}

/// Those after that stamp, in their order.
pub fn newer<E>(listed: &Listed<E>, than: Epoch) -> impl Iterator<Item = &Arc<E>> {
    listed.range((Excluded((than, u64::MAX)), Unbounded)).map(|(_, entry)| entry)
}

/// Those before that stamp, the newest first.
pub fn older<E>(listed: &Listed<E>, than: Epoch) -> impl Iterator<Item = &Arc<E>> {
    listed.range(..(than, 0)).rev().map(|(_, entry)| entry)
}
