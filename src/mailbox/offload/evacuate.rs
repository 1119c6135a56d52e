//! All blobs of a node that is emptied: to the other nodes of its cluster, and what these do not take to other clusters.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;

use super::round::Goal;
use super::spell;
use crate::cluster::proto::{MailMoveOutcome, MailMoved};
use crate::domain::ids::NodeRun;
use crate::domain::mailbox::{BlobId, MailboxKey};
use crate::mailbox::MailboxService;
use crate::mailbox::acks::Tell;
use crate::store::{Carried, Left, Moving, PageLimit, StoreError};

/// Blobs that are handed over at a time.
const BATCH: PageLimit = PageLimit { blobs: 128, bytes: 1 << 20 };

/// How long another node may take for a batch.
const PATIENCE: Duration = Duration::from_secs(30);

/// The place of what lies at another node of this cluster.
const NEAR: Bytes = Bytes::new();

impl MailboxService {
    /// Moves everything away that anybody takes, once: how many blobs are left. `tell` hears how many there are in
    /// between.
    ///
    /// # Errors
    /// When the store fails; what was moved before stays moved.
    pub async fn evacuate(&self, mut tell: impl FnMut(u64)) -> Result<u64, StoreError> {
        let mut takers: Vec<_> = {
            let view = self.inner.cluster.view.borrow();
            view.others().filter(|member| !member.facts.draining).map(|member| member.run.clone()).collect()
        };
        // Nothing is offered to peers meanwhile, and what was goes to nobody else before it is known what became of it.
        let turn = self.inner.offload.turn.clone().acquire_owned().await;
        self.settle_soon();
        let offered = self.offered().await?;
        // What has expired is nothing to be moved.
        self.sweep_all().await;
        let devices = self.devices().await?;
        let mut after = None;
        while !takers.is_empty() {
            let mut oldest = self.inner.store.oldest(after, u8::MAX, BATCH, self.moment()).await?;
            oldest.blobs.retain(|blob| !offered.contains(blob.mailbox, blob.place.id.message()));
            if !oldest.blobs.is_empty() {
                // In turns, so that none gets all.
                takers.rotate_left(1);
                let taker = takers[0].clone();
                if !self.hand_over(&taker, oldest.blobs, &devices).await? {
                    takers.retain(|other| *other != taker);
                    continue;
                }
                tell(self.blobs().await?);
            }
            after = oldest.next;
            if after.is_none() {
                break;
            }
        }
        drop(turn);
        if self.blobs().await? > 0 {
            self.offload(Goal::Fast(0.0), |_| {}).await?;
        }
        let left = self.blobs().await?;
        tell(left);
        Ok(left)
    }

    /// Has another node keep blobs, and deletes here what is durable there; false if it takes nothing more.
    async fn hand_over(
        &self,
        to: &NodeRun,
        blobs: Vec<Carried>,
        devices: &HashMap<MailboxKey, (String, String)>,
    ) -> Result<bool, StoreError> {
        let at = self.moment();
        let moving = blobs.iter().map(|blob| {
            let mut moving = spell::moving(blob, blob.hops, at);
            if let Some((client, device)) = devices.get(&blob.mailbox) {
                (moving.client_id, moving.device_id) = (client.clone(), device.clone());
            }
            moving
        });
        let answers = match self.inner.cluster.links.move_to(to, moving.collect(), PATIENCE).await {
            Ok(answers) => answers,
            Err(error) => {
                tracing::debug!(node = %to.node, %error, "a node does not take blobs");
                return Ok(false);
            }
        };
        let (mut moved, mut takes) = (Vec::new(), answers.len() == blobs.len());
        for (blob, answer) in blobs.iter().zip(&answers) {
            match answer.outcome() {
                MailMoveOutcome::Taken => {
                    let there = id_of(answer).filter(|there| there.message() == blob.place.id.message());
                    moved.extend(there.map(|there| Moving { mailbox: blob.mailbox, id: blob.place.id, there }));
                }
                MailMoveOutcome::Done => drop(self.acknowledge(blob.mailbox, blob.place.id.message()).await?),
                MailMoveOutcome::Full | MailMoveOutcome::Closed => takes = false,
                // It stays, or is offered to the next.
                _ => {}
            }
        }
        let left = self.inner.store.moved(moved.clone(), NEAR, self.moment()).await?;
        let count = left.iter().filter(|left| **left == Left::Moved).count();
        for (moving, _) in moved.iter().zip(&left).filter(|(_, left)| **left == Left::Gone) {
            // Done with here while it was on its way. If that is not heard now, whoever is sent it asks this node.
            self.acknowledge_near(moving.mailbox, moving.id.message(), Tell::Nothing).await;
        }
        self.inner.metrics.offload.blobs_evacuated.inc_by(count as u64);
        self.inner.metrics.mailbox.blobs.dec_by(i64::try_from(count).unwrap_or(i64::MAX));
        Ok(takes)
    }
}

fn id_of(answer: &MailMoved) -> Option<BlobId> {
    BlobId::from_bytes(answer.there[..].try_into().ok()?)
}
