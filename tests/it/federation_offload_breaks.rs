//! Offers of blobs that are broken off, lost or damaged: nothing is lost, and nothing is kept twice for long.

use waystation::observe::metrics::Reason;

use super::federation_offload::{BODY, NOTHING_STAYS, STORAGE, acknowledge, blobs, fill, read};
use crate::support::offers::Offers;
use crate::support::regions::{FEDERATION_SECRET, linked, regions_with};
use crate::support::{TestMailbox, TestNode, id, until};

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
    fill(&us, 0, 6).await;
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
    fill(&us, 0, 6).await;
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
