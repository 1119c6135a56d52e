//! Between the words of the links and the domain's.

use bytes::Bytes;

use crate::cluster::proto::{MailBlob, MailPlace};
use crate::domain::mailbox::{BlobId, MailboxKey, MessageKey, Place};
use crate::store::StoredBlob;

/// Bytes of a mailbox's name.
pub const MAILBOX_BYTES: usize = 32;

pub fn mailbox(key: &MailboxKey) -> Bytes {
    Bytes::copy_from_slice(&key.0)
}

pub fn mailbox_from(bytes: &[u8]) -> Option<MailboxKey> {
    bytes.try_into().ok().map(MailboxKey)
}

/// The mailboxes that stand one behind the other.
pub fn mailboxes_from(bytes: &[u8]) -> impl Iterator<Item = MailboxKey> {
    bytes.chunks_exact(MAILBOX_BYTES).filter_map(mailbox_from)
}

pub fn message(key: MessageKey) -> u64 {
    u64::from_be_bytes(key.to_bytes())
}

pub fn message_from(number: u64) -> Option<MessageKey> {
    MessageKey::from_bytes(number.to_be_bytes())
}

pub fn messages(keys: &[MessageKey]) -> Vec<u64> {
    keys.iter().map(|key| message(*key)).collect()
}

pub fn messages_from(numbers: &[u64]) -> Vec<MessageKey> {
    numbers.iter().filter_map(|number| message_from(*number)).collect()
}

pub fn place(place: Place) -> MailPlace {
    MailPlace { rank: place.rank, id: Bytes::copy_from_slice(&place.id.to_bytes()) }
}

pub fn place_from(place: &MailPlace) -> Option<Place> {
    let id = <[u8; 16]>::try_from(&*place.id).ok().and_then(BlobId::from_bytes)?;
    Some(Place { rank: place.rank, id })
}

pub fn blob(blob: StoredBlob) -> MailBlob {
    MailBlob { place: Some(place(blob.place)), header: blob.header, body: blob.body }
}

pub fn blob_from(blob: MailBlob) -> Option<StoredBlob> {
    Some(StoredBlob { place: place_from(blob.place.as_ref()?)?, header: blob.header, body: blob.body })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::mailbox::Stamp;

    proptest! {
        #[test]
        fn what_is_said_is_heard(name: String, id: String, rank: u64, stamp: u64, body: Vec<u8>) {
            let key = MailboxKey::blobs(&name);
            prop_assert_eq!(mailbox_from(&mailbox(&key)), Some(key));
            let two = [mailbox(&key), mailbox(&key)].concat();
            prop_assert_eq!(mailboxes_from(&two).collect::<Vec<_>>(), [key, key]);
            let known = MessageKey::of(&name, &name, &id);
            prop_assert_eq!(messages_from(&messages(&[known, known])), [known, known]);
            let at = Place { rank, id: BlobId::new(Stamp::new(stamp >> 4).unwrap(), known) };
            let stored = StoredBlob { place: at, header: id.into(), body: body.into() };
            prop_assert_eq!(blob_from(blob(stored.clone())), Some(stored));
        }

        #[test]
        fn what_makes_no_sense_is_left_alone(bytes: Vec<u8>, number: u64) {
            prop_assert_eq!(mailboxes_from(&bytes).count(), bytes.len() / MAILBOX_BYTES);
            prop_assert_eq!(message_from(number).map(message), Some(number).filter(|n| n >> 62 == 0));
            let place = MailPlace { rank: 0, id: bytes.clone().into() };
            if let Some(read) = place_from(&place) {
                prop_assert_eq!(&read.id.to_bytes()[..], &bytes[..]);
            }
        }
    }
}
