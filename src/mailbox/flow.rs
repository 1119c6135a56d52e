//! How far a session has been sent its mailboxes, by each node that holds something of them.

use std::collections::HashSet;

use smallvec::SmallVec;

use super::debts::Debts;
use super::sent::{Sent, Verdict};
use super::session::Over;
use crate::cluster::regions::PeerName;
use crate::domain::ids::NodeId;
use crate::domain::mailbox::{BlobId, MessageKey, Place};

/// This node among the holders.
pub(super) const HERE: usize = 0;

/// What came and may stand behind the cursor, and is not yet looked at. If more blobs come, their holder is read anew;
/// a message to a device is sent to its next connection.
const MAX_CAME: usize = 1024;

/// How far a session has been sent its mailboxes. Holders are numbered: this node, then each other one that said that
/// it holds something, in the order in which they said so.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// Whether its task runs.
    running: bool,
    /// Whether it was found out who holds something for it.
    begun: bool,
    /// Whether something may be new since the task last looked.
    again: bool,
    here: Holder,
    away: Vec<Away>,
    /// What came since it was last looked and may stand behind the cursor: messages to the device, with a version lower
    /// than what was sent already, and blobs that came from another store.
    came: Vec<(Over, usize, Place)>,
    sent: Sent,
    /// Messages that lie in other clusters, and that the client fetches there itself.
    left_to_client: HashSet<MessageKey>,
}

/// How far one holder has been read.
#[derive(Debug, Default)]
struct Holder {
    blobs: Reading,
    device: Reading,
}

#[derive(Debug, Default)]
struct Reading {
    cursor: Option<Place>,
    /// Whether it may hold something behind the cursor.
    waits: bool,
}

/// Where another node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whereabouts {
    /// In this cluster.
    Near(NodeId),
    /// In another one.
    Afar(PeerName, NodeId),
}

/// Another node.
#[derive(Debug)]
struct Away {
    whereabouts: Whereabouts,
    holder: Holder,
    /// How often in a row it has failed.
    failures: u32,
    /// Whether it is left alone for now, because it has failed.
    rests: bool,
    /// The last of the waits until it is tried again.
    wait: u64,
    /// What it could not be told. It is told before it is read on.
    debts: Debts,
}

impl Away {
    fn new(whereabouts: Whereabouts) -> Self {
        let (holder, debts) = (Holder::default(), Debts::default());
        Self { whereabouts, holder, failures: 0, rests: false, wait: 0, debts }
    }
}

impl Holder {
    fn reading(&mut self, over: Over) -> &mut Reading {
        match over {
            Over::Blobs => &mut self.blobs,
            Over::Devices => &mut self.device,
        }
    }
}

impl Flow {
    /// Something may be new. True if the task must be started.
    #[must_use]
    pub fn wake(&mut self) -> bool {
        self.again = true;
        !std::mem::replace(&mut self.running, true)
    }

    /// The task looks again; false, and the task ends, if nothing may be new.
    pub fn look(&mut self) -> bool {
        self.running = std::mem::take(&mut self.again);
        self.running
    }

    /// Whether the task looks for the first time.
    pub fn is_first(&mut self) -> bool {
        !std::mem::replace(&mut self.begun, true)
    }

    /// The task is to look again.
    pub fn again(&mut self) {
        self.again = true;
    }

    /// Something may wait at this node.
    pub fn waits_here(&mut self, over: Over) {
        self.here.reading(over).waits = true;
    }

    /// Something may wait at another node.
    pub fn waits_at(&mut self, whereabouts: &Whereabouts, over: Over) -> usize {
        let at = match self.away.iter().position(|away| away.whereabouts == *whereabouts) {
            Some(at) => at,
            None => {
                self.away.push(Away::new(whereabouts.clone()));
                self.away.len() - 1
            }
        };
        // It is there: it says so itself.
        self.away[at].rests = false;
        self.away[at].holder.reading(over).waits = true;
        at + 1
    }

    /// Something has come at a holder that may stand behind its cursor.
    pub fn came(&mut self, over: Over, holder: usize, place: Place) {
        if self.came.len() < MAX_CAME {
            self.came.push((over, holder, place));
        } else if over == Over::Blobs
            && let Some(holder) = self.holder(holder)
        {
            holder.blobs.cursor = None;
        }
    }

    /// What came and stands behind the cursor of its holder. The rest is shown by the pages after it. What came at a
    /// holder that is left alone stays until that is tried again.
    pub fn behind(&mut self, over: Over) -> Vec<(usize, Place)> {
        let is_due = |(of, holder, _): &(Over, usize, Place)| *of == over && !self.rests(*holder);
        let (came, left) = self.came.iter().copied().partition(is_due);
        self.came = left;
        let came: Vec<(Over, usize, Place)> = came;
        let behind = came.into_iter().map(|(_, holder, place)| (holder, place));
        behind.filter(|(holder, place)| self.cursor(over, *holder).is_some_and(|cursor| *place <= cursor)).collect()
    }

    /// The holders at which something may wait, which is now looked for.
    pub fn begin(&mut self, over: Over) -> SmallVec<[usize; 2]> {
        let away = self.away.iter_mut().map(|away| (away.rests, &mut away.holder));
        let holders = std::iter::once((false, &mut self.here)).chain(away).enumerate();
        let waiting = holders
            .filter(|(_, (rests, _))| !rests)
            .filter_map(|(number, (_, holder))| std::mem::take(&mut holder.reading(over).waits).then_some(number));
        waiting.collect()
    }

    /// Something may still wait at a holder: looking for it was broken off.
    pub fn broke_off(&mut self, over: Over, holder: usize) {
        if let Some(holder) = self.holder(holder) {
            holder.reading(over).waits = true;
        }
    }

    /// How far a holder has been read.
    pub fn cursor(&self, over: Over, holder: usize) -> Option<Place> {
        let holder = match holder.checked_sub(1) {
            None => &self.here,
            Some(away) => &self.away.get(away)?.holder,
        };
        match over {
            Over::Blobs => holder.blobs.cursor,
            Over::Devices => holder.device.cursor,
        }
    }

    /// A holder has been read up to what stands at a place.
    pub fn passed(&mut self, over: Over, holder: usize, place: Place) {
        // It was shown, so it does not stand behind.
        if !self.came.is_empty() {
            self.came.retain(|came| *came != (over, holder, place));
        }
        if let Some(holder) = self.holder(holder) {
            let cursor = &mut holder.reading(over).cursor;
            *cursor = (*cursor).max(Some(place));
        }
    }

    /// Where a holder is; `None` for this node.
    pub fn whereabouts(&self, holder: usize) -> Option<Whereabouts> {
        Some(self.away.get(holder.checked_sub(1)?)?.whereabouts.clone())
    }

    /// Another node has failed, and is left alone until it is [`Flow::rested`] or speaks; how often it has failed in
    /// a row by now, and the number of the wait that begins.
    pub fn failed(&mut self, holder: usize) -> Option<(u32, u64)> {
        let away = self.away_mut(holder)?;
        away.rests = true;
        away.failures = away.failures.saturating_add(1);
        away.wait += 1;
        Some((away.failures, away.wait))
    }

    /// Whether another node is left alone for now.
    pub fn rests(&self, holder: usize) -> bool {
        holder.checked_sub(1).and_then(|at| self.away.get(at)).is_some_and(|away| away.rests)
    }

    /// The wait of this number is over. If no other has begun since, the node that has failed may be tried again.
    pub fn rested(&mut self, holder: usize, wait: u64) -> bool {
        let away = self.away_mut(holder).filter(|away| away.wait == wait);
        let is_last = away.is_some();
        if let Some(away) = away {
            away.rests = false;
        }
        is_last
    }

    /// Another node has answered.
    pub fn answered(&mut self, holder: usize) {
        if let Some(away) = self.away_mut(holder) {
            (away.failures, away.rests) = (0, false);
        }
    }

    /// What a holder could not be told; `None` of this node.
    pub fn debts(&mut self, holder: usize) -> Option<&mut Debts> {
        self.away_mut(holder).map(|away| &mut away.debts)
    }

    /// What is to be done with a copy that lies at a holder, if others lie at these places; without a node: here.
    pub fn judge(&mut self, over: Over, id: BlobId, holder: usize, others: &[(Option<NodeId>, Place)]) -> Verdict {
        let verdict = self.sent.judge(over, id, holder);
        if verdict != Verdict::New || over != Over::Blobs {
            return verdict;
        }
        // What a holder has been read up to was sent.
        let sent = others.iter().filter(|(_, other)| other.id.message() == id.message()).find_map(|(node, other)| {
            let number = self.number(node.as_ref())?;
            (number != holder && self.cursor(over, number) >= Some(*other)).then_some((number, other.id))
        });
        let Some((number, other)) = sent else { return Verdict::New };
        self.sent.note(over, other, number);
        self.sent.note(over, id, holder);
        Verdict::Repeat
    }

    /// These messages, wherever they lie in other clusters, the client fetches itself.
    pub fn leave_to_client(&mut self, messages: HashSet<MessageKey>) {
        self.left_to_client = messages;
    }

    /// Whether a message that lies at a holder is not to be sent, because the client fetches it itself.
    pub fn is_left_to_client(&self, message: MessageKey, holder: usize) -> bool {
        !self.left_to_client.is_empty()
            && self.left_to_client.contains(&message)
            && matches!(self.whereabouts(holder), Some(Whereabouts::Afar(..)))
    }

    /// The number of a node among the holders.
    fn number(&self, node: Option<&NodeId>) -> Option<usize> {
        match node {
            None => Some(HERE),
            Some(node) => {
                let is_it = |away: &Away| matches!(&away.whereabouts, Whereabouts::Near(near) if near == node);
                self.away.iter().position(is_it).map(|at| at + 1)
            }
        }
    }

    /// Other nodes by which a copy may have been sent so long ago that it is not remembered.
    pub fn may_have_sent(&self, over: Over, id: BlobId) -> SmallVec<[usize; 2]> {
        let is_sent = |cursor: Option<Place>| match over {
            Over::Blobs => cursor >= Some(Place { rank: 0, id }),
            Over::Devices => cursor.is_some(),
        };
        (1..=self.away.len()).filter(|holder| is_sent(self.cursor(over, *holder))).collect()
    }

    /// The session is sent a copy.
    pub fn note(&mut self, over: Over, id: BlobId, holder: usize) {
        self.sent.note(over, id, holder);
    }

    /// The session is done with a message: which holders are known to have copies.
    pub fn acknowledge(&mut self, over: Over, message: MessageKey) -> SmallVec<[usize; 2]> {
        self.sent.acknowledge(over, message)
    }

    fn holder(&mut self, holder: usize) -> Option<&mut Holder> {
        match holder.checked_sub(1) {
            None => Some(&mut self.here),
            Some(away) => self.away.get_mut(away).map(|away| &mut away.holder),
        }
    }

    fn away_mut(&mut self, holder: usize) -> Option<&mut Away> {
        self.away.get_mut(holder.checked_sub(1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::mailbox::Stamp;

    fn place(stamp: u64) -> Place {
        let id = BlobId::new(Stamp::new(stamp).unwrap(), MessageKey::of("s", "r", &stamp.to_string()));
        Place { rank: 0, id }
    }

    #[test]
    fn what_comes_behind_the_cursor_is_found_unless_a_page_has_shown_it() {
        let (mut flow, over) = (Flow::default(), Over::Blobs);
        flow.passed(over, HERE, place(5));
        for stamp in [3, 7, 9] {
            flow.came(over, HERE, place(stamp));
        }
        flow.passed(over, HERE, place(7));
        flow.passed(over, HERE, place(10));
        assert_eq!(flow.behind(Over::Devices), []);
        assert_eq!(flow.behind(over), [(HERE, place(3)), (HERE, place(9))]);
        assert_eq!(flow.behind(over), []);
    }

    #[test]
    fn what_came_at_a_node_that_fails_is_looked_for_once_that_is_tried_again() {
        let (mut flow, over) = (Flow::default(), Over::Blobs);
        let holder = flow.waits_at(&Whereabouts::Near("a".parse().unwrap()), over);
        flow.passed(over, holder, place(5));
        flow.came(over, holder, place(3));
        flow.came(over, HERE, place(3));
        flow.passed(over, HERE, place(5));
        let (_, wait) = flow.failed(holder).unwrap();
        assert_eq!(flow.behind(over), [(HERE, place(3))]);
        assert!(flow.rested(holder, wait));
        assert_eq!(flow.behind(over), [(holder, place(3))]);
    }

    #[test]
    fn a_node_that_fails_again_is_waited_for_from_then_on() {
        let mut flow = Flow::default();
        let away = Whereabouts::Near("a".parse().unwrap());
        let holder = flow.waits_at(&away, Over::Blobs);
        assert_eq!([flow.failed(holder), flow.failed(holder)], [Some((1, 1)), Some((2, 2))]);
        assert!(!flow.rested(holder, 1) && flow.rests(holder));
        assert!(flow.rested(holder, 2) && !flow.rests(holder));
        // It fails, answers, and fails once more before the wait is over.
        assert_eq!(flow.failed(holder), Some((3, 3)));
        flow.answered(holder);
        assert!(!flow.rests(holder) && flow.failed(holder) == Some((1, 4)));
        assert!(!flow.rested(holder, 3) && flow.rests(holder) && flow.rested(holder, 4));
    }

    #[test]
    fn when_too_much_comes_a_mailbox_is_read_anew() {
        let (mut flow, over) = (Flow::default(), Over::Blobs);
        flow.passed(over, HERE, place(5000));
        (0..=MAX_CAME as u64).for_each(|stamp| flow.came(over, HERE, place(stamp)));
        assert_eq!(flow.cursor(over, HERE), None);
    }
}
