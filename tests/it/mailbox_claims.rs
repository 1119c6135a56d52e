//! Mailboxes: who may read one. A name whose owner has proven its key is read with proof only.

use serde_json::json;

use crate::support::mailbox::{proof, proven_id, with};
use crate::support::{TestMailbox, TestNode, id, until};

#[tokio::test]
async fn a_claimed_mailbox_is_read_acknowledged_and_purged_by_its_owner_only() {
    let node = TestNode::start(&[]).await;
    let owner = TestMailbox::proven(node.public, 1).await;
    owner.close().await;
    let mut sender = TestMailbox::plain(node.public, &id('a')).await;
    sender.store("m", &proven_id(1), b"secret").await;

    let mut impostor = TestMailbox::device(node.public, &proven_id(1), &id('d')).await;
    assert_eq!(impostor.purge().await, 0);
    let sync = json!({
        "type": "DeviceSyncMessage", "identity_id": proven_id(1), "target_device_id": "d", "sender_device_id": "d",
        "encrypted_payload": [], "version": 1,
    });
    impostor.say("s", &sync).await;
    impostor.expect_status("s", "Failed").await;
    impostor.store("it may send", &id('c'), b"x").await;
    until("the impostor only sends", || node.node().metrics.mailbox.send_only.get() == 1).await;

    let mut owner = TestMailbox::proven(node.public, 1).await;
    let blob = owner.expect_blob(b"secret").await;
    sender.expect_status("m", "Delivered").await;
    impostor.acknowledge(&blob, "ReceivedByRecipient").await;
    impostor.settle().await;
    assert_eq!(owner.purge().await, 1);
}

#[tokio::test]
async fn only_the_owner_is_told_what_becomes_of_what_its_name_has_sent() {
    let node = TestNode::start(&[]).await;
    let mut owner = TestMailbox::proven(node.public, 1).await;
    let mut impostor = TestMailbox::plain(node.public, &proven_id(1)).await;
    let mut recipient = TestMailbox::plain(node.public, &id('b')).await;
    owner.store("m", &id('b'), b"x").await;
    let blob = recipient.expect_blob(b"x").await;
    owner.expect_status("m", "Delivered").await;
    recipient.acknowledge(&blob, "ReceivedByRecipient").await;
    owner.expect_status("m", "ReceivedByRecipient").await;
    impostor.settle().await;
}

#[tokio::test]
async fn whoever_reads_without_proof_stops_when_the_owner_proves_its_key() {
    let node = TestNode::start(&[]).await;
    let mut sender = TestMailbox::plain(node.public, &id('a')).await;
    let mut before = TestMailbox::plain(node.public, &proven_id(1)).await;
    sender.store("1", &proven_id(1), b"open").await;
    let seen = before.expect_blob(b"open").await;
    sender.expect_status("1", "Delivered").await;

    let mut owner = TestMailbox::proven(node.public, 1).await;
    owner.expect_blob(b"open").await;
    sender.store("2", &proven_id(1), b"closed").await;
    owner.expect_blob(b"closed").await;
    sender.expect_status("2", "Delivered").await;
    before.acknowledge(&seen, "ReceivedByRecipient").await;
    assert_eq!(before.purge().await, 0);
    assert_eq!(owner.purge().await, 2);
}

#[tokio::test]
async fn a_captured_handshake_opens_nothing() {
    let node = TestNode::start(&[]).await;
    let captured = proof(1);
    TestMailbox::with(node.public, &captured).await.close().await;
    TestMailbox::greeting(node.public, &captured).await.ended().await;
    assert_eq!(node.node().metrics.mailbox.handshake_errors.get(), 1);
}

#[tokio::test]
async fn a_proof_that_is_wrong_ends_the_connection_and_one_in_part_proves_nothing() {
    let node = TestNode::start(&[]).await;
    for wrong in [
        json!({"signature": "00".repeat(64)}),
        json!({"timestamp": 1}),
        json!({"nonce": "00"}),
        json!({"client_id": proven_id(1).to_uppercase()}),
        json!({"client_id": id('a')}),
    ] {
        TestMailbox::greeting(node.public, &with(proof(1), wrong)).await.ended().await;
    }
    let mut part = proof(1);
    part.as_object_mut().unwrap().remove("nonce");
    TestMailbox::with(node.public, &with(part, json!({"signature": "00".repeat(64)}))).await;
    let claims = &node.node().cluster.claims;
    let principal = waystation::domain::principal::Principal::mailbox_client(&proven_id(1));
    assert_eq!(claims.is_owned(&principal).await, Ok(false));
}

#[tokio::test]
async fn a_token_belongs_to_who_first_proved_a_key_with_it() {
    let node = TestNode::start(&[]).await;
    let token = json!({"routing_token": id('e')});
    let mut sender = TestMailbox::plain(node.public, &id('a')).await;
    sender.store("m", &id('e'), b"x").await;
    TestMailbox::with(node.public, &with(proof(1), token.clone())).await.expect_blob(b"x").await;
    sender.expect_status("m", "Delivered").await;
    // Neither as a token nor as an id is it a stranger's.
    let stranger = with(json!({"type": "Handshake", "client_id": id('b')}), token.clone());
    assert_eq!(TestMailbox::with(node.public, &stranger).await.purge().await, 0);
    assert_eq!(TestMailbox::plain(node.public, &id('e')).await.purge().await, 0);
    TestMailbox::greeting(node.public, &with(proof(2), token.clone())).await.ended().await;
    let mut owner = TestMailbox::with(node.public, &with(proof(1), token)).await;
    owner.expect_blob(b"x").await;
    assert_eq!(owner.purge().await, 1);
}

#[tokio::test]
async fn a_token_that_is_a_claimed_id_is_refused() {
    let node = TestNode::start(&[]).await;
    TestMailbox::proven(node.public, 1).await;
    let token = json!({"routing_token": proven_id(1)});
    TestMailbox::greeting(node.public, &with(proof(2), token.clone())).await.ended().await;
    let stranger = with(json!({"type": "Handshake", "client_id": id('b')}), token);
    TestMailbox::greeting(node.public, &stranger).await.ended().await;
}

#[tokio::test]
async fn whoever_takes_anothers_id_for_its_token_loses_it_to_the_owner() {
    let node = TestNode::start(&[]).await;
    let squat = with(proof(2), json!({"routing_token": proven_id(1)}));
    let mut squatter = TestMailbox::with(node.public, &squat).await;
    let mut owner = TestMailbox::proven(node.public, 1).await;
    let mut sender = TestMailbox::plain(node.public, &id('a')).await;
    sender.store("m", &proven_id(1), b"x").await;
    owner.expect_blob(b"x").await;
    assert_eq!(squatter.purge().await, 0);
    assert_eq!(owner.purge().await, 1);
}

#[tokio::test]
async fn a_claim_holds_on_the_other_nodes_too() {
    let nodes = TestNode::cluster(2, &[]).await;
    let captured = proof(1);
    TestMailbox::with(nodes[0].public, &captured).await;
    TestMailbox::greeting(nodes[1].public, &captured).await.ended().await;
    let mut sender = TestMailbox::plain(nodes[1].public, &id('a')).await;
    sender.store("m", &proven_id(1), b"x").await;
    assert_eq!(TestMailbox::plain(nodes[1].public, &proven_id(1)).await.purge().await, 0);
    let mut owner = TestMailbox::proven(nodes[1].public, 1).await;
    owner.expect_blob(b"x").await;
    assert_eq!(owner.purge().await, 1);
}
