//! The same messages read by a plain serde program, as the shipped relay is one, must come out the same.

use proptest::prelude::*;
use serde::Deserialize;

use super::framed;
use crate::wire::vauchi::incoming::Incoming;
use crate::wire::vauchi::payload::{ClientPayload, RecoveryKeyHash, Status};

#[derive(Debug, PartialEq, Deserialize)]
struct Envelope {
    version: u8,
    message_id: String,
    timestamp: u64,
    payload: Payload,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "type")]
enum Payload {
    Handshake {
        client_id: String,
        device_id: Option<String>,
        routing_token: Option<String>,
        #[serde(default)]
        suppress_presence: bool,
        identity_public_key: Option<String>,
        nonce: Option<String>,
        signature: Option<String>,
        timestamp: Option<u64>,
    },
    EncryptedUpdate {
        recipient_id: String,
        ciphertext: Vec<u8>,
    },
    Acknowledgment {
        message_id: String,
        status: Status,
    },
    DeviceSyncMessage {
        identity_id: String,
        target_device_id: String,
        sender_device_id: String,
        encrypted_payload: Vec<u8>,
        version: u64,
    },
    DeviceSyncAck {
        message_id: String,
        synced_version: u64,
    },
    RecoveryProofStore {
        key_hash: String,
        proof_data: Vec<u8>,
    },
    RecoveryProofQuery {
        key_hashes: Vec<String>,
    },
    PurgeRequest {
        #[serde(default)]
        include_device_sync: bool,
        #[serde(default)]
        include_recovery_proofs: bool,
        recovery_key_hash: Option<String>,
    },
    AccountRevoked {
        sender_id: String,
        recipient_id: String,
        timestamp: u64,
        signature: Vec<u8>,
    },
    #[serde(other)]
    Unknown,
}

/// A hash as we show it; an empty text for what is no hash.
fn hash(text: &str) -> String {
    RecoveryKeyHash::parse(text).map(|hash| hash.to_string()).unwrap_or_default()
}

/// What the reference reads, with the hashes as we take them.
fn reference(json: &str) -> Option<Envelope> {
    let mut envelope: Envelope = serde_json::from_str(json).ok()?;
    match &mut envelope.payload {
        Payload::RecoveryProofStore { key_hash, .. } => *key_hash = hash(key_hash),
        Payload::RecoveryProofQuery { key_hashes } => {
            *key_hashes = key_hashes.iter().map(|text| hash(text)).filter(|text| !text.is_empty()).collect();
        }
        Payload::PurgeRequest { recovery_key_hash, .. } => {
            *recovery_key_hash = recovery_key_hash.take().map(|text| hash(&text)).filter(|text| !text.is_empty());
        }
        _ => {}
    }
    Some(envelope)
}

fn ours(json: &str) -> Option<Envelope> {
    let frame = framed(json);
    let Incoming { version, message_id, timestamp, payload } = Incoming::decode(&frame).ok()?;
    Some(Envelope { version, message_id: message_id.into(), timestamp, payload: payload.into() })
}

impl From<ClientPayload<'_>> for Payload {
    fn from(payload: ClientPayload<'_>) -> Self {
        match payload {
            ClientPayload::Handshake(handshake) => Self::Handshake {
                client_id: handshake.client_id.into(),
                device_id: handshake.device_id.map(Into::into),
                routing_token: handshake.routing_token.map(Into::into),
                suppress_presence: handshake.suppress_presence,
                identity_public_key: handshake.identity_public_key.map(Into::into),
                nonce: handshake.nonce.map(Into::into),
                signature: handshake.signature.map(Into::into),
                timestamp: handshake.timestamp,
            },
            ClientPayload::EncryptedUpdate(update) => {
                Self::EncryptedUpdate { recipient_id: update.recipient_id.into(), ciphertext: update.ciphertext.into() }
            }
            ClientPayload::Acknowledgment(ack) => {
                Self::Acknowledgment { message_id: ack.message_id.into(), status: ack.status }
            }
            ClientPayload::DeviceSyncMessage(message) => Self::DeviceSyncMessage {
                identity_id: message.identity_id.into(),
                target_device_id: message.target_device_id.into(),
                sender_device_id: message.sender_device_id.into(),
                encrypted_payload: message.encrypted_payload.into(),
                version: message.version,
            },
            ClientPayload::DeviceSyncAck(ack) => {
                Self::DeviceSyncAck { message_id: ack.message_id.into(), synced_version: ack.synced_version }
            }
            ClientPayload::RecoveryProofStore(store) => Self::RecoveryProofStore {
                key_hash: store.key_hash.map(|hash| hash.to_string()).unwrap_or_default(),
                proof_data: store.proof_data.into(),
            },
            ClientPayload::RecoveryProofQuery(query) => {
                Self::RecoveryProofQuery { key_hashes: query.key_hashes.iter().map(ToString::to_string).collect() }
            }
            ClientPayload::PurgeRequest(purge) => Self::PurgeRequest {
                include_device_sync: purge.include_device_sync,
                include_recovery_proofs: purge.include_recovery_proofs,
                recovery_key_hash: purge.recovery_key_hash.map(|hash| hash.to_string()),
            },
            ClientPayload::AccountRevoked(revoked) => Self::AccountRevoked {
                sender_id: revoked.sender_id.into(),
                recipient_id: revoked.recipient_id.into(),
                timestamp: revoked.timestamp,
                signature: revoked.signature.into(),
            },
            ClientPayload::Ignored => Self::Unknown,
        }
    }
}

/// An object's members: names and JSON texts.
type Members = Vec<(String, String)>;

fn hex_text() -> impl Strategy<Value = String> {
    prop_oneof![5 => "\"[0-9a-fA-F]{64}\"", 1 => "\"[0-9a-g]{0,3}\""]
}

fn byte_array() -> impl Strategy<Value = String> {
    proptest::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| serde_json::to_string(&bytes).unwrap())
}

/// Every member of every payload, with values of its type.
fn member(name: &str) -> BoxedStrategy<(String, String)> {
    let value = match name {
        "ciphertext" | "encrypted_payload" | "proof_data" => byte_array().boxed(),
        "signature" => prop_oneof![byte_array(), hex_text()].boxed(),
        "include_device_sync" | "include_recovery_proofs" | "suppress_presence" => "true|false".boxed(),
        "synced_version" | "timestamp" | "version" => any::<u64>().prop_map(|number| number.to_string()).boxed(),
        "status" => "\"(Stored|Delivered|ReceivedByRecipient|Failed|ReceivedByRelay)\"".boxed(),
        "key_hashes" => {
            proptest::collection::vec(hex_text(), 0..4).prop_map(|texts| format!("[{}]", texts.join(","))).boxed()
        }
        _ => hex_text().boxed(),
    };
    (Just(name.to_owned()), value).boxed()
}

const PAYLOADS: [(&str, &[&str]); 12] = [
    (
        "Handshake",
        &[
            "client_id",
            "device_id",
            "routing_token",
            "suppress_presence",
            "identity_public_key",
            "nonce",
            "signature",
            "timestamp",
        ],
    ),
    ("EncryptedUpdate", &["recipient_id", "sender_id", "ciphertext"]),
    ("Acknowledgment", &["message_id", "status"]),
    ("DeviceSyncMessage", &["identity_id", "target_device_id", "sender_device_id", "encrypted_payload", "version"]),
    ("DeviceSyncAck", &["message_id", "synced_version"]),
    ("RecoveryProofStore", &["key_hash", "proof_data"]),
    ("RecoveryProofQuery", &["key_hashes"]),
    ("PurgeRequest", &["include_device_sync", "include_recovery_proofs", "recovery_key_hash"]),
    ("AccountRevoked", &["sender_id", "recipient_id", "timestamp", "signature"]),
    ("PurgeResponse", &["blobs_deleted", "device_sync_deleted"]),
    ("HandshakeAck", &[]),
    ("Later", &["ciphertext", "version"]),
];

/// Any name, often that of a known member.
fn any_name() -> impl Strategy<Value = String> {
    let known: Vec<&str> = PAYLOADS.iter().flat_map(|(_, members)| members.iter().copied()).collect();
    prop_oneof![4 => proptest::sample::select(known).prop_map(str::to_owned), 1 => "[a-z]{0,3}", 1 => Just("type".into())]
}

/// Any JSON value, often one that is nearly of some member's type.
fn any_value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|flag| flag.to_string()),
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,3})?(e[0-9])?",
        "\"[a-z\u{e9} ]{0,4}(\\\\n|\\\\u00e9|\\\\ud83d\\\\ude00)?\"",
        byte_array(),
        "\\[(1|256|-1|\"x\"|null|\\[\\])(, ?(1|0|255|1\\.0|\\{\\}))*\\]",
        "\\{(\"a\":(1|null|\\[1\\]|\\{\\}))?\\}",
    ]
}

/// One thing that happens to an object on its way.
#[derive(Debug, Clone)]
enum Mishap {
    Lose(prop::sample::Index),
    Replace(prop::sample::Index, String),
    Repeat(prop::sample::Index),
    Insert(prop::sample::Index, String, String),
}

impl Mishap {
    fn befall(self, members: &mut Members) {
        let count = members.len();
        match self {
            Self::Insert(at, name, value) => members.insert(at.index(count + 1), (name, value)),
            _ if count == 0 => {}
            Self::Lose(at) => drop(members.remove(at.index(count))),
            Self::Replace(at, value) => members[at.index(count)].1 = value,
            Self::Repeat(at) => members.push(members[at.index(count)].clone()),
        }
    }
}

fn mishap() -> impl Strategy<Value = Mishap> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        2 => at().prop_map(Mishap::Lose),
        2 => (at(), any_value()).prop_map(|(at, value)| Mishap::Replace(at, value)),
        1 => at().prop_map(Mishap::Repeat),
        4 => (at(), any_name(), any_value()).prop_map(|(at, name, value)| Mishap::Insert(at, name, value)),
    ]
}

/// The object of `members` in any order after up to `most` mishaps, with white space or without.
fn object(members: impl Strategy<Value = Members>, most: usize) -> impl Strategy<Value = String> {
    let mishaps = proptest::collection::vec(mishap(), 0..=most);
    let space = proptest::sample::select(vec!["", " ", "\n\t"]);
    (members.prop_shuffle(), mishaps, space).prop_map(|(mut members, mishaps, space)| {
        mishaps.into_iter().for_each(|mishap| mishap.befall(&mut members));
        let members: Vec<String> =
            members.iter().map(|(name, value)| format!("{space}\"{name}\"{space}:{space}{value}{space}")).collect();
        format!("{{{space}{}}}{space}", members.join(","))
    })
}

fn payload() -> impl Strategy<Value = String> {
    let members = proptest::sample::select(PAYLOADS.to_vec()).prop_flat_map(|(kind, names)| {
        let mut members = vec![Just(("type".to_owned(), format!("\"{kind}\""))).boxed()];
        members.extend(names.iter().map(|name| member(name)));
        members
    });
    object(members, 2)
}

fn envelope() -> impl Strategy<Value = String> {
    let members = (any::<u8>(), hex_text(), any::<u64>(), payload()).prop_map(|(version, id, timestamp, payload)| {
        let members = [
            ("version", version.to_string()),
            ("message_id", id),
            ("timestamp", timestamp.to_string()),
            ("payload", payload),
        ];
        members.map(|(name, value)| (name.to_owned(), value)).to_vec()
    });
    object(members, 1)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_message_is_read_as_the_reference_reads_it(json in envelope()) {
        // serde takes a list for a type and its members. No client writes that, and it is refused here.
        let list = serde_json::from_str::<serde_json::Value>(&json).is_ok_and(|value| value["payload"].is_array());
        prop_assume!(!list);
        prop_assert_eq!(ours(&json), reference(&json));
    }
}
