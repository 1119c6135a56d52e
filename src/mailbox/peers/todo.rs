//! What is still to be told to other nodes, or looked up for them, outside of the order of their frames.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use bytes::Bytes;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::Notify;

use crate::cluster::regions::{Caller, PeerName};
use crate::domain::ids::{NodeId, NodeRun};
use crate::domain::mailbox::{MailboxKey, Place};

/// Most wakes that wait for room on a link, and most places that they name. A recipient that is not woken finds what came
/// with its next wake, or, if that stands behind what it was sent already, on its next connection.
const MAX_WAKES: usize = 1 << 16;

/// Most lists of mailboxes that are to be looked up; beyond, everything that a node asked for is looked up again.
const MAX_CHECKS: usize = 1 << 14;

/// To be told to others.
#[derive(Debug, Default)]
pub struct Tellings {
    state: Mutex<Telling>,
    /// Who is being told what there are sessions for, and since which meeting: once at a time for each.
    busy: Mutex<BTreeMap<Audience, Option<u64>>>,
    meetings: Mutex<Meetings>,
    changed: Notify,
}

/// Which links are new.
#[derive(Debug, Default)]
struct Meetings {
    last: u64,
    latest: BTreeMap<Audience, Meeting>,
}

/// The last time that a link to somebody was new.
#[derive(Debug, Clone, Copy)]
struct Meeting {
    number: u64,
    /// Whether they have obeyed all purges that they may have missed before.
    told_purges: bool,
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
    /// Whom it tells that a node holds something for a mailbox, and where, as far as that may stand behind what was sent
    /// already.
    pub wakes: HashMap<(Asker, NodeId, MailboxKey), SmallVec<[Place; 1]>>,
    /// How many places that are.
    places: usize,
}

impl Tellings {
    /// A link is new: somebody is to be told everything, and first the purges that they may have missed.
    pub fn meet(&self, to: Audience) {
        {
            let mut meetings = self.meetings.lock();
            meetings.last += 1;
            let meeting = Meeting { number: meetings.last, told_purges: false };
            meetings.latest.insert(to.clone(), meeting);
        }
        self.introduce(to);
    }

    /// Which meeting with somebody is the last; `None` if there was none.
    pub fn meeting(&self, to: &Audience) -> Option<u64> {
        Some(self.meetings.lock().latest.get(to)?.number)
    }

    /// Somebody has obeyed all purges that they may have missed before that meeting. It counts for no later one.
    pub fn note_told_purges(&self, to: &Audience, meeting: Option<u64>) {
        if let Some(latest) = self.meetings.lock().latest.get_mut(to).filter(|latest| Some(latest.number) == meeting) {
            latest.told_purges = true;
        }
    }

    /// Whether somebody has obeyed all purges that this node knows.
    pub fn has_told_purges(&self, to: &Audience) -> bool {
        self.meetings.lock().latest.get(to).is_some_and(|meeting| meeting.told_purges)
    }

    /// Of this cluster, only these runs are there any more.
    pub fn keep(&self, is_live: impl Fn(&NodeRun) -> bool) {
        self.meetings.lock().latest.retain(|to, _| match to {
            Audience::Node(run) => is_live(run),
            Audience::Peer(_) => true,
        });
    }

    /// Somebody is to be told nothing any more.
    pub fn forget(&self, to: &Audience) {
        self.meetings.lock().latest.remove(to);
        self.state.lock().introduce.remove(to);
    }

    /// Somebody is to be told anew what there are sessions for.
    pub fn introduce(&self, to: Audience) {
        self.state.lock().introduce.insert(to);
        self.changed.notify_one();
    }

    /// Somebody is to be told that a node holds something, at that place if it may stand behind what was sent already.
    /// False if too many are already.
    pub fn wake(&self, asker: Asker, holder: &NodeId, mailbox: MailboxKey, behind: Option<Place>) -> bool {
        let mut state = self.state.lock();
        let Telling { wakes, places, .. } = &mut *state;
        if wakes.len() >= MAX_WAKES {
            return false;
        }
        let named = wakes.entry((asker, holder.clone(), mailbox)).or_default();
        let fits = behind.is_none_or(|place| named.contains(&place) || *places < MAX_WAKES);
        if let Some(place) = behind.filter(|place| fits && !named.contains(place)) {
            named.push(place);
            *places += 1;
        }
        self.changed.notify_one();
        fits
    }

    /// Everything there is to tell, once there is something, but to those who are still being told.
    pub async fn next(&self) -> Telling {
        loop {
            self.changed.notified().await;
            let telling = self.take();
            if !telling.introduce.is_empty() || !telling.wakes.is_empty() {
                return telling;
            }
        }
    }

    fn take(&self) -> Telling {
        let (mut state, mut busy) = (self.state.lock(), self.busy.lock());
        let is_busy = |to: &Audience| busy.get(to).is_some_and(|since| *since == self.meeting(to));
        let (later, introduce) = std::mem::take(&mut state.introduce).into_iter().partition(is_busy);
        state.introduce = later;
        busy.extend(BTreeSet::iter(&introduce).map(|to| (to.clone(), self.meeting(to))));
        Telling { introduce, wakes: std::mem::take(&mut state.wakes), places: std::mem::take(&mut state.places) }
    }

    /// Somebody of [`Tellings::next`] has been told what there are sessions for since that meeting, or is gone.
    pub fn introduced(&self, to: &Audience, since: Option<u64>) {
        let mut busy = self.busy.lock();
        if busy.get(to).is_some_and(|busy| *busy <= since) {
            busy.remove(to);
        }
        self.changed.notify_one();
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
    checks: VecDeque<(Asker, Bytes, bool)>,
    all_of: BTreeSet<Asker>,
}

/// Something to be looked up.
#[derive(Debug)]
pub enum Lookup {
    /// Which of these mailboxes hold something that the node would be told of; whether the sessions have been sent nothing
    /// yet.
    Some(Asker, Bytes, bool),
    /// Which of all those that it has sessions of.
    All(Asker),
}

impl Lookups {
    /// Somebody has sessions of these mailboxes, which may be fresh: they have been sent nothing yet.
    pub fn check(&self, asker: Asker, mailboxes: Bytes, fresh: bool) {
        let mut state = self.state.lock();
        if state.checks.len() < MAX_CHECKS {
            state.checks.push_back((asker, mailboxes, fresh));
        } else {
            state.all_of.insert(asker);
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
        let some = self.checks.pop_front().map(|(asker, mailboxes, fresh)| Lookup::Some(asker, mailboxes, fresh));
        some.or_else(|| self.all_of.pop_first().map(Lookup::All))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::Generation;
    use crate::domain::mailbox::{BlobId, MessageKey, Stamp};

    fn run() -> NodeRun {
        NodeRun { node: "a".parse().unwrap(), generation: Generation(1) }
    }

    #[tokio::test]
    async fn too_much_is_looked_up_as_a_whole() {
        let lookups = Lookups::default();
        for _ in 0..=MAX_CHECKS {
            lookups.check(Asker::Node(run()), Bytes::new(), false);
        }
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
            assert!(tellings.wake(Asker::Node(run()), &run().node, MailboxKey::blobs("x"), None));
        }
        let telling = tellings.next().await;
        assert_eq!((telling.introduce.len(), telling.wakes.len()), (1, 1));
    }

    fn place(stamp: u64) -> Place {
        let id = BlobId::new(Stamp::new(stamp).unwrap(), MessageKey::of("s", "r", &stamp.to_string()));
        Place { rank: 0, id }
    }

    #[tokio::test]
    async fn a_wake_that_waits_names_every_place_that_may_stand_behind_once_and_not_too_many() {
        let (tellings, mailbox) = (Tellings::default(), MailboxKey::blobs("x"));
        let wake = |behind| tellings.wake(Asker::Node(run()), &run().node, mailbox, behind);
        assert!([Some(1), None, Some(2), Some(1)].into_iter().all(|stamp| wake(stamp.map(place))));
        let named: Vec<_> = tellings.next().await.wakes.into_values().collect();
        assert_eq!(named.iter().map(|places| &places[..]).collect::<Vec<_>>(), [[place(1), place(2)]]);
        let fit = (0..=MAX_WAKES as u64).filter(|n| {
            tellings.wake(Asker::Node(run()), &run().node, MailboxKey::blobs(&(n % 1000).to_string()), Some(place(*n)))
        });
        assert_eq!(fit.count(), MAX_WAKES);
        tellings.next().await;
        assert!(wake(Some(place(1))), "what was taken leaves room");
    }

    #[test]
    fn purges_that_were_heard_on_an_older_link_do_not_count_for_a_newer_one() {
        let (tellings, to) = (Tellings::default(), Audience::Node(run()));
        tellings.meet(to.clone());
        let before = tellings.meeting(&to);
        tellings.meet(to.clone());
        tellings.note_told_purges(&to, before);
        assert!(!tellings.has_told_purges(&to));
        tellings.note_told_purges(&to, tellings.meeting(&to));
        assert!(tellings.has_told_purges(&to));
        tellings.keep(|_| false);
        tellings.note_told_purges(&to, before);
        assert!(!tellings.has_told_purges(&to));
    }

    #[tokio::test]
    async fn who_is_being_told_holds_up_nobody_else_and_is_told_again_afterwards() {
        let (tellings, slow) = (Tellings::default(), Audience::Node(run()));
        tellings.introduce(slow.clone());
        tellings.next().await;
        let other = Audience::Peer(PeerName("http://b".into()));
        for to in [&slow, &other] {
            tellings.introduce(to.clone());
        }
        assert_eq!(tellings.next().await.introduce, BTreeSet::from([other]));
        tellings.introduced(&slow, None);
        assert_eq!(tellings.next().await.introduce, BTreeSet::from([slow.clone()]));
        // What waits for an answer on an older link is not waited for.
        tellings.meet(slow.clone());
        assert_eq!(tellings.next().await.introduce, BTreeSet::from([slow]));
    }

    #[tokio::test]
    async fn who_is_gone_is_told_nothing() {
        let tellings = Tellings::default();
        let (gone, there) = (Audience::Peer(PeerName("http://a".into())), Audience::Node(run()));
        for to in [&gone, &there] {
            tellings.meet(to.clone());
            tellings.note_told_purges(to, tellings.meeting(to));
        }
        tellings.forget(&gone);
        assert_eq!([&gone, &there].map(|to| tellings.has_told_purges(to)), [false, true]);
        assert_eq!(tellings.next().await.introduce.into_iter().collect::<Vec<_>>(), [there]);
    }
}
