//! Limits on what clients say. Acknowledgments are not limited here: they only ever make room.

use std::num::NonZeroU32;
use std::sync::Arc;

use governor::clock::DefaultClock;

use super::session::Session;
use crate::security::admission::Admission;
use crate::security::limiter::{DigestKey, KeyedLimiter};

/// Which rate is used up.
pub(super) type Limited = &'static str;

/// The rates of one node's clients.
pub(super) struct Rates {
    messages: KeyedLimiter<DigestKey>,
    recovery: KeyedLimiter<DigestKey>,
    door: Arc<Admission>,
}

impl Rates {
    /// At most `tracked` clients have budgets of their own.
    pub fn new(messages: NonZeroU32, recovery: NonZeroU32, tracked: usize, door: Arc<Admission>) -> Self {
        let limiter = |rate| KeyedLimiter::new(rate, tracked, DefaultClock::default());
        Self { messages: limiter(messages), recovery: limiter(recovery), door }
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

    /// Forgets what no longer limits anybody; to be called about once a minute.
    pub fn sweep(&self) {
        self.messages.sweep();
        self.recovery.sweep();
    }
}
