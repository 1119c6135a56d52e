//! What a peer says of itself, here, on disk and between nodes.

use std::sync::Arc;
use std::time::Duration;

use libp2p::PeerId;

use crate::cluster::proto::{DirectoryEntry, DirectoryPage, DirectoryPull, DirectoryPut, frame::Body, reply};
use crate::cluster::{Cluster, Frames};
use crate::domain::clock::{Epoch, Millis};
use crate::observe::metrics::P2pMetrics;
use crate::p2p::gauge;
use crate::p2p::spread::book::Entry;
use crate::p2p::spread::{Account, Kind, Said};
use crate::runtime::slot::Slot;

use super::limits::{FRESH, MAX_LIFE, MAX_RELAY_BYTES};
use super::name::{self, Name};
use super::search::Names;

/// What every profile is charged beside its texts: itself, and what the indexes by peer, by order and by end take, in tables
/// that are half empty.
pub const OVERHEAD_BYTES: usize = 768;

/// What it is charged for each run of characters in its name. That is what one costs which no other name has: 12 bytes beside
/// the name, and 41 in the table of the index, which may be half empty. One of many names costs less.
pub const GRAM_BYTES: usize = 104;

/// A peer that is to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Who.
    pub peer: PeerId,
    /// By which name; empty, if it was taken back.
    pub name: Name,
    /// Through which relay; empty: through any node of the cluster.
    pub relay: Arc<str>,
    /// Until when.
    pub until: Millis,
    /// Orders it among all, and says when the peer was last seen.
    pub stamp: Epoch,
    /// The address from which it came to the cluster, if it came from one.
    pub account: Option<Account>,
}

impl Profile {
    /// Whether somebody is to be found.
    #[must_use]
    pub fn stands(&self) -> bool {
        !self.name.is_empty()
    }

    /// When its peer last said so.
    #[must_use]
    pub fn seen(&self) -> Millis {
        Millis(self.stamp.0 >> 16)
    }

    /// Whether `other` says nothing that is not known by this one.
    #[must_use]
    pub fn says_as_much_as(&self, other: &Self) -> bool {
        let same = self.name == other.name && self.relay == other.relay;
        // One that does not last long is renewed well before it ends.
        let fresh = FRESH.min(self.until.since(self.seen()) / 4);
        same && other.seen().since(self.seen()) < fresh
    }
}

impl Entry for Profile {
    type Key = PeerId;

    fn key(&self) -> PeerId {
        self.peer
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
        OVERHEAD_BYTES + self.name.len() + self.relay.len() + GRAM_BYTES * self.name.grams().len()
    }
}

/// Profiles.
pub struct Profiles;

impl Kind for Profiles {
    type Entry = Profile;
    type Index = Names;
    type Told = DirectoryEntry;

    const NAME: &'static str = "directory";
    const PREFIX: &'static [u8] = b"directory/";
    const LONGEST: Duration = MAX_LIFE;

    fn slot(cluster: &Cluster) -> &Slot<dyn Frames> {
        &cluster.services.directory
    }

    fn key(profile: &Profile) -> Vec<u8> {
        profile.peer.to_bytes()
    }

    fn tell(profile: &Profile) -> DirectoryEntry {
        DirectoryEntry {
            peer: profile.peer.to_bytes().into(),
            name: profile.name.to_string(),
            relay: profile.relay.to_string(),
            until_ms: profile.until.0,
            stamp: profile.stamp.0,
            account: Account::tell(profile.account),
        }
    }

    fn heard(told: DirectoryEntry) -> Option<Profile> {
        let named = told.name.is_empty() || name::checked(&told.name) == Ok(told.name.as_str());
        let peer = PeerId::from_bytes(&told.peer).ok()?;
        (named && told.relay.len() <= MAX_RELAY_BYTES).then(|| Profile {
            peer,
            name: told.name.as_str().into(),
            relay: told.relay.into(),
            until: Millis(told.until_ms),
            stamp: Epoch(told.stamp),
            account: Account::heard(told.account),
        })
    }

    fn stamp(told: &DirectoryEntry) -> Epoch {
        Epoch(told.stamp)
    }

    fn put(entries: Vec<DirectoryEntry>) -> Body {
        Body::DirectoryPut(DirectoryPut { entries })
    }

    fn pull(after: Epoch) -> Body {
        Body::DirectoryPull(DirectoryPull { after: after.0 })
    }

    fn page(entries: Vec<DirectoryEntry>) -> reply::Body {
        reply::Body::Directory(DirectoryPage { entries })
    }

    fn said(body: Body) -> Option<Said<DirectoryEntry>> {
        match body {
            Body::DirectoryPut(put) => Some(Said::Put(put.entries)),
            Body::DirectoryPull(pull) => Some(Said::Pull(Epoch(pull.after))),
            _ => None,
        }
    }

    fn answered(body: reply::Body) -> Option<Vec<DirectoryEntry>> {
        match body {
            reply::Body::Directory(page) => Some(page.entries),
            _ => None,
        }
    }

    fn report(metrics: &P2pMetrics, entries: usize, bytes: usize) {
        metrics.profiles.set(gauge(entries));
        metrics.profile_bytes.set(gauge(bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::p2p::spread::{read, write};
    use crate::store::Write;

    fn profile() -> Profile {
        Profile {
            peer: PeerId::random(),
            name: "Ann".into(),
            relay: "".into(),
            until: Millis(9),
            stamp: Epoch(7 << 16),
            account: Account::heard(5),
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let written = profile();
        let Write::Put { key, record } = write::<Profiles>(&written) else { panic!("not put") };
        assert!(key.starts_with(Profiles::PREFIX) && record.expires == Some(Millis(9)));
        assert_eq!(read::<Profiles>(&record), Some(written.clone()));
        let gone = Profile { name: "".into(), ..written };
        assert_eq!(Profiles::heard(Profiles::tell(&gone)), Some(gone));
    }

    #[test]
    fn what_makes_no_sense_is_not_heard() {
        let told = Profiles::tell(&profile());
        let heard = |told: DirectoryEntry| Profiles::heard(told).is_some();
        assert!(heard(told.clone()));
        for bad in [
            DirectoryEntry { peer: vec![1].into(), ..told.clone() },
            DirectoryEntry { name: "n".repeat(65), ..told.clone() },
            DirectoryEntry { name: " ".into(), ..told.clone() },
            DirectoryEntry { name: "a\nb".into(), ..told.clone() },
            DirectoryEntry { relay: "/x".repeat(300), ..told },
        ] {
            assert!(!heard(bad.clone()), "{bad:?}");
        }
    }

    #[test]
    fn the_same_once_more_says_nothing_new_for_a_while() {
        let known = Profile { until: Millis(1 << 40), ..profile() };
        let later = |by: u64| Profile { stamp: Epoch((7 + by) << 16), ..known.clone() };
        let fresh = u64::try_from(FRESH.as_millis()).unwrap();
        assert!(known.says_as_much_as(&later(fresh - 1)));
        assert!(!known.says_as_much_as(&later(fresh)));
        assert!(!known.says_as_much_as(&Profile { name: "Bo".into(), ..later(1) }));
        assert!(!known.says_as_much_as(&Profile { relay: "/x".into(), ..later(1) }));
        let short = Profile { until: Millis(7 + 400), ..known.clone() };
        assert!(short.says_as_much_as(&later(99)) && !short.says_as_much_as(&later(100)));
    }
}
