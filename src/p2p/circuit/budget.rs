//! The rate of one way of a circuit: bytes that come faster wait.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

/// How much may be carried at once after a rest, as time at the full rate.
const BURST: Duration = Duration::from_millis(250);

/// What may be carried now, and when more.
#[derive(Debug)]
pub struct Budget {
    rate: NonZeroU32,
    /// When all that was carried would have been, at the full rate.
    due: Instant,
}

impl Budget {
    /// Nothing carried yet.
    #[must_use]
    pub fn new(rate: NonZeroU32, now: Instant) -> Self {
        Self { rate, due: now }
    }

    /// When more may be carried; at once, if that is not later than `now`.
    #[must_use]
    pub fn next(&self, now: Instant) -> Option<Instant> {
        let next = self.due.checked_sub(BURST)?;
        (next > now).then_some(next)
    }

    /// So many bytes were carried.
    pub fn carried(&mut self, bytes: usize, now: Instant) {
        let takes = Duration::from_secs_f64(bytes as f64 / f64::from(self.rate.get()));
        self.due = self.due.max(now) + takes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_carried_than_the_rate_and_one_burst() {
        let start = Instant::now();
        let mut budget = Budget::new(NonZeroU32::new(1000).unwrap(), start);
        let (mut now, mut carried) = (start, 0);
        while now < start + Duration::from_secs(10) {
            match budget.next(now) {
                Some(next) => now = next,
                None => {
                    budget.carried(10, now);
                    carried += 10;
                }
            }
        }
        assert!((10_000..=10_270).contains(&carried), "{carried}");
    }

    #[test]
    fn a_rest_is_worth_one_burst_and_no_more() {
        let start = Instant::now();
        let mut budget = Budget::new(NonZeroU32::new(1000).unwrap(), start);
        let later = start + Duration::from_secs(3600);
        let mut carried = 0;
        while budget.next(later).is_none() {
            budget.carried(10, later);
            carried += 10;
        }
        assert!((250..=260).contains(&carried), "{carried}");
    }
}
