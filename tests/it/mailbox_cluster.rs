//! Mailboxes of a cluster: what was put on one node reaches a recipient on any other.

use serde_json::json;

use crate::support::cluster::{SECRET, all_meet, kill};
use crate::support::{TestMailbox, TestNode, id, until};

/// Stores blobs, one on each node in turn, so that their times differ; their bodies, in the order of storing.
async fn store_in_turn(nodes: &[TestNode], recipient: &str, count: usize) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    for number in 0..count {
        let node = &nodes[number % nodes.len()];
        let mut sender = TestMailbox::plain(node.public, &id('a')).await;
        let body = format!("blob {number}").into_bytes();
        sender.store(&format!("m{number}"), recipient, &body).await;
        bodies.push(body);
    }
    bodies
}

pub async fn expect_all(client: &mut TestMailbox, bodies: &[Vec<u8>]) -> Vec<String> {
    let mut ids = Vec::new();
    for body in bodies {
        ids.push(client.expect_blob(body).await);
    }
    ids
}

/// Lets nothing pass between two nodes, which are all there are, and waits until they take each other for dead.
pub async fn cut(nodes: &[TestNode]) {
    nodes[0].cut_from(&nodes[1]);
    for node in nodes {
        node.view_is(1).await;
    }
}

/// Stores more blobs than a session remembers to have been sent.
pub async fn store_many(node: &TestNode, recipient: &str) -> Vec<Vec<u8>> {
    let mut sender = TestMailbox::plain(node.public, &id('a')).await;
    let bodies: Vec<_> = (0..300_u32).map(|number| number.to_be_bytes().to_vec()).collect();
    for (number, body) in bodies.iter().enumerate() {
        sender.store(&format!("many {number}"), recipient, body).await;
    }
    bodies
}

#[tokio::test]
async fn a_blob_put_on_one_node_reaches_a_recipient_on_another_and_its_sender_is_told() {
    let nodes = TestNode::cluster(3, &[SECRET]).await;
    let mut recipient = TestMailbox::plain(nodes[1].public, &id('b')).await;
    recipient.settle().await;
    let mut sender = TestMailbox::plain(nodes[0].public, &id('a')).await;
    sender.store("m", &id('b'), b"hello").await;
    let blob = recipient.expect_blob(b"hello").await;
    sender.expect_status("m", "Delivered").await;
    recipient.acknowledge(&blob, "ReceivedByRecipient").await;
    sender.expect_status("m", "ReceivedByRecipient").await;
    recipient.close().await;
    let mut again = TestMailbox::plain(nodes[2].public, &id('b')).await;
    assert_eq!(again.purge().await, 0);
}

#[tokio::test]
async fn a_sender_that_has_moved_is_told_where_it_is() {
    let nodes = TestNode::cluster(2, &[]).await;
    let mut sender = TestMailbox::plain(nodes[0].public, &id('a')).await;
    sender.store("m", &id('b'), b"hello").await;
    sender.close().await;
    let mut sender = TestMailbox::plain(nodes[1].public, &id('a')).await;
    sender.settle().await;
    let mut recipient = TestMailbox::plain(nodes[0].public, &id('b')).await;
    let blob = recipient.expect_blob(b"hello").await;
    sender.expect_status("m", "Delivered").await;
    recipient.acknowledge(&blob, "ReceivedByRecipient").await;
    sender.expect_status("m", "ReceivedByRecipient").await;
}

#[tokio::test]
async fn a_recipient_gets_what_all_nodes_hold_in_order_and_its_acknowledgments_delete_it_there() {
    let nodes = TestNode::cluster(3, &[]).await;
    let bodies = store_in_turn(&nodes, &id('b'), 9).await;
    let mut recipient = TestMailbox::plain(nodes[2].public, &id('b')).await;
    let ids = expect_all(&mut recipient, &bodies).await;
    for blob in &ids[..6] {
        recipient.acknowledge(blob, "ReceivedByRecipient").await;
    }
    recipient.settle().await;
    recipient.close().await;
    for node in &nodes {
        let mut again = TestMailbox::plain(node.public, &id('b')).await;
        assert_eq!(expect_all(&mut again, &bodies[6..]).await, ids[6..]);
        again.settle().await;
    }
    let mut last = TestMailbox::plain(nodes[0].public, &id('b')).await;
    expect_all(&mut last, &bodies[6..]).await;
    assert_eq!(last.purge().await, 3);
    for node in &nodes {
        assert_eq!(node.node().metrics.mailbox.blobs.get(), 0);
    }
}

#[tokio::test]
async fn a_backlog_of_many_pages_comes_once_and_in_order_while_more_comes_in() {
    let nodes = TestNode::cluster(2, &[]).await;
    let mut senders = Vec::new();
    for node in &nodes {
        senders.push(TestMailbox::plain(node.public, &id('a')).await);
    }
    for number in 0..300_usize {
        let sender = &mut senders[number % 2];
        sender.store(&number.to_string(), &id('b'), &number.to_be_bytes()).await;
    }
    let mut recipient = TestMailbox::plain(nodes[0].public, &id('b')).await;
    for number in 300..400_usize {
        let sender = &mut senders[number % 2];
        sender.update(&number.to_string(), &id('b'), &number.to_be_bytes()).await;
    }
    let mut last_of = [None, None];
    for _ in 0..400 {
        let message = recipient.expect_type("EncryptedUpdate").await;
        let body: Vec<u8> = serde_json::from_value(message["payload"]["ciphertext"].clone()).unwrap();
        let number = usize::from_be_bytes(body.try_into().unwrap());
        // Those of one node keep their order, whatever comes meanwhile.
        assert!(last_of[number % 2] < Some(number), "{number} after {last_of:?}");
        last_of[number % 2] = Some(number);
    }
    recipient.settle().await;
}

#[tokio::test]
async fn a_purge_reaches_every_node_and_one_that_was_away_when_it_returns() {
    let mut nodes = TestNode::cluster(3, &[]).await;
    store_in_turn(&nodes, &id('b'), 3).await;
    nodes[0].cut_from(&nodes[2]);
    nodes[1].cut_from(&nodes[2]);
    for (node, count) in [(0, 2), (1, 2), (2, 1)] {
        nodes[node].view_is(count).await;
    }
    let mut recipient = TestMailbox::plain(nodes[0].public, &id('b')).await;
    for _ in 0..2 {
        recipient.expect_type("EncryptedUpdate").await;
    }
    assert_eq!(recipient.purge().await, 2);
    nodes[0].mend_with(&nodes[2]);
    nodes[1].mend_with(&nodes[2]);
    all_meet(&nodes).await;
    let away = nodes.pop().unwrap();
    until("the purge is obeyed", || away.node().metrics.mailbox.blobs.get() == 0).await;
}

#[tokio::test]
async fn what_a_lost_node_held_comes_when_it_is_back_without_a_new_connection() {
    let nodes = TestNode::cluster(3, &[]).await;
    let bodies = store_in_turn(&nodes, &id('b'), 3).await;
    for other in &nodes[..2] {
        other.cut_from(&nodes[2]);
    }
    for (node, count) in [(0, 2), (1, 2), (2, 1)] {
        nodes[node].view_is(count).await;
    }
    let mut recipient = TestMailbox::plain(nodes[0].public, &id('b')).await;
    expect_all(&mut recipient, &bodies[..2]).await;
    recipient.settle().await;
    for other in &nodes[..2] {
        other.mend_with(&nodes[2]);
    }
    let blob = recipient.expect_blob(&bodies[2]).await;
    recipient.acknowledge(&blob, "ReceivedByRecipient").await;
    recipient.settle().await;
    assert_eq!(nodes[2].node().metrics.mailbox.blobs.get(), 0);
}

#[tokio::test]
async fn an_acknowledgment_for_a_lost_node_is_obeyed_when_it_is_back() {
    let nodes = TestNode::cluster(2, &[]).await;
    let mut sender = TestMailbox::plain(nodes[1].public, &id('a')).await;
    sender.store("m", &id('b'), b"x").await;
    let mut recipient = TestMailbox::plain(nodes[0].public, &id('b')).await;
    let blob = recipient.expect_blob(b"x").await;
    nodes[0].cut_from(&nodes[1]);
    nodes[0].view_is(1).await;
    recipient.acknowledge(&blob, "ReceivedByRecipient").await;
    recipient.settle().await;
    nodes[0].mend_with(&nodes[1]);
    sender.expect_status("m", "Delivered").await;
    sender.expect_status("m", "ReceivedByRecipient").await;
    until("it is deleted", || nodes[1].node().metrics.mailbox.blobs.get() == 0).await;
    recipient.settle().await;
}

#[tokio::test]
async fn what_was_acknowledged_while_its_node_was_lost_does_not_come_again() {
    let nodes = TestNode::cluster(2, &[]).await;
    let mut sender = TestMailbox::plain(nodes[1].public, &id('a')).await;
    sender.store("m", &id('b'), b"x").await;
    let mut recipient = TestMailbox::plain(nodes[0].public, &id('b')).await;
    let blob = recipient.expect_blob(b"x").await;
    sender.expect_status("m", "Delivered").await;
    nodes[0].cut_from(&nodes[1]);
    nodes[0].view_is(1).await;
    recipient.acknowledge(&blob, "ReceivedByRecipient").await;
    recipient.settle().await;
    // Who knew that the other node is owed an acknowledgment has gone.
    recipient.close().await;
    nodes[0].mend_with(&nodes[1]);
    all_meet(&nodes).await;
    sender.store("n", &id('b'), b"y").await;
    let mut recipient = TestMailbox::plain(nodes[0].public, &id('b')).await;
    recipient.expect_blob(b"y").await;
    recipient.settle().await;
    until("only the other is left", || nodes[1].node().metrics.mailbox.blobs.get() == 1).await;
}

#[tokio::test]
async fn a_message_that_is_put_on_two_nodes_comes_once_and_is_deleted_on_both() {
    let nodes = TestNode::cluster(2, &[]).await;
    for node in &nodes {
        let mut sender = TestMailbox::plain(node.public, &id('a')).await;
        sender.store("m", &id('b'), b"x").await;
    }
    let mut recipient = TestMailbox::plain(nodes[0].public, &id('b')).await;
    let blob = recipient.expect_blob(b"x").await;
    recipient.settle().await;
    recipient.acknowledge(&blob, "ReceivedByRecipient").await;
    recipient.settle().await;
    for node in &nodes {
        until("both are deleted", || node.node().metrics.mailbox.blobs.get() == 0).await;
    }
}

#[tokio::test]
async fn devices_of_one_client_find_each_other_on_any_node_live_and_later() {
    let nodes = TestNode::cluster(2, &[]).await;
    let client = id('c');
    let mut phone = TestMailbox::device(nodes[0].public, &client, &id('1')).await;
    let mut laptop = TestMailbox::device(nodes[1].public, &client, &id('2')).await;
    laptop.settle().await;
    let message = |version: u64| {
        json!({
            "type": "DeviceSyncMessage", "identity_id": client, "target_device_id": id('2'),
            "sender_device_id": id('1'), "encrypted_payload": [version], "version": version,
        })
    };
    // The second has a lower version than what was delivered already.
    for version in [5, 3] {
        phone.say(&version.to_string(), &message(version)).await;
        phone.expect_status(&version.to_string(), "Stored").await;
        let delivered = laptop.expect_type("DeviceSyncMessage").await;
        assert_eq!(delivered["payload"]["version"], version);
        let ack = json!({"type": "DeviceSyncAck", "message_id": delivered["message_id"], "synced_version": version});
        laptop.say("a", &ack).await;
    }
    laptop.close().await;
    phone.say("later", &message(7)).await;
    phone.expect_status("later", "Stored").await;
    let mut laptop = TestMailbox::device(nodes[1].public, &client, &id('2')).await;
    assert_eq!(laptop.expect_type("DeviceSyncMessage").await["payload"]["version"], 7);
    laptop.say("p", &json!({"type": "PurgeRequest", "include_device_sync": true})).await;
    assert_eq!(laptop.expect_type("PurgeResponse").await["payload"]["device_sync_deleted"], 1);
}

#[tokio::test]
async fn a_recipient_moves_to_another_node_when_its_own_dies() {
    let mut nodes = TestNode::cluster(3, &[]).await;
    let mut sender = TestMailbox::plain(nodes[0].public, &id('a')).await;
    let mut recipient = TestMailbox::plain(nodes[2].public, &id('b')).await;
    sender.store("1", &id('b'), b"1").await;
    recipient.expect_blob(b"1").await;
    sender.expect_status("1", "Delivered").await;
    kill(&mut nodes, 2).await;
    let mut recipient = TestMailbox::plain(nodes[1].public, &id('b')).await;
    let first = recipient.expect_blob(b"1").await;
    sender.store("2", &id('b'), b"2").await;
    let second = recipient.expect_blob(b"2").await;
    sender.expect_status("2", "Delivered").await;
    for blob in [first, second] {
        recipient.acknowledge(&blob, "Delivered").await;
    }
    recipient.settle().await;
    assert_eq!(nodes[0].node().metrics.mailbox.blobs.get(), 0);
}

#[tokio::test]
async fn a_copy_that_turns_up_long_after_the_other_does_not_come_too() {
    let nodes = TestNode::cluster(2, &[]).await;
    for node in &nodes {
        let mut sender = TestMailbox::plain(node.public, &id('a')).await;
        sender.store("m", &id('b'), b"x").await;
        sender.close().await;
    }
    cut(&nodes).await;
    let bodies = store_many(&nodes[0], &id('b')).await;
    let mut recipient = TestMailbox::plain(nodes[0].public, &id('b')).await;
    let copy = recipient.expect_blob(b"x").await;
    expect_all(&mut recipient, &bodies).await;
    let mut sender = TestMailbox::plain(nodes[1].public, &id('a')).await;
    sender.store("last", &id('b'), b"last").await;
    nodes[0].mend_with(&nodes[1]);
    recipient.expect_blob(b"last").await;
    recipient.acknowledge(&copy, "ReceivedByRecipient").await;
    recipient.settle().await;
    assert_eq!(nodes[0].node().metrics.mailbox.blobs.get(), 300);
    assert_eq!(nodes[1].node().metrics.mailbox.blobs.get(), 1);
}

#[tokio::test]
async fn what_is_acknowledged_long_after_it_came_while_its_node_is_lost_does_not_come_again() {
    let nodes = TestNode::cluster(2, &[]).await;
    let mut sender = TestMailbox::plain(nodes[1].public, &id('a')).await;
    sender.store("l", &id('b'), b"w").await;
    sender.store("m", &id('b'), b"x").await;
    let bodies = store_many(&nodes[0], &id('b')).await;
    let mut recipient = TestMailbox::plain(nodes[0].public, &id('b')).await;
    let first = recipient.expect_blob(b"w").await;
    let blob = recipient.expect_blob(b"x").await;
    expect_all(&mut recipient, &bodies).await;
    recipient.acknowledge(&first, "Delivered").await;
    recipient.settle().await;
    assert_eq!(nodes[1].node().metrics.mailbox.blobs.get(), 1);
    cut(&nodes).await;
    recipient.acknowledge(&blob, "ReceivedByRecipient").await;
    recipient.settle().await;
    recipient.close().await;
    let mut recipient = TestMailbox::plain(nodes[0].public, &id('b')).await;
    for blob in expect_all(&mut recipient, &bodies).await {
        recipient.acknowledge(&blob, "Delivered").await;
    }
    recipient.settle().await;
    recipient.close().await;
    nodes[0].mend_with(&nodes[1]);
    all_meet(&nodes).await;
    let mut sender = TestMailbox::plain(nodes[1].public, &id('d')).await;
    sender.store("n", &id('b'), b"y").await;
    let mut recipient = TestMailbox::plain(nodes[0].public, &id('b')).await;
    recipient.expect_blob(b"y").await;
    recipient.settle().await;
}

#[tokio::test]
async fn a_node_that_is_back_delivers_nothing_of_what_was_purged_or_acknowledged_while_it_was_away() {
    let nodes = TestNode::cluster(2, &[]).await;
    let mut sender = TestMailbox::plain(nodes[1].public, &id('a')).await;
    for recipient in ['b', 'c'] {
        sender.store("m", &id(recipient), b"x").await;
    }
    let mut acknowledging = TestMailbox::plain(nodes[0].public, &id('b')).await;
    let mut purging = TestMailbox::plain(nodes[0].public, &id('c')).await;
    let blob = acknowledging.expect_blob(b"x").await;
    purging.expect_blob(b"x").await;
    for _ in 0..2 {
        sender.expect_status("m", "Delivered").await;
    }
    cut(&nodes).await;
    acknowledging.acknowledge(&blob, "Delivered").await;
    acknowledging.settle().await;
    assert_eq!(purging.purge().await, 0);
    for recipient in ['b', 'c'] {
        sender.store("n", &id(recipient), b"y").await;
    }
    nodes[0].mend_with(&nodes[1]);
    nodes[1].view_is(2).await;
    for recipient in ['b', 'c'] {
        let mut recipient = TestMailbox::plain(nodes[1].public, &id(recipient)).await;
        recipient.expect_blob(b"y").await;
    }
}
