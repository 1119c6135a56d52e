//! Mailboxes of several clusters: what was put in one region reaches a recipient in another.

use serde_json::json;

use crate::support::cluster::figure_is;
use crate::support::mailbox::proven_id;
use crate::support::regions::{FEDERATION_SECRET, regions};
use crate::support::{TestMailbox, id, until};

#[tokio::test]
async fn a_blob_put_in_one_region_reaches_a_recipient_in_another_and_its_sender_is_told() {
    let regions = regions(&[1, 1], &[FEDERATION_SECRET]).await;
    let (us, eu) = (&regions[0][0], &regions[1][0]);
    let mut recipient = TestMailbox::plain(eu.public, &id('b')).await;
    recipient.settle().await;
    let mut sender = TestMailbox::plain(us.public, &id('a')).await;
    for message in ["1", "2"] {
        sender.store(message, &id('b'), message.as_bytes()).await;
        let blob = recipient.expect_blob(message.as_bytes()).await;
        sender.expect_status(message, "Delivered").await;
        recipient.acknowledge(&blob, "ReceivedByRecipient").await;
        sender.expect_status(message, "ReceivedByRecipient").await;
    }
    assert_eq!(us.node().metrics.mailbox.blobs.get(), 0);
}

#[tokio::test]
async fn a_recipient_gets_what_every_node_of_every_region_holds_in_order() {
    let regions = regions(&[2, 2], &[]).await;
    let nodes: Vec<_> = regions.iter().flatten().collect();
    for (number, node) in nodes.iter().chain(&nodes).enumerate() {
        let mut sender = TestMailbox::plain(node.public, &id('a')).await;
        sender.store(&number.to_string(), &id('b'), &[number as u8]).await;
    }
    for node in &nodes {
        let mut recipient = TestMailbox::plain(node.public, &id('b')).await;
        let mut seen = Vec::new();
        for _ in 0..2 * nodes.len() {
            let blob = recipient.expect_type("EncryptedUpdate").await;
            seen.push(blob["payload"]["ciphertext"][0].as_u64().unwrap());
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..8).collect::<Vec<_>>());
        recipient.settle().await;
    }
    // The second node of the first region is not the one that the second region calls.
    let mut recipient = TestMailbox::plain(nodes[3].public, &id('b')).await;
    for _ in 0..8 {
        let blob = recipient.expect_type("EncryptedUpdate").await;
        recipient.acknowledge(blob["message_id"].as_str().unwrap(), "Delivered").await;
    }
    recipient.settle().await;
    for node in &nodes {
        assert_eq!(node.node().metrics.mailbox.blobs.get(), 0);
    }
}

#[tokio::test]
async fn a_put_at_a_node_that_no_other_region_calls_wakes_a_recipient_there() {
    let regions = regions(&[2, 1], &[]).await;
    let mut recipient = TestMailbox::plain(regions[1][0].public, &id('b')).await;
    recipient.settle().await;
    let mut sender = TestMailbox::plain(regions[0][1].public, &id('a')).await;
    sender.store("m", &id('b'), b"x").await;
    let blob = recipient.expect_blob(b"x").await;
    sender.expect_status("m", "Delivered").await;
    recipient.acknowledge(&blob, "ReceivedByRecipient").await;
    sender.expect_status("m", "ReceivedByRecipient").await;
}

#[tokio::test]
async fn a_purge_reaches_other_regions_and_one_that_was_down_when_it_is_back() {
    let mut regions = regions(&[1, 1], &[]).await;
    let (us, eu) = (regions.remove(0).remove(0), regions.remove(0).remove(0));
    let mut sender = TestMailbox::plain(us.public, &id('a')).await;
    sender.store("1", &id('b'), b"x").await;
    let mut recipient = TestMailbox::plain(eu.public, &id('b')).await;
    recipient.expect_blob(b"x").await;
    assert_eq!(recipient.purge().await, 1);
    assert_eq!(us.node().metrics.mailbox.blobs.get(), 0);
    let message = json!({
        "type": "DeviceSyncMessage", "identity_id": id('b'), "target_device_id": id('1'),
        "sender_device_id": id('2'), "encrypted_payload": [1], "version": 1,
    });
    let mut device = TestMailbox::device(us.public, &id('b'), &id('2')).await;
    device.say("d", &message).await;
    device.expect_status("d", "Stored").await;
    let request = json!({"type": "PurgeRequest", "include_device_sync": true});
    recipient.say("p", &request).await;
    assert_eq!(recipient.expect_type("PurgeResponse").await["payload"]["device_sync_deleted"], 1);
}

#[tokio::test]
async fn a_link_that_breaks_is_made_again_and_what_came_meanwhile_arrives() {
    let mut regions = regions(&[2, 1], &[]).await;
    let us = regions.remove(0);
    let eu = &regions[0][0];
    let mut recipient = TestMailbox::plain(eu.public, &id('b')).await;
    recipient.settle().await;
    let [called, other] = <[_; 2]>::try_from(us).ok().unwrap();
    let address = called.node().federated.unwrap().to_string();
    called.kill();
    other.view_is(1).await;
    let mut sender = TestMailbox::plain(other.public, &id('a')).await;
    sender.store("m", &id('b'), b"x").await;
    // A node of that region answers at that address again.
    let _again = other.twin(&[("RELAY_FEDERATION_ADDR", &address)]).await;
    let up = format!(r#"waystation_federation_up{{peer="http://{address}"}}"#);
    figure_is(eu.public, &up, |up| up == 1.0).await;
    let blob = recipient.expect_blob(b"x").await;
    recipient.acknowledge(&blob, "ReceivedByRecipient").await;
    recipient.settle().await;
    until("it is deleted", || other.node().metrics.mailbox.blobs.get() == 0).await;
}

#[tokio::test]
async fn what_is_claimed_in_one_region_is_read_with_proof_only_in_every_other() {
    let regions = regions(&[2, 2], &[]).await;
    let (us, eu) = (&regions[0], &regions[1]);
    let owner = proven_id(1);
    // Connected before anybody has claimed the name.
    let mut early = TestMailbox::plain(us[1].public, &owner).await;
    early.settle().await;
    let mut sender = TestMailbox::plain(us[0].public, &id('a')).await;
    sender.store("0", &owner, b"0").await;
    let blob = early.expect_blob(b"0").await;
    sender.expect_status("0", "Delivered").await;
    early.acknowledge(&blob, "Delivered").await;
    early.settle().await;
    let mut client = TestMailbox::proven(eu[1].public, 1).await;
    figure_is(us[1].public, "waystation_mailbox_send_only_total", |count| count == 1.0).await;
    sender.store("1", &owner, b"1").await;
    let blob = client.expect_blob(b"1").await;
    sender.expect_status("1", "Delivered").await;
    early.settle().await;
    for node in us {
        let mut stranger = TestMailbox::plain(node.public, &owner).await;
        assert_eq!(stranger.purge().await, 0);
    }
    client.acknowledge(&blob, "Delivered").await;
    client.settle().await;
    // The owner itself is served in both.
    sender.store("2", &owner, b"2").await;
    client.expect_blob(b"2").await;
    let mut also = TestMailbox::proven(us[1].public, 1).await;
    also.expect_blob(b"2").await;
}
