//! The limit of one vault: a token bucket, by `governor`.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

/// How many requests a vault takes in a minute, and at once.
pub struct VaultLimit {
    bucket: RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>,
    clock: DefaultClock,
}

impl std::fmt::Debug for VaultLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("VaultLimit")
    }
}

impl VaultLimit {
    /// A full bucket of `rate`, refilled with `rate` a minute.
    #[must_use]
    pub fn new(rate: NonZeroU32) -> Self {
        let bucket = RateLimiter::direct(Quota::per_minute(rate)).with_middleware::<StateInformationMiddleware>();
        Self { bucket, clock: DefaultClock::default() }
    }

    /// Takes one token; how many are left.
    ///
    /// # Errors
    /// How long until there is one.
    pub fn take(&self) -> Result<u32, Duration> {
        match self.bucket.check() {
            Ok(state) => Ok(state.remaining_burst_capacity()),
            Err(until) => Err(until.wait_time_from(self.clock.now())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_tells_what_is_left_and_when_there_will_be_more() {
        let limit = VaultLimit::new(NonZeroU32::new(2).unwrap());
        assert_eq!((limit.take(), limit.take()), (Ok(1), Ok(0)));
        let wait = limit.take().unwrap_err();
        assert!(wait > Duration::from_secs(25) && wait <= Duration::from_secs(30), "{wait:?}");
    }
}
