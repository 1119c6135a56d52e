//! The worked examples of section 10, byte for byte; how leniently a message is read; and the way there and back.

mod reference;

use bytes::Bytes;
use proptest::prelude::*;

use super::frame::DecodeError;
use super::handshake::Handshake;
use super::incoming::Incoming;
use super::outgoing::{Hint, Outgoing, RecoveryProof, RelayPayload};
use super::payload::*;
use super::proof::Proof;
use crate::domain::clock::Millis;
use crate::security::ed25519::SigningKey;

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

/// Checks that `json` is what the message is written as and read from.
fn assert_client_sends(json: &str, expected: &Incoming<'_>) {
    let frame = framed(json);
    assert_eq!(Incoming::decode(&frame).as_ref(), Ok(expected));
    assert_is(&expected.encode(), json);
}

/// Checks that `frame` is `json` behind its length.
fn assert_is(frame: &Bytes, json: &str) {
    assert_eq!(std::str::from_utf8(&frame[4..]).unwrap(), json);
    assert_eq!(frame[..4], u32::try_from(json.len()).unwrap().to_be_bytes());
}

fn assert_relay_sends(message_id: &str, timestamp: u64, payload: RelayPayload<'_>, json: &str) {
    let outgoing = Outgoing { message_id, now: Millis(timestamp * 1000 + 999), payload };
    assert_is(&outgoing.encode(), json);
    assert_eq!(outgoing.frame_len(), 4 + json.len());
}

/// What the examples abbreviate: an id that begins with `start`.
fn id(start: &str) -> String {
    format!("{start:0<64}")
}

#[test]
fn connect() {
    let (b, d2) = (id("B"), id("d2"));
    assert_client_sends(
        &format!(
            r#"{{"version":1,"message_id":"6f1c","timestamp":1771000000,"payload":{{"type":"Handshake","client_id":"{b}","device_id":"{d2}"}}}}"#
        ),
        &message("6f1c", 1_771_000_000, ClientPayload::Handshake(Handshake::plain(&b, Some(&d2)))),
    );
    assert_relay_sends(
        "79356e57-8f66-46cb-87e0-a1360db6cfc1",
        1_771_000_000,
        RelayPayload::HandshakeAck { server_version: "1.1.0", noise: false },
        r#"{"version":1,"message_id":"79356e57-8f66-46cb-87e0-a1360db6cfc1","timestamp":1771000000,"payload":{"type":"HandshakeAck","protocol_version":1,"server_version":"1.1.0","features":["routing_token","suppress_presence","purge","device_sync","recovery_proof","account_revoked","forwarding_hints","authenticated_handshake"]}}"#,
    );
    assert_relay_sends(
        "x",
        1,
        RelayPayload::HandshakeAck { server_version: "2", noise: true },
        r#"{"version":1,"message_id":"x","timestamp":1,"payload":{"type":"HandshakeAck","protocol_version":1,"server_version":"2","features":["routing_token","suppress_presence","purge","device_sync","recovery_proof","account_revoked","forwarding_hints","authenticated_handshake","noise_nk"]}}"#,
    );
}

#[test]
fn authenticated_connect() {
    let key = SigningKey::from_seed(&[7; 32]).unwrap();
    let proof = Proof::sign(&key, [0xab; 32], 1_771_000_000);
    let (client_id, nonce, signature) =
        (hex::encode(key.public_key().0), "ab".repeat(32), hex::encode(proof.signature));
    let json = format!(
        r#"{{"version":1,"message_id":"a","timestamp":1771000000,"payload":{{"type":"Handshake","client_id":"{client_id}","identity_public_key":"{client_id}","nonce":"{nonce}","signature":"{signature}","timestamp":1771000000}}}}"#
    );
    let handshake = Handshake::plain(&client_id, None).with_proof(&proof);
    assert_eq!(handshake.check(Millis(1_771_000_000_000)), Ok(Some(proof)));
    assert_client_sends(&json, &message("a", 1_771_000_000, ClientPayload::Handshake(handshake)));
}

#[test]
fn store_deliver_acknowledge() {
    let (a, b) = (id("A"), id("B"));
    let update = EncryptedUpdate {
        recipient_id: b.as_str().into(),
        sender_id: Some(a.as_str().into()),
        ciphertext: Bytes::from_static(b"hello"),
    };
    assert_client_sends(
        &format!(
            r#"{{"version":1,"message_id":"m-1","timestamp":1771000001,"payload":{{"type":"EncryptedUpdate","recipient_id":"{b}","sender_id":"{a}","ciphertext":[104,101,108,108,111]}}}}"#
        ),
        &message("m-1", 1_771_000_001, ClientPayload::EncryptedUpdate(update)),
    );
    assert_relay_sends(
        "79847664",
        1_771_000_001,
        RelayPayload::Acknowledgment { message_id: "m-1", status: Status::Stored },
        r#"{"version":1,"message_id":"79847664","timestamp":1771000001,"payload":{"type":"Acknowledgment","message_id":"m-1","status":"Stored"}}"#,
    );
    assert_relay_sends(
        "2b2a35e6-c1cf-441b-a481-464145d226ea",
        1_771_000_050,
        RelayPayload::EncryptedUpdate { recipient_id: &b, sender_id: &a, ciphertext: b"hello" },
        &format!(
            r#"{{"version":1,"message_id":"2b2a35e6-c1cf-441b-a481-464145d226ea","timestamp":1771000050,"payload":{{"type":"EncryptedUpdate","recipient_id":"{b}","sender_id":"{a}","ciphertext":[104,101,108,108,111]}}}}"#
        ),
    );
    assert_relay_sends(
        "53e9a431",
        1_771_000_050,
        RelayPayload::Acknowledgment { message_id: "2b2a35e6-c1cf-441b-a481-464145d226ea", status: Status::Delivered },
        r#"{"version":1,"message_id":"53e9a431","timestamp":1771000050,"payload":{"type":"Acknowledgment","message_id":"2b2a35e6-c1cf-441b-a481-464145d226ea","status":"Delivered"}}"#,
    );
    let ack = Acknowledgment {
        message_id: "2b2a35e6-c1cf-441b-a481-464145d226ea".into(),
        status: Status::ReceivedByRecipient,
    };
    assert_client_sends(
        r#"{"version":1,"message_id":"","timestamp":1771000051,"payload":{"type":"Acknowledgment","message_id":"2b2a35e6-c1cf-441b-a481-464145d226ea","status":"ReceivedByRecipient"}}"#,
        &message("", 1_771_000_051, ClientPayload::Acknowledgment(ack)),
    );
}

#[test]
fn quota_reached() {
    assert_relay_sends(
        "f",
        1_771_000_002,
        RelayPayload::Acknowledgment { message_id: "m-1001", status: Status::Failed },
        r#"{"version":1,"message_id":"f","timestamp":1771000002,"payload":{"type":"Acknowledgment","message_id":"m-1001","status":"Failed"}}"#,
    );
}

#[test]
fn device_sync() {
    let (b, d1, d2) = (id("B"), id("d1"), id("d2"));
    let sent = DeviceSyncMessage {
        identity_id: b.as_str().into(),
        target_device_id: d2.as_str().into(),
        sender_device_id: d1.as_str().into(),
        encrypted_payload: Bytes::from_static(&[9]),
        version: 7,
    };
    let json = |message_id: &str, timestamp: u64| {
        format!(
            r#"{{"version":1,"message_id":"{message_id}","timestamp":{timestamp},"payload":{{"type":"DeviceSyncMessage","identity_id":"{b}","target_device_id":"{d2}","sender_device_id":"{d1}","encrypted_payload":[9],"version":7}}}}"#
        )
    };
    assert_client_sends(
        &json("s-1", 1_771_000_000),
        &message("s-1", 1_771_000_000, ClientPayload::DeviceSyncMessage(sent)),
    );
    let delivered = RelayPayload::DeviceSyncMessage {
        identity_id: &b,
        target_device_id: &d2,
        sender_device_id: &d1,
        encrypted_payload: &[9],
        version: 7,
    };
    assert_relay_sends("3e98530c", 1_771_000_009, delivered, &json("3e98530c", 1_771_000_009));
    let ack = DeviceSyncAck { message_id: "3e98530c".into(), synced_version: 7 };
    assert_client_sends(
        r#"{"version":1,"message_id":"k","timestamp":1771000009,"payload":{"type":"DeviceSyncAck","message_id":"3e98530c","synced_version":7}}"#,
        &message("k", 1_771_000_009, ClientPayload::DeviceSyncAck(ack)),
    );
}

#[test]
fn recovery_proof() {
    let (cd, zero) = ("cd".repeat(32), "00".repeat(32));
    let key_hash = RecoveryKeyHash([0xcd; 32]);
    let store = RecoveryProofStore { key_hash: Some(key_hash), proof_data: Bytes::from_static(&[1, 2, 3]) };
    assert_client_sends(
        &format!(
            r#"{{"version":1,"message_id":"r-1","timestamp":1,"payload":{{"type":"RecoveryProofStore","key_hash":"{cd}","proof_data":[1,2,3]}}}}"#
        ),
        &message("r-1", 1, ClientPayload::RecoveryProofStore(store)),
    );
    let query = RecoveryProofQuery { key_hashes: vec![key_hash, RecoveryKeyHash([0; 32])] };
    assert_client_sends(
        &format!(
            r#"{{"version":1,"message_id":"r-2","timestamp":1,"payload":{{"type":"RecoveryProofQuery","key_hashes":["{cd}","{zero}"]}}}}"#
        ),
        &message("r-2", 1, ClientPayload::RecoveryProofQuery(query)),
    );
    let proof = RecoveryProof { key_hash, proof_data: &[1, 2, 3] };
    assert_relay_sends(
        "r",
        1,
        RelayPayload::RecoveryProofResponse(&[proof, proof]),
        &format!(
            r#"{{"version":1,"message_id":"r","timestamp":1,"payload":{{"type":"RecoveryProofResponse","proofs":[{{"key_hash":"{cd}","proof_data":[1,2,3]}},{{"key_hash":"{cd}","proof_data":[1,2,3]}}]}}}}"#
        ),
    );
    assert_relay_sends(
        "r",
        1,
        RelayPayload::RecoveryProofResponse(&[]),
        r#"{"version":1,"message_id":"r","timestamp":1,"payload":{"type":"RecoveryProofResponse","proofs":[]}}"#,
    );
}

#[test]
fn purge() {
    let cd = "cd".repeat(32);
    let purge = PurgeRequest {
        include_device_sync: true,
        include_recovery_proofs: true,
        recovery_key_hash: Some(RecoveryKeyHash([0xcd; 32])),
    };
    assert_client_sends(
        &format!(
            r#"{{"version":1,"message_id":"p-1","timestamp":1,"payload":{{"type":"PurgeRequest","include_device_sync":true,"include_recovery_proofs":true,"recovery_key_hash":"{cd}"}}}}"#
        ),
        &message("p-1", 1, ClientPayload::PurgeRequest(purge)),
    );
    assert_relay_sends(
        "p-1",
        1,
        RelayPayload::PurgeResponse { blobs_deleted: 1, device_sync_deleted: 0, recovery_proofs_deleted: 1 },
        r#"{"version":1,"message_id":"p-1","timestamp":1,"payload":{"type":"PurgeResponse","blobs_deleted":1,"device_sync_deleted":0,"recovery_proofs_deleted":1}}"#,
    );
}

#[test]
fn an_account_revoked_is_delivered_as_its_own_frame() {
    let (a, b) = (id("A"), id("B"));
    let revoked = AccountRevoked {
        sender_id: a.as_str().into(),
        recipient_id: b.as_str().into(),
        timestamp: 1,
        signature: Bytes::from_static(&[1, 2]),
    };
    // The envelope's time is that of the recorded message, whose length the example gives.
    let json = format!(
        r#"{{"version":1,"message_id":"ar-1","timestamp":1771000001,"payload":{{"type":"AccountRevoked","sender_id":"{a}","recipient_id":"{b}","timestamp":1,"signature":[1,2]}}}}"#
    );
    let message = message("ar-1", 1_771_000_001, ClientPayload::AccountRevoked(revoked));
    assert_client_sends(&json, &message);
    assert_eq!(message.encode()[..4], [0, 0, 1, 0x1d]);

    let shuffled =
        json.replace(r#""version":1,"#, "").replace(r#"{"message_id""#, r#"{"x":[], "version":9,"message_id""#);
    let frame = framed(&shuffled);
    assert_is(&Incoming::decode(&frame).unwrap().encode(), &json.replace(r#""version":1"#, r#""version":9"#));
}

#[test]
fn forwarding_hints() {
    let hint = Hint {
        blob_id: "4eab45d0-e614-4eb7-928e-698c5b5a0ca8",
        relay_url: "ws://relay-b:8080",
        expires_at_secs: 1_773_592_000,
    };
    assert_relay_sends(
        "h",
        1,
        RelayPayload::ForwardingHints(&[hint]),
        r#"{"version":1,"message_id":"h","timestamp":1,"payload":{"type":"ForwardingHints","hints":[{"blob_id":"4eab45d0-e614-4eb7-928e-698c5b5a0ca8","relay_url":"ws://relay-b:8080","expires_at_secs":1773592000}]}}"#,
    );
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
    (text(), proptest::array::uniform5(optional()), any::<bool>(), any::<Option<u64>>()).prop_map(
        |(client_id, optional, suppress_presence, timestamp)| {
            let [device_id, routing_token, identity_public_key, nonce, signature] = optional;
            let client_id = client_id.into();
            Handshake {
                client_id,
                device_id,
                routing_token,
                suppress_presence,
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
