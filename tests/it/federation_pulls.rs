//! What a node hands out to callers is bounded, whatever they ask for, and though they do not read it.

use tonic::{Code, Streaming};
use waystation::cluster::proto::{self, MailPlace, PullPage, PullRequest, frame::Body, reply};
use waystation::domain::mailbox::{BlobId, MailboxKey};
use waystation::federation::proto::{Mail, frame};

use crate::support::far::{FarNode, pulls};
use crate::support::{TestMailbox, TestNode, id, in_time};

/// A node that may be called, and has so many blobs of so many bytes for `b`.
async fn filled(count: u8, bytes: usize) -> (TestNode, Vec<BlobId>) {
    let settings = [
        ("RELAY_FEDERATION_ENABLED", "true"),
        ("RELAY_FEDERATION_ADDR", "127.0.0.1:0"),
        ("RELAY_MAX_SENDER_SHARE", "1"),
    ];
    let node = TestNode::start(&settings).await;
    let mut sender = TestMailbox::plain(node.public, &id('a')).await;
    for number in 0..count {
        sender.store(&number.to_string(), &id('b'), &vec![number; bytes]).await;
    }
    let all = PullRequest { blobs: 1024, bytes: 1 << 20, ..asked() };
    let page = page(pulls(&node, node_id(&node), all).await.unwrap()).await;
    let ids = page.blobs.iter().map(|blob| place_of(blob).id);
    let ids = ids.map(|id| BlobId::from_bytes(id[..].try_into().unwrap()).unwrap()).collect();
    (node, ids)
}

fn node_id(node: &TestNode) -> &waystation::domain::ids::NodeId {
    &node.node().cluster.me.node
}

fn asked() -> PullRequest {
    PullRequest { mailbox: MailboxKey::blobs(&id('b')).0.to_vec().into(), ..PullRequest::default() }
}

fn place_of(blob: &proto::MailBlob) -> MailPlace {
    blob.place.clone().unwrap()
}

async fn page(mut answer: Streaming<PullPage>) -> PullPage {
    in_time("a page", answer.message()).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_page_for_a_caller_ends_with_the_blob_that_brings_it_to_a_mebibyte() {
    let (node, _) = filled(8, 200_000).await;
    let ask = |bytes| PullRequest { blobs: 1024, bytes, ..asked() };
    let many = page(pulls(&node, node_id(&node), ask(u32::MAX)).await.unwrap()).await;
    assert_eq!((many.blobs.len(), many.more), (6, true), "the sixth brings it past 1 MiB");
    let few = page(pulls(&node, node_id(&node), ask(300_000)).await.unwrap()).await;
    assert_eq!((few.blobs.len(), few.more), (2, true), "less may be asked for");
}

#[tokio::test]
async fn a_caller_is_handed_sixteen_places_at_a_time() {
    let (node, ids) = filled(20, 10).await;
    assert_eq!(ids.len(), 20);
    let at = ids.iter().map(|id| MailPlace { rank: 0, id: id.to_bytes().to_vec().into() }).collect();
    let answered = page(pulls(&node, node_id(&node), PullRequest { at, ..asked() }).await.unwrap()).await;
    let places: Vec<_> = answered.blobs.iter().map(|blob| place_of(blob).id.to_vec()).collect();
    assert_eq!(places, ids[..16].iter().map(|id| id.to_bytes().to_vec()).collect::<Vec<_>>());
}

#[tokio::test]
async fn blobs_that_are_asked_for_by_their_places_end_with_the_one_that_brings_them_to_so_many_bytes() {
    let (node, ids) = filled(5, 1_000).await;
    let at: Vec<_> = ids.iter().map(|id| MailPlace { rank: 0, id: id.to_bytes().to_vec().into() }).collect();
    let ask = |bytes| PullRequest { at: at.clone(), bytes, ..asked() };
    let some = page(pulls(&node, node_id(&node), ask(1_500)).await.unwrap()).await;
    assert_eq!((some.blobs.len(), some.more), (2, true));
    let all = page(pulls(&node, node_id(&node), ask(0)).await.unwrap()).await;
    assert_eq!((all.blobs.len(), all.more), (5, false));
}

#[tokio::test]
async fn pages_that_callers_do_not_read_keep_their_places_until_they_do_or_hang_up() {
    const PLACES: usize = 128;
    let (node, _) = filled(2, 100_000).await;
    let ask = || pulls(&node, node_id(&node), PullRequest { blobs: 1024, bytes: u32::MAX, ..asked() });
    let place_free = async || {
        let asking = async {
            while ask().await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        in_time("a place is free", asking).await;
    };
    // Each has some 200 kB, of which a connection takes 64 KiB that nobody reads.
    let mut unread = Vec::new();
    let refused = loop {
        match ask().await {
            Ok(answer) => unread.push(answer),
            Err(status) => break status,
        }
        assert!(unread.len() <= PLACES, "none is refused");
    };
    assert_eq!((refused.code(), unread.len()), (Code::ResourceExhausted, PLACES));
    assert_eq!(page(unread.pop().unwrap()).await.blobs.len(), 2);
    place_free().await;
    unread.clear();
    place_free().await;
}

#[tokio::test]
async fn a_caller_names_nothing_that_is_longer_than_names_are() {
    let (node, _) = filled(0, 0).await;
    let mut caller = FarNode::calls(&node).await;
    let asks = |ask, bytes| {
        let principal = proto::Principal { kind: proto::Kind::Mailbox.into(), name: "n".repeat(bytes) };
        let query = Body::OwnersQuery(proto::OwnersQuery { principals: vec![principal] });
        (ask, frame::Body::Mail(Mail { node: String::new(), frame: Some(query.into()) }))
    };
    let vault = |bytes| proto::Principal { kind: proto::Kind::Vault.into(), name: "n".repeat(bytes) };
    let locates = |bytes| Body::Locate(proto::Locate { principal: Some(vault(bytes)) });
    let (ask, question) = asks(1, 320);
    caller.say_frame(ask, question);
    assert!(matches!(caller.next_reply().await, (1, reply::Body::Owners(_))));
    let (ask, question) = asks(2, 321);
    caller.say_frame(ask, question);
    assert!(matches!(caller.next_reply().await, (2, reply::Body::Failed(_))));
    caller.say(3, locates(320));
    assert!(matches!(caller.next_reply().await, (3, reply::Body::Located(_))));
    caller.say(4, locates(321));
    assert!(matches!(caller.next_reply().await, (4, reply::Body::Failed(_))));
}
