//! Blobs that go from one store to another: what they carry with them, and what is left behind.

use std::time::Duration;

use bytes::Bytes;

use super::changes::{Fate, NoRoom, Ready, Standing, erase, insert, message, remove, settle};
use super::entries::{Live, Message, Moved, decode_message, encode_message};
use super::layout::{
    age_key, age_start, blob_key, decode_age, decode_blob, decode_end_key, decode_moved_key, encode_blob, end_key,
    message_key,
};
use super::{MAX_PAGE_BLOB_BYTES, MAX_PAGE_BLOBS, Moment, PageLimit};
use crate::domain::clock::Millis;
use crate::domain::mailbox::{BlobId, Full, MailboxKey, MessageKey, Place, Quota, SenderKey};
use crate::domain::offload::moment;
use crate::store::StoreError;
use crate::store::backend::{Taking, Verdict};
use crate::store::stage::{Family, Lookup, Scan, Stage, prefix_end};

/// Most blobs that one look along the ages passes.
const LOOK: usize = 1024;

/// Longest name of the place that a blob is moved to, in bytes.
pub const MAX_WHERE_BYTES: usize = 512;

/// A blob with all that is kept of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// Where it waits.
    pub mailbox: MailboxKey,
    /// Where it stands there; its id says when it was stored first, and which message it is.
    pub place: Place,
    /// Whose share of the mailbox it counts against.
    pub from: SenderKey,
    /// Whether it has reached the recipient.
    pub delivered: bool,
    /// How often it was moved.
    pub hops: u8,
    /// When it ends, if that is before its age says.
    pub ends: Option<Millis>,
    /// What came as its header.
    pub header: Bytes,
    /// What came as its receipt.
    pub receipt: Bytes,
    /// What came as its body.
    pub body: Bytes,
}

/// The oldest blobs of a store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Oldest {
    /// In the order of their ids.
    pub blobs: Vec<Carried>,
    /// Where the next part begins; `None` after the last.
    pub next: Option<AgeCursor>,
}

/// A place in a walk along all blobs by age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgeCursor(BlobId, MailboxKey);

/// What became of a blob that was to be taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Taken {
    /// It is stored, where it stood.
    Stored,
    /// Its message is there already, under this id, and does not end before it.
    Duplicate(BlobId),
    /// Its message is there already, under this id, and ends then, before it: as late as its own age lets it, but for a
    /// [moment], or no later than it did because the disk has no room to write that.
    Sooner(BlobId, Millis),
    /// Its message was here, and was acknowledged or purged not long ago.
    Done,
    /// It has expired, as this store sees it.
    Expired,
    /// There is no room.
    Refused(Full),
}

/// What a store has of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// Nothing, or nothing any more: it may have been moved elsewhere.
    Nothing,
    /// Its blob waits under this id, and ends then.
    Waits(BlobId, Millis),
    /// It was acknowledged or purged not long ago.
    Done,
}

/// A blob that lies elsewhere too, and is to be deleted here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moving {
    /// Its mailbox.
    pub mailbox: MailboxKey,
    /// What it is here.
    pub id: BlobId,
    /// What it is there.
    pub there: BlobId,
}

/// What became of a blob that was to be deleted because it lies elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// It is deleted, and it is remembered where it lies.
    Moved,
    /// There is nothing to do: that had been done before, or it has expired.
    Before,
    /// It is done with here.
    Gone,
}

/// Where a blob lies that was here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere {
    /// Its mailbox.
    pub mailbox: MailboxKey,
    /// Under which id it lies there.
    pub id: BlobId,
    /// When it ends.
    pub until: Millis,
    /// Whether it is done with, and whoever has it is not known to have heard.
    pub owed: bool,
    /// What was given as the place.
    pub place: Bytes,
}

impl Elsewhere {
    /// Where a walk goes on after it.
    #[must_use]
    pub fn cursor(&self) -> (MailboxKey, MessageKey) {
        (self.mailbox, self.id.message())
    }
}

/// What became of a blob that was to be taken in, for whoever may try again. No sweep passes it before this is dropped.
pub(super) struct TakeIn {
    pub(super) taken: Taken,
    /// Whether the mailbox may hold something that has expired.
    pub(super) stale: bool,
    pub(super) taking: Taking,
}

/// Stores a blob where it stood.
pub(super) fn take_in(
    stage: &mut Stage<'_>,
    blob: &Ready,
    standing: Standing,
    quota: &Quota,
    at: Moment,
    taking: Taking,
) -> Result<Verdict<TakeIn>, StoreError> {
    let (verdict, stale) = match message(stage, blob.mailbox, blob.message)? {
        Some(Message::Live(live)) if !live.is_past(&at) => {
            let (id, end, wanted) = (live.place.id, live.end(&at), standing.end(&at));
            // It is written anew, and so needs the room of a new one.
            let end = if end < wanted && blob.room { extend(stage, blob.mailbox, live, wanted, &at)? } else { end };
            let taken = if end < wanted { Taken::Sooner(id, end) } else { Taken::Duplicate(id) };
            (Verdict::Keep(taken), false)
        }
        Some(Message::Done(until)) if at.now < until => (Verdict::Discard(Taken::Done), false),
        Some(Message::Moved(moved)) if moved.owed && at.now < moved.until => (Verdict::Discard(Taken::Done), false),
        old => {
            if let Some(old) = old {
                erase(stage, blob.mailbox, blob.message, &old)?;
            }
            match insert(stage, blob, standing, quota, at)? {
                Ok(()) => (Verdict::Keep(Taken::Stored), false),
                Err(NoRoom { full, stale }) => (Verdict::Discard(Taken::Refused(full)), stale),
            }
        }
    };
    let take_in = |taken| TakeIn { taken, stale, taking };
    Ok(match verdict {
        Verdict::Keep(taken) => Verdict::Keep(take_in(taken)),
        Verdict::Discard(taken) => Verdict::Discard(take_in(taken)),
    })
}

/// Has a blob end when it is to, or when its age says, if that is before, unless it gains no more than a [moment] by it;
/// answers when it ends.
fn extend(
    stage: &mut Stage<'_>,
    mailbox: MailboxKey,
    mut live: Live,
    wanted: Millis,
    at: &Moment,
) -> Result<Millis, StoreError> {
    let (place, before, end) = (live.place, live.ends, live.end(at));
    live.ends = Some(wanted).filter(|wanted| *wanted < at.end_of(place.id.time()));
    if live.end(at).since(end) <= moment(at.lifetime()) {
        return Ok(end);
    }
    let key = blob_key(mailbox, place);
    // Of one that came just now it is not found, and that is not worth waiting for.
    let Some(value) = stage.written(Family::Blobs, &key)? else { return Ok(end) };
    let (end, (header, body)) = (live.end(at), decode_blob(value)?);
    stage.put_shared(Family::Blobs, &key, &encode_blob(live.ends, &header, &body));
    if let Some(before) = before {
        stage.delete(Family::Ends, &end_key(before, mailbox, place));
    }
    if let Some(ends) = live.ends {
        stage.put(Family::Ends, &end_key(ends, mailbox, place), &[]);
    }
    let key = message_key(mailbox, place.id.message());
    stage.put(Family::Messages, &key, &encode_message(&Message::Live(live)));
    Ok(end)
}

/// Deletes blobs that lie elsewhere, and remembers where.
pub(super) fn moved(
    stage: &mut Stage<'_>,
    moving: &[Moving],
    place: &Bytes,
    at: Moment,
) -> Result<Verdict<Vec<Left>>, StoreError> {
    let mut left = Vec::with_capacity(moving.len());
    for Moving { mailbox, id, there } in moving {
        left.push(match message(stage, *mailbox, id.message())? {
            Some(Message::Live(live)) if live.place.id == *id && !live.is_past(&at) => {
                let until = live.ends.unwrap_or_else(|| at.end_of(id.time()));
                let moved = Moved { until, id: *there, owed: false, place: place.clone() };
                remove(stage, *mailbox, &live, Fate::Moved(moved))?;
                Left::Moved
            }
            Some(Message::Done(until)) if at.now < until => Left::Gone,
            Some(Message::Moved(moved)) if moved.owed => Left::Gone,
            _ => Left::Before,
        });
    }
    Ok(Verdict::Keep(left))
}

/// Messages whose blobs were moved are done with; answers for how many that is new.
pub(super) fn settle_all(
    stage: &mut Stage<'_>,
    messages: &[(MailboxKey, MessageKey)],
    at: Moment,
    remember: Duration,
) -> Result<Verdict<usize>, StoreError> {
    let mut settled = 0;
    for (mailbox, key) in messages {
        if let Some(Message::Moved(moved)) = message(stage, *mailbox, *key)? {
            settle(stage, *mailbox, *key, moved, (at.now.plus(remember), at.now))?;
            settled += 1;
        }
    }
    Ok(Verdict::Keep(settled))
}

/// The oldest blobs after one, of those that were moved at most `hops` times. None has a stamp below `swept`.
pub(super) fn oldest(
    database: &dyn Scan,
    (after, swept): (Option<AgeCursor>, u64),
    hops: u8,
    limit: PageLimit,
    at: Moment,
) -> Result<Oldest, StoreError> {
    let start = match after {
        Some(AgeCursor(id, mailbox)) => [&age_key(id, mailbox)[..], &[0]].concat(),
        None => age_start(swept),
    };
    let (mut passed, mut looked) = (Vec::new(), 0);
    database.scan(Family::Ages, &start, None, &mut |key, value| {
        passed.push(decode_age(key, value)?);
        looked += 1;
        Ok(looked < LOOK)
    })?;
    let is_last = passed.len() < LOOK;
    let (mut found, mut bytes) = (Oldest::default(), 0);
    let most = (limit.blobs.clamp(1, MAX_PAGE_BLOBS), limit.bytes.min(MAX_PAGE_BLOB_BYTES));
    for (mailbox, place) in &passed {
        if found.blobs.len() >= most.0 || (bytes >= most.1 && !found.blobs.is_empty()) {
            return Ok(found);
        }
        if let Some(blob) = carried(database, *mailbox, *place, at)?.filter(|blob| blob.hops <= hops) {
            bytes += blob.header.len() + blob.body.len();
            found.blobs.push(blob);
        }
        found.next = Some(AgeCursor(place.id, *mailbox));
    }
    if is_last {
        found.next = None;
    }
    Ok(found)
}

/// The blob at a place, whole.
pub(super) fn carried(
    database: &dyn Lookup,
    mailbox: MailboxKey,
    place: Place,
    at: Moment,
) -> Result<Option<Carried>, StoreError> {
    let known = database.get(Family::Messages, &message_key(mailbox, place.id.message()))?;
    let Some(Message::Live(live)) = known.map(|value| decode_message(&value)).transpose()? else { return Ok(None) };
    if live.place != place || live.is_past(&at) {
        return Ok(None);
    }
    let Some(value) = database.get(Family::Blobs, &blob_key(mailbox, place))? else { return Ok(None) };
    let (header, body) = decode_blob(value)?;
    let (from, delivered, hops, ends, receipt) = (live.from, live.delivered, live.hops, live.ends, live.receipt);
    Ok(Some(Carried { mailbox, place, from, delivered, hops, ends, header, receipt, body }))
}

/// What there is of each message.
pub(super) fn held(
    database: &dyn Lookup,
    messages: &[(MailboxKey, MessageKey)],
    at: Moment,
) -> Result<Vec<Held>, StoreError> {
    let held = |(mailbox, message): &(MailboxKey, MessageKey)| {
        let stored = database.get(Family::Messages, &message_key(*mailbox, *message))?;
        Ok(match stored.map(|value| decode_message(&value)).transpose()? {
            Some(Message::Live(live)) if !live.is_past(&at) => Held::Waits(live.place.id, live.end(&at)),
            Some(Message::Done(until)) if at.now < until => Held::Done,
            Some(Message::Moved(moved)) if moved.owed && at.now < moved.until => Held::Done,
            Some(_) | None => Held::Nothing,
        })
    };
    messages.iter().map(held).collect()
}

/// What lies elsewhere, of one mailbox or of all, after a message.
pub(super) fn elsewhere(
    database: &dyn Scan,
    of: Option<MailboxKey>,
    after: Option<(MailboxKey, MessageKey)>,
    limit: usize,
    at: Moment,
) -> Result<Vec<Elsewhere>, StoreError> {
    let mut start = match (after, of) {
        (Some((mailbox, message)), _) => [&message_key(mailbox, message)[..], &[0]].concat(),
        (None, Some(mailbox)) => mailbox.0.to_vec(),
        (None, None) => Vec::new(),
    };
    let below = of.and_then(|mailbox| prefix_end(&mailbox.0));
    loop {
        let mut keys = Vec::new();
        database.scan(Family::Moved, &start, below.as_deref(), &mut |key, _| {
            keys.push(decode_moved_key(key)?);
            Ok(keys.len() < limit)
        })?;
        let mut found = Vec::with_capacity(keys.len());
        for (mailbox, message) in &keys {
            let stored = database.get(Family::Messages, &message_key(*mailbox, *message))?;
            if let Some(Message::Moved(moved)) = stored.map(|value| decode_message(&value)).transpose()?
                && at.now < moved.until
            {
                let Moved { until, id, owed, place } = moved;
                found.push(Elsewhere { mailbox: *mailbox, id, until, owed, place });
            }
        }
        match keys.last().filter(|_| keys.len() == limit && found.is_empty()) {
            Some((mailbox, message)) => start = [&message_key(*mailbox, *message)[..], &[0]].concat(),
            None => return Ok(found),
        }
    }
}

/// At most `limit` blobs that have ended before their age says.
pub(super) fn ended(
    database: &dyn Scan,
    limit: usize,
    at: Moment,
) -> Result<Vec<(Millis, MailboxKey, Place)>, StoreError> {
    let mut ended = Vec::new();
    database.scan(Family::Ends, &[], None, &mut |key, _| {
        let (ends, mailbox, place) = decode_end_key(key)?;
        let more = ended.len() < limit && ends <= at.now;
        if more {
            ended.push((ends, mailbox, place));
        }
        Ok(more)
    })?;
    Ok(ended)
}

/// Notes that what was moved out of a mailbox is purged: whoever has it must hear that it is done with.
pub(super) fn purge_moved(
    stage: &mut Stage<'_>,
    mailbox: MailboxKey,
    messages: &[MessageKey],
    at: Moment,
) -> Result<Verdict<()>, StoreError> {
    for key in messages {
        if let Some(Message::Moved(moved)) = message(stage, mailbox, *key)?
            && at.now < moved.until
        {
            let owed = Message::Moved(Moved { owed: true, ..moved });
            stage.put(Family::Messages, &message_key(mailbox, *key), &encode_message(&owed));
        }
    }
    Ok(Verdict::Keep(()))
}
