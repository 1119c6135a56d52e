//! Moving blobs until there is room.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};

use super::notes::Item;
use super::send::Sent;
use super::walk::{BATCH, Batch, Refusers, Walk, may_move};
use crate::cluster::regions::PeerName;
use crate::domain::mailbox::charge;
use crate::mailbox::MailboxService;
use crate::store::StoreError;

/// The least rest between two batches. Otherwise it rests as long as the batch took, so that others get the disk too.
const LEAST_REST: Duration = Duration::from_millis(1);

/// How far blobs are moved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// Until no more than this part of what may be stored is.
    Below(f64),
    /// The same, with more at once, and without a rest between two batches.
    Fast(f64),
}

impl Goal {
    /// Batches that a peer is offered before it has answered for the first of them. Each waits for several syncs, here
    /// and there; two keep one peer at work, and leave room for traffic.
    fn in_flight(self) -> usize {
        match self {
            Self::Below(_) => 2,
            Self::Fast(_) => 4,
        }
    }

    fn part(self) -> f64 {
        match self {
            Self::Below(part) | Self::Fast(part) => part,
        }
    }
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// Blobs that have moved, by peer.
    pub blobs: u64,
    /// The bytes that they were charged.
    pub bytes: u64,
    /// How often a blob was refused: by each peer at most once.
    pub refused: u64,
    /// Bytes that are still too many.
    pub left: u64,
    /// How much went to whom: blobs, and bytes.
    pub to: HashMap<PeerName, (u64, u64)>,
}

impl Progress {
    fn add(&mut self, peer: &PeerName, blobs: u64, bytes: u64) {
        (self.blobs, self.bytes) = (self.blobs + blobs, self.bytes + bytes);
        let to = self.to.entry(peer.clone()).or_default();
        (to.0, to.1) = (to.0 + blobs, to.1 + bytes);
    }

    fn add_sent(&mut self, peer: &PeerName, sent: &Sent) {
        self.add(peer, sent.blobs, sent.bytes);
        self.refused += sent.refused.len() as u64;
    }
}

/// A batch of which it is known what became of it.
struct Landed {
    peer: PeerName,
    /// What its blobs were charged.
    bytes: u64,
    refusers: HashMap<Item, Refusers>,
    sent: Result<Sent, StoreError>,
}

/// Batches whose answers are not all in.
type Flying = FuturesUnordered<BoxFuture<'static, Option<Landed>>>;

impl MailboxService {
    /// Moves the oldest blobs to peers until the goal is reached, nothing is left that may move, or nobody takes more.
    /// One at a time does; others wait. Only if it is to be fast it waits for peers that are slow.
    ///
    /// # Errors
    /// When the store fails; what was moved before stays moved.
    pub async fn offload(&self, goal: Goal, mut tell: impl FnMut(&Progress)) -> Result<Progress, StoreError> {
        let turn = self.inner.offload.turn.clone().acquire_owned().await;
        let (mut progress, mut flying, mut walk) = (Progress::default(), Flying::new(), Walk::new(goal.in_flight()));
        let mut under_way = 0;
        loop {
            progress.left = self.room().await?.above(goal.part());
            tell(&progress);
            let begun = Instant::now();
            while progress.left > under_way {
                let Some(batch) = self.next_batch(&mut walk, progress.left - under_way).await? else { break };
                under_way += batch.bytes();
                flying.push(self.clone().fly(batch).boxed());
            }
            if flying.is_empty() {
                break;
            }
            let landed = match (self.inner.offload.awaited.next_slow(Instant::now()), goal) {
                (Some(slow), _) => tokio::select! {
                    landed = flying.next() => landed,
                    // There may be others to go on with.
                    () = tokio::time::sleep_until(slow.into()) => continue,
                },
                (None, Goal::Fast(_)) => flying.next().await,
                (None, Goal::Below(_)) => break,
            };
            // Nothing is under way, or the node stops.
            let Some(Some(Landed { peer, bytes, refusers, sent })) = landed else { break };
            under_way -= bytes;
            let sent = sent?;
            progress.add_sent(&peer, &sent);
            if sent.shut {
                walk.shut(peer.clone());
            }
            self.try_others(&mut walk, &peer, sent.refused, refusers).await?;
            if matches!(goal, Goal::Below(_)) {
                tokio::time::sleep(begun.elapsed().max(LEAST_REST)).await;
            }
        }
        drop(turn);
        self.await_beside(flying);
        if progress.blobs + progress.refused > 0 {
            let Progress { blobs, bytes, refused, left, .. } = progress;
            tracing::info!(blobs, bytes, refused, left, "moved blobs to other clusters");
        }
        Ok(progress)
    }

    /// Offers a batch; `None` if the node stops before it is known what became of it. That is found out by its note then:
    /// nothing is deleted but by what the peer has answered.
    async fn fly(self, batch: Batch) -> Option<Landed> {
        let (peer, bytes) = (batch.note.peer.clone(), batch.bytes());
        let stop = self.inner.supervisor.token();
        let sent = stop.run_until_cancelled(self.offer(batch.note, batch.blobs)).await?;
        drop(batch.awaiting);
        Some(Landed { peer, bytes, refusers: batch.refusers, sent })
    }

    /// Waits for what slow peers say, while others are offered more.
    fn await_beside(&self, mut flying: Flying) {
        if flying.is_empty() {
            return;
        }
        let this = self.clone();
        self.inner.supervisor.spawn_quiet(async move {
            while let Some(Some(Landed { peer, sent, .. })) = flying.next().await {
                match sent {
                    Ok(sent) => tracing::info!(%peer, blobs = sent.blobs, "a slow peer has taken blobs"),
                    Err(error) => this.store_failed("offload", &error),
                }
            }
        });
    }

    /// What would move, and to whom: blobs and bytes, as far as can be said before anybody is asked.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn offload_plan(&self, part: f64) -> Result<Progress, StoreError> {
        let (mut plan, mut rooms) = (Progress::default(), self.rooms(&BTreeSet::new()));
        plan.left = self.room().await?.above(part);
        let mut after = None;
        while plan.left > 0 {
            let oldest = self.inner.store.oldest(after, 0, BATCH, self.moment()).await?;
            for blob in oldest.blobs.iter().filter(|blob| may_move(blob)) {
                let Some(peer) = self.roomiest(rooms.iter()).filter(|_| plan.left > 0) else { return Ok(plan) };
                let bytes = charge(blob.body.len());
                plan.add(&peer, 1, bytes);
                plan.left = plan.left.saturating_sub(bytes);
                if let Some(room) = rooms.get_mut(&peer) {
                    room.used += bytes;
                }
            }
            after = oldest.next;
            if after.is_none() {
                break;
            }
        }
        Ok(plan)
    }
}
