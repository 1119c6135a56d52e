//! What comes behind what a connected recipient was sent already: a message of a lower version, or a blob of another store,
//! though its node cannot be asked, or told, just then.

use serde_json::{Value, json};

use super::federation_offload::{STORAGE, fill, read};
use super::mailbox_cluster::cut;
use crate::support::cluster::all_meet;
use crate::support::offers::Offers;
use crate::support::regions::{CALLS_NOBODY, regions_with};
use crate::support::{TestMailbox, TestNode, id, until};

/// Two devices of one client, each at its node.
struct Devices {
    phone: TestMailbox,
    laptop: TestMailbox,
}

impl Devices {
    async fn connect(nodes: &[TestNode]) -> Self {
        let mut laptop = TestMailbox::device(nodes[0].public, &id('c'), &id('2')).await;
        laptop.settle().await;
        Self { phone: TestMailbox::device(nodes[1].public, &id('c'), &id('1')).await, laptop }
    }

    async fn send(&mut self, version: u64) {
        let message: Value = json!({
            "type": "DeviceSyncMessage", "identity_id": id('c'), "target_device_id": id('2'),
            "sender_device_id": id('1'), "encrypted_payload": [version], "version": version,
        });
        self.phone.say(&version.to_string(), &message).await;
        self.phone.expect_status(&version.to_string(), "Stored").await;
    }

    async fn receive(&mut self, version: u64) {
        assert_eq!(self.laptop.expect_type("DeviceSyncMessage").await["payload"]["version"], version);
    }
}

#[tokio::test]
async fn it_is_fetched_again_from_a_node_that_does_not_say_at_first() {
    let nodes = TestNode::cluster(2, &[]).await;
    let mut devices = Devices::connect(&nodes).await;
    devices.send(5).await;
    devices.receive(5).await;
    let (cut, away) = (&nodes[0].node().cut, nodes[1].gossip());
    let left_out = &nodes[0].node().metrics.mailbox.left_out;
    // Too short for the link to break, mostly: the node does not say again what it holds.
    for version in [4, 3, 2] {
        let before = left_out.get();
        cut.cut(away);
        devices.send(version).await;
        until("the node is left out", || left_out.get() > before).await;
        cut.mend(away);
        devices.receive(version).await;
    }
}

#[tokio::test]
async fn it_is_told_again_when_the_link_is_new() {
    let nodes = TestNode::cluster(2, &[]).await;
    let mut devices = Devices::connect(&nodes).await;
    devices.send(5).await;
    devices.receive(5).await;
    cut(&nodes).await;
    devices.send(3).await;
    nodes[0].mend_with(&nodes[1]);
    all_meet(&nodes).await;
    devices.receive(3).await;
    devices.laptop.settle().await;
}

#[tokio::test]
async fn older_blobs_that_were_moved_to_a_node_while_its_link_was_away_come_to_a_connected_recipient() {
    let each = [vec![("RELAY_FEDERATION_OFFLOAD_THRESHOLD", "0")], vec![CALLS_NOBODY]];
    let regions = regions_with(&[1, 2], &[STORAGE], &each).await;
    let (us, eu) = (&regions[0][0], &regions[1]);
    let held = Offers::held(us);
    fill(us, 0, 3).await;
    let mut recipient = TestMailbox::plain(eu[1].public, &id('b')).await;
    fill(&eu[0], 10, 1).await;
    assert_eq!(read(&mut recipient, 1).await[0].0, 10);
    cut(eu).await;
    held.mend();
    until("they have moved", || us.node().metrics.mailbox.blobs.get() == 0).await;
    eu[0].mend_with(&eu[1]);
    all_meet(eu).await;
    let numbers: Vec<_> = read(&mut recipient, 3).await.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [0, 1, 2]);
    recipient.settle().await;
}
