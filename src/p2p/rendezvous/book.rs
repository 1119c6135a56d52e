//! The registrations of the cluster, as this node knows them: who is to be found in which namespace.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use libp2p::PeerId;

use crate::domain::clock::{Epoch, Millis};
use crate::p2p::spread::Account;
use crate::p2p::spread::book::{self, Entry, Full, Index, Listed, Place, newer, older};
use crate::wire::p2p::peer_record::FORMS;

use super::cookie::Cookie;
use super::limits::{PEER_BYTES, RendezvousLimits};

/// What every registration is charged beside its record and namespace: what the indexes of it take.
pub const OVERHEAD_BYTES: usize = 768;

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
    /// The address from which it came to the cluster, if it came from one.
    pub account: Option<Account>,
}

impl Registration {
    /// Whether somebody is to be found.
    #[must_use]
    pub fn stands(&self) -> bool {
        !self.record.is_empty()
    }
}

impl Entry for Registration {
    type Key = (Arc<str>, PeerId);

    fn key(&self) -> Self::Key {
        (self.namespace.clone(), self.peer)
    }

    fn peer(&self) -> PeerId {
        self.peer
    }

    fn stamp(&self) -> Epoch {
        self.stamp
    }

    fn until(&self) -> Millis {
        self.until
    }

    fn account(&self) -> Option<Account> {
        self.account
    }

    fn charge(&self) -> usize {
        self.record.len() + self.namespace.len() + OVERHEAD_BYTES
    }
}

/// All registrations.
pub type Book = book::Book<Registration, Namespaces>;

/// Who is to be found where.
#[derive(Debug, Default)]
pub struct Namespaces {
    namespaces: HashMap<Arc<str>, Namespace>,
    /// Who is to be found in any, by the form of the record.
    found: ByForm,
}

#[derive(Debug, Default)]
struct Namespace {
    /// Who is to be found, by the form of the record.
    found: ByForm,
    /// Registrations, those taken back included.
    registrations: usize,
}

type ByForm = [Listed<Registration>; FORMS.len()];

impl Index<Registration> for Namespaces {
    /// One text for all registrations of a namespace.
    fn shared(&self, registration: Registration) -> Registration {
        match self.namespaces.get_key_value(&registration.namespace) {
            Some((known, _)) => Registration { namespace: known.clone(), ..registration },
            None => registration,
        }
    }

    fn added(&mut self, place: Place, registration: &Arc<Registration>) {
        let known = self.namespaces.entry(registration.namespace.clone()).or_default();
        known.registrations += 1;
        if registration.stands() {
            known.found[registration.form].insert(place, registration.clone());
            self.found[registration.form].insert(place, registration.clone());
        }
    }

    fn removed(&mut self, place: Place, registration: &Registration) {
        self.found[registration.form].remove(&place);
        if let Some(known) = self.namespaces.get_mut(&registration.namespace) {
            known.found[registration.form].remove(&place);
            known.registrations -= 1;
            if known.registrations == 0 {
                self.namespaces.remove(&registration.namespace);
            }
        }
    }
}

impl Book {
    /// On whose account a registration is taken from a client, if it may be. Bounds on numbers are for who is not registered in that namespace;
    /// bounds on memory for what takes more of it than what it replaces.
    ///
    /// # Errors
    /// Which bound is reached.
    pub fn has_room(&self, registration: &Registration, limits: &RendezvousLimits) -> Result<Option<Account>, Full> {
        let replaced = self.of(&registration.key());
        if replaced.is_none() && self.used_by(&registration.peer).entries >= limits.per_peer {
            return Err(Full::Peer);
        }
        let known = self.index.namespaces.get(&registration.namespace);
        let in_namespace = known.map_or(0, |known| known.found.iter().map(BTreeMap::len).sum());
        if !replaced.is_some_and(|replaced| replaced.stands()) && in_namespace >= limits.per_namespace {
            return Err(Full::Namespace);
        }
        self.fits(registration, limits.bytes, PEER_BYTES)
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
            None => &self.index.found[form],
            Some(name) => self.index.namespaces.get(name).map_or(&nothing, |known| &known.found[form]),
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
