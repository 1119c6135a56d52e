//! How far blobs have been swept, though older ones are taken in beside a sweep.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// The stamp below which no blob is left, as far as this process knows.
///
/// Saves a sweep from wading through what the last one deleted. What is put has a greater stamp than all before it; what
/// is taken in from another store may have a lower one, and says so [before it is there](Swept::taking).
#[derive(Debug, Default)]
pub(super) struct Swept(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    least: u64,
    /// The stamps of blobs that are being taken in, and how many have each.
    taking: BTreeMap<u64, usize>,
    /// The least stamp of a blob that was being taken in since a sweep began to look; `None` without a sweep.
    since: Option<u64>,
}

/// A blob is being taken in: what has its stamp is not taken for swept until this is dropped, when it is there.
#[derive(Debug)]
pub(super) struct Taking {
    swept: Arc<Mutex<State>>,
    stamp: u64,
}

impl Swept {
    /// The least stamp that a blob may have.
    pub(super) fn get(&self) -> u64 {
        self.0.lock().least
    }

    /// A blob with this stamp is about to be taken in; `None` if nothing would sweep it.
    pub(super) fn taking(&self, stamp: u64) -> Option<Taking> {
        let mut state = self.0.lock();
        if stamp < state.least {
            return None;
        }
        *state.taking.entry(stamp).or_default() += 1;
        state.since = state.since.map(|since| since.min(stamp));
        Some(Taking { swept: self.0.clone(), stamp })
    }

    /// A sweep is about to look; the least stamp that it may meet.
    pub(super) fn look(&self) -> u64 {
        let mut state = self.0.lock();
        let first = state.taking.first_key_value().map_or(u64::MAX, |(stamp, _)| *stamp);
        state.since = Some(state.since.unwrap_or(u64::MAX).min(first));
        state.least
    }

    /// What the sweep found below `stamp` is deleted. Of two that looked at one time, the first to say so counts.
    pub(super) fn up_to(&self, stamp: u64) {
        let mut state = self.0.lock();
        if let Some(since) = state.since.take() {
            state.least = state.least.max(stamp.min(since));
        }
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        let mut state = self.swept.lock();
        if let Some(count) = state.taking.get_mut(&self.stamp) {
            *count -= 1;
            if *count == 0 {
                state.taking.remove(&self.stamp);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_swept_is_not_taken_in() {
        let swept = Swept::default();
        assert_eq!(swept.look(), 0);
        swept.up_to(5);
        assert_eq!(swept.get(), 5);
        assert!(swept.taking(4).is_none() && swept.taking(5).is_some());
    }

    #[test]
    fn a_sweep_passes_nothing_that_is_taken_in_beside_it() {
        // Begun before it looked, and over since; begun and over since; begun since, and not over.
        let swept = Swept::default();
        let before = swept.taking(3);
        swept.look();
        drop(before);
        swept.up_to(9);
        assert_eq!(swept.get(), 3);
        swept.look();
        drop(swept.taking(4));
        swept.up_to(9);
        assert_eq!(swept.get(), 4);
        swept.look();
        let _since = swept.taking(5);
        swept.up_to(9);
        assert_eq!(swept.get(), 5);
        swept.look();
        swept.up_to(9);
        assert_eq!(swept.get(), 5);
    }

    #[test]
    fn of_two_sweeps_at_one_time_neither_passes_what_the_other_would_not() {
        let swept = Swept::default();
        swept.look();
        drop(swept.taking(2));
        swept.look();
        swept.up_to(9);
        swept.up_to(10);
        assert_eq!(swept.get(), 2);
    }
}
