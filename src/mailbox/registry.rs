//! The sessions of this node, by what they are to be told of.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::session::Session;
use crate::domain::digest;
use crate::domain::mailbox::MailboxKey;

/// Parts of the map, each with a lock of its own.
pub(super) const SHARDS: usize = 64;

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

    /// Adds a session under all its keys. `entered` is told of each of its mailboxes, in the order in which sessions
    /// of it come and go.
    pub fn enter(&self, session: &Arc<Session>, entered: impl Fn(&MailboxKey)) {
        for key in keys(session) {
            let mut shard = self.shard(&key).lock();
            shard.entry(key).or_default().push(session.clone());
            if session.reads(&key) {
                entered(&key);
            }
        }
    }

    /// Removes a session, and no other one of its mailboxes. `left` is told of each mailbox that has no session any
    /// more, in the order in which sessions of it come and go.
    pub fn leave(&self, session: &Session, left: impl Fn(&MailboxKey)) {
        for key in keys(session) {
            let mut shard = self.shard(&key).lock();
            if let Some(sessions) = shard.get_mut(&key) {
                sessions.retain(|other| other.number != session.number);
                if sessions.is_empty() {
                    shard.remove(&key);
                    if session.reads(&key) {
                        left(&key);
                    }
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

    /// Gives `work` whether a mailbox has sessions; none of them comes or goes meanwhile.
    pub fn hold<T>(&self, mailbox: &MailboxKey, work: impl FnOnce(bool) -> T) -> T {
        let shard = self.shard(mailbox).lock();
        work(shard.contains_key(mailbox))
    }

    /// How many parts there are for [`Registry::with_part`].
    pub fn parts(&self) -> usize {
        self.shards.len()
    }

    /// Gives `work` all mailboxes of one part that have sessions; none of them comes or goes meanwhile.
    pub fn with_part<T>(&self, part: usize, work: impl FnOnce(Vec<MailboxKey>) -> T) -> T {
        let shard = self.shards[part].lock();
        let is_read = |(key, sessions): &(&MailboxKey, &Sessions)| sessions.iter().any(|session| session.reads(key));
        let mailboxes: Vec<_> = shard.iter().filter(is_read).map(|(key, _)| *key).collect();
        work(mailboxes)
    }

    /// The sessions of one part, each in one part only.
    pub fn in_part(&self, part: usize) -> Vec<Arc<Session>> {
        let Some(shard) = self.shards.get(part).map(Mutex::lock) else { return Vec::new() };
        let own = |(key, sessions): (&MailboxKey, &Sessions)| {
            let own: Sessions = sessions.iter().filter(|session| session.blobs == *key).cloned().collect();
            own
        };
        shard.iter().flat_map(own).collect()
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
        let told = Mutex::new(Vec::new());
        let tell = |key: &MailboxKey| told.lock().push(*key);
        [&a, &b, &other].into_iter().for_each(|session| registry.enter(session, tell));
        let of = |client| [MailboxKey::blobs(client), MailboxKey::device(client, "d")];
        assert_eq!(std::mem::take(&mut *told.lock()), [of("x"), of("x"), of("y")].concat());
        let mut all: Vec<_> =
            (0..registry.parts()).flat_map(|part| registry.with_part(part, |mailboxes| mailboxes)).collect();
        let mut expected = [of("x"), of("y")].concat();
        all.sort();
        expected.sort();
        assert_eq!(all, expected);
        let numbers = |sessions: Sessions| sessions.iter().map(|s| s.number).collect::<Vec<_>>();
        assert_eq!(numbers(registry.of(&MailboxKey::blobs("x"))), [1, 2]);
        let mut each: Vec<_> = (0..registry.parts()).flat_map(|part| registry.in_part(part)).collect();
        each.sort_by_key(|session| session.number);
        assert_eq!(numbers(each.into()), [1, 2, 3], "each once");
        registry.leave(&a, tell);
        assert_eq!(*told.lock(), []);
        assert_eq!(numbers(registry.of(&MailboxKey::blobs("x"))), [2]);
        assert_eq!(numbers(registry.of(&MailboxKey::device("x", "d"))), [2]);
        assert_eq!(numbers(registry.of_client("x")), [2]);
        registry.leave(&b, tell);
        assert_eq!(*told.lock(), of("x"));
        registry.leave(&other, tell);
        assert!(registry.shards.iter().all(|shard| shard.lock().is_empty()));
    }
}
