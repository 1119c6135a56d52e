//! What is still to be told to other nodes, or looked up for them, outside of the order of their frames.

use std::collections::{BTreeSet, HashSet, VecDeque};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::domain::ids::NodeRun;
use crate::domain::mailbox::MailboxKey;

/// Most wakes that wait for room on a link. A recipient that is not woken finds what came with its next wake.
const MAX_WAKES: usize = 1 << 16;

/// Most lists of mailboxes that are to be looked up; beyond, everything that a node asked for is looked up again.
const MAX_CHECKS: usize = 1 << 14;

/// To be told to others.
#[derive(Debug, Default)]
pub struct Tellings {
    state: Mutex<Telling>,
    told_purges: Mutex<BTreeSet<NodeRun>>,
    changed: Notify,
}

/// What is to be told.
#[derive(Debug, Default)]
pub struct Telling {
    /// To whom this node says anew what it has sessions for.
    pub introduce: BTreeSet<NodeRun>,
    /// Whom it tells that something waits in a mailbox.
    pub wakes: HashSet<(NodeRun, MailboxKey)>,
}

impl Tellings {
    /// A link to a node is new: it is to be told everything, and first the purges that it may have missed.
    pub fn meet(&self, run: &NodeRun) {
        self.told_purges.lock().remove(run);
        self.introduce(run);
    }

    /// A node has obeyed all purges that it may have missed.
    pub fn note_told_purges(&self, run: &NodeRun) {
        self.told_purges.lock().insert(run.clone());
    }

    /// Whether a node has obeyed all purges that this node knows.
    pub fn has_told_purges(&self, run: &NodeRun) -> bool {
        self.told_purges.lock().contains(run)
    }

    /// Only these runs are there any more.
    pub fn keep(&self, is_live: impl Fn(&NodeRun) -> bool) {
        self.told_purges.lock().retain(|run| is_live(run));
    }

    /// A node is to be told anew what this node has sessions for.
    pub fn introduce(&self, run: &NodeRun) {
        self.state.lock().introduce.insert(run.clone());
        self.changed.notify_one();
    }

    /// A node is to be woken. False if too many are already.
    pub fn wake(&self, run: &NodeRun, mailbox: MailboxKey) -> bool {
        let mut state = self.state.lock();
        let fits = state.wakes.len() < MAX_WAKES;
        if fits {
            state.wakes.insert((run.clone(), mailbox));
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

/// To be looked up for others.
#[derive(Debug, Default)]
pub struct Lookups {
    state: Mutex<Pending>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Pending {
    checks: VecDeque<(NodeRun, Bytes)>,
    all_of: BTreeSet<NodeRun>,
}

/// Something to be looked up.
#[derive(Debug)]
pub enum Lookup {
    /// Which of these mailboxes hold something that the node would be told of.
    Some(NodeRun, Bytes),
    /// Which of all those that it has sessions of.
    All(NodeRun),
}

impl Lookups {
    /// A node has sessions of these mailboxes.
    pub fn check(&self, run: &NodeRun, mailboxes: Bytes) {
        let mut state = self.state.lock();
        if state.checks.len() < MAX_CHECKS {
            state.checks.push_back((run.clone(), mailboxes));
        } else {
            state.all_of.insert(run.clone());
        }
        self.changed.notify_one();
    }

    /// How much waits.
    pub fn len(&self) -> usize {
        let state = self.state.lock();
        state.checks.len() + state.all_of.len()
    }

    /// What is next.
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
        let some = self.checks.pop_front().map(|(run, mailboxes)| Lookup::Some(run, mailboxes));
        some.or_else(|| self.all_of.pop_first().map(Lookup::All))
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
    async fn too_much_is_looked_up_as_a_whole() {
        let lookups = Lookups::default();
        for _ in 0..=MAX_CHECKS {
            lookups.check(&run(), Bytes::new());
        }
        for _ in 0..MAX_CHECKS {
            assert!(matches!(lookups.next().await, Lookup::Some(..)));
        }
        assert!(matches!(lookups.next().await, Lookup::All(of) if of == run()));
        assert_eq!(lookups.len(), 0);
    }

    #[tokio::test]
    async fn what_is_to_be_told_is_told_once() {
        let tellings = Tellings::default();
        for _ in 0..2 {
            tellings.introduce(&run());
            assert!(tellings.wake(&run(), MailboxKey::blobs("x")));
        }
        let telling = tellings.next().await;
        assert_eq!((telling.introduce.len(), telling.wakes.len()), (1, 1));
    }
}
