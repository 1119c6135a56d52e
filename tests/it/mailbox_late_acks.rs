//! Acknowledgments on a later connection than the one that a message came on, while the node that holds it is away: they
//! are noted, as long as there are not too many.

use tempfile::TempDir;
use waystation::domain::mailbox::{BlobId, MessageKey, Stamp};
use waystation::observe::metrics::Reason;
use waystation::runtime::time::now;

use super::mailbox_cluster::cut;
use super::mailbox_returns::{only_what_is_new_comes, receives};
use crate::support::cluster::all_meet;
use crate::support::regions::{linked, regions_by_ways};
use crate::support::{Process, TestMailbox, TestNode, id, until};

/// Notes of one mailbox that a node makes for acknowledgments of what nobody there was sent.
const NOTES: u64 = 4096;

/// An id that a client makes up: of a message that was stored at that time.
fn made_up(number: u64, millis: u64) -> String {
    let stamp = Stamp::new(millis << 12).unwrap();
    BlobId::new(stamp, MessageKey::of("nobody", "nobody", &number.to_string())).to_string()
}

/// Acknowledges on a connection of its own.
async fn acknowledge_later(node: &TestNode, blob: &str) {
    let mut recipient = TestMailbox::plain(node.public, &id('b')).await;
    recipient.acknowledge(blob, "Delivered").await;
    recipient.settle().await;
    recipient.close().await;
}

/// How many notes a node has made, and how many it has not.
fn noted(node: &TestNode) -> (u64, u64) {
    let metrics = &node.node().metrics.mailbox;
    let not_noted = ["mailbox", "address", "cluster", "all"]
        .map(|reason| metrics.not_noted.get_or_create(&Reason { reason }).get());
    (metrics.noted_done.get(), not_noted.iter().sum())
}

#[tokio::test]
async fn what_is_acknowledged_at_another_node_while_its_holder_is_away_does_not_come_again() {
    let nodes = TestNode::cluster(3, &[]).await;
    let (recipient, blob) = receives(&nodes).await;
    recipient.close().await;
    for other in [&nodes[0], &nodes[2]] {
        other.cut_from(&nodes[1]);
    }
    for other in [&nodes[0], &nodes[2]] {
        other.view_is(2).await;
    }
    acknowledge_later(&nodes[2], &blob).await;
    // Said again, it is known.
    acknowledge_later(&nodes[0], &blob).await;
    assert_eq!((noted(&nodes[2]), noted(&nodes[0])), ((1, 0), (0, 0)));
    for other in [&nodes[0], &nodes[2]] {
        other.mend_with(&nodes[1]);
    }
    all_meet(&nodes).await;
    only_what_is_new_comes(&nodes).await;
    until("only the other is left", || nodes[1].node().metrics.mailbox.blobs.get() == 1).await;
}

#[tokio::test]
async fn a_holder_that_was_killed_is_known_to_be_away_by_a_node_that_was_started_again_since() {
    let (folders, cluster) = ([TempDir::new().unwrap(), TempDir::new().unwrap()], "a-killed-holder");
    let kept = folders.each_ref().map(|folder| folder.path().to_str().unwrap());
    let start_first = async || {
        let settings = [("RELAY_STORAGE_BACKEND", "rocksdb"), ("RELAY_DATA_DIR", kept[0])];
        TestNode::named("first", cluster, "", &settings).await
    };
    let start_second = async |first: &TestNode| {
        let seed = first.gossip().to_string();
        let names = [("RELAY_NODE_ID", "second"), ("RELAY_CLUSTER_ID", cluster), ("RELAY_CLUSTER_SEEDS", &seed)];
        let settings = [("RELAY_STORAGE_BACKEND", "rocksdb"), ("RELAY_DATA_DIR", kept[1])];
        let second = Process::start(&[names.as_slice(), &settings].concat()).await;
        first.view_is(2).await;
        first.links_are(1).await;
        second
    };
    let first = start_first().await;
    let mut second = start_second(&first).await;
    let mut sender = TestMailbox::plain(second.public, &id('a')).await;
    sender.store("m", &id('b'), b"x").await;
    let mut recipient = TestMailbox::plain(first.public, &id('b')).await;
    let blob = recipient.expect_blob(b"x").await;
    sender.expect_status("m", "Delivered").await;
    recipient.close().await;
    second.sigkill();
    second.ended().await;
    first.stop().await;
    let first = start_first().await;
    acknowledge_later(&first, &blob).await;
    assert_eq!(noted(&first), (1, 0));
    let second = start_second(&first).await;
    let mut sender = TestMailbox::plain(second.public, &id('d')).await;
    sender.store("new", &id('b'), b"new").await;
    let mut recipient = TestMailbox::plain(first.public, &id('b')).await;
    recipient.expect_blob(b"new").await;
    recipient.settle().await;
}

#[tokio::test]
async fn acknowledgments_of_what_never_was_leave_few_notes_of_their_own_mailbox_and_none_if_nobody_is_away() {
    let nodes = TestNode::cluster(2, &[]).await;
    let forge = async |name: char, count: u64, millis: u64| {
        let mut client = TestMailbox::plain(nodes[0].public, &id(name)).await;
        for number in 0..count {
            client.acknowledge(&made_up(number, millis), "Delivered").await;
        }
        client.settle().await;
    };
    forge('f', 10, now().0).await;
    assert_eq!(noted(&nodes[0]), (0, 0));
    let (recipient, blob) = receives(&nodes).await;
    recipient.close().await;
    cut(&nodes).await;
    // Nothing of that age waits anywhere, or will before long.
    forge('f', 10, now().0 - 91 * 86_400_000).await;
    forge('f', 10, now().0 + 120_000).await;
    assert_eq!(noted(&nodes[0]), (0, 0));
    forge('f', NOTES + 50, now().0).await;
    assert_eq!(noted(&nodes[0]), (NOTES, 50));
    // What it has noted already is known.
    forge('f', 10, now().0).await;
    assert_eq!(noted(&nodes[0]), (NOTES, 50));
    // Another's is not used up.
    acknowledge_later(&nodes[0], &blob).await;
    assert_eq!(noted(&nodes[0]), (NOTES + 1, 50));
    nodes[0].mend_with(&nodes[1]);
    all_meet(&nodes).await;
    only_what_is_new_comes(&nodes).await;
}

#[tokio::test]
async fn what_is_acknowledged_on_a_later_connection_while_a_peer_is_away_does_not_come_again() {
    let (regions, ways) = regions_by_ways(&[1, 1], &[]).await;
    let (us, eu) = (&regions[0][0], &regions[1][0]);
    let mut sender = TestMailbox::plain(eu.public, &id('a')).await;
    sender.store("m", &id('b'), b"x").await;
    let mut recipient = TestMailbox::plain(us.public, &id('b')).await;
    let blob = recipient.expect_blob(b"x").await;
    sender.expect_status("m", "Delivered").await;
    recipient.close().await;
    ways[1].cut();
    linked(us, 0).await;
    acknowledge_later(us, &blob).await;
    assert_eq!(noted(us), (1, 0));
    ways[1].lead_to(eu.node().federated.unwrap());
    linked(us, 1).await;
    sender.store("new", &id('b'), b"new").await;
    let mut recipient = TestMailbox::plain(us.public, &id('b')).await;
    recipient.expect_blob(b"new").await;
    recipient.settle().await;
}

#[tokio::test]
async fn a_peer_notes_what_is_acknowledged_from_afar_for_a_node_of_its_own_that_is_away() {
    let (regions, _ways) = regions_by_ways(&[1, 2], &[]).await;
    let (us, eu) = (&regions[0][0], &regions[1]);
    let mut sender = TestMailbox::plain(eu[1].public, &id('a')).await;
    sender.store("m", &id('b'), b"x").await;
    let mut recipient = TestMailbox::plain(us.public, &id('b')).await;
    let blob = recipient.expect_blob(b"x").await;
    sender.expect_status("m", "Delivered").await;
    recipient.close().await;
    cut(eu).await;
    acknowledge_later(us, &blob).await;
    until("it is noted", || noted(&eu[0]) == (1, 0)).await;
    eu[0].mend_with(&eu[1]);
    all_meet(eu).await;
    let mut sender = TestMailbox::plain(eu[1].public, &id('d')).await;
    sender.store("new", &id('b'), b"new").await;
    let mut recipient = TestMailbox::plain(eu[0].public, &id('b')).await;
    recipient.expect_blob(b"new").await;
    recipient.settle().await;
}
