//! Blobs that move to another cluster: when, which, and that each reaches its recipient once.

use std::collections::BTreeSet;

use serde_json::json;
use waystation::cluster::regions::PeerName;

use crate::support::offers::Offers;
use crate::support::regions::{CALLS_NOBODY, FEDERATION_SECRET, peer_of, regions, regions_with};
use crate::support::{TestMailbox, TestNode, id, until};

/// 0.1 of this is room for nine blobs of [`BODY`] bytes.
pub const STORAGE: (&str, &str) = ("RELAY_MAX_STORAGE_BYTES", "1048576");
pub const THRESHOLD: (&str, &str) = ("RELAY_FEDERATION_OFFLOAD_THRESHOLD", "0.1");
/// So that everything goes.
pub const NOTHING_STAYS: (&str, &str) = ("RELAY_FEDERATION_OFFLOAD_THRESHOLD", "0");
pub const BODY: usize = 10_000;
pub const STAY: i64 = 9;

/// Stores so many blobs for `b`, numbered from `first`.
pub async fn fill(node: &TestNode, first: u8, count: u8) {
    let mut sender = TestMailbox::plain(node.public, &id('a')).await;
    for number in first..first + count {
        sender.update(&number.to_string(), &id('b'), &[number; BODY]).await;
        // Besides, it may be told that others were delivered.
        while sender.expect_type("Acknowledgment").await["payload"]["status"] != "Stored" {}
    }
}

/// Stores six blobs, which are offered to the only peer together: whoever has not answered is offered no more for a while.
pub async fn fill_for_one_offer(node: &TestNode, offers: &Offers) {
    offers.seem_full(&[PeerName(peer_of(node).url.into())]);
    fill(node, 0, 6).await;
    offers.seem_full(&[]);
}

/// How many blobs a node holds.
pub fn blobs(node: &TestNode) -> i64 {
    node.node().metrics.mailbox.blobs.get()
}

/// The next so many blobs: the first byte of each, and its id.
pub async fn read(recipient: &mut TestMailbox, count: usize) -> Vec<(u8, String)> {
    let mut seen = Vec::new();
    for _ in 0..count {
        let blob = recipient.expect_type("EncryptedUpdate").await;
        let first = u8::try_from(blob["payload"]["ciphertext"][0].as_u64().unwrap()).unwrap();
        seen.push((first, blob["message_id"].as_str().unwrap().to_owned()));
    }
    seen
}

pub async fn acknowledge(recipient: &mut TestMailbox, seen: &[(u8, String)]) {
    for (_, blob) in seen {
        recipient.acknowledge(blob, "ReceivedByRecipient").await;
    }
    recipient.settle().await;
}

fn numbers(seen: &[(u8, String)]) -> Vec<u8> {
    let mut numbers: Vec<_> = seen.iter().map(|(number, _)| *number).collect();
    numbers.sort_unstable();
    numbers
}

#[tokio::test]
async fn above_the_threshold_the_oldest_move_and_a_client_that_knows_nothing_of_it_gets_all() {
    let regions = regions(&[1, 1], &[FEDERATION_SECRET, STORAGE, THRESHOLD]).await;
    let (us, eu) = (&regions[0][0], &regions[1][0]);
    fill(us, 0, 20).await;
    until("the rest has moved", || blobs(us) == STAY).await;
    until("it is there", || blobs(eu) == 20 - STAY).await;
    assert_eq!(us.node().metrics.offload.blobs_sent.get(), 11);
    assert_eq!(eu.node().metrics.offload.bytes_taken.get(), 11 * (BODY as u64 + 512));
    // A repeat of what moved is known.
    let mut sender = TestMailbox::plain(us.public, &id('a')).await;
    sender.store("0", &id('b'), &[0; BODY]).await;
    assert_eq!(blobs(us), STAY);
    for node in [us, eu] {
        let mut recipient = TestMailbox::plain(node.public, &id('b')).await;
        let seen = read(&mut recipient, 20).await;
        assert_eq!(numbers(&seen), (0..20).collect::<Vec<_>>());
        let here = if std::ptr::eq(node, us) { 11..20 } else { 0..11 };
        let own: Vec<_> = seen.iter().map(|(number, _)| *number).filter(|number| here.contains(number)).collect();
        assert!(own.is_sorted(), "{own:?}");
        recipient.settle().await;
    }
    let mut recipient = TestMailbox::plain(us.public, &id('b')).await;
    let seen = read(&mut recipient, 20).await;
    acknowledge(&mut recipient, &seen).await;
    until("nothing is left", || blobs(us) + blobs(eu) == 0).await;
}

#[tokio::test]
async fn a_recipient_that_is_connected_gets_an_older_blob_that_comes_once() {
    // Nobody tells the first region of sessions in the second.
    let each = [vec![NOTHING_STAYS], vec![CALLS_NOBODY]];
    let regions = regions_with(&[1, 1], &[STORAGE], &each).await;
    let (us, eu) = (&regions[0][0], &regions[1][0]);
    let held = Offers::held(us);
    fill(us, 0, 3).await;
    let mut recipient = TestMailbox::plain(eu.public, &id('b')).await;
    fill(eu, 10, 1).await;
    assert_eq!(numbers(&read(&mut recipient, 1).await), [10]);
    held.mend();
    let seen = read(&mut recipient, 3).await;
    assert_eq!(numbers(&seen), [0, 1, 2]);
    until("they are deleted where they were", || blobs(us) == 0).await;
    recipient.settle().await;
    acknowledge(&mut recipient, &seen).await;
    assert_eq!(blobs(eu), 1);
}

#[tokio::test]
async fn what_a_session_was_sent_before_it_moved_does_not_come_again_and_is_acknowledged_there() {
    let regions = regions_with(&[2, 1], &[STORAGE], &[vec![NOTHING_STAYS], vec![]]).await;
    let (us, other, eu) = (&regions[0][0], &regions[0][1], &regions[1][0]);
    let held = Offers::held(us);
    let mut here = TestMailbox::plain(us.public, &id('b')).await;
    let mut near = TestMailbox::plain(other.public, &id('b')).await;
    fill(us, 0, 3).await;
    let (seen, also) = (read(&mut here, 3).await, read(&mut near, 3).await);
    assert_eq!(seen, also);
    held.mend();
    until("they have moved", || blobs(us) == 0 && blobs(eu) == 3).await;
    here.settle().await;
    near.settle().await;
    // One that comes anew gets them from there, under the same ids.
    let mut anew = TestMailbox::plain(us.public, &id('b')).await;
    assert_eq!(read(&mut anew, 3).await, seen);
    acknowledge(&mut here, &seen[..2]).await;
    until("the peer has heard", || blobs(eu) == 1).await;
    acknowledge(&mut near, &seen[2..]).await;
    until("the peer has heard", || blobs(eu) == 0).await;
    for node in [us, other, eu] {
        TestMailbox::plain(node.public, &id('b')).await.settle().await;
    }
}

#[tokio::test]
async fn what_has_moved_once_stays_where_it_is_between_clusters_that_call_one_another() {
    let regions = regions(&[1, 1], &[STORAGE, THRESHOLD]).await;
    let (us, eu) = (&regions[0][0], &regions[1][0]);
    fill(us, 0, 40).await;
    until("all but what fits has moved", || blobs(us) == STAY && blobs(eu) == 40 - STAY).await;
    // The second is above its own threshold now, and moves what was put there.
    fill(eu, 100, 2).await;
    until("its own has moved", || eu.node().metrics.offload.blobs_sent.get() == 2).await;
    until("the first has moved on what was put there before", || blobs(us) == STAY).await;
    // What came to the first counts there, and stays.
    assert_eq!(blobs(us) + blobs(eu), 42);
    assert_eq!(us.node().metrics.offload.blobs_taken.get(), 2);
    let mut recipient = TestMailbox::plain(us.public, &id('b')).await;
    let seen = read(&mut recipient, 42).await;
    assert_eq!(numbers(&seen), (0..40).chain([100, 101]).collect::<Vec<_>>());
    recipient.settle().await;
}

#[tokio::test]
async fn a_peer_that_is_nearly_full_takes_nothing_and_nothing_is_lost() {
    let full =
        vec![CALLS_NOBODY, ("RELAY_FEDERATION_OFFLOAD_REFUSE", "0.2"), ("RELAY_FEDERATION_OFFLOAD_THRESHOLD", "0.15")];
    let regions = regions_with(&[1, 1], &[STORAGE], &[vec![THRESHOLD], full]).await;
    let (us, eu) = (&regions[0][0], &regions[1][0]);
    fill(eu, 100, 15).await;
    fill(us, 0, 20).await;
    // 0.2 is room for 19 blobs: four more.
    until("it takes what fits", || eu.node().metrics.offload.blobs_taken.get() == 4).await;
    let refused = &us.node().metrics.offload.refused_there;
    let full = waystation::observe::metrics::Reason { reason: "full" };
    until("it refuses the rest", || refused.get_or_create(&full).get() > 0).await;
    until("what it took is deleted", || (blobs(us), blobs(eu)) == (16, 19)).await;
    let mut recipient = TestMailbox::plain(us.public, &id('b')).await;
    let seen = read(&mut recipient, 35).await;
    assert_eq!(numbers(&seen), (0..20).chain(100..115).collect::<Vec<_>>());
    acknowledge(&mut recipient, &seen).await;
    until("nothing is left", || blobs(us) + blobs(eu) == 0).await;
}

#[tokio::test]
async fn a_mailbox_that_is_full_there_costs_others_nothing() {
    let each = [vec![NOTHING_STAYS], vec![("RELAY_MAX_BLOBS_PER_USER", "4")]];
    let regions = regions_with(&[1, 1], &[STORAGE, ("RELAY_MAX_SENDER_SHARE", "1")], &each).await;
    let (us, eu) = (&regions[0][0], &regions[1][0]);
    fill(us, 0, 6).await;
    let mut sender = TestMailbox::plain(us.public, &id('a')).await;
    sender.store("c", &id('c'), b"c").await;
    until("what fits has moved", || blobs(us) == 2 && blobs(eu) == 5).await;
    let mut recipient = TestMailbox::plain(eu.public, &id('b')).await;
    let seen = read(&mut recipient, 6).await;
    assert_eq!(numbers(&seen), (0..6).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_purge_reaches_what_has_moved_and_a_peer_that_was_down_when_it_is_back() {
    let mut regions = regions_with(&[1, 1], &[STORAGE], &[vec![NOTHING_STAYS], vec![]]).await;
    let (us, eu) = (regions.remove(0).remove(0), regions.remove(0).remove(0));
    fill(&us, 0, 3).await;
    until("they have moved", || blobs(&us) == 0 && blobs(&eu) == 3).await;
    let mut recipient = TestMailbox::plain(us.public, &id('b')).await;
    read(&mut recipient, 3).await;
    assert_eq!(recipient.purge().await, 3);
    assert_eq!(blobs(&eu), 0);
    // They are done with: a repeat is not stored.
    let mut sender = TestMailbox::plain(us.public, &id('a')).await;
    sender.store("0", &id('b'), &[0; BODY]).await;
    assert_eq!(blobs(&us), 0);
}

#[tokio::test]
async fn a_client_that_asks_for_hints_gets_them_after_its_blobs_and_fetches_the_rest_itself() {
    let there = vec![("RELAY_PUBLIC_URL", "wss://there.example")];
    let regions = regions_with(&[2, 1], &[STORAGE], &[vec![THRESHOLD], there]).await;
    let (us, other, eu) = (&regions[0][0], &regions[0][1], &regions[1][0]);
    fill(us, 0, STAY as u8 + 2).await;
    until("two have moved", || blobs(us) == STAY && blobs(eu) == 2).await;
    let asks = json!({"type": "Handshake", "client_id": id('b'), "accept_hints": true});
    let mut there = TestMailbox::plain(eu.public, &id('b')).await;
    let seen = read(&mut there, 2 + STAY as usize).await;
    let moved: BTreeSet<_> = seen.iter().filter(|(number, _)| *number < 2).map(|(_, blob)| blob.clone()).collect();
    for node in [us, other] {
        let mut recipient = TestMailbox::with(node.public, &asks).await;
        let own = read(&mut recipient, STAY as usize).await;
        assert_eq!(numbers(&own), (2..2 + STAY as u8).collect::<Vec<_>>());
        let hints = recipient.expect_type("ForwardingHints").await["payload"]["hints"].clone();
        let hints = hints.as_array().unwrap();
        assert_eq!(hints.len(), 2, "{hints:?}");
        for hint in hints {
            assert_eq!(hint["relay_url"], "wss://there.example");
            assert!(moved.contains(hint["blob_id"].as_str().unwrap()));
            let ends = waystation::runtime::time::now().0 / 1000 + 7_776_000;
            assert!(hint["expires_at_secs"].as_u64().unwrap().abs_diff(ends) < 600);
        }
        recipient.settle().await;
        // Who does not ask gets all.
        assert_eq!(read(&mut TestMailbox::plain(node.public, &id('b')).await, 2 + STAY as usize).await.len(), 11);
    }
    // Once they are fetched there, nobody is told of them.
    let hinted = &us.node().metrics.offload.hints;
    until("both are known to lie there", || hinted.get() == 2).await;
    acknowledge(&mut there, &seen).await;
    until("it is known that they were fetched", || hinted.get() == 0 && blobs(us) == 0).await;
    let mut recipient = TestMailbox::with(us.public, &asks).await;
    recipient.settle().await;
    recipient.settle().await;
}
