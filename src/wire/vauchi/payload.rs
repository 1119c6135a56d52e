//! What clients send (section 4), one type each. Texts are borrowed from the frame and as long as the client made
//! them; only arrays of bytes are owned.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};

use super::cursor::Text;
use super::handshake::Handshake;

/// The payload of a client's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientPayload<'a> {
    /// Says whose mailbox the connection serves; counts only as the first message.
    Handshake(Handshake<'a>),
    /// A blob to store.
    EncryptedUpdate(EncryptedUpdate<'a>),
    /// A blob is done with.
    Acknowledgment(Acknowledgment<'a>),
    /// A message to another device of the same identity.
    DeviceSyncMessage(DeviceSyncMessage<'a>),
    /// A message between devices is done with.
    DeviceSyncAck(DeviceSyncAck<'a>),
    /// A recovery proof to keep.
    RecoveryProofStore(RecoveryProofStore),
    /// Asks for recovery proofs.
    RecoveryProofQuery(RecoveryProofQuery),
    /// Asks for deletion.
    PurgeRequest(PurgeRequest),
    /// Tells a contact that the account is gone.
    AccountRevoked(AccountRevoked<'a>),
    /// A type that is unknown, or that only relays send.
    Ignored,
}

/// Section 4.3, from and to clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncryptedUpdate<'a> {
    /// The mailbox that it is for: any text.
    pub recipient_id: Cow<'a, str>,
    /// Who says to send it. `None` if it is not there, no text, or there twice: the shipped relay takes no notice
    /// of it, the shipped client needs it.
    pub sender_id: Option<Cow<'a, str>>,
    /// The blob; may be empty.
    pub ciphertext: Bytes,
}

/// Section 4.4, from and to clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgment<'a> {
    /// The message that is acknowledged.
    pub message_id: Cow<'a, str>,
    /// What became of it.
    pub status: Status,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
pub enum Status {
    /// The relay keeps it.
    Stored,
    /// The relay has written it to the recipient's socket.
    Delivered,
    /// The recipient has it.
    ReceivedByRecipient,
    /// The relay did not take it.
    Failed,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Stored, Self::Delivered, Self::ReceivedByRecipient, Self::Failed];

    /// Its name in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stored => "Stored",
            Self::Delivered => "Delivered",
            Self::ReceivedByRecipient => "ReceivedByRecipient",
            Self::Failed => "Failed",
        }
    }
}

/// Section 4.5, from and to clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceSyncMessage<'a> {
    /// Whose devices they are; the shipped relay drops the message unless it is the connection's `client_id`.
    pub identity_id: Cow<'a, str>,
    /// The device that it is for: any text.
    pub target_device_id: Cow<'a, str>,
    /// The device that says to send it: any text.
    pub sender_device_id: Cow<'a, str>,
    /// What it carries.
    pub encrypted_payload: Bytes,
    /// Orders the messages to one device.
    pub version: u64,
}

/// Section 4.6.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceSyncAck<'a> {
    /// The message that is acknowledged.
    pub message_id: Cow<'a, str>,
    /// Its version, as the client says.
    pub synced_version: u64,
}

/// Section 4.7: store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryProofStore {
    /// Where to keep it. `None` for a text that is no hash: such a message gets no answer.
    pub key_hash: Option<RecoveryKeyHash>,
    /// What to keep.
    pub proof_data: Bytes,
}

/// Section 4.7: query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryProofQuery {
    /// The proofs asked for, in the order and as often as they are asked for. Texts that are no hash are left out.
    pub key_hashes: Vec<RecoveryKeyHash>,
}

/// Section 4.8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PurgeRequest {
    /// Whether messages to all devices of the `client_id` go too.
    pub include_device_sync: bool,
    /// Whether one recovery proof goes too.
    pub include_recovery_proofs: bool,
    /// Which one. `None` also for a text that is no hash.
    pub recovery_key_hash: Option<RecoveryKeyHash>,
}

/// Section 4.9. It is delivered as a blob that holds its own frame: [`Incoming::encode`] of the message.
///
/// [`Incoming::encode`]: super::incoming::Incoming::encode
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountRevoked<'a> {
    /// Whose account is gone.
    pub sender_id: Cow<'a, str>,
    /// The contact: `Failed` unless it is 64 hex digits.
    pub recipient_id: Cow<'a, str>,
    /// Seconds since 1970.
    pub timestamp: u64,
    /// The sender's signature; the shipped relay does not check it.
    pub signature: Bytes,
}

/// What a recovery proof is kept under.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecoveryKeyHash(pub [u8; 32]);

impl RecoveryKeyHash {
    /// Reads 64 hex digits of either case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash).ok().map(|()| Self(hash))
    }
}

/// 64 lower-case hex digits.
impl fmt::Display for RecoveryKeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for RecoveryKeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An array of texts, of which only hashes are kept: what a client sends takes no more room here than there.
impl<'de> Deserialize<'de> for RecoveryProofQuery {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Hashes;

        impl<'de> Visitor<'de> for Hashes {
            type Value = RecoveryProofQuery;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of texts")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<RecoveryProofQuery, A::Error> {
                let mut key_hashes = Vec::new();
                while let Some(Text(text)) = texts.next_element()? {
                    key_hashes.extend(RecoveryKeyHash::parse(&text));
                }
                Ok(RecoveryProofQuery { key_hashes })
            }
        }

        deserializer.deserialize_seq(Hashes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_read_in_either_case_and_shown_in_lower() {
        let hash = RecoveryKeyHash([0xcd; 32]);
        assert_eq!(RecoveryKeyHash::parse(&"cd".repeat(32)), Some(hash));
        assert_eq!(RecoveryKeyHash::parse(&"Cd".repeat(32)), Some(hash));
        assert_eq!(hash.to_string(), "cd".repeat(32));
        for bad in ["", "cd", &"cd".repeat(31), &"cd".repeat(33), &"cg".repeat(32), &"\u{fc}".repeat(32)] {
            assert_eq!(RecoveryKeyHash::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_query_keeps_only_hashes() {
        let (a, b) = ("0a".repeat(32), "0B".repeat(32));
        let query: RecoveryProofQuery =
            serde_json::from_str(&format!(r#"["{a}","","x","{b}","{a}","\u0030{}"]"#, &a[1..])).unwrap();
        let (a, b) = (RecoveryKeyHash([0x0a; 32]), RecoveryKeyHash([0x0b; 32]));
        assert_eq!(query.key_hashes, [a, b, a, a]);
        for bad in ["null", "{}", "\"\"", "[1]", "[null]", "[[]]"] {
            assert!(serde_json::from_str::<RecoveryProofQuery>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_status_is_one_of_four_names() {
        for status in Status::ALL {
            assert_eq!(serde_json::from_value::<Status>(status.name().into()).unwrap(), status);
        }
        assert!(serde_json::from_str::<Status>("\"ReceivedByRelay\"").is_err());
    }
}
