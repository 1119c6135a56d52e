//! The search for GIFs, as Dusk's clients ask, with a provider of the test's own.

use futures::future::join_all;
use libp2p::StreamProtocol;
use serde::{Deserialize, Serialize};
use waystation::observe::metrics::Reason;

use crate::p2p_circuits::{P2P, relay, relay_id, with};
use crate::support::gifs::{Answer, GifProvider};
use crate::support::peer::TestPeer;
use crate::support::tls::Authority;
use crate::support::{TestNode, until};

const GIF: StreamProtocol = StreamProtocol::new("/dusk/gif/1.0.0");

const KEY: (&str, &str) = ("KLIPY_API_KEY", "the-k3y");

#[derive(Serialize)]
struct Asked<'a> {
    kind: &'a str,
    query: &'a str,
    limit: u64,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Told {
    results: Vec<Gif>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Gif {
    id: String,
    title: String,
    url: String,
    preview: String,
    dims: (u32, u32),
}

/// What a peer, which is connected with the node, is told.
async fn ask(peer: &TestPeer, node: &TestNode, kind: &str, query: &str, limit: u64) -> Vec<Gif> {
    let mut asked = Vec::new();
    ciborium::into_writer(&Asked { kind, query, limit }, &mut asked).unwrap();
    let told = peer.say(relay_id(node), GIF, &asked).await;
    let told: Told = ciborium::from_reader(&told[..]).unwrap_or_else(|error| panic!("{error}: {told:x?}"));
    told.results
}

async fn search(peer: &TestPeer, node: &TestNode, query: &str) -> usize {
    ask(peer, node, "search", query, 20).await.len()
}

/// A node that asks there, and a peer that is connected with it.
async fn asking(provider: &GifProvider, more: &[(&str, &str)]) -> (TestNode, TestPeer) {
    let settings = [&[KEY, ("RELAY_P2P_GIF_URL", &provider.url)], more].concat();
    let node = TestNode::start(&with(&settings)).await;
    let peer = connected(&node).await;
    (node, peer)
}

async fn connected(node: &TestNode) -> TestPeer {
    let peer = TestPeer::start();
    peer.dial(&relay(node), relay_id(node)).await.unwrap();
    peer
}

fn failed(node: &TestNode, reason: &'static str) -> u64 {
    node.node().metrics.p2p.gifs_failed.get_or_create(&Reason { reason }).get()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_found_is_told_and_kept() {
    let provider = GifProvider::start(Answer::Found).await;
    let (node, peer) = asking(&provider, &[]).await;
    let found = ask(&peer, &node, "search", " Big Cat", 2).await;
    let second = Gif {
        id: "1".into(),
        title: "cat 1".into(),
        url: "https://g.example/1.gif".into(),
        preview: "https://g.example/1s.gif".into(),
        dims: (200, 150),
    };
    assert_eq!((found.len(), &found[1]), (2, &second));
    let other = connected(&node).await;
    assert_eq!(ask(&other, &node, "search", "big cat ", 2).await, found);
    assert_eq!(ask(&other, &node, "trending", "", 99).await.len(), 50);
    assert_eq!(ask(&other, &node, "search", " ", 50).await.len(), 50);
    assert_eq!(
        provider.calls(),
        [
            "/v2/search?q=big%20cat&key=the-k3y&media_filter=tinygif,gif&limit=2",
            "/v2/featured?key=the-k3y&media_filter=tinygif,gif&limit=50",
        ]
    );
    let figures = &node.node().metrics.p2p;
    assert_eq!((figures.gifs_asked.get(), figures.gifs_kept.get()), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_kept_where_there_is_no_memory_for_it() {
    let provider = GifProvider::start(Answer::Found).await;
    let (node, peer) = asking(&provider, &[("RELAY_P2P_GIF_CACHE_BYTES", "0")]).await;
    assert_eq!([search(&peer, &node, "cat").await, search(&peer, &node, "cat").await], [20, 20]);
    assert_eq!(provider.calls().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_call_is_made_for_all_who_want_the_same() {
    let provider = GifProvider::start(Answer::Found).await;
    let (node, peer) = asking(&provider, &[]).await;
    provider.allow(false);
    let all = join_all((0..8).map(|_| search(&peer, &node, "cat")));
    let answering = async {
        until("the provider is asked", || !provider.calls().is_empty()).await;
        provider.allow(true);
    };
    let (found, ()) = tokio::join!(all, answering);
    assert_eq!((found, provider.calls().len()), (vec![20; 8], 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_provider_holds_up_nobody_and_is_given_up() {
    let provider = GifProvider::start(Answer::Never).await;
    let (node, peer) = asking(&provider, &[("RELAY_P2P_GIF_TIMEOUT_SECS", "1")]).await;
    let others = async {
        until("the provider is asked", || !provider.calls().is_empty()).await;
        peer.reserve(&relay(&node)).await.unwrap();
        assert_eq!(failed(&node, "timed_out"), 0, "the place was given meanwhile");
    };
    let (found, ()) = tokio::join!(search(&peer, &node, "cat"), others);
    assert_eq!((found, failed(&node, "timed_out")), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_nothing_is_found_and_nobody_asked() {
    let provider = GifProvider::start(Answer::Found).await;
    let node = TestNode::start(&with(&[("RELAY_P2P_GIF_URL", &provider.url)])).await;
    let peer = connected(&node).await;
    assert_eq!(search(&peer, &node, "cat").await, 0);
    assert_eq!(provider.calls(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_answer_is_counted_and_not_kept() {
    let nothing = br#"{"results": []}"#.to_vec();
    for (answer, reason, count) in [
        (Answer::Bytes(200, b"<html>".to_vec()), "malformed", 2),
        (Answer::Bytes(200, vec![b' '; 600 << 10]), "oversized", 2),
        (Answer::Bytes(403, nothing.clone()), "refused", 2),
        (Answer::Bytes(302, nothing.clone()), "refused", 2),
        (Answer::Bytes(200, nothing), "malformed", 0),
    ] {
        let provider = GifProvider::start(answer).await;
        let (node, peer) = asking(&provider, &[]).await;
        assert_eq!([search(&peer, &node, "cat").await, search(&peer, &node, "cat").await], [0, 0]);
        assert_eq!((failed(&node, reason), provider.calls().len()), (count, 2), "{reason}");
    }
    let gone = GifProvider::start(Answer::Found).await;
    let (node, peer) = asking(&gone, &[]).await;
    gone.stop().await;
    assert_eq!((search(&peer, &node, "cat").await, failed(&node, "failed")), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_rate_bites() {
    for (setting, reason) in [
        ("RELAY_P2P_GIF_PEER_RATE_LIMIT", "peer_rate"),
        ("RELAY_P2P_GIF_ADDRESS_RATE_LIMIT", "address_rate"),
        ("RELAY_P2P_GIF_RATE_LIMIT", "rate"),
    ] {
        let provider = GifProvider::start(Answer::Found).await;
        let (node, peer) = asking(&provider, &[(setting, "1")]).await;
        assert_eq!([search(&peer, &node, "cat").await, search(&peer, &node, "dog").await], [20, 0], "{setting}");
        assert_eq!(failed(&node, reason), 1, "{setting}");
        // What is kept costs no call, and another peer may ask unless it is at the same address.
        let other = connected(&node).await;
        assert_eq!(search(&other, &node, "cat").await, if reason == "address_rate" { 0 } else { 20 }, "{setting}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_at_one_address_cannot_have_all_calls() {
    let provider = GifProvider::start(Answer::Found).await;
    let (node, first) = asking(&provider, &[("RELAY_P2P_GIF_RATE_LIMIT", "16")]).await;
    let second = connected(&node).await;
    assert_eq!([search(&first, &node, "a").await, search(&second, &node, "b").await], [20, 20]);
    assert_eq!([search(&first, &node, "c").await, search(&second, &node, "d").await], [0, 0]);
    assert_eq!((failed(&node, "address_calls"), provider.calls().len()), (2, 2));
    assert_eq!(search(&second, &node, "a").await, 20, "what is kept costs no call");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_not_answered() {
    let node = TestNode::start(P2P).await;
    let peer = connected(&node).await;
    for bad in [&b""[..], b"cat", &[0xa0], &[0x60; 5000]] {
        assert!(peer.say(relay_id(&node), GIF, bad).await.is_empty());
    }
    let refused = &node.node().metrics.p2p.streams_refused;
    until("all are counted", || refused.get_or_create(&Reason { reason: "malformed" }).get() == 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_is_believed_that_an_authority_of_the_operator_stands_behind() {
    let (ours, stranger) = (Authority::new(), Authority::new());
    for (authority, found) in [(&ours, 20), (&stranger, 0)] {
        let provider = GifProvider::over(Some(authority.acceptor("127.0.0.1")), Answer::Found).await;
        let (node, peer) = asking(&provider, &[("RELAY_OUTBOUND_CA_FILE", &ours.file())]).await;
        assert_eq!(search(&peer, &node, "cat").await, found);
        assert_eq!(failed(&node, "failed"), u64::from(found == 0));
    }
}
