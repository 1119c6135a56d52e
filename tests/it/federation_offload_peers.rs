//! Blobs that move where there are several peers, or several nodes: each goes to one of them, and one that is slow or does
//! not want it holds up nobody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use waystation::cluster::regions::PeerName;
use waystation::edge::admin::proto::{DrainRequest, OffloadNowRequest};
use waystation::mailbox::Goal;
use waystation::observe::metrics::Reason;
use waystation::runtime::time::now;

use super::federation_offload::{NOTHING_STAYS, STORAGE, acknowledge, blobs, fill, fill_for_one_offer, read};
use crate::support::admin::admin;
use crate::support::cluster::all_meet;
use crate::support::offers::Offers;
use crate::support::regions::{CALLS_NOBODY, peer_of, regions_by_ways, regions_with};
use crate::support::{TestMailbox, TestNode, id, in_time, until};

/// More room than in [`STORAGE`].
const ROOMY: (&str, &str) = ("RELAY_MAX_STORAGE_BYTES", "16777216");
/// A mailbox there holds four.
const FOUR: (&str, &str) = ("RELAY_MAX_BLOBS_PER_USER", "4");

/// A cluster that moves everything, and two that it may go to, of which the first has more room.
async fn three(first: Vec<(&str, &str)>) -> (TestNode, TestNode, TestNode) {
    let each = [vec![NOTHING_STAYS], [vec![ROOMY, CALLS_NOBODY], first].concat(), vec![CALLS_NOBODY]];
    let mut regions = regions_with(&[1, 1, 1], &[STORAGE, ("RELAY_MAX_SENDER_SHARE", "1")], &each).await;
    let mut next = || regions.remove(0).remove(0);
    (next(), next(), next())
}

/// How a node calls another.
fn name_of(node: &TestNode) -> PeerName {
    PeerName(format!("http://{}", node.node().federated.unwrap()).into())
}

fn refused(node: &TestNode, reason: &'static str) -> u64 {
    node.node().metrics.offload.refused_there.get_or_create(&Reason { reason }).get()
}

/// Waits until a node knows how much room so many peers have.
async fn rooms_are(node: &TestNode, count: usize) {
    let out = node.node().cluster.afar.out.get().unwrap();
    until("it is known who has room", || out.rooms().iter().filter(|(_, room)| room.max > 0).count() == count).await;
}

#[tokio::test]
async fn what_the_roomiest_peer_refuses_goes_to_the_next() {
    let (us, eu, ap) = three(vec![FOUR]).await;
    rooms_are(&us, 2).await;
    fill(&us, 0, 6).await;
    until("all have moved", || blobs(&us) == 0).await;
    assert_eq!((blobs(&eu), blobs(&ap)), (4, 2));
    assert_eq!(refused(&us, "mailbox_full"), 2);
    let mut recipient = TestMailbox::plain(us.public, &id('b')).await;
    let mut numbers: Vec<_> = read(&mut recipient, 6).await.into_iter().map(|(number, _)| number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn what_nobody_takes_stays() {
    let (us, eu, ap) = three(vec![FOUR]).await;
    rooms_are(&us, 2).await;
    fill(&ap, 100, 90).await;
    let offers = Offers::held(&us);
    fill(&us, 0, 12).await;
    offers.mend();
    // The second has room for four more.
    until("they have taken what fits", || (blobs(&us), blobs(&eu), blobs(&ap)) == (4, 4, 94)).await;
    until("both have refused", || refused(&us, "mailbox_full") >= 1 && refused(&us, "full") >= 1).await;
}

#[tokio::test]
async fn a_peer_that_does_not_answer_for_what_it_was_offered_holds_up_no_other() {
    let (us, eu, ap) = three(Vec::new()).await;
    rooms_are(&us, 2).await;
    let offers = Offers::of(&us, |_| (), |_| ());
    offers.silence(&name_of(&eu));
    fill(&us, 0, 3).await;
    until("the roomiest is asked", || offers.unanswered() > 0).await;
    fill(&us, 10, 3).await;
    until("what came later is elsewhere", || blobs(&ap) >= 3 && blobs(&us) + blobs(&ap) == 6).await;
}

#[tokio::test]
async fn a_peer_that_says_nothing_keeps_no_offer_to_another_open() {
    let (us, eu, ap) = three(Vec::new()).await;
    rooms_are(&us, 2).await;
    let offers = Offers::of(&us, |_| (), |answers| answers.clear());
    let (eu_name, ap_name) = (name_of(&eu), name_of(&ap));
    offers.seem_full(std::slice::from_ref(&ap_name));
    fill(&us, 0, 1).await;
    until("one is at one, and here", || blobs(&eu) == 1).await;
    offers.seem_full(std::slice::from_ref(&eu_name));
    fill(&us, 1, 1).await;
    until("another is at the other, and here", || blobs(&ap) == 1).await;
    offers.silence(&eu_name);
    offers.mend();
    until("that is settled", || blobs(&us) == 1).await;
    assert_eq!((blobs(&eu), blobs(&ap)), (1, 1));
}

#[tokio::test]
async fn a_peer_that_takes_an_offer_and_never_answers_does_not_hold_up_the_stop() {
    let mut regions = regions_with(&[1, 1], &[STORAGE], &[vec![], vec![CALLS_NOBODY]]).await;
    let (us, eu) = (regions.remove(0).remove(0), regions.remove(0).remove(0));
    rooms_are(&us, 1).await;
    fill(&us, 0, 3).await;
    let offers = Offers::of(&us, |_| (), |_| ());
    offers.silence(&name_of(&eu));
    let request = OffloadNowRequest { dry_run: false, down_to: Some(0.0) };
    let progress = admin(&us).await.offload_now(request).await.unwrap();
    until("it is offered them", || offers.unanswered() > 0).await;
    drop(progress);
    assert_eq!(us.stop().await, Vec::<&str>::new());
}

/// How many batches a peer that says nothing is offered, of more than there may be.
async fn offered(goal: Goal) -> usize {
    const MANY: usize = 5 * 256;
    let (many, fast) = (("RELAY_MAX_BLOBS_PER_USER", "0"), ("RELAY_RATE_LIMIT", "1000000"));
    let settings = [ROOMY, many, fast, ("RELAY_MAX_SENDER_SHARE", "1")];
    let mut regions = regions_with(&[1, 1], &settings, &[vec![], vec![CALLS_NOBODY]]).await;
    let (us, eu) = (regions.remove(0).remove(0), regions.remove(0).remove(0));
    rooms_are(&us, 1).await;
    let mut sender = TestMailbox::plain(us.public, &id('a')).await;
    for number in 0..MANY {
        sender.update(&number.to_string(), &id('b'), b"blob").await;
    }
    until("all are stored", || blobs(&us) == MANY as i64).await;
    let offers = Offers::of(&us, |_| (), |_| ());
    offers.silence(&name_of(&eu));
    let (mailbox, told) = (us.node().mailbox.clone(), Arc::new(AtomicUsize::new(0)));
    let count = told.clone();
    let moving = tokio::spawn(async move {
        mailbox
            .offload(goal, |_| {
                count.fetch_add(1, Ordering::Relaxed);
            })
            .await
    });
    // It says how far it is before it offers anything, and again when the peer has been silent for long.
    until("it is slow", || told.load(Ordering::Relaxed) > 1).await;
    moving.abort();
    offers.unanswered()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_is_offered_a_few_batches_before_it_answers() {
    let (paced, fast) = tokio::join!(offered(Goal::Below(0.0)), offered(Goal::Fast(0.0)));
    assert_eq!((paced, fast), (2, 4));
}

/// A cluster that moves everything, and one that has the first message of it already, put there so long before.
async fn repeated_after(millis: u64, settings: &[(&str, &str)]) -> (TestNode, TestNode) {
    let each = [vec![NOTHING_STAYS], vec![CALLS_NOBODY]];
    let mut regions = regions_with(&[1, 1], &[&[STORAGE], settings].concat(), &each).await;
    let (us, eu) = (regions.remove(0).remove(0), regions.remove(0).remove(0));
    fill(&eu, 0, 1).await;
    let later = now().0 + millis;
    until("it is later", || now().0 > later).await;
    fill(&us, 0, 1).await;
    (us, eu)
}

#[tokio::test]
async fn a_copy_that_ends_sooner_elsewhere_does_not_do() {
    // A thousandth of this is 200 ms.
    let (us, eu) = repeated_after(200, &[("RELAY_BLOB_TTL_SECS", "200")]).await;
    until("it is refused", || refused(&us, "sooner") >= 1).await;
    assert_eq!((blobs(&us), blobs(&eu)), (1, 1));
    let mut recipient = TestMailbox::plain(us.public, &id('b')).await;
    let seen = read(&mut recipient, 1).await;
    recipient.settle().await;
    acknowledge(&mut recipient, &seen).await;
    until("both are done with", || blobs(&us) + blobs(&eu) == 0).await;
}

#[tokio::test]
async fn a_copy_that_ends_a_moment_sooner_does() {
    let (us, eu) = repeated_after(0, &[]).await;
    until("one is left", || (blobs(&us), blobs(&eu)) == (0, 1)).await;
    assert_eq!(us.node().metrics.offload.blobs_sent.get(), 1);
}

#[tokio::test]
async fn an_offer_that_is_repeated_to_another_node_of_a_peer_is_not_stored_twice() {
    let (regions, ways) = regions_by_ways(&[1, 2], &[STORAGE, NOTHING_STAYS]).await;
    let (us, first, second) = (&regions[0][0], &regions[1][0], &regions[1][1]);
    let offers = Offers::of(us, |_| (), |answers| answers.clear());
    fill_for_one_offer(us, &offers).await;
    until("all are there, and here too", || blobs(us) == 6 && blobs(first) == 6).await;
    let before = peer_of(us).relay_id;
    ways[1].lead_to(second.node().federated.unwrap());
    until("the other node answers", || peer_of(us).up && peer_of(us).relay_id != before).await;
    offers.mend();
    until("they are settled", || blobs(us) == 0).await;
    assert_eq!((blobs(first), blobs(second)), (6, 0));
    let mut recipient = TestMailbox::plain(us.public, &id('b')).await;
    let seen = read(&mut recipient, 6).await;
    recipient.settle().await;
    acknowledge(&mut recipient, &seen).await;
    until("nothing is left", || blobs(first) == 0).await;
}

#[tokio::test]
async fn a_node_that_is_emptied_gives_no_other_node_what_a_peer_may_have() {
    let mut regions = regions_with(&[1, 1], &[STORAGE], &[vec![NOTHING_STAYS], vec![CALLS_NOBODY]]).await;
    let (us, eu) = (regions.remove(0).remove(0), regions.remove(0).remove(0));
    let nodes = [us.join(&[STORAGE, ("RELAY_REGION", "region-0")]).await, us];
    all_meet(&nodes).await;
    let [other, us] = nodes;
    let offers = Offers::of(&us, |_| (), |answers| answers.clear());
    fill_for_one_offer(&us, &offers).await;
    until("all are there, and here too", || blobs(&us) == 6 && blobs(&eu) == 6).await;
    // A message that goes to no peer shows that others were handed over.
    let message = json!({
        "type": "DeviceSyncMessage", "identity_id": id('c'), "target_device_id": id('1'),
        "sender_device_id": id('2'), "encrypted_payload": [1], "version": 1,
    });
    let mut device = TestMailbox::device(us.public, &id('c'), &id('2')).await;
    device.say("d", &message).await;
    device.expect_status("d", "Stored").await;
    drop(device);
    admin(&us).await.drain(DrainRequest { timeout_secs: Some(300), evacuate: true }).await.unwrap();
    until("what may be handed over is", || blobs(&other) > 0).await;
    offers.mend();
    in_time("the node leaves", us.node().has_left()).await;
    assert_eq!((blobs(&us), blobs(&other), blobs(&eu)), (0, 1, 6));
}
