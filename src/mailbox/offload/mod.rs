//! Blobs that move to other clusters when this node's storage fills, and that come from them.
//!
//! The oldest go first, a few batches at a time, to the peer that has most room; what it refuses goes to the next. Before a
//! batch leaves, it is noted durably which blobs are offered to whom. What the peer answers for is durable there: then
//! it is deleted here, in one write with the memory of where it lies. A note whose answer was lost is settled when the
//! link is back: what still lies here is offered to the same peer again, which has it already, and what is done with
//! meanwhile is acknowledged there. So no blob is lost, and none is kept twice for longer than that takes.
//!
//! A blob moves once: one that came from another cluster is never offered. Nor does it move to two places: a node that is
//! emptied offers nothing while it hands blobs over. While one is offered, the offer of another
//! copy of its message is refused: of two clusters that offer each other copies, each would delete its own.
//!
//! | file | holds |
//! |---|---|
//! | `spell` | a blob as the frame that carries it |
//! | `notes` | which blobs are offered to whom |
//! | `refusals` | what was refused lately |
//! | `send` | batches to a peer, and what becomes of them |
//! | `awaited` | whose answers are awaited, and who is slow |
//! | `walk` | which blobs go next, and to whom |
//! | `round` | moving blobs until there is room |
//! | `chores` | what is found out of each peer at its own pace: |
//! | `settle` | notes whose answers were lost |
//! | `follow` | what lies elsewhere: whether it is done with, here or there |
//! | `hints` | what clients are told of what lies elsewhere, if they ask |
//! | `evacuate` | all blobs of a node that is emptied |
//! | `take` | what other clusters offer |
//! | `near` | what other nodes of this cluster have of it already |

mod awaited;
mod chores;
mod evacuate;
mod follow;
mod hints;
mod near;
mod notes;
mod refusals;
mod round;
mod send;
mod settle;
mod spell;
mod take;
mod walk;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, OnceCell, Semaphore};

use super::MailboxService;
use crate::domain::offload::Room;
use crate::store::StoreError;

use awaited::Awaited;
use notes::Offered;
use refusals::Refusals;
pub use round::{Goal, Progress};
pub(super) use take::Origin;

/// When blobs move to other clusters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OffloadSettings {
    /// The part of what may be stored above which they do.
    pub threshold: f64,
    /// The part above which none are taken in.
    pub refuse: f64,
    /// How often it is looked at.
    pub interval: Duration,
}

/// How often it is looked at whether the threshold is passed.
const LOOK: Duration = Duration::from_secs(1);

/// How often it is looked at what lies elsewhere, without other clusters: what was moved when the node was emptied.
const FOLLOW: Duration = Duration::from_secs(60);

/// What a node knows of blobs that move.
pub(super) struct Offload {
    /// What is offered to somebody, or may have been taken by them; filled from the notes at the start.
    offered: OnceCell<Offered>,
    refusals: Mutex<Refusals>,
    awaited: Arc<Awaited>,
    /// Held by whoever moves blobs.
    turn: Arc<Semaphore>,
    /// Notes may be settled.
    settle: Notify,
    /// What is done with here may be told where it lies.
    follow: Notify,
}

impl Default for Offload {
    fn default() -> Self {
        Self {
            offered: OnceCell::new(),
            refusals: Mutex::default(),
            awaited: Arc::default(),
            turn: Arc::new(Semaphore::new(1)),
            settle: Notify::new(),
            follow: Notify::new(),
        }
    }
}

impl MailboxService {
    /// Moves blobs whenever too much is stored, and settles what was left open, until the node stops.
    pub(super) fn offload_forever(&self) {
        let settings = self.inner.settings.offload;
        if let Some(settings) = settings {
            let (this, stop) = (self.clone(), self.inner.supervisor.token());
            self.inner.supervisor.spawn("offload", async move {
                stop.run_until_cancelled(this.keep_below(settings)).await;
                Ok::<(), Infallible>(())
            });
        }
        self.do_chores(settings.map_or(FOLLOW, |settings| settings.interval));
    }

    /// A link to a peer is new: what was left open there can be settled.
    pub(super) fn settle_soon(&self) {
        self.inner.offload.settle.notify_one();
        self.inner.offload.follow.notify_one();
    }

    async fn keep_below(&self, settings: OffloadSettings) {
        loop {
            match self.room().await {
                Ok(room) if room.above(settings.threshold) > 0 && !self.is_draining() => {
                    if let Err(error) = self.offload(Goal::Below(settings.threshold), |_| {}).await {
                        self.store_failed("offload", &error);
                        self.inner.supervisor.went_on_after("offload", &error);
                    }
                }
                Ok(_) => {}
                Err(error) => self.store_failed("offload", &error),
            }
            tokio::time::sleep(LOOK.min(settings.interval)).await;
        }
    }

    /// The part of what may be stored above which blobs move to other clusters; `None`: they do not.
    #[must_use]
    pub fn offload_threshold(&self) -> Option<f64> {
        Some(self.inner.settings.offload?.threshold)
    }

    /// How much is stored, and may be.
    pub(super) async fn room(&self) -> Result<Room, StoreError> {
        let max = self.inner.settings.quota.total_bytes;
        Ok(Room { used: self.inner.store.usage().await?.bytes, max })
    }
}
