//! Limits on what clients say. Acknowledgments are limited only where they ask every node, or leave something behind: the
//! others only ever make room.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::DefaultClock;

use super::session::Session;
use crate::domain::mailbox::MailboxKey;
use crate::security::admission::Admission;
use crate::security::limiter::{ConnectionLimiter, DigestKey, KeyedLimiter};

/// Most notes of one mailbox in the time that a note lasts, that messages are done with which no session here is known to
/// have been sent: a client can name any. So at most twice as many are open that this node has made.
const NOTES: NonZeroU32 = NonZeroU32::new(4096).unwrap();

/// The same of all mailboxes: some 80 MiB.
const ALL_NOTES: NonZeroU32 = NonZeroU32::new(1 << 17).unwrap();

/// Mailboxes whose notes are counted one by one.
const NOTED_MAILBOXES: usize = 1 << 16;

/// Which rate is used up.
pub(super) type Limited = &'static str;

/// The rates of one node's clients.
pub(super) struct Rates {
    messages: KeyedLimiter<DigestKey>,
    recovery: KeyedLimiter<DigestKey>,
    notes: Notes,
    door: Arc<Admission>,
}

/// Notes that messages are done with which nobody here was sent.
struct Notes {
    of_mailbox: KeyedLimiter<MailboxKey>,
    all: ConnectionLimiter,
}

impl Notes {
    fn new(ttl: Duration) -> Self {
        let of_mailbox = KeyedLimiter::over(NOTES, ttl, NOTED_MAILBOXES, DefaultClock::default());
        Self { of_mailbox, all: ConnectionLimiter::over(ALL_NOTES, ttl) }
    }

    fn check(&self, mailbox: MailboxKey) -> Result<(), Limited> {
        self.of_mailbox.check(mailbox).map_err(|_| "notes of a mailbox")?;
        if self.all.check() { Ok(()) } else { Err("notes") }
    }
}

impl Rates {
    /// At most `tracked` clients have budgets of their own. A note lasts as long as `ttl`.
    pub fn new(
        messages: NonZeroU32,
        recovery: NonZeroU32,
        tracked: usize,
        ttl: Duration,
        door: Arc<Admission>,
    ) -> Self {
        let limiter = |rate| KeyedLimiter::new(rate, tracked, DefaultClock::default());
        Self { messages: limiter(messages), recovery: limiter(recovery), notes: Notes::new(ttl), door }
    }

    /// Charges a message to its client, and to its address.
    pub fn message(&self, session: &Session) -> Result<(), Limited> {
        self.messages.check(session.bucket).map_err(|_| "name")?;
        self.door.request(session.door).map_err(|_| "address")
    }

    /// Charges an operation on recovery proofs besides.
    pub fn recovery(&self, session: &Session) -> Result<(), Limited> {
        self.recovery.check(session.recovery_bucket).map_err(|_| "recovery")
    }

    /// Charges a note that a message is done with which nobody here was sent to its mailbox.
    pub fn note(&self, mailbox: MailboxKey) -> Result<(), Limited> {
        self.notes.check(mailbox)
    }

    /// Forgets what no longer limits anybody; to be called about once a minute.
    pub fn sweep(&self) {
        self.messages.sweep();
        self.recovery.sweep();
        self.notes.of_mailbox.sweep();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_notes_of_one_mailbox_are_bounded_and_all_together_too() {
        let notes = Notes::new(Duration::from_secs(7_776_000));
        let spent =
            |name: &str, times: u32| (0..times).filter(|_| notes.check(MailboxKey::blobs(name)).is_ok()).count();
        assert_eq!(spent("one", 5000), 4096);
        assert_eq!(spent("other", 1), 1);
        let all: usize = (0..40).map(|n| spent(&n.to_string(), 4096)).sum();
        assert_eq!(all, (1 << 17) - 4097);
    }
}
