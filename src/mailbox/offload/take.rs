//! What other clusters offer, and what nodes of this one have that are emptied.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;

use super::near::Near;
use super::send::reason;
use super::spell;
use crate::cluster::proto::{MailMoveOutcome, MailMoved, MailMoving};
use crate::domain::clock::Millis;
use crate::domain::mailbox::{BlobId, Full, MailboxKey, MessageKey, Stamp, charge};
use crate::domain::offload::{Room, moment};
use crate::mailbox::MailboxService;
use crate::store::{Carried, Held, StoreError, Taken};

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
        let (at, mut purged) = (self.moment(), HashMap::<MailboxKey, Millis>::new());
        let mut last = Stamp::default();
        let mut taking = Vec::with_capacity(moving.len());
        for one in moving {
            let device = (one.client_id.clone(), one.device_id.clone());
            let is_fit = |blob: &Carried| match from {
                Origin::Cluster => true,
                Origin::Region => blob.place.rank == 0 && blob.hops == MOST_HOPS,
            };
            let Some(blob) = spell::carried(one, MOST_HOPS, at, &mut last).filter(is_fit) else {
                taking.push(None);
                continue;
            };
            let is_device = from == Origin::Cluster && MailboxKey::device(&device.0, &device.1) == blob.mailbox;
            let client = Some(device.0.clone()).filter(|_| is_device);
            if is_device {
                // So that a purge of all that client's devices finds it. One that has too many is as it was there.
                self.note_device(&device.0, &device.1).await?;
            }
            let until = match purged.get(&blob.mailbox) {
                Some(until) => *until,
                None => self.purged_until(&blob.mailbox, client.as_deref()).await?,
            };
            purged.insert(blob.mailbox, until);
            let is_purged = blob.place.id.time() <= until;
            taking.push(Some((blob, client, is_purged)));
        }
        let near = match from {
            Origin::Cluster => Vec::new(),
            Origin::Region => {
                let known =
                    taking.iter().map(|one| one.as_ref().map(|(blob, ..)| (blob.mailbox, blob.place.id.message())));
                self.held_near(known).await
            }
        };
        let (mut room, mut near) = (self.room().await?, near.into_iter());
        let taken = join_all(taking.into_iter().map(|taking| {
            let near = near.next().unwrap_or_default();
            let fits = taking.as_ref().is_some_and(|(blob, ..)| {
                let bytes = charge(blob.body.len());
                let fits = !room.would_pass(refuse, bytes);
                room = Room { used: room.used.saturating_add(if fits { bytes } else { 0 }), ..room };
                fits
            });
            async move {
                match taking {
                    None => (MailMoveOutcome::Unfit, None),
                    // The clock by which it was purged here is not that of its node, which is told of the purge itself.
                    Some((.., true)) => (MailMoveOutcome::Moving, None),
                    Some((blob, client, false)) => {
                        self.take(blob, client.as_deref(), fits, near, from).await.unwrap_or_else(|error| {
                            self.store_failed("take in", &error);
                            (MailMoveOutcome::Failed, None)
                        })
                    }
                }
            }
        }));
        Ok(taken.await)
    }

    /// `client`: whose device has the mailbox, if one has.
    async fn take(
        &self,
        blob: Carried,
        client: Option<&str>,
        fits: bool,
        near: Near,
        from: Origin,
    ) -> Result<Verdict, StoreError> {
        let (mailbox, place) = (blob.mailbox, blob.place);
        if self.offered().await?.contains(mailbox, place.id.message()) {
            return Ok((MailMoveOutcome::Moving, None));
        }
        let at = self.moment();
        let ends = blob.ends.unwrap_or_else(|| at.end_of(place.id.time()));
        match near {
            Near::Nothing => {}
            Near::Waits(there, id) if self.lasts_as_long(there, ends) => return Ok((MailMoveOutcome::Taken, Some(id))),
            Near::Waits(..) => return Ok((MailMoveOutcome::Sooner, None)),
            Near::Moving => return Ok((MailMoveOutcome::Moving, None)),
            Near::Done => return Ok((MailMoveOutcome::Done, None)),
        }
        if !fits {
            // What is here already needs no room.
            let held = self.inner.store.held(vec![(mailbox, place.id.message())], at).await?;
            return Ok(match held.first() {
                Some(Held::Waits(id, there)) if self.lasts_as_long(*there, ends) => (MailMoveOutcome::Taken, Some(*id)),
                Some(Held::Done) => (MailMoveOutcome::Done, None),
                _ => (MailMoveOutcome::Full, None),
            });
        }
        let (metrics, bytes) = (&self.inner.metrics, charge(blob.body.len()));
        Ok(match self.inner.store.take_in(blob, self.inner.settings.quota, at).await? {
            Taken::Stored => {
                metrics.mailbox.blobs.inc();
                // A purge may have looked before it was here. One that is not known yet will find it.
                if place.id.time() <= self.purged_until(&mailbox, client).await? {
                    self.give_up(mailbox, place.id.message()).await?;
                    return Ok((MailMoveOutcome::Moving, None));
                }
                metrics.offload.blobs_taken.inc();
                metrics.offload.bytes_taken.inc_by(bytes);
                self.arrived(&mailbox, place, true);
                (MailMoveOutcome::Taken, Some(place.id))
            }
            Taken::Duplicate(here) => (MailMoveOutcome::Taken, Some(here)),
            // Within a cluster a message is one, which a repeat does not make wait longer.
            Taken::Sooner(here, _) if from == Origin::Cluster => (MailMoveOutcome::Taken, Some(here)),
            Taken::Sooner(here, there) if self.lasts_as_long(there, ends) => (MailMoveOutcome::Taken, Some(here)),
            // The other cluster has promised to keep it for longer.
            Taken::Sooner(..) => (MailMoveOutcome::Sooner, None),
            Taken::Done => (MailMoveOutcome::Done, None),
            Taken::Expired => (MailMoveOutcome::Expired, None),
            Taken::Refused(Full::Store | Full::Disk) => (MailMoveOutcome::Full, None),
            Taken::Refused(Full::Mailbox | Full::Sender) => (MailMoveOutcome::MailboxFull, None),
        })
    }

    /// Deletes what was just taken in, and is not to be here, without a memory of it.
    async fn give_up(&self, mailbox: MailboxKey, message: MessageKey) -> Result<(), StoreError> {
        let forgotten = self.inner.store.ack(mailbox, vec![message], self.moment(), Duration::ZERO).await?;
        // If it was not there any more, whoever deleted it has counted it.
        if forgotten.iter().any(Option::is_some) {
            self.inner.metrics.mailbox.blobs.dec();
        }
        Ok(())
    }

    /// Whether a copy that ends at `there` will do for one that ends at `ends`.
    fn lasts_as_long(&self, there: Millis, ends: Millis) -> bool {
        ends.since(there) <= moment(self.inner.settings.ttl)
    }
}
