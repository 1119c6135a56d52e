//! Blobs that move where there are several peers, or several nodes: each goes to one of them, and one that is slow or does
//! not want it holds up nobody else.

use waystation::observe::metrics::Reason;
use waystation::runtime::time::now;

use super::federation_offload::{NOTHING_STAYS, STORAGE, acknowledge, blobs, fill, read};
use crate::support::offers::Offers;
use crate::support::regions::{CALLS_NOBODY, peer_of, regions_by_ways, regions_with};
use crate::support::{TestMailbox, TestNode, id, until};

fn refused(node: &TestNode, reason: &'static str) -> u64 {
    node.node().metrics.offload.refused_there.get_or_create(&Reason { reason }).get()
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
    fill(us, 0, 6).await;
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
