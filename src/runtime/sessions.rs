//! What is told of sessions to those who run a node.

use std::net::IpAddr;
use std::time::Duration;

use super::outbox::Outbox;
use crate::domain::clock::Millis;

/// Which part of a service's sessions to tell of: parts do not change, and a session stays in its part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// The part.
    pub part: usize,
    /// Only sessions with numbers above this.
    pub after: u64,
    /// At most so many, those with the smallest numbers.
    pub limit: usize,
}

/// A session of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionInfo {
    /// Unique among the sessions of its service at this node.
    pub number: u64,
    /// The vault's id, the client's, or the libp2p peer's.
    pub name: String,
    /// The name of its mailbox; empty if it has none.
    pub mailbox: String,
    /// Where it comes from, if that is known.
    pub address: Option<IpAddr>,
    /// Whether it fetches by HTTP instead of holding a socket.
    pub polling: bool,
    /// Whether its client has proven a key.
    pub proven: bool,
    /// Whether what is said is sealed by Noise, or as libp2p seals it.
    pub sealed: bool,
    /// When it registered, if that is known.
    pub since: Option<Millis>,
    /// For how long nothing has been said, if that is known.
    pub idle: Option<Duration>,
    /// What waits to be written to it, in bytes.
    pub queued: usize,
    /// Of a libp2p peer's connection, what it has of the relay.
    pub relayed: Option<Relayed>,
}

/// What a libp2p peer has of its relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relayed {
    /// Whether it has a reservation by this connection.
    pub reserved: bool,
    /// Its circuits with a half at this node, by whichever connection.
    pub circuits: usize,
}

impl Wanted {
    /// The sessions that are wanted, of all numbered ones of the part.
    pub fn of<T>(self, mut all: Vec<(u64, T)>) -> Vec<T> {
        all.retain(|(number, _)| *number > self.after);
        all.sort_unstable_by_key(|(number, _)| *number);
        all.truncate(self.limit);
        all.into_iter().map(|(_, session)| session).collect()
    }
}

/// Ends a connection because an operator wants it: at once if `cut`, else after what waits to be written.
pub fn end(outbox: &Outbox, cut: bool) {
    if cut {
        outbox.cut("operator");
    } else {
        // Policy violation (RFC 6455, section 7.4.1): clients are free to come back.
        outbox.close(1008, "closed by the operator");
    }
}
