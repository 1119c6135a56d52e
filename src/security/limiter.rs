//! Rates, decided by `governor` (GCRA): per client address with bounded memory, and per connection.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use governor::clock::{Clock, DefaultClock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::ShrinkableKeyedStateStore;
use governor::state::{InMemoryState, NotKeyed, StateStore};
use governor::{Quota, RateLimiter};
use parking_lot::Mutex;

use super::address::AddressKey;
use crate::domain::mailbox::MailboxKey;

/// The rate is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many requests; try again in {} s", self.retry_after_secs())]
pub struct RateLimited {
    /// When the next request would pass.
    pub retry_after: Duration,
}

impl RateLimited {
    /// The wait in whole seconds, rounded up, at least one: the value of a `Retry-After` header.
    #[must_use]
    pub fn retry_after_secs(&self) -> u64 {
        let up = u64::from(self.retry_after.subsec_nanos() > 0);
        (self.retry_after.as_secs() + up).max(1)
    }
}

/// What a rate is limited by.
pub trait LimitKey: Copy + Eq + Hash {
    /// The key that all share that are not tracked one by one. Nobody's own.
    const OVERFLOW: Self;
}

impl LimitKey for AddressKey {
    const OVERFLOW: Self = Self::OVERFLOW;
}

/// Anything else that a rate is limited by, hashed by whoever knows what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DigestKey(pub [u8; 16]);

impl LimitKey for DigestKey {
    const OVERFLOW: Self = Self([0; 16]);
}

impl LimitKey for MailboxKey {
    // No digest that a name is known for.
    const OVERFLOW: Self = Self([0; 32]);
}

/// Limits each address: see [`KeyedLimiter`].
pub type AddressLimiter<C = DefaultClock> = KeyedLimiter<AddressKey, C>;

/// Limits each key to so many requests a minute, or another time, which it may also spend at once.
///
/// At most `tracked` keys have a budget of their own; while the table is full, all others share one
/// more budget of the same size. A flood of many keys therefore costs bounded memory, and those who
/// were here before it keep what is theirs.
#[derive(Debug)]
pub struct KeyedLimiter<K: LimitKey, C: Clock = DefaultClock> {
    limiter: RateLimiter<K, BoundedStates<K>, C, NoOpMiddleware<C::Instant>>,
}

impl<K: LimitKey, C: Clock> KeyedLimiter<K, C> {
    /// A limiter of `per_minute` requests for each key.
    #[must_use]
    pub fn new(per_minute: NonZeroU32, tracked: usize, clock: C) -> Self {
        Self::over(per_minute, Duration::from_secs(60), tracked, clock)
    }

    /// A limiter of `most` requests in `time` for each key.
    #[must_use]
    pub fn over(most: NonZeroU32, time: Duration, tracked: usize, clock: C) -> Self {
        let states = BoundedStates { map: Mutex::default(), tracked };
        Self { limiter: RateLimiter::new(quota(most, time), states, clock) }
    }

    /// Takes one request from the budget of `key`.
    ///
    /// # Errors
    /// The wait until the next one would pass; a refused request costs nothing.
    pub fn check(&self, key: K) -> Result<(), RateLimited> {
        let refused = |until: governor::NotUntil<C::Instant>| RateLimited {
            retry_after: until.wait_time_from(self.limiter.clock().now()),
        };
        self.limiter.check_key(&key).map_err(refused)
    }

    /// Takes so much at once from the budget of `key`; false, and it costs nothing, if there is less, or never so much.
    #[must_use]
    pub fn check_many(&self, key: K, how_many: NonZeroU32) -> bool {
        matches!(self.limiter.check_key_n(&key, how_many), Ok(Ok(())))
    }

    /// Forgets the keys whose budget is full again.
    pub fn sweep(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }

    /// How many budgets are kept.
    #[must_use]
    pub fn tracked(&self) -> usize {
        self.limiter.len()
    }
}

/// Limits what one connection says, or one node does. 40 bytes, so that an idle connection can afford it.
#[derive(Debug)]
pub struct ConnectionLimiter {
    limiter: RateLimiter<NotKeyed, InMemoryState, MonotonicClock, NoOpMiddleware<Instant>>,
}

impl ConnectionLimiter {
    /// A limiter of `per_minute` messages, which may also be spent at once.
    #[must_use]
    pub fn new(per_minute: NonZeroU32) -> Self {
        Self::over(per_minute, Duration::from_secs(60))
    }

    /// A limiter of `most` messages in `time`, which may also be spent at once.
    #[must_use]
    pub fn over(most: NonZeroU32, time: Duration) -> Self {
        Self { limiter: RateLimiter::direct_with_clock(quota(most, time), MonotonicClock) }
    }

    /// Takes one message from the budget; false if it is used up.
    #[must_use]
    pub fn check(&self) -> bool {
        self.limiter.check().is_ok()
    }

    /// Takes so much at once from the budget; false, and it costs nothing, if there is less, or never so much.
    #[must_use]
    pub fn check_many(&self, how_many: NonZeroU32) -> bool {
        matches!(self.limiter.check_n(how_many), Ok(Ok(())))
    }
}

/// So many in that time, and as many at once.
fn quota(most: NonZeroU32, time: Duration) -> Quota {
    // A time that is too short for that many is none at all.
    let apart = (time / most.get()).max(Duration::from_nanos(1));
    Quota::with_period(apart).map_or(Quota::per_second(most), |quota| quota.allow_burst(most))
}

/// When each key's budget will be full again, in nanoseconds on the limiter's clock.
#[derive(Debug)]
struct BoundedStates<K> {
    map: Mutex<HashMap<K, Nanos>>,
    tracked: usize,
}

impl<K: LimitKey> StateStore for BoundedStates<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut map = self.map.lock();
        let full = map.len() >= self.tracked;
        let key = if full && !map.contains_key(key) { K::OVERFLOW } else { *key };
        let (outcome, next) = f(map.get(&key).copied())?;
        map.insert(key, next);
        Ok(outcome)
    }
}

impl<K: LimitKey> ShrinkableKeyedStateStore<K> for BoundedStates<K> {
    fn retain_recent(&self, drop_below: Nanos) {
        self.map.lock().retain(|_, full_again| *full_again >= drop_below);
    }

    fn shrink_to_fit(&self) {
        self.map.lock().shrink_to_fit();
    }

    fn len(&self) -> usize {
        self.map.lock().len()
    }

    fn is_empty(&self) -> bool {
        self.map.lock().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use governor::clock::FakeRelativeClock;

    use super::*;

    fn key(n: u32) -> AddressKey {
        AddressKey::from(IpAddr::V4(Ipv4Addr::from_bits(n)))
    }

    fn limiter(per_minute: u32, tracked: usize) -> (AddressLimiter<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (AddressLimiter::new(NonZeroU32::new(per_minute).unwrap(), tracked, clock.clone()), clock)
    }

    #[test]
    fn the_quota_passes_at_once_then_one_at_a_time() {
        let (limiter, clock) = limiter(60, 10);
        assert!((0..60).all(|_| limiter.check(key(1)).is_ok()));
        let refused = limiter.check(key(1)).unwrap_err();
        assert_eq!(refused.retry_after_secs(), 1);
        assert!(limiter.check(key(2)).is_ok());
        clock.advance(Duration::from_secs(1));
        assert!(limiter.check(key(1)).is_ok());
        assert!(limiter.check(key(1)).is_err());
    }

    #[test]
    fn much_at_once_is_all_taken_or_nothing_is() {
        let (limiter, clock) = limiter(60, 10);
        let take = |n| limiter.check_many(key(1), NonZeroU32::new(n).unwrap());
        assert!(take(50) && !take(11) && take(10) && !take(1));
        clock.advance(Duration::from_secs(30));
        assert!(!take(31) && take(30));
        clock.advance(Duration::from_secs(600));
        assert!(!take(61), "more than there ever is");
        let one = ConnectionLimiter::new(NonZeroU32::new(3).unwrap());
        assert!([2, 4, 2, 1].map(|n| one.check_many(NonZeroU32::new(n).unwrap())) == [true, false, false, true]);
    }

    #[test]
    fn a_quota_of_another_time_fills_again_over_that_time() {
        let clock = FakeRelativeClock::default();
        let most = NonZeroU32::new(512).unwrap();
        let limiter = AddressLimiter::over(most, Duration::from_secs(90 * 86_400), 10, clock.clone());
        let spend = || (0..1000).filter(|_| limiter.check(key(1)).is_ok()).count();
        assert_eq!(spend(), 512);
        clock.advance(Duration::from_secs(45 * 86_400));
        assert_eq!(spend(), 256);
    }

    #[test]
    fn loopback_is_limited_like_everybody() {
        let (limiter, _clock) = limiter(1, 10);
        let loopback = AddressKey::from(IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert!(limiter.check(loopback).is_ok());
        assert!(limiter.check(loopback).is_err());
    }

    #[test]
    fn a_flood_of_addresses_shares_one_budget_and_bounded_memory() {
        let (limiter, clock) = limiter(2, 3);
        (0..3).for_each(|n| limiter.check(key(n)).unwrap());
        let passed = (100..200).filter(|n| limiter.check(key(*n)).is_ok()).count();
        assert_eq!(passed, 2);
        assert_eq!(limiter.tracked(), 4);
        assert!(limiter.check(key(0)).is_ok(), "a tracked address keeps its own budget");
        clock.advance(Duration::from_secs(120));
        limiter.sweep();
        assert_eq!(limiter.tracked(), 0);
        assert!(limiter.check(key(100)).is_ok());
    }

    #[test]
    fn retry_after_is_rounded_up_and_never_zero() {
        let secs = |ms| RateLimited { retry_after: Duration::from_millis(ms) }.retry_after_secs();
        assert_eq!([secs(0), secs(1), secs(1000), secs(1001)], [1, 1, 1, 2]);
    }

    #[test]
    fn a_connection_may_spend_its_budget_at_once_and_no_more() {
        let limiter = ConnectionLimiter::new(NonZeroU32::new(3).unwrap());
        assert_eq!((0..5).filter(|_| limiter.check()).count(), 3);
        assert!(size_of::<ConnectionLimiter>() <= 40, "{}", size_of::<ConnectionLimiter>());
    }
}
