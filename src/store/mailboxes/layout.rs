//! Keys and values of the mailboxes as bytes. Numbers are big-endian, so that keys are in the order of what they
//! say.
//!
//! | family | key | value |
//! |---|---|---|
//! | blobs | mailbox 32, rank 8, id 16 | length of the header 2, header, body |
//! | messages | mailbox 32, message 8 | `L`, rank 8, id 16, charge 8, sender 16, delivered 1, receipt; or `D`, until 8 |
//! | ages | id 16 | mailbox 32, rank 8 |
//! | done | until 8, mailbox 32, message 8 | nothing |
//! | usage | `totals` | blobs 8, bytes 8, last stamp 8, done 8 |
//! | usage | mailbox 32 | blobs 8, bytes 8, moment 8 before which nothing in it was stored |
//! | usage | mailbox 32, sender 16 | blobs 8, bytes 8 |

use bytes::{Buf, BufMut, Bytes, BytesMut, TryGetError};
use smallvec::SmallVec;

use crate::domain::clock::Millis;
use crate::domain::mailbox::{BlobId, Holdings, MailboxKey, MessageKey, Place, SenderKey, Stamp};
use crate::store::StoreError;

/// The key of [`Totals`].
pub(super) const TOTALS: &[u8] = b"totals";

const LIVE: u8 = b'L';
const DONE: u8 = b'D';

/// What is known of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    /// Its blob waits.
    Live(Live),
    /// It is done, and remembered up to but not including this moment.
    Done(Millis),
}

/// A message whose blob waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) place: Place,
    pub(super) charge: u64,
    pub(super) from: SenderKey,
    pub(super) delivered: bool,
    pub(super) receipt: Bytes,
}

/// How much is stored in all, the stamp given out last, and how many messages are remembered as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Totals {
    pub(super) held: Holdings,
    pub(super) last: Stamp,
    pub(super) done: u64,
}

/// How much is stored in a mailbox, and a moment before which nothing in it was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    pub(super) held: Holdings,
    pub(super) since: Millis,
}

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

pub(super) fn encode_blob(header: &[u8], body: &[u8]) -> Bytes {
    let mut value = BytesMut::with_capacity(2 + header.len() + body.len());
    value.put_u16(u16::try_from(header.len()).unwrap_or(u16::MAX));
    value.put_slice(header);
    value.put_slice(body);
    value.freeze()
}

/// The header and the body; they share the memory of the value.
pub(super) fn decode_blob(mut value: Bytes) -> Result<(Bytes, Bytes), StoreError> {
    match value.try_get_u16().map(usize::from) {
        Ok(header) if header <= value.len() => Ok((value.split_to(header), value)),
        _ => Err(unreadable("a blob")),
    }
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

/// An entry of a message, without an allocation for the receipts there are.
pub(super) type MessageEntry = SmallVec<[u8; 256]>;

pub(super) fn encode_message(message: &Message) -> MessageEntry {
    match message {
        Message::Live(Live { place, charge, from, delivered, receipt }) => {
            encode_live(*place, *charge, *from, *delivered, receipt)
        }
        Message::Done(until) => {
            let mut value = MessageEntry::from_slice(&[DONE]);
            value.extend_from_slice(&until.0.to_be_bytes());
            value
        }
    }
}

/// The entry of a message whose blob waits: see [`Live`].
pub(super) fn encode_live(place: Place, charge: u64, from: SenderKey, delivered: bool, receipt: &[u8]) -> MessageEntry {
    let (rank, id, charge) = (place.rank.to_be_bytes(), place.id.to_bytes(), charge.to_be_bytes());
    let fixed: [u8; 50] = joined([&[LIVE], &rank, &id, &charge, &from.0, &[u8::from(delivered)]]);
    let mut value = MessageEntry::from_slice(&fixed);
    value.extend_from_slice(receipt);
    value
}

pub(super) fn decode_message(mut value: &[u8]) -> Result<Message, StoreError> {
    let mut read = || match value.try_get_u8()? {
        LIVE => Ok(Message::Live(Live {
            place: Place { rank: value.try_get_u64()?, id: take_id(&mut value)? },
            charge: value.try_get_u64()?,
            from: SenderKey(take(&mut value)?),
            delivered: match value.try_get_u8()? {
                0 => false,
                1 => true,
                _ => return Err(Damaged),
            },
            receipt: Bytes::copy_from_slice(value),
        })),
        DONE => Ok(Message::Done(Millis(value.try_get_u64()?))),
        _ => Err(Damaged),
    };
    read().map_err(|Damaged| unreadable("an entry of a message"))
}

pub(super) fn age_key(id: BlobId) -> [u8; 16] {
    id.to_bytes()
}

/// The least key that a blob with this stamp can have.
pub(super) fn age_start(stamp: u64) -> Vec<u8> {
    [&(stamp >> 12 << 16 | 0x7000 | (stamp & 0xfff)).to_be_bytes()[..], &[0; 8]].concat()
}

pub(super) fn encode_age(mailbox: MailboxKey, rank: u64) -> [u8; 40] {
    joined([&mailbox.0, &rank.to_be_bytes()])
}

pub(super) fn decode_age(mut key: &[u8], mut value: &[u8]) -> Result<(MailboxKey, Place), StoreError> {
    let mut read = || {
        let mailbox = MailboxKey(take(&mut value)?);
        Ok((mailbox, Place { rank: value.try_get_u64()?, id: take_id(&mut key)? }))
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

pub(super) fn tally_key(mailbox: MailboxKey) -> [u8; 32] {
    mailbox.0
}

pub(super) fn encode_tally(tally: Tally) -> [u8; 24] {
    numbers([tally.held.blobs, tally.held.bytes, tally.since.0])
}

pub(super) fn decode_tally(value: &[u8]) -> Result<Tally, StoreError> {
    let [blobs, bytes, since] = read_numbers(value)?;
    Ok(Tally { held: Holdings { blobs, bytes }, since: Millis(since) })
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
fn joined<const PARTS: usize, const BYTES: usize>(parts: [&[u8]; PARTS]) -> [u8; BYTES] {
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
struct Damaged;

impl From<TryGetError> for Damaged {
    fn from(_: TryGetError) -> Self {
        Self
    }
}

fn take<const N: usize>(from: &mut impl Buf) -> Result<[u8; N], Damaged> {
    let mut bytes = [0; N];
    from.try_copy_to_slice(&mut bytes)?;
    Ok(bytes)
}

fn take_id(from: &mut impl Buf) -> Result<BlobId, Damaged> {
    BlobId::from_bytes(take(from)?).ok_or(Damaged)
}

fn take_message(from: &mut impl Buf) -> Result<MessageKey, Damaged> {
    MessageKey::from_bytes(take(from)?).ok_or(Damaged)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
        let live = (place(), any::<u64>(), any::<[u8; 16]>(), any::<bool>(), any::<Vec<u8>>());
        prop_oneof![
            live.prop_map(|(place, charge, from, delivered, receipt)| Message::Live(Live {
                place,
                charge,
                from: SenderKey(from),
                delivered,
                receipt: receipt.into()
            })),
            any::<u64>().prop_map(|until| Message::Done(Millis(until))),
        ]
    }

    proptest! {
        #[test]
        fn everything_survives_the_trip(
            mailbox in mailbox(), place in place(), message in message(), header: Vec<u8>, body: Vec<u8>, n: [u64; 4],
        ) {
            prop_assert_eq!(decode_blob_key(&blob_key(mailbox, place)), Ok(place));
            prop_assert_eq!(decode_blob(encode_blob(&header, &body)), Ok((header.into(), body.into())));
            prop_assert_eq!(decode_message(&encode_message(&message)), Ok(message));
            let key = place.id.message();
            prop_assert_eq!(decode_message_key(&message_key(mailbox, key)), Ok(key));
            let age = (age_key(place.id), encode_age(mailbox, place.rank));
            prop_assert_eq!(decode_age(&age.0, &age.1), Ok((mailbox, place)));
            prop_assert_eq!(decode_done_key(&done_key(Millis(n[0]), mailbox, key)), Ok((Millis(n[0]), mailbox, key)));
            let held = Holdings { blobs: n[0], bytes: n[1] };
            let tally = Tally { held, since: Millis(n[2]) };
            prop_assert_eq!(decode_tally(&encode_tally(tally)), Ok(tally));
            prop_assert_eq!(decode_share(&encode_share(held)), Ok(held));
            let totals = Totals { held, last: place.id.stamp(), done: n[3] };
            prop_assert_eq!(decode_totals(&encode_totals(&totals)), Ok(totals));
        }

        #[test]
        fn keys_are_in_the_order_of_what_they_say(mailbox in mailbox(), a in place(), b in place(), u: u64, v: u64) {
            prop_assert_eq!(blob_key(mailbox, a).cmp(&blob_key(mailbox, b)), a.cmp(&b));
            prop_assert_eq!(age_key(a.id).cmp(&age_key(b.id)), a.id.cmp(&b.id));
            let done = |until| done_key(Millis(until), mailbox, a.id.message());
            prop_assert_eq!(done(u).cmp(&done(v)), u.cmp(&v));
            let start = age_start(b.id.stamp().get());
            prop_assert_eq!(age_key(a.id)[..] < start[..], a.id.stamp() < b.id.stamp());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            if let Ok(message) = decode_message(&bytes) {
                let encoded = encode_message(&message);
                prop_assert!(bytes.starts_with(&encoded));
            }
            if let Ok((header, body)) = decode_blob(bytes.clone().into()) {
                prop_assert_eq!(encode_blob(&header, &body), bytes.clone());
            }
            drop((decode_blob_key(&bytes), decode_message_key(&bytes), decode_age(&bytes, &bytes)));
            drop((decode_done_key(&bytes), decode_tally(&bytes), decode_share(&bytes), decode_totals(&bytes)));
        }
    }
}
