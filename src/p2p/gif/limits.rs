//! How often GIFs are searched for.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The bounds on the search for GIFs of a node.
#[derive(Debug, Clone, Copy)]
pub struct GifLimits {
    /// Requests of one peer, per minute.
    pub requests_per_minute: NonZeroU32,
    /// Requests from one address, per minute.
    pub address_requests_per_minute: NonZeroU32,
    /// Calls to the provider, in any minute.
    pub calls_per_minute: NonZeroU32,
    /// How long a call may take.
    pub patience: Duration,
    /// Memory for answers that are kept, in bytes.
    pub kept_bytes: u64,
    /// Addresses, and peers, whose rates are known one by one.
    pub tracked: usize,
}

/// A provider counts calls in a minute that may begin at any time, so this does too: after a pause there are no more than
/// after none.
#[derive(Debug)]
pub struct Calls {
    made: Mutex<VecDeque<Instant>>,
    most: usize,
}

/// How long a call counts.
const COUNTS: Duration = Duration::from_secs(60);

impl Calls {
    /// None yet, of so many in any minute.
    pub fn new(per_minute: NonZeroU32) -> Self {
        Self { made: Mutex::default(), most: usize::try_from(per_minute.get()).unwrap_or(usize::MAX) }
    }

    /// One more at `now`; false, and it is not counted, if there are too many.
    pub fn take(&self, now: Instant) -> bool {
        let mut made = self.made.lock();
        while made.front().is_some_and(|call| now.saturating_duration_since(*call) >= COUNTS) {
            made.pop_front();
        }
        let fits = made.len() < self.most;
        if fits {
            made.push_back(now);
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_minute_has_more_calls_than_it_may() {
        let (calls, begun) = (Calls::new(NonZeroU32::new(2).unwrap()), Instant::now());
        let at = |seconds| calls.take(begun + Duration::from_secs(seconds));
        assert_eq!([0, 30, 59, 60, 61, 89, 90, 119].map(at), [true, true, false, true, false, false, true, false]);
    }
}
