//! What a put, an acknowledgment and a deletion change. Each keeps all entries of a blob, and the counts, together:
//! they are written only in [`insert`] and [`remove`], but for an end that is [put off](super::moves::take_in).

use bytes::Bytes;

use super::counts::{Counts, set_oldest, set_totals, totals};
use super::entries::{Live, Message, Moved, decode_message, encode_message, end_of};
use super::layout::{age_key, blob_key, done_key, encode_age, end_key, message_key, unreadable};
use super::{Acked, Moment, Put};
use crate::domain::clock::Millis;
use crate::domain::mailbox::{BlobId, Full, MailboxKey, MessageKey, Place, Quota, SenderKey, charge};
use crate::store::StoreError;
use crate::store::backend::Verdict;
use crate::store::stage::{Family, Stage};

/// A blob as it is handed to the committing thread: the largest part of the work is done.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) mailbox: MailboxKey,
    pub(super) message: MessageKey,
    pub(super) rank: u64,
    pub(super) from: SenderKey,
    pub(super) receipt: Bytes,
    /// Header and body as they are stored.
    pub(super) value: Bytes,
    pub(super) body_bytes: usize,
    /// Whether the disk has room for it above its reserve.
    pub(super) room: bool,
}

/// What became of a put, for whoever may try again.
pub(super) struct Attempt {
    pub(super) put: Put,
    /// Whether the mailbox may hold something that has expired.
    pub(super) stale: bool,
}

/// Stores a blob.
pub(super) fn put(
    stage: &mut Stage<'_>,
    blob: &Ready,
    quota: &Quota,
    at: Moment,
) -> Result<Verdict<Attempt>, StoreError> {
    let answer = |put| Ok(Verdict::Discard(Attempt { put, stale: false }));
    match message(stage, blob.mailbox, blob.message)? {
        Some(Message::Live(live)) if !live.is_past(&at) => return answer(Put::Duplicate(live.place.id)),
        Some(Message::Moved(moved)) if at.now < moved.until => return answer(Put::Duplicate(moved.id)),
        Some(Message::Done(until)) if at.now < until => return answer(Put::Done),
        Some(old) => erase(stage, blob.mailbox, blob.message, &old)?,
        None => {}
    }
    let past_the_end = || StoreError::Write { detail: "the clock is past the year 10889".to_owned() };
    let stamp = totals(stage)?.last.next(at.now).ok_or_else(past_the_end)?;
    let id = BlobId::new(stamp, blob.message);
    let place = Place { rank: blob.rank, id };
    match insert(stage, blob, Standing { place, delivered: false, hops: 0, ends: None }, quota, at)? {
        Ok(()) => Ok(Verdict::Keep(Attempt { put: Put::Stored(id), stale: false })),
        Err(NoRoom { full, stale }) => Ok(Verdict::Discard(Attempt { put: Put::Refused(full), stale })),
    }
}

/// Where a blob is to stand, and what else it brings.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    pub(super) place: Place,
    pub(super) delivered: bool,
    pub(super) hops: u8,
    pub(super) ends: Option<Millis>,
}

impl Standing {
    /// When it is to end.
    pub(super) fn end(&self, at: &Moment) -> Millis {
        end_of(self.place, self.ends, at)
    }
}

/// Why a blob is not stored.
pub(super) struct NoRoom {
    pub(super) full: Full,
    /// Whether the mailbox may hold something that has expired.
    pub(super) stale: bool,
}

/// Writes a blob, of a message that is not known, if there is room.
pub(super) fn insert(
    stage: &mut Stage<'_>,
    blob: &Ready,
    standing: Standing,
    quota: &Quota,
    at: Moment,
) -> Result<Result<(), NoRoom>, StoreError> {
    if !blob.room {
        return Ok(Err(NoRoom { full: Full::Disk, stale: false }));
    }
    let Standing { place, delivered, hops, ends } = standing;
    let (mut totals, counts) = (totals(stage)?, Counts::of(stage, blob.mailbox, blob.from)?);
    let charge = charge(blob.body_bytes);
    totals.held = totals.held.plus(charge);
    if let Some(full) = quota.broken_by(counts.held().plus(charge), counts.share().plus(charge), totals.held) {
        let stale = matches!(full, Full::Mailbox | Full::Sender) && at.is_past(counts.since());
        return Ok(Err(NoRoom { full, stale }));
    }
    // What is put later stands behind it.
    totals.last = totals.last.max(place.id.stamp());
    let live = Live { place, charge, from: blob.from, delivered, hops, ends, receipt: blob.receipt.clone() };
    stage.put_shared(Family::Blobs, &blob_key(blob.mailbox, place), &blob.value);
    stage.put(Family::Messages, &message_key(blob.mailbox, blob.message), &encode_message(&Message::Live(live)));
    stage.put(Family::Ages, &age_key(place.id, blob.mailbox), &encode_age(blob.rank));
    if let Some(ends) = ends {
        stage.put(Family::Ends, &end_key(ends, blob.mailbox, place), &[]);
    }
    counts.add(stage, charge, place.id.time());
    set_totals(stage, &totals);
    Ok(Ok(()))
}

/// Deletes the blobs of messages, and remembers those that had one up to but not including `until`.
pub(super) fn ack(
    stage: &mut Stage<'_>,
    mailbox: MailboxKey,
    messages: &[MessageKey],
    at: Moment,
    until: Millis,
) -> Result<Verdict<Vec<Option<Acked>>>, StoreError> {
    let mut acked = Vec::with_capacity(messages.len());
    for message in messages {
        acked.push(match self::message(stage, mailbox, *message)? {
            Some(Message::Live(live)) if !live.is_past(&at) => {
                remove(stage, mailbox, &live, Fate::Done { until, now: at.now })?;
                Some(Acked::Blob { place: live.place, receipt: live.receipt })
            }
            Some(Message::Moved(moved)) if at.now < moved.until && !moved.owed => {
                let place = moved.place.clone();
                let owed = Message::Moved(Moved { owed: true, ..moved });
                stage.put(Family::Messages, &message_key(mailbox, *message), &encode_message(&owed));
                Some(Acked::Moved { place })
            }
            _ => None,
        });
    }
    Ok(Verdict::Keep(acked))
}

/// Notes that messages have reached the recipient; answers the receipts of those for which that is new.
pub(super) fn mark_delivered(
    stage: &mut Stage<'_>,
    mailbox: MailboxKey,
    messages: &[MessageKey],
    at: Moment,
) -> Result<Verdict<Vec<Option<Bytes>>>, StoreError> {
    let mut receipts = Vec::with_capacity(messages.len());
    for message in messages {
        let new = live(stage, mailbox, *message)?.filter(|live| !live.delivered && !live.is_past(&at));
        receipts.push(new.as_ref().map(|live| live.receipt.clone()));
        if let Some(mut live) = new {
            live.delivered = true;
            stage.put(Family::Messages, &message_key(mailbox, *message), &encode_message(&Message::Live(live)));
        }
    }
    Ok(Verdict::Keep(receipts))
}

/// Deletes what is left of a list of blobs of one mailbox; answers how many of them had not expired. These are
/// remembered up to but not including `until`.
pub(super) fn purge(
    stage: &mut Stage<'_>,
    mailbox: MailboxKey,
    places: &[Place],
    at: Moment,
    until: Millis,
) -> Result<Verdict<u64>, StoreError> {
    let mut purged = 0;
    for place in places {
        // It may have been acknowledged, and stored again, since the list was made.
        let still = live(stage, mailbox, place.id.message())?.filter(|live| live.place == *place);
        let Some(live) = still else { continue };
        if live.is_past(&at) {
            remove(stage, mailbox, &live, Fate::Forgotten)?;
        } else {
            remove(stage, mailbox, &live, Fate::Done { until, now: at.now })?;
            purged += 1;
        }
    }
    Ok(Verdict::Keep(purged))
}

/// Deletes what is left of a list of blobs that have expired; answers how many.
pub(super) fn expire(stage: &mut Stage<'_>, expired: &[(MailboxKey, Place)]) -> Result<Verdict<usize>, StoreError> {
    let mut deleted = 0;
    for (mailbox, place) in expired {
        match live(stage, *mailbox, place.id.message())? {
            Some(live) if live.place == *place => {
                remove(stage, *mailbox, &live, Fate::Forgotten)?;
                deleted += 1;
            }
            // Deleted since the list was made.
            _ => stage.delete(Family::Ages, &age_key(place.id, *mailbox)),
        }
    }
    Ok(Verdict::Keep(deleted))
}

/// Deletes what is left of a list of blobs that have ended; answers how many.
pub(super) fn expire_ended(
    stage: &mut Stage<'_>,
    ended: &[(Millis, MailboxKey, Place)],
) -> Result<Verdict<usize>, StoreError> {
    let mut deleted = 0;
    for (ends, mailbox, place) in ended {
        match live(stage, *mailbox, place.id.message())? {
            Some(live) if live.place == *place => {
                remove(stage, *mailbox, &live, Fate::Forgotten)?;
                deleted += 1;
            }
            _ => stage.delete(Family::Ends, &end_key(*ends, *mailbox, *place)),
        }
    }
    Ok(Verdict::Keep(deleted))
}

/// Notes that nothing in a mailbox was stored before `since`.
pub(super) fn note_oldest(
    stage: &mut Stage<'_>,
    mailbox: MailboxKey,
    since: Millis,
) -> Result<Verdict<()>, StoreError> {
    set_oldest(stage, mailbox, since)?;
    Ok(Verdict::Keep(()))
}

/// Forgets what is left of a list of messages that were remembered as done or moved; answers how many.
pub(super) fn forget_all(
    stage: &mut Stage<'_>,
    over: &[(Millis, MailboxKey, MessageKey)],
) -> Result<Verdict<usize>, StoreError> {
    let mut forgotten = 0;
    for (until, mailbox, key) in over {
        match message(stage, *mailbox, *key)? {
            Some(old @ (Message::Done(_) | Message::Moved(_))) if old.remembered_until() == Some(*until) => {
                erase(stage, *mailbox, *key, &old)?;
                forgotten += 1;
            }
            _ => stage.delete(Family::Done, &done_key(*until, *mailbox, *key)),
        }
    }
    Ok(Verdict::Keep(forgotten))
}

/// What becomes of a message whose blob is deleted.
#[derive(Clone)]
pub(super) enum Fate {
    /// It can be stored again.
    Forgotten,
    /// It is remembered as done up to but not including `until`.
    Done { until: Millis, now: Millis },
    /// Its blob lies elsewhere from now on.
    Moved(Moved),
}

/// Deletes all that is known of a message.
pub(super) fn erase(
    stage: &mut Stage<'_>,
    mailbox: MailboxKey,
    key: MessageKey,
    old: &Message,
) -> Result<(), StoreError> {
    match old {
        Message::Live(live) => remove(stage, mailbox, live, Fate::Forgotten),
        Message::Done(until) => forget(stage, *until, mailbox, key),
        Message::Moved(moved) => {
            stage.delete(Family::Moved, &message_key(mailbox, key));
            forget(stage, moved.until, mailbox, key)
        }
    }
}

/// Deletes a blob.
pub(super) fn remove(stage: &mut Stage<'_>, mailbox: MailboxKey, live: &Live, fate: Fate) -> Result<(), StoreError> {
    let (place, key) = (live.place, live.place.id.message());
    stage.delete(Family::Blobs, &blob_key(mailbox, place));
    stage.delete(Family::Ages, &age_key(place.id, mailbox));
    if let Some(ends) = live.ends {
        stage.delete(Family::Ends, &end_key(ends, mailbox, place));
    }
    let mut totals = totals(stage)?;
    totals.held = totals.held.minus(live.charge).ok_or_else(|| unreadable("the count of all mailboxes"))?;
    let left = match fate {
        Fate::Done { until, now } => Some(Message::Done(until)).filter(|_| now < until),
        Fate::Moved(moved) => Some(Message::Moved(moved)),
        Fate::Forgotten => None,
    };
    match left {
        Some(left) => {
            note(stage, mailbox, key, &left);
            totals.done += 1;
        }
        None => stage.delete(Family::Messages, &message_key(mailbox, key)),
    }
    set_totals(stage, &totals);
    Counts::of(stage, mailbox, live.from)?.take(stage, live.charge)
}

/// Writes what is remembered of a message, without the count.
fn note(stage: &mut Stage<'_>, mailbox: MailboxKey, key: MessageKey, message: &Message) {
    stage.put(Family::Messages, &message_key(mailbox, key), &encode_message(message));
    if let Some(until) = message.remembered_until() {
        stage.put(Family::Done, &done_key(until, mailbox, key), &[]);
    }
    if matches!(message, Message::Moved(_)) {
        stage.put(Family::Moved, &message_key(mailbox, key), &[]);
    }
}

/// A message whose blob was moved is done with: remembered up to but not including `until`.
pub(super) fn settle(
    stage: &mut Stage<'_>,
    mailbox: MailboxKey,
    key: MessageKey,
    moved: Moved,
    (until, now): (Millis, Millis),
) -> Result<(), StoreError> {
    erase(stage, mailbox, key, &Message::Moved(moved))?;
    if now < until {
        note(stage, mailbox, key, &Message::Done(until));
        let mut totals = totals(stage)?;
        totals.done += 1;
        set_totals(stage, &totals);
    }
    Ok(())
}

fn forget(stage: &mut Stage<'_>, until: Millis, mailbox: MailboxKey, key: MessageKey) -> Result<(), StoreError> {
    stage.delete(Family::Messages, &message_key(mailbox, key));
    stage.delete(Family::Done, &done_key(until, mailbox, key));
    let mut totals = totals(stage)?;
    totals.done = totals.done.checked_sub(1).ok_or_else(|| unreadable("the count of what is done"))?;
    set_totals(stage, &totals);
    Ok(())
}

pub(super) fn message(stage: &Stage<'_>, mailbox: MailboxKey, key: MessageKey) -> Result<Option<Message>, StoreError> {
    stage.get(Family::Messages, &message_key(mailbox, key))?.map(|value| decode_message(&value)).transpose()
}

fn live(stage: &Stage<'_>, mailbox: MailboxKey, key: MessageKey) -> Result<Option<Live>, StoreError> {
    Ok(match message(stage, mailbox, key)? {
        Some(Message::Live(live)) => Some(live),
        Some(Message::Done(_) | Message::Moved(_)) | None => None,
    })
}
