//! A disk without room: senders are told, everybody else goes on, and so do senders once there is room.

use std::time::Duration;

use serde_json::json;

use super::start;
use crate::support::disk::SmallDisk;
use crate::support::{LONG_PATIENCE, TestMailbox, id, within};

/// More than the 256 MiB that the store leaves free for deletions, and what it takes in advance.
const DISK_MIB: u32 = 448;

const WITHIN_RESERVE: u64 = 200 << 20;

const BLOBS: usize = 30;

fn body(number: usize) -> Vec<u8> {
    vec![u8::try_from(number).unwrap(); 5000]
}

/// Stores [`BLOBS`] blobs.
async fn store_some(sender: &mut TestMailbox) {
    for number in 0..BLOBS {
        sender.store(&number.to_string(), &id('b'), &body(number)).await;
    }
}

/// Sends new blobs until one is answered so: the disk is looked at once a second. The numbers of those that were
/// stored.
async fn send_until(sender: &mut TestMailbox, expected: &str, from: usize) -> Vec<usize> {
    within(LONG_PATIENCE, &format!("a blob is {expected}"), async {
        let mut stored = Vec::new();
        for number in from.. {
            sender.update(&number.to_string(), &id('b'), &body(number)).await;
            let answer = sender.expect_type("Acknowledgment").await;
            let status = answer["payload"]["status"].as_str().unwrap().to_owned();
            if status == "Stored" {
                stored.push(number);
            }
            if status == expected {
                return stored;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        stored
    })
    .await
}

/// A recipient that causes no word to the sender.
async fn recipient(address: std::net::SocketAddr) -> TestMailbox {
    let quiet = json!({"type": "Handshake", "client_id": id('b'), "suppress_presence": true});
    TestMailbox::with(address, &quiet).await
}

/// Receives these, and nothing besides; their ids.
async fn receives(client: &mut TestMailbox, numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
    let mut ids = Vec::new();
    for number in numbers {
        ids.push(client.expect_blob(&body(number)).await);
    }
    ids
}

#[tokio::test]
async fn near_the_end_of_the_disk_only_senders_are_refused_until_it_grows() {
    let Some(disk) = SmallDisk::mount(DISK_MIB) else { return };
    let process = start(disk.path()).await;
    let mut sender = TestMailbox::plain(process.public, &id('a')).await;
    store_some(&mut sender).await;
    disk.fill(WITHIN_RESERVE);
    let stored = send_until(&mut sender, "Failed", BLOBS).await;
    // A repeat takes no room.
    sender.store("0", &id('b'), &body(0)).await;

    let mut client = recipient(process.public).await;
    let ids = receives(&mut client, (0..BLOBS).chain(stored.clone())).await;
    for id in &ids[..10] {
        client.acknowledge(id, "ReceivedByRecipient").await;
    }
    client.settle().await;
    drop(client);
    let mut client = recipient(process.public).await;
    receives(&mut client, (10..BLOBS).chain(stored.clone())).await;
    client.settle().await;

    disk.grow(2 * DISK_MIB);
    let more = send_until(&mut sender, "Stored", 100).await;
    receives(&mut client, more).await;
    assert_eq!(client.purge().await as usize, BLOBS - 10 + stored.len() + 1);
}

#[tokio::test]
async fn on_a_full_disk_blobs_can_be_read_once_each_and_all_goes_on_when_there_is_room() {
    let Some(disk) = SmallDisk::mount(DISK_MIB) else { return };
    let process = start(disk.path()).await;
    let mut sender = TestMailbox::plain(process.public, &id('a')).await;
    store_some(&mut sender).await;
    disk.fill(0);
    let stored = send_until(&mut sender, "Failed", BLOBS).await;
    assert_eq!(send_until(&mut sender, "Failed", BLOBS + 10).await, [0; 0], "one was refused, and the next was not");

    // This one would have its sender told, which is more to write than there is room for.
    let mut client = TestMailbox::plain(process.public, &id('b')).await;
    for id in &receives(&mut client, (0..BLOBS).chain(stored)).await {
        client.acknowledge(id, "ReceivedByRecipient").await;
    }

    disk.free();
    let mut again = TestMailbox::plain(process.public, &id('c')).await;
    let more = send_until(&mut again, "Stored", 100).await;
    // Nothing comes twice on one connection, though what is to be written of it is tried again meanwhile.
    receives(&mut client, more.clone()).await;
    client.settle().await;
    drop(client);
    // What was acknowledged on the full disk is deleted, because the connection waited for it.
    let mut client = recipient(process.public).await;
    for id in &receives(&mut client, more).await {
        client.acknowledge(id, "ReceivedByRecipient").await;
    }
    assert_eq!(client.purge().await, 0);
}
