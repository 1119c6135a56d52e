//! What a session was sent last: which copy of a message, and where it lay.

use std::collections::VecDeque;

use smallvec::SmallVec;

use crate::domain::mailbox::{BlobId, MessageKey};

use super::session::Over;

/// Most copies that are remembered: 6 KiB, once a session has been sent so many.
const MAX_SENT: usize = 256;

/// The last copies that a session was sent, or was spared because it was sent another.
#[derive(Debug, Default)]
pub(super) struct Sent {
    ring: VecDeque<Copy>,
}

#[derive(Debug)]
struct Copy {
    id: BlobId,
    holder: u16,
    over: Over,
    acknowledged: bool,
}

/// What is to be done with a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is to be sent.
    New,
    /// The session was sent it, or another copy of its message.
    Repeat,
    /// The session was sent another copy of its message, and has acknowledged it.
    Acknowledged,
}

impl Sent {
    /// What is to be done with a copy that lies at a holder; one that is not to be sent is remembered.
    pub fn judge(&mut self, over: Over, id: BlobId, holder: usize) -> Verdict {
        let of_message = |copy: &&Copy| copy.over == over && copy.id.message() == id.message();
        let mut known = self.ring.iter().filter(of_message);
        if known.clone().any(|copy| copy.id == id && usize::from(copy.holder) == holder) {
            return Verdict::Repeat;
        }
        // A holder that takes in a message again has forgotten it, as it may.
        let Some(elsewhere) = known.find(|copy| usize::from(copy.holder) != holder) else { return Verdict::New };
        let acknowledged = elsewhere.acknowledged;
        self.push(over, id, holder, acknowledged);
        if acknowledged { Verdict::Acknowledged } else { Verdict::Repeat }
    }

    /// The session is sent a copy.
    pub fn note(&mut self, over: Over, id: BlobId, holder: usize) {
        self.push(over, id, holder, false);
    }

    /// The session is done with a message: which holders are known to have copies.
    pub fn acknowledge(&mut self, over: Over, message: MessageKey) -> SmallVec<[usize; 2]> {
        let copies = self.ring.iter_mut().filter(|copy| copy.over == over && copy.id.message() == message);
        let mut holders = SmallVec::new();
        for copy in copies {
            copy.acknowledged = true;
            if !holders.contains(&usize::from(copy.holder)) {
                holders.push(usize::from(copy.holder));
            }
        }
        holders
    }

    fn push(&mut self, over: Over, id: BlobId, holder: usize, acknowledged: bool) {
        if self.ring.len() >= MAX_SENT {
            self.ring.pop_front();
        }
        let holder = u16::try_from(holder).unwrap_or(u16::MAX);
        self.ring.push_back(Copy { id, holder, over, acknowledged });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::mailbox::Stamp;

    fn id(stamp: u64, message: &str) -> BlobId {
        BlobId::new(Stamp::new(stamp).unwrap(), MessageKey::of("s", "r", message))
    }

    #[test]
    fn a_message_is_sent_once_wherever_copies_of_it_lie() {
        let (mut sent, over) = (Sent::default(), Over::Blobs);
        assert_eq!(sent.judge(over, id(1, "m"), 0), Verdict::New);
        sent.note(over, id(1, "m"), 0);
        assert_eq!(sent.judge(over, id(1, "m"), 0), Verdict::Repeat);
        assert_eq!(sent.judge(over, id(2, "m"), 1), Verdict::Repeat);
        assert_eq!(sent.judge(Over::Devices, id(2, "m"), 1), Verdict::New);
        assert_eq!(sent.acknowledge(over, id(1, "m").message())[..], [0, 1]);
        assert_eq!(sent.judge(over, id(3, "m"), 2), Verdict::Acknowledged);
        assert!(sent.acknowledge(over, id(1, "n").message()).is_empty());
    }

    #[test]
    fn a_holder_that_has_forgotten_a_message_may_have_it_again() {
        let (mut sent, over) = (Sent::default(), Over::Blobs);
        sent.note(over, id(1, "m"), 0);
        sent.acknowledge(over, id(1, "m").message());
        assert_eq!(sent.judge(over, id(9, "m"), 0), Verdict::New);
    }

    #[test]
    fn a_copy_that_moved_is_sent_once_and_acknowledged_wherever_it_lay() {
        let (mut sent, over) = (Sent::default(), Over::Blobs);
        sent.note(over, id(1, "m"), 0);
        assert_eq!(sent.judge(over, id(1, "m"), 1), Verdict::Repeat);
        assert_eq!(sent.acknowledge(over, id(1, "m").message())[..], [0, 1]);
        assert_eq!(sent.judge(over, id(1, "m"), 2), Verdict::Acknowledged);
    }

    #[test]
    fn it_is_bounded() {
        let mut sent = Sent::default();
        for n in 0..=MAX_SENT as u64 {
            sent.note(Over::Blobs, id(n, &n.to_string()), 0);
        }
        assert_eq!(sent.ring.len(), MAX_SENT);
        assert_eq!(sent.judge(Over::Blobs, id(0, "0"), 0), Verdict::New);
    }
}
