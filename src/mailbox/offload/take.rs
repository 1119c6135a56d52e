//! What other clusters offer, and what nodes of this one have that are emptied.

use std::collections::HashMap;

use bytes::Bytes;
use futures::future::join_all;

use super::send::reason;
use super::spell;
use crate::cluster::proto::{MailMoveOutcome, MailMoved, MailMoving};
use crate::domain::clock::Millis;
use crate::domain::mailbox::{BlobId, Full, MailboxKey, charge};
use crate::domain::offload::Room;
use crate::mailbox::MailboxService;
use crate::store::{Carried, Known, StoreError, Taken};

/// How often what is taken in has moved, this time included.
const MOST_HOPS: u8 = 1;

/// From where blobs come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A node of this cluster that is emptied.
    Cluster,
    /// Another cluster.
    Region,
}

/// What became of a blob, and under which id its message waits here.
type Verdict = (MailMoveOutcome, Option<BlobId>);

impl MailboxService {
    /// Takes blobs in, as far as they fit; what became of each, in their order. What is taken is durable.
    pub(in crate::mailbox) async fn take_in(&self, moving: Vec<MailMoving>, from: Origin) -> Vec<MailMoved> {
        let ids: Vec<_> = moving.iter().map(|one| one.place.clone().unwrap_or_default().id).collect();
        let verdicts = match self.take_all(moving, from).await {
            Ok(verdicts) => verdicts,
            Err(error) => {
                self.store_failed("take in", &error);
                vec![(MailMoveOutcome::Failed, None); ids.len()]
            }
        };
        let metrics = &self.inner.metrics.offload;
        ids.into_iter()
            .zip(verdicts)
            .map(|(id, (outcome, there))| {
                if !matches!(outcome, MailMoveOutcome::Taken | MailMoveOutcome::Done) {
                    metrics.refuse_taken(reason(outcome));
                }
                let there = there.map(|there| Bytes::copy_from_slice(&there.to_bytes())).unwrap_or_default();
                MailMoved { id, outcome: outcome.into(), there }
            })
            .collect()
    }

    async fn take_all(&self, moving: Vec<MailMoving>, from: Origin) -> Result<Vec<Verdict>, StoreError> {
        let refuse = match from {
            Origin::Cluster => Some(1.0),
            Origin::Region => self.inner.settings.offload.map(|settings| settings.refuse),
        };
        let Some(refuse) = refuse.filter(|_| !self.is_draining()) else {
            return Ok(vec![(MailMoveOutcome::Closed, None); moving.len()]);
        };
        let at = self.moment();
        let (mut room, mut purged) = (self.room().await?, HashMap::<MailboxKey, Millis>::new());
        let mut taking = Vec::with_capacity(moving.len());
        for one in moving {
            let device = (one.client_id.clone(), one.device_id.clone());
            let is_fit = |blob: &Carried| from == Origin::Cluster || blob.place.rank == 0;
            let Some(blob) = spell::carried(one, MOST_HOPS, at).filter(is_fit) else {
                taking.push(None);
                continue;
            };
            if from == Origin::Cluster && MailboxKey::device(&device.0, &device.1) == blob.mailbox {
                // So that a purge of all that client's devices finds it. One that has too many is as it was there.
                self.note_device(&device.0, &device.1).await?;
            }
            let until = match purged.get(&blob.mailbox) {
                Some(until) => *until,
                None => self.purged_until(&blob.mailbox).await?,
            };
            purged.insert(blob.mailbox, until);
            let is_purged = blob.place.id.time() <= until;
            let bytes = charge(blob.body.len());
            let fits = !room.would_pass(refuse, bytes);
            room = Room { used: room.used.saturating_add(if fits { bytes } else { 0 }), ..room };
            taking.push(Some((blob, fits, is_purged)));
        }
        let taken = join_all(taking.into_iter().map(|taking| async {
            match taking {
                None => (MailMoveOutcome::Unfit, None),
                // The clock by which it was purged here is not that of its node, which is told of the purge itself.
                Some((_, _, true)) => (MailMoveOutcome::Moving, None),
                Some((blob, fits, false)) => self.take(blob, fits).await.unwrap_or_else(|error| {
                    self.store_failed("take in", &error);
                    (MailMoveOutcome::Failed, None)
                }),
            }
        }));
        Ok(taken.await)
    }

    async fn take(&self, blob: Carried, fits: bool) -> Result<Verdict, StoreError> {
        let (mailbox, place) = (blob.mailbox, blob.place);
        if self.offered().await?.contains(mailbox, place.id.message()) {
            return Ok((MailMoveOutcome::Moving, None));
        }
        if !fits {
            // What is here already needs no room.
            let known = self.inner.store.known(mailbox, vec![place.id.message()], self.moment()).await?;
            return Ok(match known.first() {
                Some(Known::Live(here)) => (MailMoveOutcome::Taken, Some(here.id)),
                Some(Known::Done) => (MailMoveOutcome::Done, None),
                _ => (MailMoveOutcome::Full, None),
            });
        }
        let (metrics, bytes) = (&self.inner.metrics, charge(blob.body.len()));
        Ok(match self.inner.store.take_in(blob, self.inner.settings.quota, self.moment()).await? {
            Taken::Stored => {
                metrics.mailbox.blobs.inc();
                metrics.offload.blobs_taken.inc();
                metrics.offload.bytes_taken.inc_by(bytes);
                self.arrived(&mailbox, place, true);
                (MailMoveOutcome::Taken, Some(place.id))
            }
            Taken::Duplicate(here) | Taken::Sooner(here, _) => (MailMoveOutcome::Taken, Some(here)),
            Taken::Done => (MailMoveOutcome::Done, None),
            Taken::Expired => (MailMoveOutcome::Expired, None),
            Taken::Refused(Full::Store | Full::Disk) => (MailMoveOutcome::Full, None),
            Taken::Refused(Full::Mailbox | Full::Sender) => (MailMoveOutcome::MailboxFull, None),
        })
    }
}
