//! How leniently a message is read, and the way there and back.

mod examples;
mod reference;

use bytes::Bytes;
use proptest::prelude::*;

use super::frame::DecodeError;
use super::handshake::Handshake;
use super::incoming::Incoming;
use super::outgoing::{Outgoing, RelayPayload};
use super::payload::*;
use crate::domain::clock::Millis;

/// `json` behind a prefix that says something else.
fn framed(json: &str) -> Vec<u8> {
    [b"\xff\xff\xff\xff", json.as_bytes()].concat()
}

fn decode_payload(payload: &str) -> Result<ClientPayload<'static>, DecodeError> {
    let json = format!(r#"{{"version":1,"message_id":"m","timestamp":1,"payload":{payload}}}"#);
    let frame: &'static [u8] = framed(&json).leak();
    Incoming::decode(frame).map(|message| message.payload)
}

fn message<'a>(message_id: &'a str, timestamp: u64, payload: ClientPayload<'a>) -> Incoming<'a> {
    Incoming { version: 1, message_id: message_id.into(), timestamp, payload }
}

#[test]
fn a_type_may_stand_last_and_strangers_beside_it() {
    let update = decode_payload(
        r#"{"ciphertext" : [ 1 , 2 ], "later":{"ciphertext":[256]}, "version":"x", "later":null,
            "sender_id":[7], "key_hashes":7, "recipient_id":"a\u0062", "type":"Encrypted\u0055pdate"}"#,
    );
    let expected =
        EncryptedUpdate { recipient_id: "ab".into(), sender_id: None, ciphertext: Bytes::from_static(&[1, 2]) };
    assert_eq!(update, Ok(ClientPayload::EncryptedUpdate(expected)));
}

#[test]
fn types_that_are_unknown_or_the_relays_own_are_ignored() {
    for kind in
        ["", "handshake", "DeviceLink", "HandshakeAck", "PurgeResponse", "RecoveryProofResponse", "ForwardingHints"]
    {
        assert_eq!(decode_payload(&format!(r#"{{"type":"{kind}","client_id":7}}"#)), Ok(ClientPayload::Ignored));
    }
    for bad in ["{}", r#"{"type":1}"#, r#"{"type":null}"#, r#"{"type":"x","type":"x"}"#, r#"["x"]"#, "null", r#""x""#] {
        assert_eq!(decode_payload(bad), Err(DecodeError::Malformed), "{bad}");
    }
}

#[test]
fn an_envelope_needs_its_four_members_and_nothing_after_it() {
    let good = r#"{"version":9,"message_id":"","timestamp":18446744073709551615,"payload":{"type":"x"}}"#;
    assert_eq!(Incoming::decode(&framed(good)).map(|message| message.version), Ok(9));
    for (from, to) in [
        ("9", "256"),
        ("9", "-1"),
        ("9", "1.0"),
        ("9", "\"1\""),
        ("9", "null"),
        ("9", "1e1"),
        (r#""version":9,"#, ""),
        (r#""version":9,"#, r#""version":9,"version":9,"#),
        (r#""message_id":"""#, r#""message_id":7"#),
        (r#""message_id":"","#, ""),
        ("18446744073709551615", "18446744073709551616"),
        ("18446744073709551615", "1.5"),
        (r#"{"type":"x"}"#, "null"),
        (r#","payload":{"type":"x"}"#, ""),
        ("}}", "}} x"),
        ("}}", "}"),
        ("{\"version\"", "[\"version\""),
    ] {
        let bad = good.replace(from, to);
        assert_ne!(bad, good);
        assert_eq!(Incoming::decode(&framed(&bad)), Err(DecodeError::Malformed), "{bad}");
    }
    assert_eq!(Incoming::decode(b"{}"), Err(DecodeError::TooShort));
    assert_eq!(Incoming::decode(b"{}{}"), Err(DecodeError::Malformed));
    assert_eq!(Incoming::decode(b"\0\0\0\x02\xff{}"), Err(DecodeError::Malformed));
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[0-9a-f]{64}", any::<String>()]
}

fn blob() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from)
}

fn key_hash() -> impl Strategy<Value = RecoveryKeyHash> {
    any::<[u8; 32]>().prop_map(RecoveryKeyHash)
}

fn handshake() -> impl Strategy<Value = Handshake<'static>> {
    let optional = || proptest::option::of(text().prop_map(Into::into));
    (text(), proptest::array::uniform5(optional()), any::<[bool; 2]>(), any::<Option<u64>>()).prop_map(
        |(client_id, optional, [suppress_presence, accept_hints], timestamp)| {
            let [device_id, routing_token, identity_public_key, nonce, signature] = optional;
            let client_id = client_id.into();
            Handshake {
                client_id,
                device_id,
                routing_token,
                suppress_presence,
                accept_hints,
                identity_public_key,
                nonce,
                signature,
                timestamp,
            }
        },
    )
}

fn payload() -> impl Strategy<Value = ClientPayload<'static>> {
    let status = proptest::sample::select(Status::ALL.to_vec());
    prop_oneof![
        handshake().prop_map(ClientPayload::Handshake),
        (text(), proptest::option::of(text()), blob()).prop_map(|(recipient_id, sender_id, ciphertext)| {
            let (recipient_id, sender_id) = (recipient_id.into(), sender_id.map(Into::into));
            ClientPayload::EncryptedUpdate(EncryptedUpdate { recipient_id, sender_id, ciphertext })
        }),
        (text(), status).prop_map(|(message_id, status)| {
            ClientPayload::Acknowledgment(Acknowledgment { message_id: message_id.into(), status })
        }),
        (text(), text(), text(), blob(), any::<u64>()).prop_map(|(identity, target, sender, payload, version)| {
            ClientPayload::DeviceSyncMessage(DeviceSyncMessage {
                identity_id: identity.into(),
                target_device_id: target.into(),
                sender_device_id: sender.into(),
                encrypted_payload: payload,
                version,
            })
        }),
        (text(), any::<u64>()).prop_map(|(message_id, synced_version)| {
            ClientPayload::DeviceSyncAck(DeviceSyncAck { message_id: message_id.into(), synced_version })
        }),
        (proptest::option::of(key_hash()), blob()).prop_map(|(key_hash, proof_data)| {
            ClientPayload::RecoveryProofStore(RecoveryProofStore { key_hash, proof_data })
        }),
        proptest::collection::vec(key_hash(), 0..4)
            .prop_map(|key_hashes| ClientPayload::RecoveryProofQuery(RecoveryProofQuery { key_hashes })),
        (any::<bool>(), any::<bool>(), proptest::option::of(key_hash())).prop_map(|(sync, proofs, hash)| {
            ClientPayload::PurgeRequest(PurgeRequest {
                include_device_sync: sync,
                include_recovery_proofs: proofs,
                recovery_key_hash: hash,
            })
        }),
        (text(), text(), any::<u64>(), blob()).prop_map(|(sender_id, recipient_id, timestamp, signature)| {
            let (sender_id, recipient_id) = (sender_id.into(), recipient_id.into());
            ClientPayload::AccountRevoked(AccountRevoked { sender_id, recipient_id, timestamp, signature })
        }),
        Just(ClientPayload::Ignored),
    ]
}

proptest! {
    #[test]
    fn a_message_that_is_written_is_read_again(
        version: u8, message_id in text(), timestamp: u64, payload in payload(),
    ) {
        let message = Incoming { version, message_id: message_id.into(), timestamp, payload };
        let frame = message.encode();
        prop_assert_eq!(Incoming::decode(&frame), Ok(message));
    }

    #[test]
    fn a_delivery_is_as_long_as_it_says_and_reads_as_what_was_stored(
        message_id in text(), recipient_id in text(), sender_id in text(), ciphertext in blob(),
    ) {
        let payload = RelayPayload::EncryptedUpdate {
            recipient_id: &recipient_id,
            sender_id: &sender_id,
            ciphertext: &ciphertext,
        };
        let outgoing = Outgoing { message_id: &message_id, now: Millis(1_771_000_000_000), payload };
        let frame = outgoing.encode();
        prop_assert_eq!(outgoing.frame_len(), frame.len());
        let expected = EncryptedUpdate {
            recipient_id: recipient_id.as_str().into(),
            sender_id: Some(sender_id.as_str().into()),
            ciphertext: ciphertext.clone(),
        };
        let expected = message(&message_id, 1_771_000_000, ClientPayload::EncryptedUpdate(expected));
        prop_assert_eq!(Incoming::decode(&frame), Ok(expected));
    }
}
