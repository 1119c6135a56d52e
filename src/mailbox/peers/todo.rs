//! What is still to be told to other nodes, or looked up for them, outside of the order of their frames.

use std::collections::{BTreeSet, HashSet, VecDeque};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::cluster::proto::MailPurge;
use crate::cluster::regions::{Caller, PeerName};
use crate::domain::ids::{NodeId, NodeRun};
use crate::domain::mailbox::MailboxKey;

/// Most wakes that wait for room on a link. A recipient that is not woken finds what came with its next wake.
const MAX_WAKES: usize = 1 << 16;

/// Most lists of mailboxes that are to be looked up; beyond, everything that a node asked for is looked up again.
const MAX_CHECKS: usize = 1 << 14;

/// Most purges that are to be obeyed; the rest is told again with the next link.
const MAX_PURGES: usize = 1 << 16;

/// To be told to others.
#[derive(Debug, Default)]
pub struct Tellings {
    state: Mutex<Telling>,
    changed: Notify,
}

/// Whom this node tells what it has sessions for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Audience {
    /// Another node of this cluster: for its own sessions, and those of callers.
    Node(NodeRun),
    /// Another cluster: for its own sessions.
    Peer(PeerName),
}

/// What is to be told.
#[derive(Debug, Default)]
pub struct Telling {
    /// To whom this node says anew what it has sessions for.
    pub introduce: BTreeSet<Audience>,
    /// Whom it tells that a node holds something for a mailbox.
    pub wakes: HashSet<(Asker, NodeId, MailboxKey)>,
}

impl Tellings {
    /// Somebody is to be told everything.
    pub fn introduce(&self, to: Audience) {
        self.state.lock().introduce.insert(to);
        self.changed.notify_one();
    }

    /// Somebody is to be told that a node holds something. False if too many are already.
    pub fn wake(&self, asker: Asker, holder: &NodeId, mailbox: MailboxKey) -> bool {
        let mut state = self.state.lock();
        let fits = state.wakes.len() < MAX_WAKES;
        if fits {
            state.wakes.insert((asker, holder.clone(), mailbox));
            self.changed.notify_one();
        }
        fits
    }

    /// Everything there is to tell, once there is something.
    pub async fn next(&self) -> Telling {
        loop {
            self.changed.notified().await;
            let telling = std::mem::take(&mut *self.state.lock());
            if !telling.introduce.is_empty() || !telling.wakes.is_empty() {
                return telling;
            }
        }
    }
}

/// For whom something is looked up.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Asker {
    /// Another node of this cluster.
    Node(NodeRun),
    /// A node of another cluster.
    Caller(Caller),
}

/// To be looked up for others.
#[derive(Debug, Default)]
pub struct Lookups {
    state: Mutex<Pending>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Pending {
    purges: VecDeque<MailPurge>,
    checks: VecDeque<(Asker, Bytes)>,
    all_of: BTreeSet<Asker>,
}

/// Something to be looked up.
#[derive(Debug)]
pub enum Lookup {
    /// What is to be deleted, if it is there.
    Purge(MailPurge),
    /// Which of these mailboxes hold something that the node would be told of.
    Some(Asker, Bytes),
    /// Which of all those that it has sessions of.
    All(Asker),
}

impl Lookups {
    /// A purge that may have been obeyed before. False if too many wait.
    pub fn purge(&self, purge: MailPurge) -> bool {
        let mut state = self.state.lock();
        let fits = state.purges.len() < MAX_PURGES;
        if fits {
            state.purges.push_back(purge);
            self.changed.notify_one();
        }
        fits
    }

    /// Somebody has sessions of these mailboxes.
    pub fn check(&self, asker: Asker, mailboxes: Bytes) {
        let mut state = self.state.lock();
        if state.checks.len() < MAX_CHECKS {
            state.checks.push_back((asker, mailboxes));
        } else {
            state.all_of.insert(asker);
        }
        self.changed.notify_one();
    }

    /// How much waits.
    pub fn len(&self) -> usize {
        let state = self.state.lock();
        state.purges.len() + state.checks.len() + state.all_of.len()
    }

    /// What is next: purges before what they may empty.
    pub async fn next(&self) -> Lookup {
        loop {
            if let Some(next) = self.state.lock().pop() {
                return next;
            }
            self.changed.notified().await;
        }
    }
}

impl Pending {
    fn pop(&mut self) -> Option<Lookup> {
        let purge = self.purges.pop_front().map(Lookup::Purge);
        let some = |this: &mut Self| this.checks.pop_front().map(|(asker, mailboxes)| Lookup::Some(asker, mailboxes));
        purge.or_else(|| some(self)).or_else(|| self.all_of.pop_first().map(Lookup::All))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::Generation;

    fn run() -> NodeRun {
        NodeRun { node: "a".parse().unwrap(), generation: Generation(1) }
    }

    #[tokio::test]
    async fn purges_come_first_and_what_is_too_much_is_looked_up_as_a_whole() {
        let lookups = Lookups::default();
        for _ in 0..=MAX_CHECKS {
            lookups.check(Asker::Node(run()), Bytes::new());
        }
        assert!(lookups.purge(MailPurge::default()));
        assert!(matches!(lookups.next().await, Lookup::Purge(_)));
        for _ in 0..MAX_CHECKS {
            assert!(matches!(lookups.next().await, Lookup::Some(..)));
        }
        assert!(matches!(lookups.next().await, Lookup::All(of) if of == Asker::Node(run())));
        assert_eq!(lookups.len(), 0);
    }

    #[tokio::test]
    async fn what_is_to_be_told_is_told_once() {
        let tellings = Tellings::default();
        for _ in 0..2 {
            tellings.introduce(Audience::Node(run()));
            assert!(tellings.wake(Asker::Node(run()), &run().node, MailboxKey::blobs("x")));
        }
        let telling = tellings.next().await;
        assert_eq!((telling.introduce.len(), telling.wakes.len()), (1, 1));
    }
}
