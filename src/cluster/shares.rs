//! Who calls from another cluster, as far as bounds go, and how much of what is bounded each may have: a party that takes
//! all that it can leaves others theirs.
//!
//! A certificate's key is proven, and so is the relay that it speaks for. All nodes of a cluster may have one certificate:
//! then each of the relays that it names has a share, and all of them together a larger one, however many it names.
//! Whoever shares a secret, or is on this machine, may call itself anything: there the relay that it says it is counts,
//! and the address that it calls from, whatever it calls itself.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::domain::ids::NodeId;
use crate::security::address::AddressKey;
use crate::security::relay_certificate::KeyDigest;

/// Whoever has one share.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Party {
    /// Who has shown a certificate with this key, which speaks for one relay.
    Key(KeyDigest),
    /// Who has shown one with this key, which speaks for several relays, and is this one of them.
    OneOf(KeyDigest, NodeId),
    /// Who has shown one with this key, which speaks for several relays, and has yet to say which it is.
    SomeOf(KeyDigest),
    /// Who has shown none, says that it is this relay, and calls from there.
    Relay(NodeId, AddressKey),
    /// Who has said nothing of itself yet, and calls from there.
    Address(AddressKey),
}

/// Those who have a share together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Group {
    /// All that have this key.
    Key(KeyDigest),
    /// All that have none and call from there.
    Address(AddressKey),
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => write!(f, "key {key}"),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl Party {
    /// Who calls from there, and has yet to say who it is.
    #[must_use]
    pub fn at(address: IpAddr) -> Self {
        Self::Address(address.into())
    }

    /// Whom it has a share with.
    #[must_use]
    pub fn group(&self) -> Group {
        match self {
            Self::Key(key) | Self::OneOf(key, _) | Self::SomeOf(key) => Group::Key(*key),
            Self::Relay(_, address) | Self::Address(address) => Group::Address(*address),
        }
    }

    /// Whether it is not known yet who of its group it is.
    fn has_yet_to_say(&self) -> bool {
        matches!(self, Self::SomeOf(_) | Self::Address(_))
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(_) | Self::SomeOf(_) | Self::Address(_) => self.group().fmt(f),
            Self::OneOf(key, relay) => write!(f, "relay {relay} with key {key}"),
            Self::Relay(relay, address) => write!(f, "relay {relay} at {address}"),
        }
    }
}

/// How much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For one that has a key, or says which relay it is.
    pub party: usize,
    /// For all that have one key, or that have none and call from one address.
    pub group: usize,
    /// For all.
    pub all: usize,
}

/// What is in use, of something that is bounded.
#[derive(Debug)]
pub struct Shares {
    limits: Limits,
    all: usize,
    groups: HashMap<Group, usize>,
    parties: HashMap<Party, usize>,
}

impl Shares {
    /// Nothing in use.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, all: 0, groups: HashMap::new(), parties: HashMap::new() }
    }

    /// How much is in use.
    #[must_use]
    pub fn used(&self) -> usize {
        self.all
    }

    /// Takes so much for `party`; false, and nothing is taken, if that is more than it may have.
    pub fn take(&mut self, party: &Party, amount: usize) -> bool {
        let Limits { party: alone, group: together, all } = self.limits;
        let used = |taken: Option<&usize>| taken.copied().unwrap_or_default().saturating_add(amount);
        let group = party.group();
        let fits = used(Some(&self.all)) <= all
            && (party.has_yet_to_say() || used(self.parties.get(party)) <= alone)
            && used(self.groups.get(&group)) <= together;
        if fits {
            self.all += amount;
            *self.parties.entry(party.clone()).or_default() += amount;
            *self.groups.entry(group).or_default() += amount;
        }
        fits
    }

    /// Gives back what was taken for `party`.
    pub fn give_back(&mut self, party: &Party, amount: usize) {
        self.all = self.all.saturating_sub(amount);
        lower(&mut self.parties, party.clone(), amount);
        lower(&mut self.groups, party.group(), amount);
    }
}

/// Forgets whoever has nothing left.
fn lower<K: Eq + Hash>(used: &mut HashMap<K, usize>, key: K, amount: usize) {
    if let Entry::Occupied(mut entry) = used.entry(key) {
        match entry.get().saturating_sub(amount) {
            0 => drop(entry.remove()),
            left => *entry.get_mut() = left,
        }
    }
}

/// Shares that are taken for as long as something lasts; clones share them.
#[derive(Debug, Clone)]
pub struct Places(Arc<Mutex<Shares>>);

/// What was taken, until this is dropped.
#[derive(Debug)]
pub struct Place {
    of: Places,
    party: Party,
    amount: usize,
}

impl Places {
    /// All free.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(Mutex::new(Shares::new(limits))))
    }

    /// So many places for `party`; `None` if that is more than it may have.
    #[must_use]
    pub fn take(&self, party: &Party, amount: usize) -> Option<Place> {
        let is_taken = self.0.lock().take(party, amount);
        is_taken.then(|| Place { of: self.clone(), party: party.clone(), amount })
    }

    /// How many are taken.
    #[must_use]
    pub fn used(&self) -> usize {
        self.0.lock().used()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of.0.lock().give_back(&self.party, self.amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { party: 2, group: 3, all: 6 };

    fn relay(name: &str, address: [u8; 4]) -> Party {
        Party::Relay(name.parse().unwrap(), IpAddr::from(address).into())
    }

    #[test]
    fn a_party_an_address_and_all_together_have_a_share_each() {
        let mut shares = Shares::new(LIMITS);
        let (near, far) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        let mut taken = |party: Party| (0..9).filter(|_| shares.take(&party, 1)).count();
        assert_eq!(taken(relay("a", near)), 2, "its own share");
        assert_eq!(taken(relay("b", near)), 1, "what is left of the address");
        assert_eq!(taken(Party::at(near.into())), 0, "another name at the same address gets no more");
        assert_eq!(taken(relay("a", far)), 2, "the same name elsewhere is somebody else");
        assert_eq!(taken(Party::Key(KeyDigest([1; 32]))), 1, "what is left at all");
        assert_eq!(taken(Party::Key(KeyDigest([2; 32]))), 0);
    }

    #[test]
    fn a_relay_has_its_own_share_of_that_of_a_key_which_speaks_for_several() {
        let mut shares = Shares::new(LIMITS);
        let (key, other) = (KeyDigest([1; 32]), KeyDigest([2; 32]));
        let one_of = |key, name: &str| Party::OneOf(key, name.parse().unwrap());
        let mut taken = |party: Party| (0..9).filter(|_| shares.take(&party, 1)).count();
        assert_eq!(taken(one_of(key, "a")), 2, "its own share");
        assert_eq!(taken(one_of(key, "b")), 1, "what is left of the key's");
        assert_eq!((taken(one_of(key, "c")), taken(Party::SomeOf(key))), (0, 0), "more names get no more");
        assert_eq!(taken(Party::SomeOf(other)), 3, "who has yet to say has the key's");
        assert_eq!(taken(Party::Key(KeyDigest([3; 32]))), 0, "what is left at all");
    }

    #[test]
    fn whoever_has_said_nothing_has_the_share_of_the_address() {
        let mut shares = Shares::new(LIMITS);
        let there = Party::at([10, 0, 0, 1].into());
        assert_eq!((0..9).filter(|_| shares.take(&there, 1)).count(), 3);
        assert!(shares.take(&Party::at([10, 0, 0, 2].into()), 1));
    }

    #[test]
    fn keys_do_not_share_an_address_and_what_does_not_fit_takes_nothing() {
        let mut shares = Shares::new(LIMITS);
        let keys = [1, 2, 3].map(|n| Party::Key(KeyDigest([n; 32])));
        assert!(!shares.take(&keys[0], 3));
        assert!(!shares.take(&keys[0], usize::MAX));
        assert!(keys.iter().all(|key| shares.take(key, 2)));
        shares.give_back(&keys[1], 1);
        assert!(!shares.take(&keys[0], 1) && shares.take(&keys[1], 1));
    }

    #[test]
    fn a_place_is_free_again_once_it_is_dropped_and_nothing_is_remembered() {
        let places = Places::new(LIMITS);
        let party = relay("a", [10, 0, 0, 1]);
        let held = [places.take(&party, 1), places.take(&party, 1)];
        assert!(held.iter().all(Option::is_some) && places.take(&party, 1).is_none());
        assert_eq!(places.used(), 2);
        drop(held);
        assert_eq!(places.used(), 0);
        let shares = places.0.lock();
        assert!(shares.parties.is_empty() && shares.groups.is_empty());
    }
}
