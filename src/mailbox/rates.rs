//! Limits on what clients say. Acknowledgments are limited only where they ask every node, or leave something behind: the
//! others only ever make room.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::DefaultClock;

use super::noting::{Noter, Notes};
use super::session::Session;
use crate::domain::mailbox::MailboxKey;
use crate::security::admission::Admission;
use crate::security::limiter::{DigestKey, KeyedLimiter};

/// Which rate is used up.
pub(super) type Limited = &'static str;

/// The rates of one node's clients.
pub(super) struct Rates {
    messages: KeyedLimiter<DigestKey>,
    recovery: KeyedLimiter<DigestKey>,
    notes: Notes,
    door: Arc<Admission>,
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

    /// Charges a note that a message is done with which nobody here was sent to its mailbox, and to who has it made.
    pub fn note(&self, mailbox: MailboxKey, by: Noter) -> Result<(), Limited> {
        self.notes.check(mailbox, by)
    }

    /// Forgets what no longer limits anybody; to be called about once a minute.
    pub fn sweep(&self) {
        self.messages.sweep();
        self.recovery.sweep();
        self.notes.sweep();
    }
}
