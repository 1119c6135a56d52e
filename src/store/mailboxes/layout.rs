//! Keys and values of the mailboxes as bytes. Numbers are big-endian, so that keys are in the order of what they
//! say.
//!
//! | family | key | value |
//! |---|---|---|
//! | blobs | mailbox 32, rank 8, id 16 | length of the header 2, with its highest bit: end 8; header, body |
//! | messages | mailbox 32, message 8 | `L`, rank 8, id 16, charge 8, sender 16, delivered 1, receipt |
//! | | | or `T`, the same with hops 1, end 8 or 0 before the receipt |
//! | | | or `D`, until 8 |
//! | | | or `M`, until 8, id there 16, owed 1, where |
//! | ages | id 16, mailbox 32 | rank 8 |
//! | done | until 8, mailbox 32, message 8 | nothing |
//! | ends | end 8, mailbox 32, rank 8, id 16 | nothing |
//! | moved | mailbox 32, message 8 | nothing |
//! | usage | `totals` | blobs 8, bytes 8, last stamp 8, done 8 |
//! | usage | mailbox 32 | blobs 8, bytes 8, moment 8 before which nothing in it was stored; |
//! | | | of one of its senders: which 16, blobs 8, bytes 8 |
//! | usage | mailbox 32, sender 16 | of any other of its senders: blobs 8, bytes 8 |

use bytes::{Buf, BufMut, Bytes, BytesMut, TryGetError};
use smallvec::SmallVec;

use crate::domain::clock::Millis;
use crate::domain::mailbox::{BlobId, Holdings, MailboxKey, MessageKey, Place, SenderKey, Stamp};
use crate::store::StoreError;

/// The key of [`Totals`].
pub(super) const TOTALS: &[u8] = b"totals";

/// In the length of a header: the moment at which the blob ends follows.
const ENDS: u16 = 0x8000;

/// How much is stored in all, the stamp given out last, and how many messages are remembered as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Totals {
    pub(super) held: Holdings,
    pub(super) last: Stamp,
    pub(super) done: u64,
}

/// How much is stored in a mailbox, a moment before which nothing in it was stored, and the share of one of its
/// senders, which has no entry of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    pub(super) held: Holdings,
    pub(super) since: Millis,
    pub(super) first: Option<(SenderKey, Holdings)>,
}

/// A [`Tally`] as bytes.
pub(super) type TallyEntry = SmallVec<[u8; 56]>;

pub(super) fn blob_key(mailbox: MailboxKey, place: Place) -> [u8; 56] {
    joined([&mailbox.0, &place.rank.to_be_bytes(), &place.id.to_bytes()])
}

pub(super) fn decode_blob_key(mut key: &[u8]) -> Result<Place, StoreError> {
    let mut read = || {
        take::<32>(&mut key)?;
        Ok(Place { rank: key.try_get_u64()?, id: take_id(&mut key)? })
    };
    read().map_err(|Damaged| unreadable("a key of a blob"))
}

pub(super) fn encode_blob(ends: Option<Millis>, header: &[u8], body: &[u8]) -> Bytes {
    let mut value = BytesMut::with_capacity(10 + header.len() + body.len());
    let length = u16::try_from(header.len()).unwrap_or(u16::MAX);
    match ends {
        None => value.put_u16(length),
        Some(ends) => {
            value.put_u16(length | ENDS);
            value.put_u64(ends.0);
        }
    }
    value.put_slice(header);
    value.put_slice(body);
    value.freeze()
}

/// The header and the body; they share the memory of the value.
pub(super) fn decode_blob(mut value: Bytes) -> Result<(Bytes, Bytes), StoreError> {
    let mut read = || {
        let length = value.try_get_u16()?;
        if length & ENDS != 0 {
            value.try_get_u64()?;
        }
        let header = usize::from(length & !ENDS);
        if header > value.len() { Err(Damaged) } else { Ok((value.split_to(header), value.clone())) }
    };
    read().map_err(|Damaged| unreadable("a blob"))
}

/// When a blob ends, if that is before its age says.
pub(super) fn end_of(mut value: &[u8]) -> Result<Option<Millis>, StoreError> {
    let mut read = || match value.try_get_u16()? & ENDS {
        0 => Ok(None),
        _ => Ok(Some(Millis(value.try_get_u64()?))),
    };
    read().map_err(|Damaged| unreadable("a blob"))
}

pub(super) fn message_key(mailbox: MailboxKey, message: MessageKey) -> [u8; 40] {
    joined([&mailbox.0, &message.to_bytes()])
}

pub(super) fn decode_message_key(mut key: &[u8]) -> Result<MessageKey, StoreError> {
    let mut read = || {
        take::<32>(&mut key)?;
        take_message(&mut key)
    };
    read().map_err(|Damaged| unreadable("a key of a message"))
}

/// Ids alone would not do: whoever offers blobs of another store chooses theirs.
pub(super) fn age_key(id: BlobId, mailbox: MailboxKey) -> [u8; 48] {
    joined([&id.to_bytes(), &mailbox.0])
}

/// The least key that a blob with this stamp can have.
pub(super) fn age_start(stamp: u64) -> Vec<u8> {
    [&(stamp >> 12 << 16 | 0x7000 | (stamp & 0xfff)).to_be_bytes()[..], &[0; 8]].concat()
}

pub(super) fn encode_age(rank: u64) -> [u8; 8] {
    rank.to_be_bytes()
}

pub(super) fn decode_age(mut key: &[u8], mut value: &[u8]) -> Result<(MailboxKey, Place), StoreError> {
    let mut read = || {
        let (id, mailbox) = (take_id(&mut key)?, MailboxKey(take(&mut key)?));
        Ok((mailbox, Place { rank: value.try_get_u64()?, id }))
    };
    read().map_err(|Damaged| unreadable("an entry of the order by age"))
}

pub(super) fn done_key(until: Millis, mailbox: MailboxKey, message: MessageKey) -> [u8; 48] {
    joined([&until.0.to_be_bytes(), &mailbox.0, &message.to_bytes()])
}

pub(super) fn decode_done_key(mut key: &[u8]) -> Result<(Millis, MailboxKey, MessageKey), StoreError> {
    let mut read = || Ok((Millis(key.try_get_u64()?), MailboxKey(take(&mut key)?), take_message(&mut key)?));
    read().map_err(|Damaged| unreadable("an entry of what is done"))
}

pub(super) fn end_key(ends: Millis, mailbox: MailboxKey, place: Place) -> [u8; 64] {
    joined([&ends.0.to_be_bytes(), &blob_key(mailbox, place)])
}

pub(super) fn decode_end_key(mut key: &[u8]) -> Result<(Millis, MailboxKey, Place), StoreError> {
    let mut read = || {
        let (ends, mailbox) = (Millis(key.try_get_u64()?), MailboxKey(take(&mut key)?));
        Ok((ends, mailbox, Place { rank: key.try_get_u64()?, id: take_id(&mut key)? }))
    };
    read().map_err(|Damaged| unreadable("an entry of what ends"))
}

/// The mailbox and the message of a [`message_key`].
pub(super) fn decode_moved_key(mut key: &[u8]) -> Result<(MailboxKey, MessageKey), StoreError> {
    let mut read = || Ok((MailboxKey(take(&mut key)?), take_message(&mut key)?));
    read().map_err(|Damaged| unreadable("an entry of what was moved"))
}

pub(super) fn tally_key(mailbox: MailboxKey) -> [u8; 32] {
    mailbox.0
}

pub(super) fn encode_tally(tally: &Tally) -> TallyEntry {
    let mut value = TallyEntry::from_slice(&numbers::<3, 24>([tally.held.blobs, tally.held.bytes, tally.since.0]));
    if let Some((sender, share)) = &tally.first {
        value.extend_from_slice(&sender.0);
        value.extend_from_slice(&encode_share(*share));
    }
    value
}

pub(super) fn decode_tally(value: &[u8]) -> Result<Tally, StoreError> {
    let (tally, mut first) = value.split_at_checked(24).ok_or_else(|| unreadable("a count"))?;
    let [blobs, bytes, since] = read_numbers(tally)?;
    let first = match first {
        [] => None,
        _ => {
            let sender = take(&mut first).map_err(|Damaged| unreadable("a count"))?;
            Some((SenderKey(sender), decode_share(first)?))
        }
    };
    Ok(Tally { held: Holdings { blobs, bytes }, since: Millis(since), first })
}

pub(super) fn share_key(mailbox: MailboxKey, sender: SenderKey) -> [u8; 48] {
    joined([&mailbox.0, &sender.0])
}

pub(super) fn encode_share(held: Holdings) -> [u8; 16] {
    numbers([held.blobs, held.bytes])
}

pub(super) fn decode_share(value: &[u8]) -> Result<Holdings, StoreError> {
    let [blobs, bytes] = read_numbers(value)?;
    Ok(Holdings { blobs, bytes })
}

pub(super) fn encode_totals(totals: &Totals) -> [u8; 32] {
    numbers([totals.held.blobs, totals.held.bytes, totals.last.get(), totals.done])
}

pub(super) fn decode_totals(value: &[u8]) -> Result<Totals, StoreError> {
    let [blobs, bytes, last, done] = read_numbers(value)?;
    let last = Stamp::new(last).ok_or_else(|| unreadable("the totals"))?;
    Ok(Totals { held: Holdings { blobs, bytes }, last, done })
}

/// What is stored says something that cannot be.
pub(super) fn unreadable(what: &str) -> StoreError {
    StoreError::Read { detail: format!("{what} is damaged") }
}

/// Parts one behind the other, of `BYTES` bytes in all.
pub(super) fn joined<const PARTS: usize, const BYTES: usize>(parts: [&[u8]; PARTS]) -> [u8; BYTES] {
    let mut joined = [0; BYTES];
    let mut rest = &mut joined[..];
    parts.iter().for_each(|part| rest.put_slice(part));
    debug_assert!(rest.is_empty());
    joined
}

fn numbers<const N: usize, const BYTES: usize>(numbers: [u64; N]) -> [u8; BYTES] {
    let bytes = numbers.map(u64::to_be_bytes);
    joined(bytes.each_ref().map(<[u8; 8]>::as_slice))
}

fn read_numbers<const N: usize>(mut value: &[u8]) -> Result<[u64; N], StoreError> {
    let mut numbers = [0; N];
    for number in &mut numbers {
        *number = value.try_get_u64().map_err(|_| unreadable("a count"))?;
    }
    if value.is_empty() { Ok(numbers) } else { Err(unreadable("a count")) }
}

/// Bytes that say nothing.
pub(super) struct Damaged;

impl From<TryGetError> for Damaged {
    fn from(_: TryGetError) -> Self {
        Self
    }
}

pub(super) fn take<const N: usize>(from: &mut impl Buf) -> Result<[u8; N], Damaged> {
    let mut bytes = [0; N];
    from.try_copy_to_slice(&mut bytes)?;
    Ok(bytes)
}

pub(super) fn take_id(from: &mut impl Buf) -> Result<BlobId, Damaged> {
    BlobId::from_bytes(take(from)?).ok_or(Damaged)
}

pub(super) fn take_yes(from: &mut impl Buf) -> Result<bool, Damaged> {
    match from.try_get_u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Damaged),
    }
}

fn take_message(from: &mut impl Buf) -> Result<MessageKey, Damaged> {
    MessageKey::from_bytes(take(from)?).ok_or(Damaged)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::entries::{Live, Message, Moved, decode_message, encode_message};
    use super::*;

    fn mailbox() -> impl Strategy<Value = MailboxKey> {
        any::<[u8; 32]>().prop_map(MailboxKey)
    }

    fn message_key_of(bits: u64) -> MessageKey {
        MessageKey::from_bytes((bits >> 2).to_be_bytes()).unwrap()
    }

    fn place() -> impl Strategy<Value = Place> {
        any::<(u64, u64, u64)>().prop_map(|(rank, stamp, bits)| Place {
            rank,
            id: BlobId::new(Stamp::new(stamp >> 4).unwrap(), message_key_of(bits)),
        })
    }

    fn message() -> impl Strategy<Value = Message> {
        let moves = (0_u8..2, prop::option::of((1..u64::MAX).prop_map(Millis)));
        let live = (place(), any::<u64>(), any::<[u8; 16]>(), any::<bool>(), moves, any::<Vec<u8>>());
        let moved = (any::<u64>(), place(), any::<bool>(), any::<Vec<u8>>());
        prop_oneof![
            live.prop_map(|(place, charge, from, delivered, (hops, ends), receipt)| Message::Live(Live {
                place,
                charge,
                from: SenderKey(from),
                delivered,
                hops,
                ends,
                receipt: receipt.into()
            })),
            any::<u64>().prop_map(|until| Message::Done(Millis(until))),
            moved.prop_map(|(until, at, owed, place)| Message::Moved(Moved {
                until: Millis(until),
                id: at.id,
                owed,
                place: place.into()
            })),
        ]
    }

    proptest! {
        #[test]
        fn everything_survives_the_trip(
            mailbox in mailbox(), place in place(), message in message(), header: Vec<u8>, body: Vec<u8>, n: [u64; 4],
        ) {
            prop_assert_eq!(decode_blob_key(&blob_key(mailbox, place)), Ok(place));
            for ends in [None, Some(Millis(n[0]))] {
                let value = encode_blob(ends, &header, &body);
                prop_assert_eq!(end_of(&value), Ok(ends));
                prop_assert_eq!(decode_blob(value), Ok((header.clone().into(), body.clone().into())));
            }
            prop_assert_eq!(decode_end_key(&end_key(Millis(n[0]), mailbox, place)), Ok((Millis(n[0]), mailbox, place)));
            prop_assert_eq!(decode_message(&encode_message(&message)), Ok(message));
            let key = place.id.message();
            prop_assert_eq!(decode_message_key(&message_key(mailbox, key)), Ok(key));
            prop_assert_eq!(decode_moved_key(&message_key(mailbox, key)), Ok((mailbox, key)));
            let age = (age_key(place.id, mailbox), encode_age(place.rank));
            prop_assert_eq!(decode_age(&age.0, &age.1), Ok((mailbox, place)));
            prop_assert_eq!(decode_done_key(&done_key(Millis(n[0]), mailbox, key)), Ok((Millis(n[0]), mailbox, key)));
            let held = Holdings { blobs: n[0], bytes: n[1] };
            for first in [None, Some((SenderKey([n[3] as u8; 16]), held))] {
                let tally = Tally { held, since: Millis(n[2]), first };
                prop_assert_eq!(decode_tally(&encode_tally(&tally)), Ok(tally));
            }
            prop_assert_eq!(decode_share(&encode_share(held)), Ok(held));
            let totals = Totals { held, last: place.id.stamp(), done: n[3] };
            prop_assert_eq!(decode_totals(&encode_totals(&totals)), Ok(totals));
        }

        #[test]
        fn keys_are_in_the_order_of_what_they_say(mailbox in mailbox(), a in place(), b in place(), u: u64, v: u64) {
            prop_assert_eq!(blob_key(mailbox, a).cmp(&blob_key(mailbox, b)), a.cmp(&b));
            prop_assert_eq!(age_key(a.id, mailbox).cmp(&age_key(b.id, mailbox)), a.id.cmp(&b.id));
            let done = |until| done_key(Millis(until), mailbox, a.id.message());
            prop_assert_eq!(done(u).cmp(&done(v)), u.cmp(&v));
            prop_assert!(u >= v || end_key(Millis(u), mailbox, a) < end_key(Millis(v), mailbox, b));
            let start = age_start(b.id.stamp().get());
            prop_assert_eq!(age_key(a.id, mailbox)[..] < start[..], a.id.stamp() < b.id.stamp());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            if let Ok(message) = decode_message(&bytes) {
                prop_assert_eq!(decode_message(&encode_message(&message)), Ok(message));
            }
            if let Ok((header, body)) = decode_blob(bytes.clone().into()) {
                prop_assert_eq!(encode_blob(end_of(&bytes).unwrap(), &header, &body), bytes.clone());
            }
            drop((decode_end_key(&bytes), decode_moved_key(&bytes), end_of(&bytes)));
            drop((decode_blob_key(&bytes), decode_message_key(&bytes), decode_age(&bytes, &bytes)));
            drop((decode_done_key(&bytes), decode_tally(&bytes), decode_share(&bytes), decode_totals(&bytes)));
        }
    }
}
