//! [`Mailboxes`] for every backend: checks the bounds, hands changes in, and works lists off in steps.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::changes::{self, Ready, Standing};
use super::layout::encode_blob;
use super::moves::TakeIn;
use super::{
    Acked, AgeCursor, Carried, Elsewhere, Held, Known, Left, MAX_DONE, MAX_PAGE_BLOBS, MAX_TALLIES, MAX_WHERE_BYTES,
    Mailboxes, Moment, Moving, NewBlob, Oldest, Page, PageLimit, Put, StoredBlob, Sweep, Taken, Tallies, TallyCursor,
    check_count, check_messages, check_sizes, moves, reads,
};
use crate::domain::clock::Millis;
use crate::domain::mailbox::{Holdings, MailboxKey, MessageKey, Place, Quota};
use crate::store::StoreError;
use crate::store::backend::{Backend, Size};
use crate::store::stage::Stage;

/// Blobs swept or purged in one change: few enough that nobody else's change waits long behind it.
pub const SWEEP_STEP: usize = 32;

/// Messages that a purge looks at for one change, and a put for which a mailbox has no room in all.
const LOOK: usize = 1024;

/// Bytes of keys and small values in what one blob adds, rounded up.
const ENTRY_BYTES: usize = 512;

/// Writes that come with one blob.
const ENTRY_WRITES: usize = 5;

#[async_trait]
impl<B: Backend> Mailboxes for B {
    async fn put(&self, blob: NewBlob, quota: Quota, at: Moment) -> Result<Put, StoreError> {
        check_sizes(&blob.header, &blob.receipt, &blob.body)?;
        let value = encode_blob(None, &blob.header, &blob.body);
        let size = Size { writes: ENTRY_WRITES, bytes: value.len() + ENTRY_BYTES };
        let room = self.has_room(size.bytes);
        let NewBlob { mailbox, message, rank, from, receipt, body, .. } = blob;
        let ready = Arc::new(Ready { mailbox, message, rank, from, receipt, value, body_bytes: body.len(), room });
        let again = ready.clone();
        let attempt = self.commit(size, move |stage| changes::put(stage, &ready, &quota, at)).await?;
        if !attempt.stale {
            return Ok(attempt.put);
        }
        // What has expired is not worth refusing a new blob for.
        reclaim(self, mailbox, at).await?;
        Ok(self.commit(size, move |stage| changes::put(stage, &again, &quota, at)).await?.put)
    }

    async fn page(
        &self,
        mailbox: MailboxKey,
        after: Option<Place>,
        limit: PageLimit,
        at: Moment,
    ) -> Result<Page, StoreError> {
        self.read(move |database| reads::page(database, mailbox, after, limit, at)).await
    }

    async fn get(&self, mailbox: MailboxKey, place: Place, at: Moment) -> Result<Option<StoredBlob>, StoreError> {
        self.read(move |database| reads::get(database, mailbox, place, at)).await
    }

    async fn ack(
        &self,
        mailbox: MailboxKey,
        messages: Vec<MessageKey>,
        at: Moment,
        remember: Duration,
    ) -> Result<Vec<Option<Acked>>, StoreError> {
        check_messages(&messages)?;
        let until = at.now.plus(remember);
        self.commit(small(messages.len()), move |stage| changes::ack(stage, mailbox, &messages, at, until)).await
    }

    async fn known(
        &self,
        mailbox: MailboxKey,
        messages: Vec<MessageKey>,
        at: Moment,
    ) -> Result<Vec<Known>, StoreError> {
        check_messages(&messages)?;
        self.read(move |database| reads::known(database, mailbox, &messages, at)).await
    }

    async fn mark_delivered(
        &self,
        mailbox: MailboxKey,
        messages: Vec<MessageKey>,
        at: Moment,
    ) -> Result<Vec<Option<Bytes>>, StoreError> {
        check_messages(&messages)?;
        let size = Size { writes: messages.len(), bytes: messages.len() * ENTRY_BYTES };
        self.commit(size, move |stage| changes::mark_delivered(stage, mailbox, &messages, at)).await
    }

    async fn purge(
        &self,
        mailbox: MailboxKey,
        until: Millis,
        at: Moment,
        remember: Duration,
    ) -> Result<u64, StoreError> {
        let remembered = at.now.plus(remember);
        let (mut purged, mut from) = (0, None);
        loop {
            let part = self.read(move |database| reads::stored_until(database, mailbox, from, until, LOOK)).await?;
            for places in part.places.chunks(SWEEP_STEP).map(<[_]>::to_vec) {
                let change = move |stage: &mut Stage<'_>| changes::purge(stage, mailbox, &places, at, remembered);
                purged += self.commit(small(SWEEP_STEP), change).await?;
            }
            for messages in part.moved.chunks(SWEEP_STEP).map(<[_]>::to_vec) {
                let change = move |stage: &mut Stage<'_>| moves::purge_moved(stage, mailbox, &messages, at);
                self.commit(small(SWEEP_STEP), change).await?;
            }
            from = part.next;
            if from.is_none() {
                return Ok(purged);
            }
        }
    }

    async fn holdings(&self, mailbox: MailboxKey) -> Result<Holdings, StoreError> {
        self.read(move |database| reads::holdings(database, mailbox)).await
    }

    async fn usage(&self) -> Result<Holdings, StoreError> {
        self.read(|database| Ok(reads::totals(database)?.0)).await
    }

    async fn tallies(&self, from: Option<TallyCursor>) -> Result<Tallies, StoreError> {
        self.read(move |database| reads::tallies(database, from, MAX_TALLIES)).await
    }

    async fn sweep(&self, at: Moment, limit: usize) -> Result<Sweep, StoreError> {
        let mut sweep = Sweep::default();
        while sweep.blobs < limit {
            let step = (limit - sweep.blobs).min(SWEEP_STEP);
            let swept = self.swept().look();
            let expired = self.read(move |database| reads::expired(database, swept, step, at)).await?;
            let Some((_, last)) = expired.last() else { break };
            // Others may have the stamp of the last.
            let (found, up_to) = (expired.len(), last.id.stamp().get());
            sweep.blobs += self.commit(small(found), move |stage| changes::expire(stage, &expired)).await?;
            self.swept().up_to(up_to);
        }
        while sweep.blobs < limit {
            let step = (limit - sweep.blobs).min(SWEEP_STEP);
            let ended = self.read(move |database| moves::ended(database, step, at)).await?;
            if ended.is_empty() {
                break;
            }
            sweep.blobs += self.commit(small(ended.len()), move |stage| changes::expire_ended(stage, &ended)).await?;
        }
        while sweep.blobs + sweep.done < limit {
            let step = (limit - sweep.blobs - sweep.done).min(SWEEP_STEP);
            let over = self.read(move |database| reads::forgettable(database, at.now, step, MAX_DONE)).await?;
            if over.is_empty() {
                break;
            }
            sweep.done += self.commit(small(over.len()), move |stage| changes::forget_all(stage, &over)).await?;
        }
        Ok(sweep)
    }

    async fn oldest(
        &self,
        after: Option<AgeCursor>,
        hops: u8,
        limit: PageLimit,
        at: Moment,
    ) -> Result<Oldest, StoreError> {
        let swept = self.swept().get();
        self.read(move |database| moves::oldest(database, (after, swept), hops, limit, at)).await
    }

    async fn whole(&self, mailbox: MailboxKey, place: Place, at: Moment) -> Result<Option<Carried>, StoreError> {
        self.read(move |database| moves::carried(database, mailbox, place, at)).await
    }

    async fn take_in(&self, blob: Carried, quota: Quota, at: Moment) -> Result<Taken, StoreError> {
        check_sizes(&blob.header, &blob.receipt, &blob.body)?;
        let Carried { mailbox, place, from, delivered, hops, ends, header, receipt, body } = blob;
        if at.is_past(place.id.time()) || ends.is_some_and(|ends| ends <= at.now) {
            return Ok(Taken::Expired);
        }
        // What is swept is not looked at again.
        let Some(taking) = self.swept().taking(place.id.stamp().get()) else { return Ok(Taken::Expired) };
        let value = encode_blob(ends, &header, &body);
        let size = Size { writes: ENTRY_WRITES, bytes: value.len() + ENTRY_BYTES };
        let room = self.has_room(size.bytes);
        let (message, rank, body_bytes) = (place.id.message(), place.rank, body.len());
        let ready = Arc::new(Ready { mailbox, message, rank, from, receipt, value, body_bytes, room });
        let (again, standing) = (ready.clone(), Standing { place, delivered, hops, ends });
        let attempt = move |stage: &mut Stage<'_>| moves::take_in(stage, &ready, standing, &quota, at, taking);
        let TakeIn { taken, stale, taking } = self.commit(size, attempt).await?;
        if !stale {
            return Ok(taken);
        }
        reclaim(self, mailbox, at).await?;
        let attempt = move |stage: &mut Stage<'_>| moves::take_in(stage, &again, standing, &quota, at, taking);
        Ok(self.commit(size, attempt).await?.taken)
    }

    async fn held(&self, messages: Vec<(MailboxKey, MessageKey)>, at: Moment) -> Result<Vec<Held>, StoreError> {
        check_count(messages.len())?;
        self.read(move |database| moves::held(database, &messages, at)).await
    }

    async fn moved(&self, moving: Vec<Moving>, place: Bytes, at: Moment) -> Result<Vec<Left>, StoreError> {
        check_count(moving.len())?;
        if place.len() > MAX_WHERE_BYTES {
            return Err(StoreError::BlobTooLarge { part: "place", bytes: place.len(), max: MAX_WHERE_BYTES });
        }
        self.commit(small(moving.len()), move |stage| moves::moved(stage, &moving, &place, at)).await
    }

    async fn settle(
        &self,
        messages: Vec<(MailboxKey, MessageKey)>,
        at: Moment,
        remember: Duration,
    ) -> Result<usize, StoreError> {
        check_count(messages.len())?;
        self.commit(small(messages.len()), move |stage| moves::settle_all(stage, &messages, at, remember)).await
    }

    async fn elsewhere(
        &self,
        of: Option<MailboxKey>,
        after: Option<(MailboxKey, MessageKey)>,
        limit: usize,
        at: Moment,
    ) -> Result<Vec<Elsewhere>, StoreError> {
        self.read(move |database| moves::elsewhere(database, of, after, limit.clamp(1, MAX_PAGE_BLOBS), at)).await
    }
}

/// The size of a change that deletes this many blobs.
fn small(blobs: usize) -> Size {
    Size { writes: blobs * ENTRY_WRITES, bytes: blobs * ENTRY_BYTES }
}

/// Deletes what has expired in a mailbox, as far as one look finds it.
async fn reclaim<B: Backend>(backend: &B, mailbox: MailboxKey, at: Moment) -> Result<(), StoreError> {
    let part = backend.read(move |database| reads::stored_until(database, mailbox, None, at.horizon, LOOK)).await?;
    for expired in part.places.chunks(SWEEP_STEP) {
        let expired: Vec<_> = expired.iter().map(|place| (mailbox, *place)).collect();
        backend.commit(small(expired.len()), move |stage| changes::expire(stage, &expired)).await?;
    }
    match part.oldest_other {
        Some(oldest) if part.next.is_none() => {
            backend.commit(small(1), move |stage| changes::note_oldest(stage, mailbox, oldest)).await
        }
        _ => Ok(()),
    }
}
