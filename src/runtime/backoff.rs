//! Waiting between attempts: twice as long each time, up to a bound, with full jitter.
//!
//! Full jitter (a wait anywhere between nothing and the bound of this attempt) keeps those who failed together
//! from coming back together; see Marc Brooker, "Exponential Backoff And Jitter", 2015.

use std::time::Duration;

/// Grows from `first` to `most`; [`Backoff::reset`] after a success.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    attempt: u32,
}

impl Backoff {
    /// Waits up to `first` before the second attempt, and never more than `most`.
    #[must_use]
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, attempt: 0 }
    }

    /// How long to wait before the next attempt; `chance` is a number from 0 to 1.
    pub fn next(&mut self, chance: f64) -> Duration {
        let bound = self.first.saturating_mul(1 << self.attempt.min(20)).min(self.most);
        self.attempt = self.attempt.saturating_add(1);
        bound.mul_f64(chance.clamp(0.0, 1.0))
    }

    /// The next failure is again the first.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_its_bound_and_starts_over_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(350));
        let waits: Vec<_> = (0..4).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 350, 350]);
        backoff.reset();
        assert_eq!(backoff.next(0.5).as_millis(), 50);
    }
}
