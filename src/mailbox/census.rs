//! The mailboxes for which this node holds most: found by a walk along all counts, beside the traffic and only when
//! somebody asks.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::MailboxService;
use crate::domain::clock::Millis;
use crate::domain::mailbox::{Holdings, MailboxKey};
use crate::runtime::time;
use crate::store::{StoreError, TallyCursor};

/// Most mailboxes that are told of.
pub const MAX_LARGEST: usize = 1000;

/// A result that is no older is good enough.
const FRESH: Duration = Duration::from_secs(60);

/// The walk rests this many times as long as its last step took, so that others do not feel it.
const REST: u32 = 4;

/// The name of the walk among the node's tasks.
const TASK: &str = "mailbox census";

/// What a walk found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Census {
    /// The largest mailboxes, the largest first.
    pub largest: Vec<(MailboxKey, Holdings)>,
    /// How many there were.
    pub counted: u64,
    /// When it ended; `None`: none has ended yet.
    pub ended: Option<Millis>,
    /// Whether a walk is under way.
    pub under_way: bool,
}

/// The last result.
pub(super) struct LastCensus(watch::Sender<Arc<Census>>);

impl Default for LastCensus {
    fn default() -> Self {
        Self(watch::channel(Arc::default()).0)
    }
}

impl MailboxService {
    /// The largest mailboxes of this node by the last walk. One begins if the last is more than a minute old, or
    /// `anew` is wanted, unless one is under way; it is waited for up to `patience`.
    pub async fn largest(&self, anew: bool, patience: Duration) -> Arc<Census> {
        let last = &self.inner.census.0;
        let begins = last.send_if_modified(|census| {
            let old = census.ended.is_none_or(|ended| time::now().since(ended) > FRESH);
            let begins = !census.under_way && (anew || old);
            if begins {
                *census = Arc::new(Census { under_way: true, ..Census::clone(census) });
            }
            begins
        });
        if begins {
            let this = self.clone();
            // If it is cut short, the node ends too.
            self.inner.supervisor.spawn(TASK, async move {
                this.walk().await;
                Ok::<(), std::convert::Infallible>(())
            });
        }
        let mut watch = last.subscribe();
        // What there is by then is the answer.
        drop(tokio::time::timeout(patience, watch.wait_for(|census| !census.under_way)).await);
        last.borrow().clone()
    }

    async fn walk(&self) {
        let stop = self.inner.supervisor.token();
        let Some(walked) = stop.run_until_cancelled(self.count_all()).await else { return };
        self.inner.census.0.send_modify(|census| match walked {
            Ok(found) => *census = Arc::new(found),
            Err(error) => {
                self.store_failed("census", &error);
                self.inner.supervisor.went_on_after(TASK, &error);
                *census = Arc::new(Census { under_way: false, ..Census::clone(census) });
            }
        });
    }

    async fn count_all(&self) -> Result<Census, StoreError> {
        let (mut largest, mut counted, mut from) = (Largest::default(), 0, None::<TallyCursor>);
        loop {
            let begun = Instant::now();
            let part = self.inner.store.tallies(from).await?;
            for (mailbox, held) in part.mailboxes {
                if held.blobs > 0 {
                    counted += 1;
                    largest.offer(mailbox, held);
                }
            }
            from = part.next;
            if from.is_none() {
                break;
            }
            tokio::time::sleep(begun.elapsed() * REST).await;
        }
        Ok(Census { largest: largest.into_sorted(), counted, ended: Some(time::now()), under_way: false })
    }
}

/// The largest of what is offered, at most [`MAX_LARGEST`]; the smallest of them on top.
#[derive(Default)]
struct Largest(BinaryHeap<Reverse<(u64, u64, MailboxKey)>>);

impl Largest {
    fn offer(&mut self, mailbox: MailboxKey, held: Holdings) {
        self.0.push(Reverse((held.bytes, held.blobs, mailbox)));
        if self.0.len() > MAX_LARGEST {
            self.0.pop();
        }
    }

    fn into_sorted(self) -> Vec<(MailboxKey, Holdings)> {
        let sorted = self.0.into_sorted_vec().into_iter();
        sorted.map(|Reverse((bytes, blobs, mailbox))| (mailbox, Holdings { blobs, bytes })).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_stay_and_come_first() {
        let mut largest = Largest::default();
        let sizes = (0..2 * MAX_LARGEST as u64).map(|n| n * 7919 % (2 * MAX_LARGEST as u64));
        for bytes in sizes {
            largest.offer(MailboxKey([7; 32]), Holdings { blobs: 1, bytes });
        }
        let kept: Vec<_> = largest.into_sorted().iter().map(|(_, held)| held.bytes).collect();
        let expected: Vec<_> = (MAX_LARGEST as u64..2 * MAX_LARGEST as u64).rev().collect();
        assert_eq!(kept, expected);
    }
}
