//! What other clusters are told when this node leaves service.
//!
//! Callers of a node that drains while others of its cluster serve are told to call again: the address that they call
//! leads them to one of the others, if it is one for several nodes. A caller that comes back to the same node is
//! answered until that has left. Of a cluster that drains as a whole the reports of capacity say so.

use std::time::{Duration, Instant};

use super::proto::{Capacity, Leaving, frame::Body};
use super::queue::Queue;
use super::{Federation, Inner};
use crate::cluster::links::LinkRefused;

/// How often it is looked at how much this cluster stores.
const LOOK: Duration = Duration::from_secs(1);

/// How long a caller that was told to call again may take to hang up.
const GOODBYE: Duration = Duration::from_secs(2);

/// How often it is looked whether all callers have hung up.
const LOOK_FOR_CALLERS: Duration = Duration::from_millis(20);

/// How far this node has left service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It is in service.
    Serving,
    /// It drains.
    Draining,
    /// It is gone in a moment.
    Left,
}

impl Federation {
    /// This node leaves service, or is back.
    pub fn set_draining(&self, draining: bool) {
        self.inner.stage.send_replace(if draining { Stage::Draining } else { Stage::Serving });
    }

    /// Has all callers call again, and takes no more; returns when they have hung up, after `patience` at the latest.
    pub async fn leave(&self, patience: Duration) {
        self.inner.stage.send_replace(Stage::Left);
        let all_gone = async {
            while !self.inner.callers.is_empty() {
                tokio::time::sleep(LOOK_FOR_CALLERS).await;
            }
        };
        if tokio::time::timeout(patience, all_gone).await.is_err() {
            tracing::info!("not all callers have hung up");
        }
    }
}

impl Inner {
    /// Whether this node takes no callers any more.
    pub(super) fn has_left(&self) -> bool {
        *self.stage.borrow() == Stage::Left
    }

    fn others_serve(&self) -> bool {
        self.cluster.view.borrow().others().any(|member| !member.facts.draining)
    }

    fn capacity(&self) -> Capacity {
        let now = (self.settings.capacity)();
        // The cluster hears of it a moment later than this node.
        let is_last = *self.stage.borrow() != Stage::Serving && !self.others_serve();
        Capacity { draining: now.draining || is_last, ..now }
    }

    /// Says how much this cluster stores when that changes, and again and again; returns when the link has ended.
    pub(super) async fn report_capacity(&self, queue: &Queue) {
        let (mut view, mut stage) = (self.cluster.view.clone(), self.stage.subscribe());
        let mut said: Option<(Instant, Capacity)> = None;
        loop {
            let now = self.capacity();
            let is_said =
                |(at, what): &(Instant, Capacity)| *what == now && at.elapsed() < self.settings.capacity_interval;
            if !said.as_ref().is_some_and(is_said) {
                said = Some((Instant::now(), now));
                if queue.push(0, Body::Capacity(now)) == Err(LinkRefused::Gone) {
                    return;
                }
            }
            // That it drains is said at once.
            let drains = async {
                tokio::select! {
                    changed = view.changed() => changed.is_ok(),
                    changed = stage.changed() => changed.is_ok(),
                }
            };
            let look = LOOK.min(self.settings.capacity_interval);
            if tokio::time::timeout(look, drains).await == Ok(false) {
                tokio::time::sleep(look).await;
            }
        }
    }

    /// Waits until a caller is to call again, tells it, and gives it a moment to hang up.
    pub(super) async fn send_off(&self, queue: &Queue) {
        let mut stage = self.stage.subscribe();
        let mut before = *stage.borrow_and_update();
        while before != Stage::Left && stage.changed().await.is_ok() {
            let now = *stage.borrow_and_update();
            if (before, now) == (Stage::Serving, Stage::Draining) && self.others_serve() {
                break;
            }
            before = now;
        }
        // Whoever cannot be told sees the link end.
        for last in [Body::Capacity(self.capacity()), Body::Leaving(Leaving {})] {
            queue.push(0, last).unwrap_or_default();
        }
        tokio::time::sleep(GOODBYE).await;
    }
}
