//! The connections that stand, for those who run the node.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use libp2p::swarm::ConnectionId;
use parking_lot::Mutex;

use super::streams::Connection;
use crate::domain::clock::Millis;
use crate::runtime::sessions::Wanted;

/// All of them, by their numbers.
#[derive(Debug, Default)]
pub struct Peers(Mutex<BTreeMap<u64, Standing>>);

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
        self.0.lock().insert(number, Standing { number, connection: connection.clone(), since });
    }

    /// It has ended.
    pub fn leave(&self, connection: &Connection) {
        self.0.lock().remove(&number(connection.id));
    }

    /// Those that are wanted; all are in one part.
    #[must_use]
    pub fn wanted(&self, wanted: Wanted) -> Vec<Standing> {
        let standing = self.0.lock();
        let behind = standing.range((Excluded(wanted.after), Unbounded));
        behind.take(wanted.limit).map(|(_, standing)| standing.clone()).collect()
    }

    /// The one of that number.
    #[must_use]
    pub fn of(&self, number: u64) -> Option<ConnectionId> {
        self.0.lock().get(&number).map(|standing| standing.connection.id)
    }
}

/// A connection's number as it is written, counted from one.
fn number(id: ConnectionId) -> u64 {
    id.to_string().parse().unwrap_or_default()
}
