//! Mailboxes: sizes, quotas, rates and times, each with the setting that sets it.

use serde_json::json;

use crate::support::mailbox::frame;
use crate::support::{ELSEWHERE, TestMailbox, TestNode, get, id, until};

#[tokio::test]
async fn a_frame_too_large_is_dropped_and_one_far_too_large_closes() {
    let node = TestNode::start(&[("RELAY_MAX_MESSAGE_SIZE", "2048")]).await;
    let mut client = TestMailbox::plain(node.public, &id('a')).await;
    let sized = |bytes: usize| {
        let update = |pad: usize| {
            frame(
                "m",
                &json!({"type": "EncryptedUpdate", "recipient_id": id('b'), "ciphertext": [], "pad": "x".repeat(pad)}),
            )
        };
        update(bytes - update(0).len())
    };
    client.send_bytes(sized(2048)).await;
    client.expect_status("m", "Stored").await;
    client.send_bytes(sized(2049)).await;
    client.send_bytes(sized(8 * 2048)).await;
    client.settle().await;
    assert_eq!(node.node().metrics.mailbox.rejected.get(), 2);
    client.send_bytes(sized(8 * 2048 + 1)).await;
    assert_eq!(client.closed().await.0, 1009);
}

#[tokio::test]
async fn a_mailbox_holds_so_many_blobs_and_has_room_again_when_one_goes() {
    let node = TestNode::start(&[("RELAY_MAX_BLOBS_PER_USER", "3"), ("RELAY_MAX_SENDER_SHARE", "1")]).await;
    let mut client = TestMailbox::plain(node.public, &id('a')).await;
    for n in 0..3 {
        client.store(&n.to_string(), &id('b'), b"x").await;
    }
    client.update("3", &id('b'), b"x").await;
    client.expect_status("3", "Failed").await;
    client.store("elsewhere", &id('c'), b"x").await;
    client.store("2", &id('b'), b"x").await;
    let mut recipient = TestMailbox::plain(node.public, &id('b')).await;
    let blob = recipient.expect_blob(b"x").await;
    client.expect_status("0", "Delivered").await;
    client.expect_status("1", "Delivered").await;
    client.expect_status("2", "Delivered").await;
    recipient.expect_blob(b"x").await;
    recipient.expect_blob(b"x").await;
    recipient.acknowledge(&blob, "Delivered").await;
    recipient.settle().await;
    client.store("3", &id('b'), b"x").await;
}

#[tokio::test]
async fn a_mailbox_and_a_node_hold_so_many_bytes() {
    for (name, bytes) in [("RELAY_MAX_STORAGE_PER_USER", "400000"), ("RELAY_MAX_STORAGE_BYTES", "1048576")] {
        let node = TestNode::start(&[(name, bytes), ("RELAY_MAX_SENDER_SHARE", "1")]).await;
        let mut client = TestMailbox::plain(node.public, &id('a')).await;
        let room: usize = bytes.parse().unwrap();
        // Exactly as much as there is room for, 512 bytes a blob included.
        let (whole, rest) = (room / 200_000, room % 200_000);
        let sizes = std::iter::repeat_n(200_000, whole).chain([rest]).filter(|size| *size > 0);
        for (number, size) in sizes.enumerate() {
            client.store(&number.to_string(), &id('b'), &vec![1; size - 512]).await;
        }
        client.update("more", &id('b'), b"").await;
        client.expect_status("more", "Failed").await;
    }
}

#[tokio::test]
async fn one_sender_fills_its_share_of_a_mailbox_and_no_more() {
    let node = TestNode::start(&[("RELAY_MAX_BLOBS_PER_USER", "4")]).await;
    let mut flooder = TestMailbox::plain(node.public, &id('a')).await;
    let mut same = TestMailbox::plain(node.public, &id('c')).await;
    flooder.store("1", &id('b'), b"x").await;
    same.store("2", &id('b'), b"x").await;
    flooder.update("3", &id('b'), b"x").await;
    flooder.expect_status("3", "Failed").await;
    let mut other = TestMailbox::plain_from(node.public, &id('a'), ELSEWHERE).await;
    other.store("4", &id('b'), b"x").await;
    let mut proven = TestMailbox::proven(node.public, 1).await;
    proven.store("5", &id('b'), b"x").await;
}

#[tokio::test]
async fn names_too_long_are_refused() {
    let node = TestNode::start(&[]).await;
    let mut client = TestMailbox::plain(node.public, &id('a')).await;
    let (most, more) = ("n".repeat(256), "n".repeat(257));
    client.store(&most, &most, b"x").await;
    client.update("1", &more, b"x").await;
    client.expect_status("1", "Failed").await;
    let update = json!({"type": "EncryptedUpdate", "recipient_id": "b", "sender_id": more, "ciphertext": []});
    client.say("2", &update).await;
    client.expect_status("2", "Failed").await;
    let sync = json!({
        "type": "DeviceSyncMessage", "identity_id": id('a'), "target_device_id": more, "sender_device_id": "",
        "encrypted_payload": [], "version": 1,
    });
    client.say("3", &sync).await;
    client.expect_status("3", "Failed").await;
}

#[tokio::test]
async fn a_client_has_messages_for_so_many_devices() {
    let node = TestNode::start(&[]).await;
    let mut client = TestMailbox::plain(node.public, &id('a')).await;
    let sync = |device: usize| {
        json!({
            "type": "DeviceSyncMessage", "identity_id": id('a'), "target_device_id": format!("{device}"),
            "sender_device_id": "d", "encrypted_payload": [1], "version": 1,
        })
    };
    for device in 0..64 {
        client.say(&format!("{device}"), &sync(device)).await;
        client.expect_status(&format!("{device}"), "Stored").await;
    }
    client.say("more", &sync(64)).await;
    client.expect_status("more", "Failed").await;
    client.say("known", &sync(63)).await;
    client.expect_status("known", "Stored").await;
    client.say("p", &json!({"type": "PurgeRequest", "include_device_sync": true})).await;
    assert_eq!(client.expect_type("PurgeResponse").await["payload"]["device_sync_deleted"], 65);
}

#[tokio::test]
async fn messages_are_limited_and_acknowledgments_are_not() {
    let node = TestNode::start(&[("RELAY_RATE_LIMIT", "60")]).await;
    let mut client = TestMailbox::plain(node.public, &id('a')).await;
    let limited = &node.node().metrics.mailbox.rate_limited;
    for n in 0..80 {
        client.update(&n.to_string(), &id('b'), b"x").await;
    }
    let stored = node.node().metrics.mailbox.stored.clone();
    until("all are stored or dropped", || stored.get() + limited.get() == 80).await;
    let dropped = limited.get();
    assert!(dropped >= 15, "{dropped}");
    let quiet = json!({"type": "Handshake", "client_id": id('b'), "suppress_presence": true});
    let mut recipient = TestMailbox::with(node.public, &quiet).await;
    for _ in 0..stored.get() {
        let blob = recipient.expect_blob(b"x").await;
        recipient.acknowledge(&blob, "ReceivedByRecipient").await;
        recipient.acknowledge(&blob, "ReceivedByRecipient").await;
    }
    assert_eq!(recipient.purge().await, 0, "the rate of its own is untouched by acknowledgments");
    assert_eq!(limited.get(), dropped);
}

#[tokio::test]
async fn other_names_at_one_address_share_the_rate_of_the_address() {
    let node = TestNode::start(&[("RELAY_ADDRESS_RATE_LIMIT", "40"), ("RELAY_RATE_LIMIT", "20")]).await;
    let mut clients = Vec::new();
    for name in ['a', 'b', 'c'] {
        clients.push(TestMailbox::plain(node.public, &id(name)).await);
    }
    for (index, client) in clients.iter_mut().enumerate() {
        for n in 0..20 {
            client.update(&format!("{index}.{n}"), &id('f'), b"x").await;
        }
    }
    let metrics = &node.node().metrics.mailbox;
    until("all are seen", || metrics.stored.get() + metrics.rate_limited.get() == 60).await;
    assert!(metrics.stored.get() < 50, "{}", metrics.stored.get());
}

#[tokio::test]
async fn recovery_is_limited_besides() {
    let node = TestNode::start(&[("RELAY_RECOVERY_RATE_LIMIT", "3")]).await;
    let mut client = TestMailbox::plain(node.public, &id('a')).await;
    for _ in 0..3 {
        client.settle().await;
    }
    client.say("q", &json!({"type": "RecoveryProofQuery", "key_hashes": []})).await;
    assert_eq!(client.purge().await, 0);
    assert_eq!(node.node().metrics.mailbox.rate_limited.get(), 1);
}

#[tokio::test]
async fn what_has_expired_is_neither_delivered_nor_kept() {
    let node = TestNode::start(&[("RELAY_BLOB_TTL_SECS", "1"), ("RELAY_CLEANUP_INTERVAL", "86400")]).await;
    let mut client = TestMailbox::plain(node.public, &id('a')).await;
    client.store("m", &id('b'), b"x").await;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let mut recipient = TestMailbox::plain(node.public, &id('b')).await;
    assert_eq!(recipient.purge().await, 0, "expired, though nothing has swept it");
    assert_eq!(node.node().metrics.mailbox.expired.get(), 0);
    let node = TestNode::start(&[("RELAY_BLOB_TTL_SECS", "1"), ("RELAY_CLEANUP_INTERVAL", "1")]).await;
    let mut client = TestMailbox::plain(node.public, &id('a')).await;
    client.store("m", &id('b'), b"x").await;
    let metrics = &node.node().metrics.mailbox;
    until("a sweep", || metrics.expired.get() == 1).await;
}

#[tokio::test]
async fn a_message_is_forgotten_after_its_time() {
    let node = TestNode::start(&[("RELAY_DEDUP_MEMORY_SECS", "0")]).await;
    let mut client = TestMailbox::plain(node.public, &id('a')).await;
    for _ in 0..2 {
        client.store("m", &id('a'), b"x").await;
        client.expect_blob(b"x").await;
        client.expect_status("m", "Delivered").await;
        assert_eq!(client.purge().await, 1);
    }
}

#[tokio::test]
async fn figures_have_the_names_of_the_protocols_own_relay_too() {
    let node = TestNode::start(&[]).await;
    let mut client = TestMailbox::plain(node.public, &id('a')).await;
    client.store("m", &id('b'), b"x").await;
    let text = get(node.public, "/metrics?format=prometheus").await.text;
    for line in [
        "# TYPE relay_connections_total counter",
        "relay_connections_total 1",
        "relay_connections_active 1",
        "relay_messages_received_total 1",
        "relay_blobs_created_total 1",
        "# TYPE relay_blobs_stored gauge",
        "relay_blobs_stored 1",
        "# TYPE relay_message_duration_seconds histogram",
        "relay_recovery_proofs_active 0",
        "relay_rate_limited_total 0",
        "waystation_mailbox_stored_total 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}
