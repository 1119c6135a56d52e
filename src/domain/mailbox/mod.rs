//! What mailboxes are addressed by, what orders them, and what they may hold.

mod blob_id;
mod quota;

use std::fmt;

pub use blob_id::{BlobId, NotABlobId, Stamp};
pub use quota::{BLOB_OVERHEAD_BYTES, Full, Holdings, Quota, charge};

use super::digest;

/// A mailbox: the SHA-256 of its kind and its name, so that names of any length and any choice weigh the same and
/// lie evenly.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MailboxKey(pub [u8; 32]);

impl MailboxKey {
    /// The mailbox of the blobs for a routing id.
    #[must_use]
    pub fn blobs(routing_id: &str) -> Self {
        Self(digest(&[b"blobs", routing_id.as_bytes()]))
    }

    /// The mailbox of what a client's devices tell one of them.
    #[must_use]
    pub fn device(client_id: &str, device_id: &str) -> Self {
        Self(digest(&[b"device", client_id.as_bytes(), device_id.as_bytes()]))
    }
}

impl fmt::Debug for MailboxKey {
    /// The first four bytes: enough to tell mailboxes apart, and no more of what could be linked to a client.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "MailboxKey({a:02x}{b:02x}{c:02x}{d:02x}…)")
    }
}

/// What makes two blobs the same message: 62 bits of the SHA-256 over who sent it, to whom, and under which id.
///
/// The same on every node, and part of every [`BlobId`], so whoever is shown an id knows the message. Two of a
/// mailbox of a million messages meet by accident with a chance of 1 in ten million.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageKey([u8; 8]);

impl MessageKey {
    /// The key of the message that the connection with this routing id sends to `recipient` as `message_id`.
    #[must_use]
    pub fn of(sender: &str, recipient: &str, message_id: &str) -> Self {
        let [a, b, c, d, e, f, g, h, ..] =
            digest(&[b"message", sender.as_bytes(), recipient.as_bytes(), message_id.as_bytes()]);
        Self([a & 0x3f, b, c, d, e, f, g, h])
    }

    /// From its bytes; `None` if the two highest bits are not zero.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 8]) -> Option<Self> {
        (bytes[0] & 0xc0 == 0).then_some(Self(bytes))
    }

    /// Its bytes; the two highest bits are zero.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 8] {
        self.0
    }
}

/// Whose share of a mailbox a blob counts against: an identity or an address, hashed by whoever knows which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SenderKey(pub [u8; 16]);

/// Where a blob stands in its mailbox: by rank, then in the order of storing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// 0 for blobs; the version for device sync.
    pub rank: u64,
    /// Grows with every blob that a store takes in.
    pub id: BlobId,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn mailboxes_of_different_kinds_or_parts_differ() {
        let keys = [
            MailboxKey::blobs("ab"),
            MailboxKey::blobs("a"),
            MailboxKey::device("a", "b"),
            MailboxKey::device("ab", ""),
            MailboxKey::device("", "ab"),
        ];
        for (i, key) in keys.iter().enumerate() {
            assert_eq!(keys.iter().position(|other| other == key), Some(i));
        }
    }

    #[test]
    fn every_part_of_a_message_counts() {
        let key = MessageKey::of("sender", "recipient", "id");
        assert_eq!(key, MessageKey::of("sender", "recipient", "id"));
        for other in [("sendex", "recipient", "id"), ("sender", "recipienx", "id"), ("senderr", "ecipient", "id")] {
            assert_ne!(key, MessageKey::of(other.0, other.1, other.2));
        }
    }

    proptest! {
        #[test]
        fn a_message_key_has_62_bits(sender: String, id: String) {
            let key = MessageKey::of(&sender, "recipient", &id);
            prop_assert_eq!(MessageKey::from_bytes(key.to_bytes()), Some(key));
            prop_assert_eq!(MessageKey::from_bytes([0x40, 0, 0, 0, 0, 0, 0, 0]), None);
        }
    }
}
