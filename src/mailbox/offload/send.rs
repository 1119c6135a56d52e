//! Batches to a peer, and what becomes of each blob in them.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::notes::{Item, Note};
use super::spell;
use crate::cluster::proto::{MailMoveOutcome, MailMoved};
use crate::cluster::regions::PeerName;
use crate::domain::mailbox::{BlobId, charge};
use crate::mailbox::MailboxService;
use crate::store::{Carried, Left, Moving, StoreError};

/// How long a peer may take for a batch.
const PATIENCE: Duration = Duration::from_secs(60);

/// Blobs that came from another cluster do not move on.
const HOPS: u8 = 1;

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sent {
    /// Blobs that lie there now, and not here.
    pub blobs: u64,
    /// What they were charged.
    pub bytes: u64,
    /// Blobs that the peer refused.
    pub refused: Vec<Item>,
    /// Whether it takes nothing more for now, or cannot be reached.
    pub shut: bool,
    /// Whether it has not answered for all.
    pub broken_off: bool,
}

impl MailboxService {
    /// Offers blobs to a peer, under a note that is durable, and deletes here what is durable there. The caller says
    /// meanwhile that it [awaits](super::awaited::Awaited) the answers.
    ///
    /// # Errors
    /// When the store fails; the note is kept then.
    pub(super) async fn offer(&self, note: Note, blobs: Vec<Carried>) -> Result<Sent, StoreError> {
        let Note { key, peer, items } = note;
        let at = self.moment();
        let moving = blobs.iter().map(|blob| spell::moving(blob, HOPS, at)).collect();
        let offered = self.inner.cluster.afar.out.get().map(|out| out.offload(&peer, moving, PATIENCE));
        let (answers, error) = match offered {
            Some(offered) => offered.await,
            None => (Vec::new(), None),
        };
        if let Some(error) = &error {
            tracing::debug!(%peer, %error, answered = answers.len(), of = blobs.len(), "an offer was broken off");
            self.inner.offload.refusals.lock().shut(&peer, Instant::now());
        }
        let broken_off = error.is_some() || answers.len() < blobs.len();
        let mut sent = Sent { shut: broken_off, broken_off, ..Sent::default() };
        let mut open: Vec<Item> = Vec::new();
        let mut moved = Vec::new();
        for (number, blob) in blobs.iter().enumerate() {
            let item = (blob.mailbox, blob.place.id);
            match answers.get(number).filter(|answer| answer.id == item.1.to_bytes()[..]) {
                // A write that failed may be found later whole: that peer, and no other, is asked for it again.
                Some(answer) if answer.outcome() == MailMoveOutcome::Failed => {
                    sent.shut = true;
                    self.inner.offload.refusals.lock().shut(&peer, Instant::now());
                    self.inner.metrics.offload.refuse_sent(reason(MailMoveOutcome::Failed));
                    open.push(item);
                }
                Some(answer) => {
                    let there = self.answered(&peer, blob, answer, &mut sent).await?;
                    moved.extend(there.map(|there| Moving { mailbox: item.0, id: item.1, there }));
                }
                None => open.push(item),
            }
        }
        let place = Bytes::copy_from_slice(peer.0.as_bytes());
        let left = self.inner.store.moved(moved.clone(), place, self.moment()).await?;
        let (mut count, mut bytes, mut gone) = (0, 0, Vec::<Item>::new());
        for (moving, left) in moved.iter().zip(left) {
            match left {
                Left::Moved => {
                    count += 1;
                    let is_it = |blob: &&Carried| (blob.mailbox, blob.place.id) == (moving.mailbox, moving.id);
                    let blob = blobs.iter().find(is_it);
                    bytes += blob.map_or(0, |blob| charge(blob.body.len()));
                }
                Left::Before => {}
                // Done with here, while it was on its way.
                Left::Gone => gone.push((moving.mailbox, moving.id)),
            }
        }
        // Who has not answered for all of the offer is told with the rest of the note.
        let unheard = if broken_off { gone } else { self.tell_peer(&peer, gone).await.0 };
        open.extend(unheard);
        (sent.blobs, sent.bytes) = (count, bytes);
        let metrics = &self.inner.metrics;
        metrics.mailbox.blobs.dec_by(i64::try_from(count).unwrap_or(i64::MAX));
        metrics.offload.blobs_sent.inc_by(count);
        metrics.offload.bytes_sent.inc_by(bytes);
        let settled: Vec<_> = items.into_iter().filter(|item| !open.contains(item)).collect();
        self.keep_note(&Note { key, peer, items: open }).await?;
        self.offered().await?.remove(&settled);
        Ok(sent)
    }

    /// What a peer answered for a blob: under which id it lies there, if it does.
    async fn answered(
        &self,
        peer: &PeerName,
        blob: &Carried,
        answer: &MailMoved,
        sent: &mut Sent,
    ) -> Result<Option<BlobId>, StoreError> {
        let outcome = answer.outcome();
        match outcome {
            MailMoveOutcome::Taken => {
                let there = <[u8; 16]>::try_from(&answer.there[..]).ok().and_then(BlobId::from_bytes);
                let there = there.filter(|there| there.message() == blob.place.id.message());
                if there.is_none() {
                    // That is nonsense, and nothing is deleted for it.
                    sent.refused.push((blob.mailbox, blob.place.id));
                    self.inner.offload.refusals.lock().note(peer, blob.place.id, Instant::now());
                    self.inner.metrics.offload.refuse_sent("nonsense");
                }
                return Ok(there);
            }
            MailMoveOutcome::Done => drop(self.acknowledge(blob.mailbox, blob.place.id.message()).await?),
            MailMoveOutcome::Full | MailMoveOutcome::Closed => {
                sent.shut = true;
                self.inner.offload.refusals.lock().shut(peer, Instant::now());
            }
            _ => self.inner.offload.refusals.lock().note(peer, blob.place.id, Instant::now()),
        }
        if outcome != MailMoveOutcome::Done {
            sent.refused.push((blob.mailbox, blob.place.id));
            self.inner.metrics.offload.refuse_sent(reason(outcome));
        }
        Ok(None)
    }
}

/// Why a blob was not taken, for the figures.
pub(super) fn reason(outcome: MailMoveOutcome) -> &'static str {
    match outcome {
        MailMoveOutcome::Full => "full",
        MailMoveOutcome::Closed => "closed",
        MailMoveOutcome::Moving => "moving",
        MailMoveOutcome::MailboxFull => "mailbox_full",
        MailMoveOutcome::Expired => "expired",
        MailMoveOutcome::Sooner => "sooner",
        MailMoveOutcome::Unfit => "unfit",
        _ => "failed",
    }
}
