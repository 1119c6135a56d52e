//! Offers of blobs that are broken off, lost or damaged: nothing is lost, and nothing is kept twice for long.

use tempfile::TempDir;
use waystation::cluster::proto::frame::Body;
use waystation::observe::metrics::Reason;

use super::federation_offload::{BODY, NOTHING_STAYS, STORAGE, acknowledge, blobs, fill, fill_for_one_offer, read};
use crate::support::cluster::figure_is;
use crate::support::offers::Offers;
use crate::support::regions::{FEDERATION_SECRET, linked, regions_with};
use crate::support::{Process, TestMailbox, TestNode, free_port, id, until};

/// Two linked clusters of one node each; the first moves everything that it gets.
async fn two() -> (TestNode, TestNode) {
    let each = [vec![NOTHING_STAYS], vec![]];
    let mut regions = regions_with(&[1, 1], &[FEDERATION_SECRET, STORAGE], &each).await;
    (regions.remove(0).remove(0), regions.remove(0).remove(0))
}

fn notes(node: &TestNode) -> i64 {
    node.node().metrics.offload.notes.get()
}

/// All six are there, once.
async fn all_there(us: &TestNode, eu: &TestNode) {
    for node in [us, eu] {
        let mut recipient = TestMailbox::plain(node.public, &id('b')).await;
        let mut seen = read(&mut recipient, 6).await;
        seen.sort();
        assert_eq!(seen.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
        recipient.settle().await;
    }
}

#[tokio::test]
async fn answers_that_are_lost_are_settled_and_nothing_stays_twice() {
    let (us, eu) = two().await;
    let offers = Offers::of(&us, |_| (), |answers| answers.clear());
    fill_for_one_offer(&us, &offers).await;
    until("all are there, and here too", || blobs(&us) == 6 && blobs(&eu) == 6).await;
    until("it is noted", || notes(&us) > 0).await;
    all_there(&us, &eu).await;
    // One is acknowledged while it lies on both sides, and another where only one of them hears.
    let mut recipient = TestMailbox::plain(us.public, &id('b')).await;
    let seen = read(&mut recipient, 6).await;
    acknowledge(&mut recipient, &seen[..1]).await;
    until("both have heard", || blobs(&us) == 5 && blobs(&eu) == 5).await;
    offers.mend();
    until("nothing stays here", || blobs(&us) == 0).await;
    until("the note is settled", || notes(&us) == 0).await;
    assert_eq!(blobs(&eu), 5);
    acknowledge(&mut recipient, &seen[1..]).await;
    until("nothing is left", || blobs(&eu) == 0).await;
}

#[tokio::test]
async fn half_of_an_answer_counts_and_the_rest_is_settled() {
    let (us, eu) = two().await;
    let offers = Offers::held(&us);
    fill(&us, 0, 6).await;
    offers.change(|blobs| blobs.truncate(4), |answers| answers.truncate(2));
    until("some came, and not all were answered for", || blobs(&us) + blobs(&eu) > 6).await;
    offers.mend();
    until("all have moved", || blobs(&us) == 0 && blobs(&eu) == 6).await;
    all_there(&us, &eu).await;
}

#[tokio::test]
async fn a_damaged_blob_or_one_that_moved_before_is_not_taken_and_stays() {
    let (us, eu) = two().await;
    let mut turn = 0;
    let _offers = Offers::of(
        &us,
        move |blobs| {
            for blob in blobs {
                turn += 1;
                match turn % 3 {
                    0 => {
                        let mut body = blob.body.to_vec();
                        body[BODY / 2] ^= 1;
                        blob.body = body.into();
                    }
                    1 => blob.hops = 2,
                    _ => blob.place.as_mut().unwrap().rank = 1,
                }
            }
        },
        |_| (),
    );
    fill(&us, 0, 6).await;
    let unfit = Reason { reason: "unfit" };
    let refused = &eu.node().metrics.offload.refused_here;
    until("all are refused", || refused.get_or_create(&unfit).get() >= 6).await;
    assert_eq!((blobs(&us), blobs(&eu)), (6, 0));
    all_there(&us, &eu).await;
}

#[tokio::test]
async fn a_peer_that_dies_with_the_answers_is_offered_the_same_again() {
    let (us, eu) = two().await;
    let offers = Offers::of(&us, |_| (), |answers| answers.clear());
    fill_for_one_offer(&us, &offers).await;
    until("all are there, and here too", || blobs(&us) == 6 && blobs(&eu) == 6).await;
    // It forgets all, as if its disk was lost.
    let address = eu.node().federated.unwrap().to_string();
    eu.stop().await;
    let eu = TestNode::start(&[
        STORAGE,
        FEDERATION_SECRET,
        ("RELAY_REGION", "region-1"),
        ("RELAY_FEDERATION_ENABLED", "true"),
        ("RELAY_FEDERATION_ADDR", &address),
        ("RELAY_FEDERATION_CAPACITY_INTERVAL", "1"),
    ])
    .await;
    offers.mend();
    until("all have moved", || blobs(&us) == 0 && blobs(&eu) == 6).await;
    linked(&us, 1).await;
    let mut recipient = TestMailbox::plain(us.public, &id('b')).await;
    assert_eq!(read(&mut recipient, 6).await.len(), 6);
}

#[tokio::test]
async fn what_is_acknowledged_while_the_peer_is_away_does_not_come_back_with_it() {
    let (us, eu) = two().await;
    fill(&us, 0, 3).await;
    until("they have moved", || blobs(&us) == 0 && blobs(&eu) == 3).await;
    let mut recipient = TestMailbox::plain(us.public, &id('b')).await;
    let seen = read(&mut recipient, 3).await;
    let real = us.node().cluster.afar.out.get().unwrap();
    us.node().cluster.afar.out.clear();
    acknowledge(&mut recipient, &seen).await;
    drop(recipient);
    assert_eq!(blobs(&eu), 3);
    us.node().cluster.afar.out.fill(real);
    until("it hears of it later", || blobs(&eu) == 0).await;
    for node in [&us, &eu] {
        TestMailbox::plain(node.public, &id('b')).await.settle().await;
    }
}

/// Has the first message that is told to be done with, and no other, meet a failure each time.
fn fail_for_one(offers: &Offers) {
    let mut first = None;
    offers.fail(move |body| match body {
        Body::MailAck(ack) => *first.get_or_insert(ack.message) == ack.message,
        _ => false,
    });
}

#[tokio::test]
async fn a_peer_that_cannot_hear_of_one_message_that_is_done_with_hears_of_the_others() {
    let (us, eu) = two().await;
    let offers = Offers::of(&us, |_| (), |_| ());
    fill(&us, 0, 6).await;
    until("they have moved", || blobs(&us) == 0 && blobs(&eu) == 6).await;
    let mut recipient = TestMailbox::plain(us.public, &id('b')).await;
    let seen = read(&mut recipient, 6).await;
    offers.ask_only(|_| false);
    acknowledge(&mut recipient, &seen).await;
    drop(recipient);
    assert_eq!(blobs(&eu), 6);
    fail_for_one(&offers);
    offers.ask_only(|_| true);
    until("it hears of the others", || blobs(&eu) == 1).await;
    offers.fail(|_| false);
    until("it hears of that one as well", || blobs(&eu) == 0).await;
}

#[tokio::test]
async fn a_note_is_settled_but_for_the_message_that_the_peer_cannot_hear_of() {
    let (us, eu) = two().await;
    let offers = Offers::of(&us, |_| (), |answers| answers.clear());
    fill_for_one_offer(&us, &offers).await;
    until("all are there, and here too", || blobs(&us) == 6 && blobs(&eu) == 6).await;
    let mut recipient = TestMailbox::plain(us.public, &id('b')).await;
    let seen = read(&mut recipient, 6).await;
    offers.ask_only(|_| false);
    acknowledge(&mut recipient, &seen).await;
    drop(recipient);
    until("all are done with here", || blobs(&us) == 0).await;
    assert_eq!(blobs(&eu), 6);
    fail_for_one(&offers);
    offers.ask_only(|_| true);
    offers.mend();
    until("it hears of the others", || blobs(&eu) == 1).await;
    assert_eq!(notes(&us), 1);
    offers.fail(|_| false);
    until("it hears of that one as well", || blobs(&eu) == 0 && notes(&us) == 0).await;
}

/// A node of its own cluster, as a process that keeps what it stores.
struct Region {
    settings: Vec<(&'static str, String)>,
    process: Process,
    _disk: TempDir,
}

impl Region {
    async fn start(name: &str, port: u16, peer: u16, threshold: &str) -> Self {
        let disk = TempDir::new().unwrap();
        let settings = vec![
            ("RELAY_STORAGE_BACKEND", "rocksdb".to_owned()),
            ("RELAY_DATA_DIR", disk.path().display().to_string()),
            ("RELAY_DISK_RESERVE_BYTES", "0".to_owned()),
            ("RELAY_RATE_LIMIT", "1000000".to_owned()),
            ("RELAY_MAX_SENDER_SHARE", "1".to_owned()),
            ("RELAY_MAX_BLOBS_PER_USER", "0".to_owned()),
            ("RELAY_REGION", name.to_owned()),
            ("RELAY_FEDERATION_ENABLED", "true".to_owned()),
            ("RELAY_FEDERATION_ADDR", format!("127.0.0.1:{port}")),
            ("RELAY_FEDERATION_PEERS", format!("http://127.0.0.1:{peer}")),
            ("RELAY_FEDERATION_CAPACITY_INTERVAL", "1".to_owned()),
            ("RELAY_FEDERATION_PEER_TIMEOUT", "3".to_owned()),
            ("RELAY_FEDERATION_OFFLOAD_THRESHOLD", threshold.to_owned()),
            // What is held is counted anew so often.
            ("RELAY_CLEANUP_INTERVAL", "1".to_owned()),
        ];
        let process = Self::launch(&settings).await;
        Self { settings, process, _disk: disk }
    }

    async fn launch(settings: &[(&'static str, String)]) -> Process {
        let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Process::start(&settings).await
    }

    async fn kill_and_start(&mut self) {
        self.process.sigkill();
        self.process.ended().await;
        self.process = Self::launch(&self.settings).await;
    }
}

/// Enough that moving them takes several batches.
const MANY: usize = 2_400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_killed_while_blobs_move_each_is_there_once_in_the_end() {
    let (here, there) = (free_port(), free_port());
    let mut us = Region::start("us", here, there, "0").await;
    let mut sender = TestMailbox::plain(us.process.public, &id('a')).await;
    for number in 0..MANY {
        sender.update(&number.to_string(), &id('b'), number.to_string().as_bytes()).await;
    }
    for number in 0..MANY {
        sender.expect_status(&number.to_string(), "Stored").await;
    }
    drop(sender);
    let mut eu = Region::start("eu", there, here, "0.8").await;
    let moved = |moved: f64| move |count: f64| count >= moved;
    for round in 1..=3_u32 {
        // It is killed once some have come since it was started last, wherever that is among the steps: more than are on
        // their way at once.
        figure_is(eu.process.public, "waystation_mailbox_blobs", moved(f64::from(round) * 600.0)).await;
        match round % 2 {
            1 => us.kill_and_start().await,
            _ => eu.kill_and_start().await,
        }
    }
    figure_is(us.process.public, "waystation_mailbox_blobs", |count| count == 0.0).await;
    figure_is(eu.process.public, "waystation_mailbox_blobs", |count| count == MANY as f64).await;
    let mut recipient = TestMailbox::plain(us.process.public, &id('b')).await;
    let mut seen = Vec::new();
    for _ in 0..MANY {
        let blob = recipient.expect_type("EncryptedUpdate").await;
        let text: Vec<u8> = serde_json::from_value(blob["payload"]["ciphertext"].clone()).unwrap();
        seen.push(String::from_utf8(text).unwrap().parse::<usize>().unwrap());
    }
    recipient.settle().await;
    seen.sort_unstable();
    assert_eq!(seen, (0..MANY).collect::<Vec<_>>());
}
