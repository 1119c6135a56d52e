//! What all connections of a run count together.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::histogram::Histogram;

/// Different error codes that are told apart; a relay that sends more has them counted as [`OTHER_ERRORS`].
const MAX_ERROR_CODES: usize = 64;

/// Where errors are counted whose code is one too many.
pub const OTHER_ERRORS: &str = "OTHER";

/// The counters of a run. Nothing is counted before [`Tally::start`] or after [`Tally::stop`], so the warm-up
/// and the end of a run leave no trace.
#[derive(Debug, Default)]
pub struct Tally {
    measuring: AtomicBool,
    round_trips: Histogram,
    agent_acks: AtomicU64,
    vault_acks: AtomicU64,
    reconnects: AtomicU64,
    errors: Mutex<BTreeMap<String, u64>>,
}

impl Tally {
    /// Begins to count.
    pub fn start(&self) {
        self.measuring.store(true, Ordering::Relaxed);
    }

    /// Ceases to count.
    pub fn stop(&self) {
        self.measuring.store(false, Ordering::Relaxed);
    }

    fn measuring(&self) -> bool {
        self.measuring.load(Ordering::Relaxed)
    }

    /// Counts one more while measuring.
    pub(super) fn add_one(&self, counter: &AtomicU64) {
        if self.measuring() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A request was answered, this long after it was sent.
    pub fn round_trip(&self, took: Duration) {
        if self.measuring() {
            self.round_trips.record(took);
        }
    }

    /// The relay told an agent that it accepted its request.
    pub fn agent_ack(&self) {
        self.add_one(&self.agent_acks);
    }

    /// The relay told a vault that it has its response.
    pub fn vault_ack(&self) {
        self.add_one(&self.vault_acks);
    }

    /// A lost connection was opened again.
    pub fn reconnect(&self) {
        self.add_one(&self.reconnects);
    }

    /// `count` errors of one code.
    pub fn errors(&self, code: &str, count: u64) {
        if count == 0 || !self.measuring() {
            return;
        }
        let mut errors = self.errors.lock();
        if let Some(counted) = errors.get_mut(code) {
            *counted += count;
        } else {
            let code = if errors.len() < MAX_ERROR_CODES { code } else { OTHER_ERRORS };
            *errors.entry(code.into()).or_insert(0) += count;
        }
    }

    /// The durations of all round trips.
    #[must_use]
    pub fn round_trips(&self) -> &Histogram {
        &self.round_trips
    }

    /// Acknowledgements to agents.
    #[must_use]
    pub fn agent_acks(&self) -> u64 {
        self.agent_acks.load(Ordering::Relaxed)
    }

    /// Acknowledgements to vaults.
    #[must_use]
    pub fn vault_acks(&self) -> u64 {
        self.vault_acks.load(Ordering::Relaxed)
    }

    /// Connections that were lost and opened again.
    #[must_use]
    pub fn reconnects(&self) -> u64 {
        self.reconnects.load(Ordering::Relaxed)
    }

    /// Errors by their code.
    #[must_use]
    pub fn error_counts(&self) -> BTreeMap<String, u64> {
        self.errors.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_happens_while_measuring_counts() {
        let tally = Tally::default();
        let happen = || {
            tally.round_trip(Duration::from_millis(1));
            tally.agent_ack();
            tally.vault_ack();
            tally.reconnect();
            tally.errors("RELAY_RATE_LIMITED", 2);
        };
        happen();
        tally.start();
        happen();
        tally.stop();
        happen();
        assert_eq!((tally.round_trips().count(), tally.agent_acks(), tally.vault_acks()), (1, 1, 1));
        assert_eq!((tally.reconnects(), tally.error_counts()), (1, [("RELAY_RATE_LIMITED".into(), 2)].into()));
    }

    #[test]
    fn a_relay_that_invents_codes_fills_no_memory() {
        let tally = Tally::default();
        tally.start();
        (0..1000).for_each(|n| tally.errors(&n.to_string(), 1));
        let errors = tally.error_counts();
        assert_eq!(errors.len(), MAX_ERROR_CODES + 1);
        assert_eq!(errors[OTHER_ERRORS], 1000 - MAX_ERROR_CODES as u64);
    }
}
