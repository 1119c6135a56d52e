//! What a node brings back that was away, or did not answer: nothing of what is done with, and all the rest.

use std::sync::Arc;

use waystation::domain::mailbox::MailboxKey;

use super::mailbox_cluster::{cut, expect_all, store_many};
use crate::support::cluster::all_meet;
use crate::support::{Process, TestMailbox, TestNode, id, until};

/// The node is as one that starts: it is linked, and its services are not there yet.
fn starts(node: &TestNode) {
    node.node().cluster.services.clear();
}

/// The services of the node are there.
fn has_started(node: &TestNode) {
    let services = &node.node().cluster.services;
    services.mailbox.fill(Arc::new(node.node().mailbox.clone()));
    services.vault.fill(Arc::new(node.node().vault.clone()));
}

/// A recipient at the first node is sent what lies at the second; the first holds nothing for it.
pub async fn receives(nodes: &[TestNode]) -> (TestMailbox, String) {
    let mut sender = TestMailbox::plain(nodes[1].public, &id('a')).await;
    sender.store("m", &id('b'), b"x").await;
    let mut recipient = TestMailbox::plain(nodes[0].public, &id('b')).await;
    let blob = recipient.expect_blob(b"x").await;
    sender.expect_status("m", "Delivered").await;
    (recipient, blob)
}

/// The next connection of the recipient is sent only what comes to the second node now.
pub async fn only_what_is_new_comes(nodes: &[TestNode]) {
    let mut sender = TestMailbox::plain(nodes[1].public, &id('d')).await;
    sender.store("new", &id('b'), b"new").await;
    let mut recipient = TestMailbox::plain(nodes[0].public, &id('b')).await;
    recipient.expect_blob(b"new").await;
    recipient.settle().await;
}

#[tokio::test]
async fn a_node_that_does_not_answer_for_a_moment_is_read_again_without_a_word_from_it() {
    let nodes = TestNode::cluster(2, &[]).await;
    let mut recipient = TestMailbox::plain(nodes[0].public, &id('b')).await;
    recipient.settle().await;
    let mut sender = TestMailbox::plain(nodes[1].public, &id('a')).await;
    let (cut, away) = (&nodes[0].node().cut, nodes[1].gossip());
    let left_out = &nodes[0].node().metrics.mailbox.left_out;
    // Too short for the link to break, mostly: the node does not say again what it holds.
    for number in 0..5_u8 {
        let before = left_out.get();
        cut.cut(away);
        sender.store(&number.to_string(), &id('b'), &[number]).await;
        until("the node is left out", || left_out.get() > before).await;
        cut.mend(away);
        recipient.expect_blob(&[number]).await;
        sender.expect_status(&number.to_string(), "Delivered").await;
    }
}

#[tokio::test]
async fn a_sender_is_told_of_what_was_delivered_while_its_node_did_not_answer() {
    let sizes = [("RELAY_MAX_MESSAGE_SIZE", "8388608"), ("RELAY_SEND_QUEUE_BYTES", "16777216")];
    let nodes = TestNode::cluster(2, &sizes).await;
    let mut sender = TestMailbox::plain(nodes[1].public, &id('a')).await;
    // Longer, as JSON, than what the system takes for a connection that nobody reads.
    let body = vec![200; 2_000_000];
    sender.store("m", &id('b'), &body).await;
    let mut recipient = TestMailbox::plain(nodes[0].public, &id('b')).await;
    let metrics = &nodes[0].node().metrics.mailbox;
    until("the blob is fetched", || metrics.pulled.get() > 0).await;
    nodes[0].cut_from(&nodes[1]);
    nodes[0].links_are(0).await;
    let before = metrics.left_out.get();
    recipient.expect_blob(&body).await;
    until("the node is left out", || metrics.left_out.get() > before).await;
    nodes[0].mend_with(&nodes[1]);
    sender.expect_status("m", "Delivered").await;
}

#[tokio::test]
async fn a_client_whose_name_nobody_can_judge_reads_and_is_told_once_somebody_can() {
    let nodes = TestNode::cluster(3, &[]).await;
    let mut sender = TestMailbox::plain(nodes[2].public, &id('a')).await;
    sender.store("m", &id('b'), b"x").await;
    // Gossip passes through the third: both stay in the view, and say nothing to each other.
    nodes[0].cut_from(&nodes[1]);
    for node in &nodes[..2] {
        node.links_are(1).await;
    }
    let mut doubtful = TestMailbox::plain(nodes[0].public, &id('b')).await;
    doubtful.store("n", &id('a'), b"y").await;
    let blob = sender.expect_blob(b"y").await;
    sender.acknowledge(&blob, "ReceivedByRecipient").await;
    let (node, doubted) = (nodes[0].node(), &nodes[0].node().metrics.mailbox.doubted);
    // On a machine that stands still for a while, the two may lose each other from view, and nobody is in doubt.
    until("its name is in doubt", || doubted.get() == 1 || node.cluster.nodes().members.len() < 3).await;
    if doubted.get() == 1 {
        // It is sent nothing meanwhile.
        doubtful.settle().await;
    }
    nodes[0].mend_with(&nodes[1]);
    doubtful.expect_status("n", "Delivered").await;
    doubtful.expect_status("n", "ReceivedByRecipient").await;
    let blob = doubtful.expect_blob(b"x").await;
    sender.expect_status("m", "Delivered").await;
    doubtful.acknowledge(&blob, "ReceivedByRecipient").await;
    sender.expect_status("m", "ReceivedByRecipient").await;
}

#[tokio::test]
async fn a_node_that_starts_does_not_pass_for_one_that_has_deleted_what_it_is_told_to() {
    let nodes = TestNode::cluster(2, &[]).await;
    let (mut recipient, blob) = receives(&nodes).await;
    starts(&nodes[1]);
    recipient.acknowledge(&blob, "Delivered").await;
    recipient.settle().await;
    recipient.close().await;
    has_started(&nodes[1]);
    only_what_is_new_comes(&nodes).await;
}

#[tokio::test]
async fn a_node_that_starts_hears_of_purges_and_sessions_once_it_has_started() {
    let nodes = TestNode::cluster(2, &[]).await;
    let (mut recipient, _) = receives(&nodes).await;
    cut(&nodes).await;
    assert_eq!(recipient.purge().await, 0);
    starts(&nodes[1]);
    nodes[0].mend_with(&nodes[1]);
    all_meet(&nodes).await;
    has_started(&nodes[1]);
    until("the purge is obeyed", || nodes[1].node().metrics.mailbox.blobs.get() == 0).await;
    let mut sender = TestMailbox::plain(nodes[1].public, &id('d')).await;
    sender.store("new", &id('b'), b"new").await;
    recipient.expect_blob(b"new").await;
}

#[tokio::test]
async fn what_was_acknowledged_does_not_come_again_from_a_node_that_was_away_for_a_moment() {
    let nodes = TestNode::cluster(2, &[]).await;
    let (mut recipient, blob) = receives(&nodes).await;
    nodes[0].cut_from(&nodes[1]);
    nodes[0].links_are(0).await;
    recipient.acknowledge(&blob, "Delivered").await;
    recipient.settle().await;
    recipient.close().await;
    nodes[0].mend_with(&nodes[1]);
    for node in &nodes {
        node.links_are(1).await;
    }
    // All within the second in which a blob that has just come is brought without asking.
    only_what_is_new_comes(&nodes).await;
}

#[tokio::test]
async fn a_note_that_a_message_is_done_with_lies_on_two_nodes_besides_its_holder() {
    let nodes = TestNode::cluster(3, &[]).await;
    let (mut recipient, blob) = receives(&nodes).await;
    nodes[0].cut_from(&nodes[1]);
    nodes[2].cut_from(&nodes[1]);
    for node in [&nodes[0], &nodes[2]] {
        node.links_are(1).await;
    }
    recipient.acknowledge(&blob, "Delivered").await;
    recipient.settle().await;
    let mailbox = hex::encode(MailboxKey::blobs(&id('b')).0);
    for (node, notes) in [(0, 1), (1, 0), (2, 1)] {
        let shared = &nodes[node].node().cluster.shared;
        assert_eq!(shared.count_tagged_here("mail-done", &mailbox).await.unwrap(), notes, "node {node}");
    }
}

#[tokio::test]
async fn a_node_that_comes_back_while_the_others_are_told_of_an_acknowledgment_does_not_bring_its_message_again() {
    let first = TestNode::named("first", "a-slow-third", "", &[]).await;
    let seed = first.gossip().to_string();
    let second = TestNode::named("second", "a-slow-third", &seed, &[]).await;
    let third = [("RELAY_NODE_ID", "third"), ("RELAY_CLUSTER_ID", "a-slow-third"), ("RELAY_CLUSTER_SEEDS", &seed)];
    let third = Process::start(&third).await;
    let nodes = [first, second];
    for node in &nodes {
        node.view_is(3).await;
        node.links_are(2).await;
    }
    let mut sender = TestMailbox::plain(nodes[1].public, &id('a')).await;
    sender.store("m", &id('b'), b"x").await;
    let bodies = store_many(&nodes[0], &id('b')).await;
    let mut recipient = TestMailbox::plain(nodes[0].public, &id('b')).await;
    let blob = recipient.expect_blob(b"x").await;
    let others = expect_all(&mut recipient, &bodies).await;
    recipient.settle().await;
    nodes[1].node().cut.cut(third.gossip);
    nodes[0].cut_from(&nodes[1]);
    nodes[0].view_is(2).await;
    // The third is asked, and does not answer before the second is back.
    third.sigstop();
    recipient.acknowledge(&blob, "Delivered").await;
    nodes[0].mend_with(&nodes[1]);
    until("the node is back", || {
        nodes[0].node().cluster.nodes().members.contains_key(&nodes[1].node().cluster.me.node)
    })
    .await;
    third.sigcont();
    recipient.settle().await;
    for other in others {
        recipient.acknowledge(&other, "Delivered").await;
    }
    recipient.settle().await;
    recipient.close().await;
    only_what_is_new_comes(&nodes).await;
}
