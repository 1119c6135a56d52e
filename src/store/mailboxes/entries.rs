//! What is known of a message, as bytes: see [`layout`](super::layout).

use bytes::{Buf, Bytes};
use smallvec::SmallVec;

use super::Moment;
use super::layout::{Damaged, joined, take, take_id, take_yes, unreadable};
use crate::domain::clock::Millis;
use crate::domain::mailbox::{BlobId, Place, SenderKey};
use crate::store::StoreError;

const LIVE: u8 = b'L';
const TAKEN: u8 = b'T';
const DONE: u8 = b'D';
const MOVED: u8 = b'M';

/// What is known of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    /// Its blob waits.
    Live(Live),
    /// It is done, and remembered up to but not including this moment.
    Done(Millis),
    /// Its blob was moved elsewhere.
    Moved(Moved),
}

/// A message whose blob was moved elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Moved {
    /// When the blob ends there, and this is forgotten.
    pub(super) until: Millis,
    /// Under which id it lies there.
    pub(super) id: BlobId,
    /// Whether it is done with, and whoever has it is not known to have heard.
    pub(super) owed: bool,
    /// Where.
    pub(super) place: Bytes,
}

/// A message whose blob waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) place: Place,
    pub(super) charge: u64,
    pub(super) from: SenderKey,
    pub(super) delivered: bool,
    /// How often it was moved.
    pub(super) hops: u8,
    /// When it ends, if that is before its age says.
    pub(super) ends: Option<Millis>,
    pub(super) receipt: Bytes,
}

impl Message {
    /// Up to which moment it is remembered, if it is for a while only.
    pub(super) fn remembered_until(&self) -> Option<Millis> {
        match self {
            Self::Live(_) => None,
            Self::Done(until) | Self::Moved(Moved { until, .. }) => Some(*until),
        }
    }
}

impl Live {
    /// When it ends.
    pub(super) fn end(&self, at: &Moment) -> Millis {
        end_of(self.place, self.ends, at)
    }

    /// Whether it has expired.
    pub(super) fn is_past(&self, at: &Moment) -> bool {
        at.is_past(self.place.id.time()) || self.ends.is_some_and(|ends| ends <= at.now)
    }
}

/// When a blob at a place ends that may have an end of its own, which is that of its age at the latest.
pub(super) fn end_of(place: Place, own: Option<Millis>, at: &Moment) -> Millis {
    let of_age = at.end_of(place.id.time());
    own.map_or(of_age, |own| own.min(of_age))
}

/// An entry of a message, without an allocation for the receipts there are.
pub(super) type MessageEntry = SmallVec<[u8; 256]>;

pub(super) fn encode_message(message: &Message) -> MessageEntry {
    match message {
        Message::Live(live) if live.hops == 0 && live.ends.is_none() => {
            encode_live(live.place, live.charge, live.from, live.delivered, &live.receipt)
        }
        Message::Live(Live { place, charge, from, delivered, hops, ends, receipt }) => {
            let mut value = encode_live(*place, *charge, *from, *delivered, &[]);
            value[0] = TAKEN;
            value.push(*hops);
            value.extend_from_slice(&ends.map_or(0, |ends| ends.0).to_be_bytes());
            value.extend_from_slice(receipt);
            value
        }
        Message::Done(until) => {
            let mut value = MessageEntry::from_slice(&[DONE]);
            value.extend_from_slice(&until.0.to_be_bytes());
            value
        }
        Message::Moved(Moved { until, id, owed, place }) => {
            let fixed: [u8; 26] = joined([&[MOVED], &until.0.to_be_bytes(), &id.to_bytes(), &[u8::from(*owed)]]);
            let mut value = MessageEntry::from_slice(&fixed);
            value.extend_from_slice(place);
            value
        }
    }
}

/// The entry of a message whose blob waits, and never moved: see [`Live`].
pub(super) fn encode_live(place: Place, charge: u64, from: SenderKey, delivered: bool, receipt: &[u8]) -> MessageEntry {
    let (rank, id, charge) = (place.rank.to_be_bytes(), place.id.to_bytes(), charge.to_be_bytes());
    let fixed: [u8; 50] = joined([&[LIVE], &rank, &id, &charge, &from.0, &[u8::from(delivered)]]);
    let mut value = MessageEntry::from_slice(&fixed);
    value.extend_from_slice(receipt);
    value
}

pub(super) fn decode_message(mut value: &[u8]) -> Result<Message, StoreError> {
    let mut read = || match value.try_get_u8()? {
        kind @ (LIVE | TAKEN) => {
            let place = Place { rank: value.try_get_u64()?, id: take_id(&mut value)? };
            let (charge, from) = (value.try_get_u64()?, SenderKey(take(&mut value)?));
            let delivered = take_yes(&mut value)?;
            let (hops, ends) = match kind {
                TAKEN => (value.try_get_u8()?, value.try_get_u64()?),
                _ => (0, 0),
            };
            let ends = Some(Millis(ends)).filter(|ends| ends.0 > 0);
            let receipt = Bytes::copy_from_slice(value);
            Ok(Message::Live(Live { place, charge, from, delivered, hops, ends, receipt }))
        }
        DONE => Ok(Message::Done(Millis(value.try_get_u64()?))),
        MOVED => Ok(Message::Moved(Moved {
            until: Millis(value.try_get_u64()?),
            id: take_id(&mut value)?,
            owed: take_yes(&mut value)?,
            place: Bytes::copy_from_slice(value),
        })),
        _ => Err(Damaged),
    };
    read().map_err(|Damaged| unreadable("an entry of a message"))
}
