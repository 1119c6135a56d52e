//! The sessions of this node, by what they are to be told of.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::session::Session;
use crate::domain::digest;
use crate::domain::mailbox::MailboxKey;

/// Parts of the map, each with a lock of its own.
const SHARDS: usize = 64;

type Sessions = SmallVec<[Arc<Session>; 1]>;

/// The sessions of this node. A mailbox may have any number of them, and each counts for itself.
pub(super) struct Registry {
    shards: Vec<Mutex<HashMap<MailboxKey, Sessions>>>,
}

impl Registry {
    /// Without sessions.
    pub fn new() -> Self {
        Self { shards: std::iter::repeat_with(Mutex::default).take(SHARDS).collect() }
    }

    /// Adds a session under all its keys.
    pub fn enter(&self, session: &Arc<Session>) {
        for key in keys(session) {
            self.shard(&key).lock().entry(key).or_default().push(session.clone());
        }
    }

    /// Removes a session, and no other one of its mailboxes.
    pub fn leave(&self, session: &Session) {
        for key in keys(session) {
            let mut shard = self.shard(&key).lock();
            if let Some(sessions) = shard.get_mut(&key) {
                sessions.retain(|other| other.number != session.number);
                if sessions.is_empty() {
                    shard.remove(&key);
                }
            }
            if shard.capacity() > 64 && shard.capacity() > 4 * shard.len() {
                shard.shrink_to_fit();
            }
        }
    }

    /// The sessions of a mailbox.
    pub fn of(&self, mailbox: &MailboxKey) -> Sessions {
        self.shard(mailbox).lock().get(mailbox).cloned().unwrap_or_default()
    }

    /// The sessions of a client, whatever their mailboxes.
    pub fn of_client(&self, client_id: &str) -> Sessions {
        self.of(&client_key(client_id))
    }

    fn shard(&self, key: &MailboxKey) -> &Mutex<HashMap<MailboxKey, Sessions>> {
        &self.shards[usize::from(key.0[0]) % SHARDS]
    }
}

fn keys(session: &Session) -> impl Iterator<Item = MailboxKey> {
    [Some(session.blobs), session.device, Some(client_key(&session.who.client_id))].into_iter().flatten()
}

/// Where the sessions of a client are found; no mailbox has it.
fn client_key(client_id: &str) -> MailboxKey {
    MailboxKey(digest(&[b"client", client_id.as_bytes()]))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::channel::Channel;
    use super::super::session::Identity;
    use super::*;
    use crate::runtime::outbox::Outbox;
    use crate::wire::vauchi::handshake::Handshake;

    fn session(number: u64, client: &str) -> Arc<Session> {
        let who = Identity::new(&Handshake::plain(client, Some("d")), None, Ipv4Addr::LOCALHOST.into());
        Arc::new(Session::new(number, who, Channel::plain(Outbox::new(100))))
    }

    #[test]
    fn one_of_two_sessions_leaves_and_the_other_stays() {
        let registry = Registry::new();
        let (a, b, other) = (session(1, "x"), session(2, "x"), session(3, "y"));
        [&a, &b, &other].into_iter().for_each(|session| registry.enter(session));
        let numbers = |sessions: Sessions| sessions.iter().map(|s| s.number).collect::<Vec<_>>();
        assert_eq!(numbers(registry.of(&MailboxKey::blobs("x"))), [1, 2]);
        registry.leave(&a);
        assert_eq!(numbers(registry.of(&MailboxKey::blobs("x"))), [2]);
        assert_eq!(numbers(registry.of(&MailboxKey::device("x", "d"))), [2]);
        assert_eq!(numbers(registry.of_client("x")), [2]);
        registry.leave(&b);
        registry.leave(&other);
        assert!(registry.shards.iter().all(|shard| shard.lock().is_empty()));
    }
}
