//! What the connections of a mailbox run count together.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::bench::tally::Tally;

/// The counters of a run.
#[derive(Debug, Default)]
pub(super) struct MailboxTally {
    /// What every run counts; a round trip is from a blob to its `Stored`.
    pub(super) common: Tally,
    failed: AtomicU64,
    delivered: AtomicU64,
}

impl MailboxTally {
    /// The relay did not take a blob.
    pub(super) fn fail(&self) {
        self.common.add_one(&self.failed);
    }

    /// A recipient got a blob.
    pub(super) fn deliver(&self) {
        self.common.add_one(&self.delivered);
    }

    /// Blobs that the relay did not take.
    pub(super) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Blobs that recipients got.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }
}
