//! Reads of what was committed: pages, counts, and the lists that purges and sweeps work off.

use bytes::Bytes;

use super::entries::{Message, decode_message};
use super::layout::{
    TOTALS, age_start, blob_key, decode_age, decode_blob, decode_blob_key, decode_done_key, decode_message_key,
    decode_tally, decode_totals, end_of, message_key, share_key,
};
use super::{Known, MAX_PAGE_BLOB_BYTES, MAX_PAGE_BLOBS, Moment, Page, PageLimit, StoredBlob, Tallies, TallyCursor};
use crate::domain::clock::Millis;
use crate::domain::mailbox::{BlobId, Holdings, MailboxKey, MessageKey, Place};
use crate::store::StoreError;
use crate::store::stage::{Family, Lookup, Scan, prefix_end};

/// One page of a mailbox: see [`Mailboxes::page`](super::Mailboxes::page).
pub(super) fn page(
    database: &dyn Scan,
    mailbox: MailboxKey,
    after: Option<Place>,
    limit: PageLimit,
    at: Moment,
) -> Result<Page, StoreError> {
    let (most_blobs, most_bytes) = (limit.blobs.clamp(1, MAX_PAGE_BLOBS), limit.bytes.min(MAX_PAGE_BLOB_BYTES));
    let below = prefix_end(&mailbox.0);
    let mut from = match after {
        // The least key greater than another is that one and a zero byte.
        Some(after) => [&blob_key(mailbox, after)[..], &[0]].concat(),
        None => mailbox.0.to_vec(),
    };
    let (mut page, mut bytes) = (Page::default(), 0);
    loop {
        let mut expired = None;
        database.scan(Family::Blobs, &from, below.as_deref(), &mut |key, value| {
            let place = decode_blob_key(key)?;
            if at.is_past(place.id.time()) {
                expired = Some(place);
                return Ok(false);
            }
            if has_ended(value, at)? {
                return Ok(true);
            }
            if page.blobs.len() >= most_blobs || (bytes >= most_bytes && !page.blobs.is_empty()) {
                page.more = true;
                return Ok(false);
            }
            let (header, body) = decode_blob(Bytes::copy_from_slice(value))?;
            bytes += header.len() + body.len();
            page.blobs.push(StoredBlob { place, header, body });
            Ok(true)
        })?;
        // Within a rank the expired come first, so one step leads past them.
        from = match expired {
            None => return Ok(page),
            Some(place) => match BlobId::first_after(at.horizon) {
                Some(id) => blob_key(mailbox, Place { id, ..place }).to_vec(),
                None => return Ok(page),
            },
        };
    }
}

/// The blob at a place.
pub(super) fn get(
    database: &dyn Scan,
    mailbox: MailboxKey,
    place: Place,
    at: Moment,
) -> Result<Option<StoredBlob>, StoreError> {
    if at.is_past(place.id.time()) {
        return Ok(None);
    }
    let Some(value) = database.get(Family::Blobs, &blob_key(mailbox, place))? else { return Ok(None) };
    if has_ended(&value, at)? {
        return Ok(None);
    }
    let (header, body) = decode_blob(value)?;
    Ok(Some(StoredBlob { place, header, body }))
}

/// Whether a blob has ended before its age says.
fn has_ended(value: &[u8], at: Moment) -> Result<bool, StoreError> {
    Ok(end_of(value)?.is_some_and(|ends| ends <= at.now))
}

/// What is known of each message.
pub(super) fn known(
    database: &dyn Lookup,
    mailbox: MailboxKey,
    messages: &[MessageKey],
    at: Moment,
) -> Result<Vec<Known>, StoreError> {
    let known = |message: &MessageKey| {
        let stored = database.get(Family::Messages, &message_key(mailbox, *message))?;
        Ok(match stored.map(|value| decode_message(&value)).transpose()? {
            Some(Message::Live(live)) if !live.is_past(&at) => Known::Live(live.place),
            Some(Message::Done(until)) if at.now < until => Known::Done,
            Some(Message::Moved(moved)) if at.now < moved.until => {
                if moved.owed {
                    Known::Done
                } else {
                    Known::Moved
                }
            }
            Some(_) | None => Known::Absent,
        })
    };
    messages.iter().map(known).collect()
}

/// How much is stored in a mailbox.
pub(super) fn holdings(database: &dyn Lookup, mailbox: MailboxKey) -> Result<Holdings, StoreError> {
    let stored = database.get(Family::Usage, &mailbox.0)?;
    Ok(stored.map(|value| decode_tally(&value)).transpose()?.unwrap_or_default().held)
}

/// How much is stored in all, and how many messages are remembered as done.
pub(super) fn totals(database: &dyn Lookup) -> Result<(Holdings, u64), StoreError> {
    let stored = database.get(Family::Usage, TOTALS)?;
    let totals = stored.map(|value| decode_totals(&value)).transpose()?.unwrap_or_default();
    Ok((totals.held, totals.done))
}

/// A part of the counts of all mailboxes, after looking at `look` counts.
pub(super) fn tallies(database: &dyn Scan, from: Option<TallyCursor>, look: usize) -> Result<Tallies, StoreError> {
    let start = from.map(|cursor| cursor.0).unwrap_or_default();
    let (mut part, mut looked) = (Tallies::default(), 0);
    database.scan(Family::Usage, &start, None, &mut |key, value| {
        if looked == look {
            part.next = Some(TallyCursor(Bytes::copy_from_slice(key)));
            return Ok(false);
        }
        looked += 1;
        if let Ok(mailbox) = key.try_into() {
            part.mailboxes.push((MailboxKey(mailbox), decode_tally(value)?.held));
        }
        Ok(true)
    })?;
    Ok(part)
}

/// A part of a mailbox, in the order of its messages' keys.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// What was stored at or before the moment asked for.
    pub(super) places: Vec<Place>,
    /// The messages whose blobs were stored then, and were moved elsewhere.
    pub(super) moved: Vec<MessageKey>,
    /// The time of the oldest of the others.
    pub(super) oldest_other: Option<Millis>,
    /// Where the next part begins; `None` after the last.
    pub(super) next: Option<MessageKey>,
}

/// A part of a mailbox that starts at the message `from`, ends after looking at `look` messages, and lists what
/// was stored at or before `until`. Reads no bodies.
pub(super) fn stored_until(
    database: &dyn Scan,
    mailbox: MailboxKey,
    from: Option<MessageKey>,
    until: Millis,
    look: usize,
) -> Result<Part, StoreError> {
    let start = from.map_or_else(|| mailbox.0.to_vec(), |from| message_key(mailbox, from).to_vec());
    let (mut part, mut looked) = (Part::default(), 0);
    database.scan(Family::Messages, &start, prefix_end(&mailbox.0).as_deref(), &mut |key, value| {
        if looked == look {
            part.next = Some(decode_message_key(key)?);
            return Ok(false);
        }
        looked += 1;
        match decode_message(value)? {
            Message::Live(live) if live.place.id.time() <= until => part.places.push(live.place),
            Message::Live(live) => {
                let time = live.place.id.time();
                part.oldest_other = Some(part.oldest_other.map_or(time, |oldest| oldest.min(time)));
            }
            Message::Moved(moved) if moved.id.time() <= until => part.moved.push(moved.id.message()),
            Message::Moved(_) | Message::Done(_) => {}
        }
        Ok(true)
    })?;
    Ok(part)
}

/// The places of at most `limit` expired blobs, the oldest first, given that none has a stamp below `swept`.
pub(super) fn expired(
    database: &dyn Scan,
    swept: u64,
    limit: usize,
    at: Moment,
) -> Result<Vec<(MailboxKey, Place)>, StoreError> {
    let mut expired = Vec::new();
    database.scan(Family::Ages, &age_start(swept), None, &mut |key, value| {
        let (mailbox, place) = decode_age(key, value)?;
        let more = expired.len() < limit && at.is_past(place.id.time());
        if more {
            expired.push((mailbox, place));
        }
        Ok(more)
    })?;
    // The change that deletes them reads what is read here. Nobody waits for it to come from the disk here, and
    // everybody would there.
    for (mailbox, place) in &expired {
        let stored = database.get(Family::Messages, &message_key(*mailbox, place.id.message()))?;
        if let Some(Message::Live(live)) = stored.map(|value| decode_message(&value)).transpose()? {
            database.get(Family::Usage, &mailbox.0)?;
            database.get(Family::Usage, &share_key(*mailbox, live.from))?;
        }
    }
    Ok(expired)
}

/// At most `limit` of the messages that need no longer be remembered at `now`, the one to be forgotten first at
/// the front. Beyond `most` they need not either.
pub(super) fn forgettable(
    database: &dyn Scan,
    now: Millis,
    limit: usize,
    most: u64,
) -> Result<Vec<(Millis, MailboxKey, MessageKey)>, StoreError> {
    let excess = totals(database)?.1.saturating_sub(most);
    let mut over = Vec::new();
    database.scan(Family::Done, &[], None, &mut |key, _| {
        let (until, mailbox, message) = decode_done_key(key)?;
        let more = over.len() < limit && (until <= now || (over.len() as u64) < excess);
        if more {
            over.push((until, mailbox, message));
        }
        Ok(more)
    })?;
    Ok(over)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::mailbox::{Quota, SenderKey};
    use crate::store::backend::Backend;
    use crate::store::{Mailboxes, MemoryMailboxes, NewBlob, Put};

    const QUOTA: Quota =
        Quota { blobs: None, bytes: None, sender_blobs: None, sender_bytes: None, total_bytes: u64::MAX };

    #[tokio::test]
    async fn a_walk_in_small_parts_meets_every_mailbox_once_and_no_share_of_one() {
        let store = MemoryMailboxes::new();
        let at = Moment { now: Millis(1), horizon: Millis(0) };
        let mut expected = Vec::new();
        for n in 0..5u8 {
            let mailbox = MailboxKey::blobs(&n.to_string());
            for sender in 0..=n {
                let message = MessageKey::of(&sender.to_string(), &n.to_string(), "1");
                let (empty, from) = (Bytes::new(), SenderKey([sender; 16]));
                let (header, receipt, body) = (empty.clone(), empty.clone(), empty);
                let blob = NewBlob { mailbox, message, rank: 0, from, header, receipt, body };
                assert!(matches!(store.put(blob, QUOTA, at).await, Ok(Put::Stored(_))));
            }
            expected.push((mailbox, Holdings { blobs: u64::from(n) + 1, bytes: (u64::from(n) + 1) * 512 }));
        }
        expected.sort_by_key(|(mailbox, _)| *mailbox);
        for look in [1, 2, 100] {
            let (mut met, mut from) = (Vec::new(), None);
            loop {
                let part = store.read(move |database| tallies(database, from, look)).await.unwrap();
                met.extend(part.mailboxes);
                from = part.next;
                if from.is_none() {
                    break;
                }
            }
            assert_eq!(met, expected, "in parts of {look}");
        }
    }

    #[tokio::test]
    async fn more_than_can_be_remembered_is_forgotten_before_its_time() {
        let (store, mailbox) = (MemoryMailboxes::new(), MailboxKey::blobs("m"));
        let message = |id: u64| MessageKey::of("sender", "m", &id.to_string());
        for id in 1..=5 {
            let at = Moment { now: Millis(id), horizon: Millis(0) };
            let (empty, from) = (Bytes::new(), SenderKey([0; 16]));
            let (header, receipt, body) = (empty.clone(), empty.clone(), empty);
            let blob = NewBlob { mailbox, message: message(id), rank: 0, from, header, receipt, body };
            assert!(matches!(store.put(blob, QUOTA, at).await, Ok(Put::Stored(_))));
            store.ack(mailbox, vec![message(id)], at, Duration::from_secs(1)).await.unwrap();
        }
        let over = |most, limit| store.read(move |database| forgettable(database, Millis(5), limit, most));
        assert_eq!(over(5, 10).await.unwrap(), []);
        let first = (1..=2).map(|id| (Millis(1_000 + id), mailbox, message(id))).collect::<Vec<_>>();
        assert_eq!(over(3, 10).await.unwrap(), first);
        assert_eq!(over(0, 2).await.unwrap(), first);
    }
}
