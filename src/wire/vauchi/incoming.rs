//! A client's message (section 2): read as leniently as the shipped relay reads it.
//!
//! That relay is a serde program, and the same is undecodable here: a needed member that is absent or of another
//! type, a member of the envelope or of the payload's own type that is there twice, an integer out of range or
//! spelled with a fraction. Members that are unknown, or that belong to other types, may be anything, any number
//! of times. Two spellings are refused that serde lets pass and no client uses: an array for the envelope or the
//! payload.
//!
//! Besides arrays of bytes ([`super::array`]) nothing of the frame is copied, unless a text has escapes.

use std::borrow::Cow;

use bytes::Bytes;

use super::cursor::{Cursor, Text};
use super::frame::{self, DecodeError};
use super::handshake::Handshake;
use super::members::Members;
use super::payload::{
    AccountRevoked, Acknowledgment, ClientPayload, DeviceSyncAck, DeviceSyncMessage, EncryptedUpdate, PurgeRequest,
    RecoveryKeyHash, RecoveryProofStore,
};
use super::writer::{Head, Writer};

/// A message with its envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming<'a> {
    /// Any number; clients send 1.
    pub version: u8,
    /// The sender's name for the message: any text, also an empty one.
    pub message_id: Cow<'a, str>,
    /// Seconds since 1970, as the client says.
    pub timestamp: u64,
    /// What it says.
    pub payload: ClientPayload<'a>,
}

impl<'a> Incoming<'a> {
    /// Reads a frame.
    ///
    /// # Errors
    /// [`DecodeError`] if it holds no message.
    pub fn decode(frame: &'a [u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(frame::json_of(frame)?);
        let (mut version, mut message_id, mut timestamp, mut payload) = (None, None, None, None);
        cursor.members(|name, cursor| match name {
            "version" => once(&mut version, cursor.value()?),
            "message_id" => once(&mut message_id, cursor.value()?),
            "timestamp" => once(&mut timestamp, cursor.value()?),
            "payload" => once(&mut payload, decode_payload(Members::read(cursor)?)?),
            _ => cursor.skip(),
        })?;
        cursor.end()?;
        let (Some(version), Some(Text(message_id)), Some(timestamp), Some(payload)) =
            (version, message_id, timestamp, payload)
        else {
            return Err(DecodeError::Malformed);
        };
        Ok(Self { version, message_id, timestamp, payload })
    }

    /// Writes the frame of a client, members in the order of the shipped one, absent ones left out. The relay
    /// needs it for [`AccountRevoked`], whose frame is what its recipient is given.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let (version, message_id, timestamp) = (self.version, &*self.message_id, self.timestamp);
        let frame = |kind, members: &dyn Fn(&mut Writer)| Head { version, message_id, timestamp, kind }.frame(members);
        match &self.payload {
            ClientPayload::Handshake(handshake) => frame("Handshake", &|w| write_handshake(handshake, w)),
            ClientPayload::EncryptedUpdate(update) => frame("EncryptedUpdate", &|w| {
                w.text("recipient_id", &update.recipient_id);
                w.optional_text("sender_id", update.sender_id.as_deref());
                w.bytes("ciphertext", &update.ciphertext);
            }),
            ClientPayload::Acknowledgment(ack) => frame("Acknowledgment", &|w| {
                w.text("message_id", &ack.message_id);
                w.text("status", ack.status.name());
            }),
            ClientPayload::DeviceSyncMessage(message) => frame("DeviceSyncMessage", &|w| {
                w.text("identity_id", &message.identity_id);
                w.text("target_device_id", &message.target_device_id);
                w.text("sender_device_id", &message.sender_device_id);
                w.bytes("encrypted_payload", &message.encrypted_payload);
                w.number("version", message.version);
            }),
            ClientPayload::DeviceSyncAck(ack) => frame("DeviceSyncAck", &|w| {
                w.text("message_id", &ack.message_id);
                w.number("synced_version", ack.synced_version);
            }),
            ClientPayload::RecoveryProofStore(store) => frame("RecoveryProofStore", &|w| {
                w.text("key_hash", &store.key_hash.map(|hash| hash.to_string()).unwrap_or_default());
                w.bytes("proof_data", &store.proof_data);
            }),
            ClientPayload::RecoveryProofQuery(query) => frame("RecoveryProofQuery", &|w| {
                w.list("key_hashes", &query.key_hashes, |w, hash| w.string(&hash.to_string()));
            }),
            ClientPayload::PurgeRequest(purge) => frame("PurgeRequest", &|w| {
                w.flag("include_device_sync", purge.include_device_sync);
                w.flag("include_recovery_proofs", purge.include_recovery_proofs);
                w.optional_text("recovery_key_hash", purge.recovery_key_hash.map(|hash| hash.to_string()).as_deref());
            }),
            ClientPayload::AccountRevoked(revoked) => frame("AccountRevoked", &|w| {
                w.text("sender_id", &revoked.sender_id);
                w.text("recipient_id", &revoked.recipient_id);
                w.number("timestamp", revoked.timestamp);
                w.bytes("signature", &revoked.signature);
            }),
            ClientPayload::Ignored => frame("", &|_| {}),
        }
    }
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), DecodeError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(DecodeError::Malformed),
    }
}

fn decode_payload<'a>(mut members: Members<'a>) -> Result<ClientPayload<'a>, DecodeError> {
    let m = &mut members;
    Ok(match &*m.text("type")? {
        "Handshake" => ClientPayload::Handshake(Handshake {
            client_id: m.text("client_id")?,
            device_id: m.optional_text("device_id")?,
            routing_token: m.optional_text("routing_token")?,
            suppress_presence: m.or_default("suppress_presence")?,
            accept_hints: m.or_default("accept_hints")?,
            identity_public_key: m.optional_text("identity_public_key")?,
            nonce: m.optional_text("nonce")?,
            signature: m.optional_text("signature")?,
            timestamp: m.optional("timestamp")?,
        }),
        "EncryptedUpdate" => ClientPayload::EncryptedUpdate(EncryptedUpdate {
            recipient_id: m.text("recipient_id")?,
            sender_id: m.text("sender_id").ok(),
            ciphertext: m.bytes("ciphertext")?,
        }),
        "Acknowledgment" => ClientPayload::Acknowledgment(Acknowledgment {
            message_id: m.text("message_id")?,
            status: m.required("status")?,
        }),
        "DeviceSyncMessage" => ClientPayload::DeviceSyncMessage(DeviceSyncMessage {
            identity_id: m.text("identity_id")?,
            target_device_id: m.text("target_device_id")?,
            sender_device_id: m.text("sender_device_id")?,
            encrypted_payload: m.bytes("encrypted_payload")?,
            version: m.required("version")?,
        }),
        "DeviceSyncAck" => ClientPayload::DeviceSyncAck(DeviceSyncAck {
            message_id: m.text("message_id")?,
            synced_version: m.required("synced_version")?,
        }),
        "RecoveryProofStore" => ClientPayload::RecoveryProofStore(RecoveryProofStore {
            key_hash: RecoveryKeyHash::parse(&m.text("key_hash")?),
            proof_data: m.bytes("proof_data")?,
        }),
        "RecoveryProofQuery" => ClientPayload::RecoveryProofQuery(m.required("key_hashes")?),
        "PurgeRequest" => ClientPayload::PurgeRequest(PurgeRequest {
            include_device_sync: m.or_default("include_device_sync")?,
            include_recovery_proofs: m.or_default("include_recovery_proofs")?,
            recovery_key_hash: m.optional_text("recovery_key_hash")?.and_then(|text| RecoveryKeyHash::parse(&text)),
        }),
        "AccountRevoked" => ClientPayload::AccountRevoked(AccountRevoked {
            sender_id: m.text("sender_id")?,
            recipient_id: m.text("recipient_id")?,
            timestamp: m.required("timestamp")?,
            signature: m.bytes("signature")?,
        }),
        _ => ClientPayload::Ignored,
    })
}

fn write_handshake(handshake: &Handshake<'_>, w: &mut Writer) {
    w.text("client_id", &handshake.client_id);
    w.optional_text("device_id", handshake.device_id.as_deref());
    w.optional_text("routing_token", handshake.routing_token.as_deref());
    if handshake.suppress_presence {
        w.flag("suppress_presence", true);
    }
    if handshake.accept_hints {
        w.flag("accept_hints", true);
    }
    w.optional_text("identity_public_key", handshake.identity_public_key.as_deref());
    w.optional_text("nonce", handshake.nonce.as_deref());
    w.optional_text("signature", handshake.signature.as_deref());
    if let Some(timestamp) = handshake.timestamp {
        w.number("timestamp", timestamp);
    }
}
