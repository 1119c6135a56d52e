//! Durations counted in buckets that widen with their value, so that memory is fixed and every figure read
//! back is right to three significant digits (the layout of Gil Tene's HdrHistogram).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets in each doubling of the value: a bucket is at most 1/1024 of its value wide.
const BUCKETS_PER_DOUBLING: usize = 1024;

/// Doublings above the exact range. 2^(11 + 26) ns is 137 s, well above the longest wait for an answer.
const DOUBLINGS: usize = 26;

/// Values that fit no bucket are counted in the last one.
const BUCKETS: usize = (DOUBLINGS + 2) * BUCKETS_PER_DOUBLING;

/// A histogram of durations, 224 KiB, that any number of tasks may write to at once.
#[derive(Debug)]
pub struct Histogram {
    buckets: Box<[AtomicU64]>,
    longest: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(), longest: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.longest.fetch_max(nanos, Ordering::Relaxed);
        if let Some(bucket) = self.buckets.get(index_of(nanos)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many durations were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// The longest duration, exactly; zero if there is none.
    #[must_use]
    pub fn longest(&self) -> Duration {
        Duration::from_nanos(self.longest.load(Ordering::Relaxed))
    }

    /// The duration that `share` (0 to 1) of all are not above; zero if nothing was counted.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
        let wanted = share.clamp(0.0, 1.0) * self.count() as f64;
        let mut seen = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            let here = bucket.load(Ordering::Relaxed);
            seen += here;
            #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
            if here > 0 && seen as f64 >= wanted {
                return Duration::from_nanos(highest_in(index)).min(self.longest());
            }
        }
        self.longest()
    }
}

/// The bucket of a value.
fn index_of(value: u64) -> usize {
    // Up to 2047 every value has a bucket of its own; above, the upper eleven bits choose it.
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(11);
    let within = usize::try_from(value >> shift).unwrap_or(usize::MAX);
    (shift as usize * BUCKETS_PER_DOUBLING + within).min(BUCKETS - 1)
}

/// The largest value of a bucket.
fn highest_in(index: usize) -> u64 {
    let shift = (index / BUCKETS_PER_DOUBLING).saturating_sub(1);
    let within = (index - shift * BUCKETS_PER_DOUBLING) as u64;
    ((within + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_empty_histogram_says_zero() {
        let histogram = Histogram::default();
        assert_eq!((histogram.count(), histogram.quantile(0.5), histogram.longest()), Default::default());
    }

    #[test]
    fn quantiles_of_a_known_series() {
        let histogram = Histogram::default();
        (1..=1000).for_each(|ms| histogram.record(Duration::from_millis(ms)));
        for (share, ms) in [(0.0, 1.0), (0.5, 500.0), (0.9, 900.0), (0.99, 990.0), (1.0, 1000.0)] {
            let seen = histogram.quantile(share).as_secs_f64() * 1e3;
            assert!((seen - ms).abs() <= ms / 1000.0, "{share}: {seen} ms, wanted {ms} ms");
        }
        assert_eq!(histogram.longest(), Duration::from_secs(1));
    }

    #[test]
    fn a_duration_beyond_the_range_is_still_counted() {
        let histogram = Histogram::default();
        histogram.record(Duration::MAX);
        assert_eq!(histogram.count(), 1);
        assert!(histogram.quantile(0.5) > Duration::from_secs(137));
    }

    proptest! {
        #[test]
        fn a_value_lies_in_its_bucket_and_the_bucket_is_narrow(value in 0u64..1 << 37) {
            let highest = highest_in(index_of(value));
            prop_assert!(highest >= value);
            prop_assert!(highest - value <= value / 1024);
        }

        #[test]
        fn buckets_follow_one_another(index in 0..BUCKETS - 1) {
            prop_assert_eq!(index_of(highest_in(index)), index);
            prop_assert_eq!(index_of(highest_in(index) + 1), index + 1);
        }
    }
}
