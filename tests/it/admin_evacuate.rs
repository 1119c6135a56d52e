//! An operator has blobs moved: some to other clusters, or all away from a node that is emptied.

use serde_json::json;
use waystation::edge::admin::proto::{DrainRequest, OffloadNowRequest};

use super::federation_offload::{BODY, NOTHING_STAYS, STORAGE, acknowledge, blobs, fill, read};
use crate::support::admin::{admin, printed, run};
use crate::support::cluster::figure_is;
use crate::support::regions::{regions, regions_with};
use crate::support::{TestMailbox, TestNode, id, in_time, until};

const EMPTY_IT: DrainRequest = DrainRequest { timeout_secs: Some(300), evacuate: true };

async fn left(node: &TestNode) {
    in_time("the node leaves", node.node().has_left()).await;
}

#[tokio::test]
async fn a_node_that_is_emptied_leaves_all_its_blobs_to_the_others() {
    let nodes = TestNode::cluster(3, &[]).await;
    fill(&nodes[0], 0, 6).await;
    let mut near = TestMailbox::plain(nodes[1].public, &id('b')).await;
    let seen = read(&mut near, 6).await;
    let message = json!({
        "type": "DeviceSyncMessage", "identity_id": id('c'), "target_device_id": id('1'),
        "sender_device_id": id('2'), "encrypted_payload": [1], "version": 1,
    });
    let mut device = TestMailbox::device(nodes[0].public, &id('c'), &id('2')).await;
    device.say("d", &message).await;
    device.expect_status("d", "Stored").await;
    let status = admin(&nodes[0]).await.drain(EMPTY_IT).await.unwrap().into_inner().status.unwrap();
    assert!(status.evacuates, "{status:?}");
    left(&nodes[0]).await;
    assert_eq!(blobs(&nodes[0]), 0);
    assert_eq!(nodes[0].node().metrics.offload.blobs_evacuated.get(), 7);
    assert_eq!(blobs(&nodes[1]) + blobs(&nodes[2]), 7);
    // Who was sent them is not sent them again, and what it acknowledges is deleted where it lies.
    near.settle().await;
    acknowledge(&mut near, &seen[..2]).await;
    until("two are done with", || blobs(&nodes[1]) + blobs(&nodes[2]) == 5).await;
    let mut far = TestMailbox::plain(nodes[2].public, &id('b')).await;
    assert_eq!(read(&mut far, 4).await, seen[2..]);
    // A purge finds the messages between devices.
    let mut client = TestMailbox::plain(nodes[1].public, &id('c')).await;
    client.say("p", &json!({"type": "PurgeRequest", "include_device_sync": true})).await;
    assert_eq!(client.expect_type("PurgeResponse").await["payload"]["device_sync_deleted"], 1);
}

#[tokio::test]
async fn a_node_that_nobody_can_empty_says_what_stays_and_leaves() {
    let node = TestNode::start(&[]).await;
    fill(&node, 0, 2).await;
    let address = node.node().admin;
    let watched = tokio::spawn(async move { printed(address, &["drain", "--evacuate", "--watch"]).await });
    let said = watched.await.unwrap();
    left(&node).await;
    assert!(said.contains("the node has left service") && said.contains("2 blobs stay"), "{said}");
}

#[tokio::test]
async fn the_last_node_of_a_cluster_is_emptied_to_a_peer() {
    let regions = regions(&[1, 1], &[STORAGE]).await;
    let (us, eu) = (&regions[0][0], &regions[1][0]);
    fill(us, 0, 3).await;
    admin(us).await.drain(EMPTY_IT).await.unwrap();
    left(us).await;
    assert_eq!((blobs(us), blobs(eu)), (0, 3));
}

#[tokio::test]
async fn an_operator_sees_what_would_move_and_has_it_moved() {
    let regions = regions_with(&[1, 1], &[STORAGE], &[vec![], vec![NOTHING_STAYS]]).await;
    let (us, eu) = (&regions[0][0], &regions[1][0]);
    fill(us, 0, 10).await;
    let address = us.node().admin;
    assert_eq!(printed(address, &["offload", "--dry-run"]).await, "nothing would move\n");
    let peer = us.node().federation.as_ref().unwrap().peers().remove(0).url;
    let rooms = || us.node().cluster.afar.out.get().unwrap().rooms();
    until("there is room for them", || rooms().iter().any(|(_, room)| room.max > 0)).await;
    // Room for four: six must go.
    let said = printed(address, &["offload", "--dry-run", "--down-to", "0.041"]).await;
    assert!(said.starts_with("would move 6 blobs, ") && said.contains(&peer), "{said}");
    assert_eq!((blobs(us), blobs(eu)), (10, 0));
    let request = OffloadNowRequest { dry_run: false, down_to: Some(0.041) };
    let mut progress = admin(us).await.offload_now(request).await.unwrap().into_inner();
    let mut last = None;
    while let Some(told) = in_time("progress", progress.message()).await.unwrap() {
        last = Some(told);
    }
    let last = last.unwrap();
    assert!(last.done && last.bytes_left == 0, "{last:?}");
    assert_eq!((last.blobs, last.bytes, last.to[0].blobs), (6, 6 * (BODY as u64 + 512), 6));
    assert_eq!((blobs(us), blobs(eu)), (4, 6));
    let refused = run(address, &["offload", "--down-to", "2"]).await;
    assert!(!refused.status.success());
    figure_is(us.public, "waystation_offload_blobs_sent_total", |count| count == 6.0).await;
    let alone = TestNode::start(&[]).await;
    let refused = run(alone.node().admin, &["offload"]).await;
    assert!(String::from_utf8_lossy(&refused.stderr).contains("RELAY_FEDERATION_ENABLED"));
}
