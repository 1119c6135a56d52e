//! Mailboxes: every message of the protocol, what is answered to it, and who else is told.

use serde_json::{Value, json};

use crate::support::mailbox::{frame, proven_id, with};
use crate::support::{TestMailbox, TestNode, id};

#[tokio::test]
async fn a_blob_is_stored_delivered_and_acknowledged_under_the_ids_that_each_side_knows() {
    let node = TestNode::start(&[]).await;
    let (a, b) = (id('a'), id('b'));
    let mut sender = TestMailbox::greeting(node.public, &json!({"type": "Handshake", "client_id": a})).await;
    let greeting = sender.expect_type("HandshakeAck").await;
    let features = [
        "routing_token",
        "suppress_presence",
        "purge",
        "device_sync",
        "recovery_proof",
        "account_revoked",
        "forwarding_hints",
        "authenticated_handshake",
    ];
    assert_eq!(greeting["version"], 1);
    assert_eq!(
        (&greeting["payload"]["protocol_version"], &greeting["payload"]["features"]),
        (&json!(1), &json!(features))
    );
    sender
        .say(
            "m-1",
            &json!({
                "type": "EncryptedUpdate", "recipient_id": b, "sender_id": a, "ciphertext": [104, 101, 108, 108, 111],
            }),
        )
        .await;
    sender.expect_status("m-1", "Stored").await;

    let mut recipient = TestMailbox::plain(node.public, &b).await;
    let delivered = recipient.expect_type("EncryptedUpdate").await;
    let expected = json!({"type": "EncryptedUpdate", "recipient_id": b, "sender_id": a, "ciphertext": b"hello"});
    assert_eq!(delivered["payload"], expected);
    let blob = delivered["message_id"].as_str().unwrap();
    assert_eq!(blob.len(), 36, "{blob}");
    sender.expect_status("m-1", "Delivered").await;
    recipient.acknowledge(blob, "ReceivedByRecipient").await;
    sender.expect_status("m-1", "ReceivedByRecipient").await;
    recipient.close().await;
    let mut again = TestMailbox::plain(node.public, &b).await;
    assert_eq!(again.purge().await, 0);
}

#[tokio::test]
async fn the_sender_of_a_blob_without_one_is_empty() {
    let node = TestNode::start(&[]).await;
    let mut client = TestMailbox::plain(node.public, &id('a')).await;
    client.say("m", &json!({"type": "EncryptedUpdate", "recipient_id": id('b'), "ciphertext": []})).await;
    client.expect_status("m", "Stored").await;
    let mut recipient = TestMailbox::plain(node.public, &id('b')).await;
    assert_eq!(recipient.expect_type("EncryptedUpdate").await["payload"]["sender_id"], "");
}

#[tokio::test]
async fn whatever_the_status_an_acknowledged_blob_is_gone() {
    let node = TestNode::start(&[]).await;
    let mut sender = TestMailbox::plain(node.public, &id('a')).await;
    let mut recipient = TestMailbox::plain(node.public, &id('b')).await;
    for status in ["Stored", "Delivered", "ReceivedByRecipient", "Failed"] {
        sender.store(status, &id('b'), b"x").await;
        let blob = recipient.expect_blob(b"x").await;
        sender.expect_status(status, "Delivered").await;
        recipient.acknowledge(&blob, status).await;
        assert_eq!(recipient.purge().await, 0, "{status}");
        if status == "ReceivedByRecipient" {
            sender.expect_status(status, status).await;
        }
    }
    sender.settle().await;
    sender.store("kept", &id('b'), b"y").await;
    let blob = recipient.expect_blob(b"y").await;
    recipient.acknowledge(&blob, "ReceivedByRelay").await;
    assert_eq!(recipient.purge().await, 1, "a status that there is not");
}

#[tokio::test]
async fn an_acknowledgment_counts_only_for_the_mailbox_of_its_connection() {
    let node = TestNode::start(&[]).await;
    let mut sender = TestMailbox::plain(node.public, &id('a')).await;
    let mut recipient = TestMailbox::plain(node.public, &id('b')).await;
    sender.store("m", &id('b'), b"x").await;
    let blob = recipient.expect_blob(b"x").await;
    sender.expect_status("m", "Delivered").await;
    sender.acknowledge(&blob, "ReceivedByRecipient").await;
    sender.acknowledge("no id", "ReceivedByRecipient").await;
    sender.settle().await;
    assert_eq!(recipient.purge().await, 1);
}

#[tokio::test]
async fn a_repeated_message_is_one_blob_also_after_it_was_acknowledged() {
    let node = TestNode::start(&[]).await;
    let mut sender = TestMailbox::plain(node.public, &id('a')).await;
    let mut other = TestMailbox::plain(node.public, &id('c')).await;
    for _ in 0..3 {
        sender.store("m", &id('b'), b"x").await;
    }
    other.store("m", &id('b'), b"of another").await;
    let mut recipient = TestMailbox::plain(node.public, &id('b')).await;
    let blob = recipient.expect_blob(b"x").await;
    recipient.expect_blob(b"of another").await;
    recipient.acknowledge(&blob, "ReceivedByRecipient").await;
    recipient.settle().await;
    sender.expect_status("m", "Delivered").await;
    sender.expect_status("m", "ReceivedByRecipient").await;
    sender.store("m", &id('b'), b"x").await;
    assert_eq!(recipient.purge().await, 1, "only the other's");
}

#[tokio::test]
async fn messages_without_an_id_are_never_repeats() {
    let node = TestNode::start(&[]).await;
    let mut sender = TestMailbox::plain(node.public, &id('a')).await;
    sender.store("", &id('b'), b"one").await;
    sender.store("", &id('b'), b"two").await;
    let mut recipient = TestMailbox::plain(node.public, &id('b')).await;
    recipient.expect_blob(b"one").await;
    recipient.expect_blob(b"two").await;
}

#[tokio::test]
async fn nobody_is_told_what_a_recipient_receives_that_does_not_want_it() {
    let node = TestNode::start(&[]).await;
    let mut sender = TestMailbox::plain(node.public, &id('a')).await;
    let quiet = json!({"type": "Handshake", "client_id": id('b'), "suppress_presence": true});
    let mut recipient = TestMailbox::with(node.public, &quiet).await;
    sender.store("m", &id('b'), b"x").await;
    let blob = recipient.expect_blob(b"x").await;
    recipient.acknowledge(&blob, "ReceivedByRecipient").await;
    recipient.settle().await;
    sender.settle().await;
}

#[tokio::test]
async fn a_revocation_reaches_the_contact_as_a_blob_that_holds_it() {
    let node = TestNode::start(&[]).await;
    let (a, b) = (id('a'), id('b'));
    let mut sender = TestMailbox::plain(node.public, &a).await;
    let revoked =
        json!({"type": "AccountRevoked", "sender_id": a, "recipient_id": b, "timestamp": 1, "signature": [1, 2]});
    sender.say("ar-1", &revoked).await;
    sender.expect_status("ar-1", "Stored").await;
    let mut recipient = TestMailbox::plain(node.public, &b).await;
    let blob = recipient.expect_type("EncryptedUpdate").await;
    assert_eq!(blob["payload"]["ciphertext"], json!(frame("ar-1", &revoked)));
    recipient.acknowledge(blob["message_id"].as_str().unwrap(), "ReceivedByRecipient").await;
    recipient.settle().await;
    // Nobody is told of its delivery, and who is named wrongly is not told at all.
    sender.settle().await;
    sender.say("ar-2", &with(revoked, json!({"recipient_id": "b"}))).await;
    sender.expect_status("ar-2", "Failed").await;
}

fn sync(client: &str, target: &str, version: u64) -> Value {
    json!({
        "type": "DeviceSyncMessage", "identity_id": client, "target_device_id": target, "sender_device_id": "d1",
        "encrypted_payload": [version], "version": version,
    })
}

#[tokio::test]
async fn messages_between_devices_come_by_version_then_live_and_go_when_acknowledged() {
    let node = TestNode::start(&[]).await;
    let (client, device) = (id('b'), id('2'));
    let mut first = TestMailbox::plain(node.public, &client).await;
    for version in [7, 3] {
        first.say(&format!("s-{version}"), &sync(&client, &device, version)).await;
        first.expect_status(&format!("s-{version}"), "Stored").await;
    }
    let mut second = TestMailbox::device(node.public, &client, &device).await;
    let mut ids = Vec::new();
    for version in [3, 7] {
        let message = second.expect_type("DeviceSyncMessage").await;
        assert_eq!(message["payload"], sync(&client, &device, version));
        ids.push(message["message_id"].as_str().unwrap().to_owned());
    }
    // One that is older than what was sent already is sent too.
    first.say("s-5", &sync(&client, &device, 5)).await;
    first.expect_status("s-5", "Stored").await;
    assert_eq!(second.expect_type("DeviceSyncMessage").await["payload"]["version"], 5);
    for id in &ids {
        second.say("d", &json!({"type": "DeviceSyncAck", "message_id": id, "synced_version": 7})).await;
    }
    second.say("p", &json!({"type": "PurgeRequest", "include_device_sync": true})).await;
    assert_eq!(second.expect_type("PurgeResponse").await["payload"]["device_sync_deleted"], 1);
    // Another's devices are not written to, and that is not answered.
    first.say("s-9", &sync(&id('c'), &device, 9)).await;
    first.settle().await;
}

#[tokio::test]
async fn recovery_proofs_are_replaced_found_and_purged() {
    let node = TestNode::start(&[]).await;
    let mut client = TestMailbox::plain(node.public, &id('a')).await;
    let (hash, none) = ("CD".repeat(32), "00".repeat(32));
    for proof in [[1, 2], [3, 4]] {
        client.say("r-1", &json!({"type": "RecoveryProofStore", "key_hash": hash, "proof_data": proof})).await;
        client.expect_status("r-1", "Stored").await;
    }
    let query = json!({"type": "RecoveryProofQuery", "key_hashes": [hash, none, "no hash", hash]});
    client.say("r-2", &query).await;
    let found = client.expect_type("RecoveryProofResponse").await;
    assert_eq!(found["payload"]["proofs"], json!([{"key_hash": "cd".repeat(32), "proof_data": [3, 4]}]));
    let purge = json!({"type": "PurgeRequest", "include_recovery_proofs": true, "recovery_key_hash": hash});
    for deleted in [1, 0] {
        client.say("p-1", &purge).await;
        let answer = client.expect_type("PurgeResponse").await;
        assert_eq!(
            (&answer["message_id"], &answer["payload"]["recovery_proofs_deleted"]),
            (&json!("p-1"), &json!(deleted))
        );
    }
    client.say("r-3", &query).await;
    assert_eq!(client.expect_type("RecoveryProofResponse").await["payload"]["proofs"], json!([]));
    client.say("r-4", &json!({"type": "RecoveryProofStore", "key_hash": "cd", "proof_data": [1]})).await;
    client.settle().await;
    let long = json!({"type": "RecoveryProofStore", "key_hash": hash, "proof_data": vec![0; 8193]});
    client.say("r-5", &long).await;
    client.expect_status("r-5", "Failed").await;
}

#[tokio::test]
async fn the_proof_of_a_proven_client_is_its_own() {
    let node = TestNode::start(&[]).await;
    let mut owner = TestMailbox::proven(node.public, 1).await;
    let store = |byte: u8| json!({"type": "RecoveryProofStore", "key_hash": "ab".repeat(32), "proof_data": [byte]});
    owner.say("r", &store(1)).await;
    owner.expect_status("r", "Stored").await;
    let purge = json!({"type": "PurgeRequest", "include_recovery_proofs": true, "recovery_key_hash": "ab".repeat(32)});
    for mut stranger in
        [TestMailbox::plain(node.public, &proven_id(1)).await, TestMailbox::proven(node.public, 2).await]
    {
        stranger.say("r", &store(2)).await;
        stranger.expect_status("r", "Failed").await;
        stranger.say("p", &purge).await;
        assert_eq!(stranger.expect_type("PurgeResponse").await["payload"]["recovery_proofs_deleted"], 0);
    }
    owner.say("r", &store(3)).await;
    owner.expect_status("r", "Stored").await;
    owner.say("p", &purge).await;
    assert_eq!(owner.expect_type("PurgeResponse").await["payload"]["recovery_proofs_deleted"], 1);
}

#[tokio::test]
async fn a_purge_empties_the_mailbox_and_nothing_comes_again() {
    let node = TestNode::start(&[]).await;
    let mut sender = TestMailbox::plain(node.public, &id('a')).await;
    for n in 0..5 {
        sender.store(&n.to_string(), &id('b'), b"x").await;
    }
    let quiet = json!({"type": "Handshake", "client_id": id('b'), "suppress_presence": true});
    let mut recipient = TestMailbox::with(node.public, &quiet).await;
    for _ in 0..5 {
        recipient.expect_blob(b"x").await;
    }
    assert_eq!(recipient.purge().await, 5);
    sender.store("0", &id('b'), b"x").await;
    assert_eq!(recipient.purge().await, 0, "a repeat of what was purged");
}
