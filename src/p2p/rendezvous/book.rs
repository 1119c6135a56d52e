//! All registrations of the cluster, as this node knows them: who is to be found in which namespace, until when.
//!
//! Of two registrations of one peer in one namespace the one with the larger stamp stands, so nodes that have heard the
//! same agree, in whichever order they heard it. One that was taken back leaves a mark until it would have ended.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use bytes::Bytes;
use libp2p::PeerId;

use crate::domain::clock::{Epoch, Millis};
use crate::security::address::AddressKey;
use crate::wire::p2p::peer_record::FORMS;

use super::cookie::Cookie;
use super::limits::{ADDRESS_SHARE, PEER_BYTES, RendezvousLimits};

/// What every registration is charged beside its record and namespace: what the indexes of it take.
pub const OVERHEAD_BYTES: usize = 512;

/// Most that one answer holds: clients read no more than 1 MiB.
const MAX_ANSWER_BYTES: usize = 900 << 10;

/// Registrations that are younger are told again to whoever asks for newer ones: they may come from other nodes out of
/// order.
const SETTLING_MILLIS: u64 = 10_000;

/// A peer in a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Where it is to be found.
    pub namespace: Arc<str>,
    /// Who.
    pub peer: PeerId,
    /// Its signed peer record; empty, if it was taken back.
    pub record: Bytes,
    /// For how many seconds it was registered.
    pub ttl: u64,
    /// Until when.
    pub until: Millis,
    /// Orders it among all.
    pub stamp: Epoch,
    /// The number of the form in which its record is signed.
    pub form: usize,
    /// The address from which it came to this node, if it did.
    pub account: Option<AddressKey>,
}

impl Registration {
    /// Whether somebody is to be found.
    #[must_use]
    pub fn stands(&self) -> bool {
        !self.record.is_empty()
    }

    fn charge(&self) -> usize {
        self.record.len() + self.namespace.len() + OVERHEAD_BYTES
    }
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
type Place = (Epoch, u64);

/// All registrations.
#[derive(Debug, Default)]
pub struct Book {
    namespaces: HashMap<Arc<str>, Namespace>,
    all: Listed,
    /// Who is to be found in any, by the form of the record.
    found: ByForm,
    ends: BTreeSet<(Millis, Place)>,
    of_peers: HashMap<PeerId, Use>,
    of_addresses: HashMap<AddressKey, usize>,
    bytes: usize,
    came: u64,
}

#[derive(Debug, Default)]
struct Namespace {
    /// Who is to be found, by the form of the record.
    found: ByForm,
    /// Of each peer, that it is to be found, or not any more.
    of_peers: HashMap<PeerId, Place>,
}

/// What a peer has.
#[derive(Debug, Default)]
struct Use {
    registrations: usize,
    bytes: usize,
}

type Listed = BTreeMap<Place, Arc<Registration>>;
type ByForm = [Listed; FORMS.len()];

impl Book {
    /// Whether a registration may be taken from a client. Bounds on numbers are for who is not registered in that namespace;
    /// bounds on memory for what takes more of it than what it replaces.
    ///
    /// # Errors
    /// Which bound is reached.
    pub fn has_room(&self, registration: &Registration, limits: &RendezvousLimits) -> Result<(), Full> {
        let peer = &registration.peer;
        let known = self.namespaces.get(&registration.namespace);
        let replaced = self.of(&registration.namespace, peer);
        let of_peer = self.of_peers.get(peer);
        if replaced.is_none() && of_peer.is_some_and(|of_peer| of_peer.registrations >= limits.per_peer) {
            return Err(Full::Peer);
        }
        let in_namespace = known.map_or(0, |known| known.found.iter().map(BTreeMap::len).sum());
        if !replaced.is_some_and(|replaced| replaced.stands()) && in_namespace >= limits.per_namespace {
            return Err(Full::Namespace);
        }
        if let Some(account) = registration.account {
            // By itself, because what it replaces may be on another's account, or on nobody's.
            let own = replaced.filter(|replaced| replaced.account == Some(account));
            let own = own.map_or(0, |replaced| replaced.charge());
            let others = self.of_addresses.get(&account).copied().unwrap_or(0).saturating_sub(own);
            if registration.charge() > own && others + registration.charge() > limits.bytes / ADDRESS_SHARE {
                return Err(Full::Address);
            }
        }
        let more = registration.charge().saturating_sub(replaced.map_or(0, |replaced| replaced.charge()));
        if more == 0 {
            return Ok(());
        }
        if of_peer.map_or(0, |of_peer| of_peer.bytes) + more > PEER_BYTES {
            return Err(Full::Peer);
        }
        if self.bytes + more > limits.bytes { Err(Full::Node) } else { Ok(()) }
    }

    /// Takes note of a registration; false if a newer one is known.
    pub fn put(&mut self, registration: Registration) -> bool {
        let peer = registration.peer;
        let known = self.namespaces.get_key_value(&registration.namespace);
        // One text for all registrations of a namespace.
        let namespace = known.map_or_else(|| registration.namespace.clone(), |(known, _)| known.clone());
        if let Some(place) = known.and_then(|(_, known)| known.of_peers.get(&peer)).copied() {
            if place.0 >= registration.stamp {
                return false;
            }
            self.remove(place);
        }
        let registration = Arc::new(Registration { namespace: namespace.clone(), ..registration });
        self.came += 1;
        let place = (registration.stamp, self.came);
        let charge = registration.charge();
        self.bytes += charge;
        let of_peer = self.of_peers.entry(peer).or_default();
        (of_peer.registrations, of_peer.bytes) = (of_peer.registrations + 1, of_peer.bytes + charge);
        if let Some(account) = registration.account {
            *self.of_addresses.entry(account).or_default() += charge;
        }
        self.ends.insert((registration.until, place));
        self.all.insert(place, registration.clone());
        let known = self.namespaces.entry(namespace).or_default();
        known.of_peers.insert(peer, place);
        if registration.stands() {
            known.found[registration.form].insert(place, registration.clone());
            self.found[registration.form].insert(place, registration);
        }
        true
    }

    /// The registration of that peer in that namespace.
    #[must_use]
    pub fn of(&self, namespace: &str, peer: &PeerId) -> Option<&Arc<Registration>> {
        self.all.get(self.namespaces.get(namespace)?.of_peers.get(peer)?)
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

    /// Registrations that stand or were taken back, and what they are charged.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.all.len(), self.bytes)
    }

    /// The newest stamp that is known.
    #[must_use]
    pub fn newest(&self) -> Epoch {
        self.all.last_key_value().map_or(Epoch::default(), |((stamp, _), _)| *stamp)
    }

    /// Some of all registrations after that stamp, in their order, those taken back included: `most`, and the rest of those
    /// with the stamp of the last.
    #[must_use]
    pub fn after(&self, stamp: Epoch, most: usize) -> Vec<Arc<Registration>> {
        let mut page = Vec::new();
        for registration in newer(&self.all, stamp) {
            if page.len() >= most && page.last().is_some_and(|last: &Arc<Registration>| last.stamp < registration.stamp)
            {
                break;
            }
            page.push(registration.clone());
        }
        page
    }

    /// Who is to be found in that namespace, or in all, by records of that form, `most` at most, besides what `cookie` says was told already; and
    /// the cookie to ask for the rest with. The newest come first; whoever asks again gets what is newer, and then what is
    /// older.
    pub fn page(
        &self,
        namespace: Option<&str>,
        form: usize,
        cookie: Option<Cookie>,
        most: usize,
        now: Millis,
    ) -> (Vec<Arc<Registration>>, Cookie) {
        let nothing = BTreeMap::new();
        let listed = match namespace {
            None => &self.found[form],
            Some(name) => self.namespaces.get(name).map_or(&nothing, |known| &known.found[form]),
        };
        let mut page = Page { found: Vec::new(), bytes: 0, most };
        let cookie = match cookie {
            None => {
                let newest = listed.last_key_value().map_or(Epoch::default(), |((stamp, _), _)| *stamp);
                let low = page.fill(listed.values().rev()).unwrap_or(newest);
                Cookie { low, high: newest }
            }
            Some(Cookie { low, high }) => {
                let high = page.fill(newer(listed, high)).unwrap_or(high);
                let low = page.fill(older(listed, low)).unwrap_or(low);
                Cookie { low, high }
            }
        };
        let settled = Epoch(now.0.saturating_sub(SETTLING_MILLIS) << 16);
        (page.found, Cookie { high: cookie.high.min(settled), ..cookie })
    }

    fn remove(&mut self, place: Place) {
        let Some(registration) = self.all.remove(&place) else { return };
        self.bytes -= registration.charge();
        self.ends.remove(&(registration.until, place));
        let charge = registration.charge();
        if let Some(of_peer) = self.of_peers.get_mut(&registration.peer) {
            (of_peer.registrations, of_peer.bytes) = (of_peer.registrations - 1, of_peer.bytes - charge);
            if of_peer.registrations == 0 {
                self.of_peers.remove(&registration.peer);
            }
        }
        if let Some(account) = registration.account
            && let Some(bytes) = self.of_addresses.get_mut(&account)
        {
            *bytes -= charge;
            if *bytes == 0 {
                self.of_addresses.remove(&account);
            }
        }
        self.found[registration.form].remove(&place);
        if let Some(known) = self.namespaces.get_mut(&registration.namespace) {
            known.found[registration.form].remove(&place);
            known.of_peers.remove(&registration.peer);
            if known.of_peers.is_empty() {
                self.namespaces.remove(&registration.namespace);
            }
        }
    }
}

fn newer(listed: &Listed, than: Epoch) -> impl Iterator<Item = &Arc<Registration>> {
    listed.range((Excluded((than, u64::MAX)), Unbounded)).map(|(_, registration)| registration)
}

fn older(listed: &Listed, than: Epoch) -> impl Iterator<Item = &Arc<Registration>> {
    listed.range(..(than, 0)).rev().map(|(_, registration)| registration)
}

/// An answer that is being put together.
struct Page {
    found: Vec<Arc<Registration>>,
    bytes: usize,
    most: usize,
}

impl Page {
    /// Takes of these, in their order, as many as have room; the stamp of the last one that was looked at. All of one stamp
    /// are taken together: a cookie cannot tell them apart.
    fn fill<'a>(&mut self, registrations: impl Iterator<Item = &'a Arc<Registration>>) -> Option<Epoch> {
        let mut last = None;
        for registration in registrations {
            let is_full = self.found.len() >= self.most || self.bytes >= MAX_ANSWER_BYTES;
            if is_full && last != Some(registration.stamp) {
                break;
            }
            last = Some(registration.stamp);
            self.bytes += registration.record.len() + registration.namespace.len() + 32;
            self.found.push(registration.clone());
        }
        last
    }
}

#[cfg(test)]
mod tests;
