//! Time as the rules see it: milliseconds since 1970, and the hybrid clock that orders claims.

use std::fmt;
use std::time::Duration;

/// A moment, in milliseconds since 1970 (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Millis(pub u64);

impl Millis {
    /// The moment `by` later; the last representable one if that is too far.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long from `earlier` to here; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// The number that orders two claims on one principal: the larger is the newer.
///
/// Upper 48 bits: milliseconds since 1970. Lower 16: a counter for what happens within one millisecond.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Epoch(pub u64);

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 >> 16, self.0 & 0xffff)
    }
}

/// How far a node believes another's clock to be ahead of its own before it stops following it.
///
/// One node with a wild clock must not drag the epochs of the whole cluster into the future.
pub const MAX_CLOCK_LEAD: Duration = Duration::from_secs(3600);

/// A hybrid logical clock: follows the wall clock, never stands still, never runs backwards, and is never
/// behind an epoch that it has seen (unless that one lies more than [`MAX_CLOCK_LEAD`] in the future).
#[derive(Debug, Default)]
pub struct HybridClock {
    last: Epoch,
}

impl HybridClock {
    /// A new epoch, larger than all made or seen before.
    pub fn tick(&mut self, now: Millis) -> Epoch {
        self.last = Epoch((now.0 << 16).max(self.last.0 + 1));
        self.last
    }

    /// Takes note of an epoch that another node made.
    pub fn see(&mut self, now: Millis, other: Epoch) {
        if other.0 <= now.plus(MAX_CLOCK_LEAD).0 << 16 {
            self.last = self.last.max(other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_grow_even_when_the_wall_clock_stands_or_steps_back() {
        let mut clock = HybridClock::default();
        let a = clock.tick(Millis(1_000));
        let b = clock.tick(Millis(1_000));
        let c = clock.tick(Millis(10));
        assert!(a < b && b < c);
    }

    #[test]
    fn an_epoch_seen_is_behind_the_next_one_made() {
        let mut clock = HybridClock::default();
        let other = Epoch(5_000 << 16);
        clock.see(Millis(1_000), other);
        assert!(clock.tick(Millis(1_000)) > other);
    }

    #[test]
    fn a_wild_clock_is_not_followed() {
        let mut clock = HybridClock::default();
        clock.see(Millis(1_000), Epoch(u64::MAX - 1));
        assert_eq!(clock.tick(Millis(1_000)), Epoch(1_000 << 16));
    }
}
