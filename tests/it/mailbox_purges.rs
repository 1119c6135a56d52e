//! Purges of what moves, or has moved.

use futures::future::join_all;
use serde_json::json;
use waystation::cluster::proto::frame::Body;
use waystation::mailbox::Goal;

use super::federation_offload::{NOTHING_STAYS, STORAGE, blobs, fill, read};
use crate::support::offers::Offers;
use crate::support::regions::{CALLS_NOBODY, regions_with};
use crate::support::{TestMailbox, id, until};

#[tokio::test]
async fn a_peer_that_does_not_hear_a_purge_is_told_that_what_moved_there_is_done_with() {
    let mut regions = regions_with(&[1, 1], &[STORAGE], &[vec![NOTHING_STAYS], vec![]]).await;
    let (us, eu) = (regions.remove(0).remove(0), regions.remove(0).remove(0));
    fill(&us, 0, 3).await;
    until("they have moved", || blobs(&us) == 0 && blobs(&eu) == 3).await;
    let offers = Offers::of(&us, |_| (), |_| ());
    offers.ask_only(|body| !matches!(body, Body::MailPurge(_)));
    let mut recipient = TestMailbox::plain(us.public, &id('b')).await;
    read(&mut recipient, 3).await;
    assert_eq!(recipient.purge().await, 0);
    until("the peer has heard", || blobs(&eu) == 0).await;
}

#[tokio::test]
async fn what_comes_from_a_peer_while_its_mailbox_is_purged_does_not_stay() {
    const MAILBOXES: usize = 100;
    const ROUNDS: usize = 8;
    let settings = [("RELAY_FEDERATION_OFFLOAD_THRESHOLD", "0.9")];
    let regions = regions_with(&[1, 1], &settings, &[vec![], vec![CALLS_NOBODY]]).await;
    let (us, eu) = (&regions[0][0], &regions[1][0]);
    let mut sender = TestMailbox::plain(us.public, &id('a')).await;
    for round in 0..ROUNDS {
        let names: Vec<_> = (0..MAILBOXES).map(|number| format!("{round:032}{number:032}")).collect();
        let mut purging = Vec::new();
        for name in &names {
            sender.store(name, name, b"x").await;
            // The sender is told nothing.
            let who = json!({"type": "Handshake", "client_id": name, "suppress_presence": true});
            purging.push(TestMailbox::with(eu.public, &who).await);
        }
        let everything = us.node().mailbox.offload(Goal::Fast(0.0), |_| {});
        // At different moments, of which some fall between the steps of what comes.
        let purges = join_all(purging.iter_mut().enumerate().map(async |(number, client)| {
            for _ in 0..number * 5 {
                tokio::task::yield_now().await;
            }
            client.say("p", &json!({"type": "PurgeRequest"})).await;
            // What came before it may have been brought.
            while client.next_message().await["payload"]["type"] != "PurgeResponse" {}
        }));
        let (offloaded, ()) = tokio::join!(everything, async { drop(purges.await) });
        offloaded.unwrap();
        // What was not taken is where it was.
        until("nothing stays", || blobs(eu) == 0).await;
    }
}
