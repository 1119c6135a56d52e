//! Nodes whose links were full: they are told once there is room.

use std::time::Duration;

use crate::domain::clock::Epoch;
use crate::domain::ids::NodeRun;

use super::book::Entry;
use super::kind::Kind;
use super::nodes::{PACE, PAGE};
use super::{Spread, SpreadParts};

/// The first wait for room on a link, and the longest.
const WAIT: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(8));

/// How much is told at a time, and after which pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pace {
    most: usize,
    wait: Duration,
}

impl Pace {
    const FIRST: Self = Self { most: PAGE, wait: WAIT.0 };

    /// Where a page has no room, a part of it may have, later.
    fn refused(self) -> Self {
        Self { most: (self.most / 2).max(1), wait: (self.wait * 2).min(WAIT.1) }
    }

    /// So many were told. After a page as long as it may be there is more.
    fn told(self, entries: usize) -> Self {
        let wait = if entries >= self.most { PACE } else { WAIT.0 };
        Self { most: (self.most * 2).min(PAGE), wait }
    }
}

impl<K: Kind> Spread<K> {
    /// That node did not hear of what has this stamp: it is told, with all that came after it, once there is room. Only one
    /// task does so for each node.
    pub(super) fn told_too_little(&self, to: &NodeRun, stamp: Epoch) {
        let SpreadParts { metrics, supervisor, .. } = &self.inner.parts;
        metrics.drop_one(K::NAME, "link");
        {
            let mut missed = self.inner.missed.lock();
            if let Some(since) = missed.get_mut(to) {
                *since = stamp.min(*since);
                return;
            }
            missed.insert(to.clone(), stamp);
        }
        let (this, to, stop) = (self.clone(), to.clone(), supervisor.token());
        supervisor.spawn_quiet(async move {
            stop.run_until_cancelled(this.tell_again(&to)).await;
        });
    }

    /// Ends, and says so under the lock, once there is nothing left to tell.
    async fn tell_again(&self, to: &NodeRun) {
        let cluster = &self.inner.parts.cluster;
        let mut pace = Pace::FIRST;
        loop {
            tokio::time::sleep(pace.wait).await;
            // One that has left the view fetches all when it is back.
            let is_live = cluster.nodes().is_live(to);
            let Some(since) = self.inner.missed.lock().get(to).copied() else { return };
            let recent = self.book().after(Epoch(since.0.saturating_sub(1)), pace.most);
            let Some(last) = recent.last().filter(|_| is_live).map(|entry| entry.stamp()) else {
                let mut missed = self.inner.missed.lock();
                if !is_live || missed.get(to) == Some(&since) {
                    missed.remove(to);
                    return;
                }
                continue;
            };
            let put = K::put(recent.iter().map(|entry| K::tell(entry)).collect());
            if cluster.links.send(to, put).is_err() {
                pace = pace.refused();
                continue;
            }
            pace = pace.told(recent.len());
            // Unless something older was missed meanwhile.
            let mut missed = self.inner.missed.lock();
            if let Some(at) = missed.get_mut(to).filter(|at| **at >= since) {
                *at = Epoch(last.0.saturating_add(1));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_shrink_while_there_is_no_room_and_grow_once_there_is() {
        let mut pace = Pace::FIRST;
        for _ in 0..20 {
            pace = pace.refused();
        }
        assert_eq!(pace, Pace { most: 1, wait: WAIT.1 });
        for most in [2, 4, 8, 16, 32, 64, 128, PAGE, PAGE] {
            pace = pace.told(pace.most);
            assert_eq!(pace, Pace { most, wait: PACE }, "there is more");
        }
        assert_eq!(pace.told(PAGE - 1), Pace::FIRST, "there is no more for now");
    }
}
