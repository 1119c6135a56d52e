//! The connections that stand, for those who run the node.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use libp2p::PeerId;
use libp2p::swarm::ConnectionId;
use parking_lot::Mutex;

use super::streams::Connection;
use crate::domain::clock::Millis;
use crate::runtime::sessions::Wanted;

/// All of them.
#[derive(Debug, Default)]
pub struct Peers {
    all: Mutex<All>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct All {
    by_number: BTreeMap<u64, Standing>,
    /// A hash of the peer, and the number: few bytes, because idle connections are many.
    by_peer: BTreeSet<(u64, u64)>,
}

/// One of them.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Its number in this process.
    pub number: u64,
    /// The connection.
    pub connection: Arc<Connection>,
    /// Since when it stands.
    pub since: Millis,
}

impl Peers {
    /// It stands.
    pub fn enter(&self, connection: &Arc<Connection>, since: Millis) {
        let number = number(connection.id);
        let standing = Standing { number, connection: connection.clone(), since };
        let mut all = self.all.lock();
        all.by_peer.insert((self.hash(&connection.peer), number));
        all.by_number.insert(number, standing);
    }

    /// It has ended.
    pub fn leave(&self, connection: &Connection) {
        let number = number(connection.id);
        let mut all = self.all.lock();
        all.by_peer.remove(&(self.hash(&connection.peer), number));
        all.by_number.remove(&number);
    }

    /// Those that are wanted; all are in one part.
    #[must_use]
    pub fn wanted(&self, wanted: Wanted) -> Vec<Standing> {
        let all = self.all.lock();
        let behind = all.by_number.range((Excluded(wanted.after), Unbounded));
        behind.take(wanted.limit).map(|(_, standing)| standing.clone()).collect()
    }

    /// The one of that number.
    #[must_use]
    pub fn of(&self, number: u64) -> Option<ConnectionId> {
        self.all.lock().by_number.get(&number).map(|standing| standing.connection.id)
    }

    /// Those of one peer, the oldest first.
    #[must_use]
    pub fn of_peer(&self, peer: &PeerId) -> Vec<Arc<Connection>> {
        let (hash, all) = (self.hash(peer), self.all.lock());
        let numbers = all.by_peer.range((hash, 0)..=(hash, u64::MAX)).map(|(_, number)| number);
        let standing = numbers.filter_map(|number| all.by_number.get(number));
        standing.map(|standing| &standing.connection).filter(|connection| connection.peer == *peer).cloned().collect()
    }

    fn hash(&self, peer: &PeerId) -> u64 {
        self.hasher.hash_one(peer)
    }
}

/// A connection's number as it is written, counted from one.
fn number(id: ConnectionId) -> u64 {
    id.to_string().parse().unwrap_or_default()
}
