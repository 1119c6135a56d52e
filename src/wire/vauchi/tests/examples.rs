//! The worked examples of section 10, byte for byte.

use bytes::Bytes;

use super::{framed, message};
use crate::domain::clock::Millis;
use crate::security::ed25519::SigningKey;
use crate::wire::vauchi::handshake::Handshake;
use crate::wire::vauchi::incoming::Incoming;
use crate::wire::vauchi::outgoing::{Hint, Outgoing, RecoveryProof, RelayPayload};
use crate::wire::vauchi::payload::*;
use crate::wire::vauchi::proof::Proof;

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
