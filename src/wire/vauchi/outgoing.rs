//! What the relay sends: written straight into one frame, whose length can be asked for without writing it.

use bytes::Bytes;

use super::payload::{RecoveryKeyHash, Status};
use super::writer::{Head, Writer};
use crate::domain::clock::Millis;

/// What both relay and clients write into the envelope, and what the relay says it speaks.
const PROTOCOL_VERSION: u8 = 1;

/// What the relay says it can do (section 4.2). Fixed, as the shipped relay has it.
const FEATURES: [&str; 8] = [
    "routing_token",
    "suppress_presence",
    "purge",
    "device_sync",
    "recovery_proof",
    "account_revoked",
    "forwarding_hints",
    "authenticated_handshake",
];

/// What it says besides on a Noise connection.
const NOISE_FEATURE: &str = "noise_nk";

/// A message of the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outgoing<'a> {
    /// A UUID: in a delivery that of what is delivered, in a [`RelayPayload::PurgeResponse`] the request's id, else
    /// a new one.
    pub message_id: &'a str,
    /// When it is sent. The message gives it in whole seconds.
    pub now: Millis,
    /// What it says.
    pub payload: RelayPayload<'a>,
}

/// The payload of a message of the relay (section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayPayload<'a> {
    /// The connection is served.
    HandshakeAck {
        /// The relay's release; the shipped one says `1.1.0`.
        server_version: &'a str,
        /// Whether this is a Noise connection.
        noise: bool,
    },
    /// A blob.
    EncryptedUpdate {
        /// The connection's routing id.
        recipient_id: &'a str,
        /// Who sent it, as it came with the blob; empty if nothing came. The shipped client needs the member.
        sender_id: &'a str,
        /// The blob.
        ciphertext: &'a [u8],
    },
    /// What became of a message.
    Acknowledgment {
        /// Which message.
        message_id: &'a str,
        /// What became of it.
        status: Status,
    },
    /// A message from another device of the same identity, as that device sent it.
    DeviceSyncMessage {
        /// Whose devices they are.
        identity_id: &'a str,
        /// The device that it is for.
        target_device_id: &'a str,
        /// The device that sent it.
        sender_device_id: &'a str,
        /// What it carries.
        encrypted_payload: &'a [u8],
        /// Its place among the others.
        version: u64,
    },
    /// The proofs that were found.
    RecoveryProofResponse(&'a [RecoveryProof<'a>]),
    /// What was deleted.
    PurgeResponse {
        /// Blobs of the routing id.
        blobs_deleted: u64,
        /// Messages to devices of the client.
        device_sync_deleted: u64,
        /// 0 or 1.
        recovery_proofs_deleted: u64,
    },
    /// Where else blobs are kept.
    ForwardingHints(&'a [Hint<'a>]),
}

/// A recovery proof that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoveryProof<'a> {
    /// What it is kept under.
    pub key_hash: RecoveryKeyHash,
    /// What was kept.
    pub proof_data: &'a [u8],
}

/// Where a blob is kept (section 4.10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hint<'a> {
    /// Which blob.
    pub blob_id: &'a str,
    /// Which relay.
    pub relay_url: &'a str,
    /// Until when, in seconds since 1970.
    pub expires_at_secs: u64,
}

impl Outgoing<'_> {
    /// Length of [`Outgoing::encode`] in bytes, prefix included. Looks at every byte of a blob, and copies none.
    #[must_use]
    pub fn frame_len(&self) -> usize {
        self.head().frame_len(|writer| self.payload.write(writer))
    }

    /// Writes the frame.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        self.head().frame(|writer| self.payload.write(writer))
    }

    fn head(&self) -> Head<'_> {
        let kind = self.payload.kind();
        Head { version: PROTOCOL_VERSION, message_id: self.message_id, timestamp: self.now.0 / 1000, kind }
    }
}

impl RelayPayload<'_> {
    fn kind(&self) -> &'static str {
        match self {
            Self::HandshakeAck { .. } => "HandshakeAck",
            Self::EncryptedUpdate { .. } => "EncryptedUpdate",
            Self::Acknowledgment { .. } => "Acknowledgment",
            Self::DeviceSyncMessage { .. } => "DeviceSyncMessage",
            Self::RecoveryProofResponse(_) => "RecoveryProofResponse",
            Self::PurgeResponse { .. } => "PurgeResponse",
            Self::ForwardingHints(_) => "ForwardingHints",
        }
    }

    fn write(&self, w: &mut Writer) {
        match *self {
            Self::HandshakeAck { server_version, noise } => {
                w.number("protocol_version", PROTOCOL_VERSION.into());
                w.text("server_version", server_version);
                let features = FEATURES.into_iter().chain(noise.then_some(NOISE_FEATURE));
                w.list("features", features, |w, feature| w.string(feature));
            }
            Self::EncryptedUpdate { recipient_id, sender_id, ciphertext } => {
                w.text("recipient_id", recipient_id);
                w.text("sender_id", sender_id);
                w.bytes("ciphertext", ciphertext);
            }
            Self::Acknowledgment { message_id, status } => {
                w.text("message_id", message_id);
                w.text("status", status.name());
            }
            Self::DeviceSyncMessage { identity_id, target_device_id, sender_device_id, encrypted_payload, version } => {
                w.text("identity_id", identity_id);
                w.text("target_device_id", target_device_id);
                w.text("sender_device_id", sender_device_id);
                w.bytes("encrypted_payload", encrypted_payload);
                w.number("version", version);
            }
            Self::RecoveryProofResponse(proofs) => w.list("proofs", proofs, |w, proof| {
                w.raw(b"{\"key_hash\":");
                w.string(&proof.key_hash.to_string());
                w.bytes("proof_data", proof.proof_data);
                w.raw(b"}");
            }),
            Self::PurgeResponse { blobs_deleted, device_sync_deleted, recovery_proofs_deleted } => {
                w.number("blobs_deleted", blobs_deleted);
                w.number("device_sync_deleted", device_sync_deleted);
                w.number("recovery_proofs_deleted", recovery_proofs_deleted);
            }
            Self::ForwardingHints(hints) => w.list("hints", hints, |w, hint| {
                w.raw(b"{\"blob_id\":");
                w.string(hint.blob_id);
                w.text("relay_url", hint.relay_url);
                w.number("expires_at_secs", hint.expires_at_secs);
                w.raw(b"}");
            }),
        }
    }
}
