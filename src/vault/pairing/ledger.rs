//! What this node has seen of late: the bound on what strangers can make it keep, and its figures.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;

use crate::domain::clock::Millis;
use crate::wire::dcp::stored_claim::{CLAIM_PENDING, ClaimStatus};

/// How many there are, as this node last saw them. What two nodes have seen counts on both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// All that this node took in or saw decided, until they are forgotten.
    pub total: usize,
    /// Of these, how many may still be decided.
    pub pending: usize,
    /// How many were approved.
    pub approved: usize,
    /// How many were denied.
    pub denied: usize,
}

impl std::iter::Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |a, b| Self {
            total: a.total + b.total,
            pending: a.pending + b.pending,
            approved: a.approved + b.approved,
            denied: a.denied + b.denied,
        })
    }
}

/// The ids seen within the last while, at most so many.
#[derive(Debug)]
pub(super) struct Ledger {
    capacity: usize,
    memory: Duration,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    /// In the order of their arrival, which is that of their end.
    arrivals: VecDeque<(Millis, String)>,
    seen: HashMap<String, (Millis, ClaimStatus)>,
}

impl Ledger {
    /// Remembers each id for `memory`, and at most `capacity` of them.
    pub(super) fn new(capacity: usize, memory: Duration) -> Self {
        Self { capacity, memory, entries: Mutex::default() }
    }

    /// Takes in an id, or takes note of where it stands; false if there is no room, for the caller to refuse it.
    pub(super) fn enter(&self, id: &str, status: ClaimStatus, now: Millis) -> bool {
        if self.note(id, status, now) {
            return true;
        }
        let mut entries = self.entries.lock();
        let fits = entries.seen.len() < self.capacity;
        if fits && entries.seen.insert(id.to_owned(), (now, status)).is_none() {
            entries.arrivals.push_back((now, id.to_owned()));
        }
        fits
    }

    /// Takes note of where an id stands; false if it is not known here.
    pub(super) fn note(&self, id: &str, status: ClaimStatus, now: Millis) -> bool {
        let mut entries = self.entries.lock();
        entries.forget(now, self.memory);
        entries.seen.get_mut(id).map(|(_, known)| *known = status).is_some()
    }

    /// How many of each there are.
    pub(super) fn counts(&self, now: Millis) -> Counts {
        let mut entries = self.entries.lock();
        entries.forget(now, self.memory);
        let mut counts = Counts { total: entries.seen.len(), ..Counts::default() };
        for (arrived, status) in entries.seen.values() {
            match status {
                ClaimStatus::Pending if now.since(*arrived) < CLAIM_PENDING => counts.pending += 1,
                ClaimStatus::Approved => counts.approved += 1,
                ClaimStatus::Denied => counts.denied += 1,
                ClaimStatus::Pending | ClaimStatus::Expired => {}
            }
        }
        counts
    }
}

impl Entries {
    fn forget(&mut self, now: Millis, memory: Duration) {
        while let Some((_, id)) = self.arrivals.pop_front_if(|(arrived, _)| now.since(*arrived) >= memory) {
            self.seen.remove(&id);
        }
    }
}

/// How many of each group are being stored right now: they are not found yet, and count all the same.
#[derive(Debug, Default)]
pub(super) struct UnderWay(Mutex<HashMap<String, usize>>);

impl UnderWay {
    /// One more of `group`, until what is returned is dropped.
    pub(super) fn enter(&self, group: &str) -> Entered<'_> {
        let mut groups = self.0.lock();
        let count = groups.entry(group.to_owned()).or_default();
        *count += 1;
        Entered { under_way: self, group: group.to_owned(), others: *count - 1 }
    }
}

/// One that is being stored.
#[derive(Debug)]
pub(super) struct Entered<'a> {
    under_way: &'a UnderWay,
    group: String,
    /// How many others of its group were under way when it came.
    pub(super) others: usize,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut groups = self.under_way.0.lock();
        if let Some(count) = groups.get_mut(&self.group) {
            *count -= 1;
            if *count == 0 {
                groups.remove(&self.group);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Millis = Millis(1_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_full_ledger_admits_again_when_the_oldest_is_forgotten() {
        let ledger = Ledger::new(2, HOUR);
        assert!(
            ledger.enter("a", ClaimStatus::Pending, NOW)
                && ledger.enter("b", ClaimStatus::Pending, NOW.plus(Duration::from_secs(1)))
        );
        assert!(!ledger.enter("c", ClaimStatus::Pending, NOW));
        assert!(ledger.enter("a", ClaimStatus::Pending, NOW), "what is known needs no room");
        assert!(ledger.enter("c", ClaimStatus::Pending, NOW.plus(HOUR)));
        assert_eq!(ledger.counts(NOW.plus(HOUR)).total, 2);
    }

    #[test]
    fn each_counts_where_it_was_last_seen() {
        let ledger = Ledger::new(10, HOUR);
        for id in ["a", "b", "c"] {
            assert!(ledger.enter(id, ClaimStatus::Pending, NOW));
        }
        ledger.note("a", ClaimStatus::Approved, NOW);
        ledger.note("b", ClaimStatus::Denied, NOW);
        assert_eq!(ledger.counts(NOW), Counts { total: 3, pending: 1, approved: 1, denied: 1 });
        assert_eq!(ledger.counts(NOW.plus(CLAIM_PENDING)).pending, 0);
        assert_eq!(ledger.counts(NOW.plus(HOUR)), Counts::default());
    }

    #[test]
    fn what_is_under_way_is_seen_by_the_next() {
        let under_way = UnderWay::default();
        let first = under_way.enter("a");
        assert_eq!((first.others, under_way.enter("b").others, under_way.enter("a").others), (0, 0, 1));
        drop(first);
        assert!(under_way.0.lock().is_empty());
    }

    proptest! {
        #[test]
        fn a_ledger_never_outgrows_its_capacity(steps in proptest::collection::vec((0_u8..20, 0_u64..5_000), 0..200)) {
            let ledger = Ledger::new(5, Duration::from_secs(10));
            let mut now = NOW;
            for (id, wait) in steps {
                now = now.plus(Duration::from_millis(wait));
                ledger.enter(&id.to_string(), ClaimStatus::Pending, now);
                let entries = ledger.entries.lock();
                prop_assert!(entries.seen.len() <= 5 && entries.arrivals.len() == entries.seen.len());
            }
        }
    }
}
