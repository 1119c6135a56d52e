//! Gossip, as stock peers hear it: published at one node, heard at all.

use futures::AsyncWriteExt;
use libp2p::Stream;
use libp2p::identity::Keypair;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use waystation::observe::metrics::{Dropped, P2pMetrics, Reason};

use crate::p2p_circuits::{P2P, relay, relay_id, with};
use crate::support::gossiper::{As, DIRECTORY, Gossiper, MESHSUB, SYNC, Said, publishing, subscribing};
use crate::support::peer::TestPeer;
use crate::support::{TestNode, until};

/// The largest document that is said in these tests: with what stands around it, an RPC is nearly as large as peers read.
const LARGE: usize = 65_000;

fn p2p(node: &TestNode) -> &P2pMetrics {
    &node.node().metrics.p2p
}

fn of(reasons: &Family<Reason, Counter>, reason: &'static str) -> u64 {
    reasons.get_or_create(&Reason { reason }).get()
}

fn dropped(node: &TestNode, reason: &'static str) -> u64 {
    node.node().metrics.dropped.get_or_create(&Dropped { queue: "gossip", reason }).get()
}

/// Waits until the peers of a node have so many subscriptions.
async fn subscriptions(node: &TestNode, count: i64) {
    until("the relay knows who wants what", || p2p(node).gossip_subscriptions.get() == count).await;
}

/// A stock peer that has subscribed to one topic.
async fn subscriber(node: &TestNode, topic: &'static str) -> Gossiper {
    let before = p2p(node).gossip_subscriptions.get();
    let peer = Gossiper::join(&relay(node), As::Explicit, &[topic]).await;
    subscriptions(node, before + 1).await;
    peer
}

/// A peer that says what it likes, on that stream.
async fn speaker(node: &TestNode, peer: &TestPeer) -> Stream {
    peer.dial(&relay(node), relay_id(node)).await.unwrap();
    peer.open(relay_id(node), MESHSUB).await
}

async fn say(stream: &mut Stream, rpc: &[u8]) {
    stream.write_all(rpc).await.unwrap();
    stream.flush().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_at_one_node_is_heard_at_all() {
    for how in [As::Explicit, As::Mesh, As::Old] {
        let nodes = TestNode::cluster(2, P2P).await;
        let topics = [DIRECTORY, SYNC];
        let first = Gossiper::join(&relay(&nodes[0]), how, &topics).await;
        let mut near = Gossiper::join(&relay(&nodes[0]), how, &topics).await;
        let mut far = Gossiper::join(&relay(&nodes[1]), how, &topics).await;
        subscriptions(&nodes[0], 4).await;
        subscriptions(&nodes[1], 2).await;
        if how != As::Explicit {
            first.is_meshed(SYNC).await;
            far.is_meshed(SYNC).await;
        }
        for (topic, data) in [(SYNC, vec![1; LARGE]), (DIRECTORY, b"a profile".to_vec()), (SYNC, b"after it".to_vec())]
        {
            first.publish(topic, &data).await.unwrap();
            for peer in [&mut near, &mut far] {
                assert!(peer.hear().await == (topic.to_owned(), first.id, data.clone()), "{how:?} {topic}");
            }
        }
        far.publish(SYNC, b"back").await.unwrap();
        assert_eq!(near.hear().await, (SYNC.to_owned(), far.id, b"back".to_vec()), "{how:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_has_signed_is_passed_on_to_nobody() {
    let node = TestNode::start(P2P).await;
    let (mut hears, peer) = (subscriber(&node, SYNC).await, TestPeer::start());
    let mut stream = speaker(&node, &peer).await;
    let (key, other) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let good = Said::by(&key, 1, SYNC, b"good");
    let bad = [
        ("signature", Said { data: Some(b"changed".to_vec()), ..good.clone() }),
        ("signature", Said::in_the_name_of(hears.id, &other, 1, SYNC, b"forged")),
        ("signature", Said { from: Some(b"nobody".to_vec()), ..good.clone() }),
        ("unsigned", Said { signature: None, ..good.clone() }),
        ("source", Said { from: None, ..good.clone() }),
        ("number", Said { seqno: Some(vec![1; 7]), ..good.clone() }),
        ("topic", Said { topic: None, ..good.clone() }),
        ("topic", Said::by(&key, 2, "dusk/relay/federation", b"not passed on")),
        ("topic", Said::by(&key, 3, DIRECTORY, b"subscribed to by nobody")),
        ("too_large", Said::by(&key, 4, SYNC, &[0; 65_530])),
    ];
    for (_, message) in &bad {
        say(&mut stream, &publishing(std::slice::from_ref(message))).await;
    }
    // Whoever is forged in the name of has not lost its number by it.
    say(&mut stream, &publishing(&[Said::by(&other, 1, SYNC, b"first"), good])).await;
    assert_eq!(hears.hear().await.2, b"first");
    assert_eq!(hears.hear().await.2, b"good");
    for reason in ["signature", "unsigned", "source", "number", "too_large"] {
        let count = bad.iter().filter(|(why, _)| *why == reason).count();
        assert_eq!(of(&p2p(&node).gossip_refused, reason), count as u64, "{reason}");
    }
    assert_eq!(of(&p2p(&node).gossip_refused, "topic"), 2);
    assert_eq!(p2p(&node).gossip_taken.get(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_heard_once_however_often_and_wherever_it_is_said() {
    let nodes = TestNode::cluster(2, P2P).await;
    let (mut hears, here, there) = (subscriber(&nodes[1], SYNC).await, TestPeer::start(), TestPeer::start());
    let (mut at_first, mut at_second) = (speaker(&nodes[0], &here).await, speaker(&nodes[1], &there).await);
    let key = Keypair::generate_ed25519();
    let (once, next) = (Said::by(&key, 1, SYNC, b"once"), Said::by(&key, 2, SYNC, b"next"));
    say(&mut at_first, &publishing(&[once.clone(), once.clone()])).await;
    assert_eq!(hears.hear().await.2, b"once");
    say(&mut at_second, &publishing(&[once, next])).await;
    assert_eq!(hears.hear().await.2, b"next");
    for node in &nodes {
        assert_eq!(of(&p2p(node).gossip_refused, "duplicate"), 1);
    }
    until("the other node has heard of it", || of(&p2p(&nodes[0]).gossip_refused, "duplicate") == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_listen_holds_up_nobody() {
    let node = TestNode::start(P2P).await;
    let (mut hears, says, deaf) =
        (subscriber(&node, SYNC).await, subscriber(&node, DIRECTORY).await, TestPeer::start());
    let _unread = deaf.incoming(MESHSUB);
    let mut stream = speaker(&node, &deaf).await;
    say(&mut stream, &subscribing(SYNC)).await;
    subscriptions(&node, 3).await;
    // What its stream may have in flight, and its queue, is less than this.
    for number in 0..40_u8 {
        says.publish(SYNC, &[number; LARGE]).await.unwrap();
        assert_eq!(hears.hear().await.2[0], number);
    }
    assert!(dropped(&node, "full") > 10, "{}", dropped(&node, "full"));
    assert!(p2p(&node).gossip_waiting_bytes.get() > 0);
    drop((stream, deaf));
    until("nothing waits for who has gone", || p2p(&node).gossip_waiting_bytes.get() == 0).await;
    subscriptions(&node, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_rate_bites() {
    for (setting, value, size, refused) in [
        ("RELAY_P2P_GOSSIP_RATE_LIMIT", "2", 1, "peer_rate"),
        ("RELAY_P2P_GOSSIP_ADDRESS_RATE_LIMIT", "2", 1, "address_rate"),
        ("RELAY_P2P_GOSSIP_BYTES", "131072", 60_000, "peer_bytes"),
        ("RELAY_P2P_GOSSIP_ADDRESS_BYTES", "131072", 60_000, "address_bytes"),
    ] {
        let [bound, trusted] = [(); 2].map(|()| TestPeer::start());
        let trust = trusted.id.to_string();
        let node = TestNode::start(&with(&[(setting, value), ("RELAY_P2P_TRUSTED_PEERS", &trust)])).await;
        let (mut hears, key) = (subscriber(&node, SYNC).await, Keypair::generate_ed25519());
        let message = |number: u8| publishing(&[Said::by(&key, number.into(), SYNC, &vec![number; size])]);
        let mut stream = speaker(&node, &bound).await;
        for number in 1..=3 {
            say(&mut stream, &message(number)).await;
        }
        until("a message is refused", || of(&p2p(&node).gossip_refused, refused) == 1).await;
        let mut stream = speaker(&node, &trusted).await;
        say(&mut stream, &message(4)).await;
        for number in [1, 2, 4] {
            assert_eq!(hears.hear().await.2[0], number, "{setting}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_source_has_a_node_send_is_bounded() {
    let node = TestNode::start(&with(&[("RELAY_P2P_GOSSIP_SEND_BYTES", "131072")])).await;
    let (mut hears, other) = (subscriber(&node, SYNC).await, TestPeer::start());
    // More than its share, and more than a share.
    let said = |number| publishing(&[Said::by(&Keypair::generate_ed25519(), number, SYNC, &[7; 60_000])]);
    let mut stream = speaker(&node, &other).await;
    say(&mut stream, &said(1)).await;
    assert_eq!(hears.hear().await.2.len(), 60_000);
    assert_eq!(dropped(&node, "send_share"), 0);
    say(&mut stream, &said(2)).await;
    until("its share is used up", || dropped(&node, "send_share") == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_keeps_to_send_is_bounded_and_the_deaf_take_it_from_nobody() {
    let node = TestNode::start(&with(&[("RELAY_P2P_GOSSIP_QUEUE_BYTES", "131072")])).await;
    let (mut hears, says, deaf) =
        (subscriber(&node, SYNC).await, subscriber(&node, DIRECTORY).await, TestPeer::start());
    let _unread = deaf.incoming(MESHSUB);
    let mut stream = speaker(&node, &deaf).await;
    say(&mut stream, &subscribing(SYNC)).await;
    subscriptions(&node, 3).await;
    for number in 0..40_u8 {
        says.publish(SYNC, &[number; 60_000]).await.unwrap();
        assert_eq!(hears.hear().await.2[0], number);
        assert!(p2p(&node).gossip_waiting_bytes.get() <= 131_072);
    }
    assert!(dropped(&node, "memory") > 10, "{}", dropped(&node, "memory"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_hears_once_and_as_long_as_one_of_its_connections_stands() {
    for how in [As::Explicit, As::Mesh] {
        let node = TestNode::start(P2P).await;
        let (mut peer, says) = (Gossiper::join(&relay(&node), how, &[SYNC]).await, subscriber(&node, DIRECTORY).await);
        subscriptions(&node, 2).await;
        for number in 0..3_u8 {
            peer.connect_again();
            until("it has two connections", || p2p(&node).connections.get() == 3).await;
            says.publish(SYNC, &[number, 1]).await.unwrap();
            assert_eq!(peer.hear().await.2, [number, 1], "{how:?}");
            peer.close_oldest();
            until("it has one", || p2p(&node).connections.get() == 2).await;
            says.publish(SYNC, &[number, 2]).await.unwrap();
            assert_eq!(peer.hear().await.2, [number, 2], "{how:?}");
        }
        assert_eq!(p2p(&node).gossip_sent.get(), 6);
        assert_eq!((p2p(&node).gossip_peers.get(), p2p(&node).gossip_subscriptions.get()), (2, 2));
        drop(peer);
        subscriptions(&node, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_too_much_at_once_or_too_much_that_is_refused_is_not_listened_to() {
    let (node, peer) = (TestNode::start(P2P).await, TestPeer::start());
    let mut stream = speaker(&node, &peer).await;
    let empty = Said { from: None, data: None, seqno: None, topic: None, signature: None };
    say(&mut stream, &publishing(&vec![empty.clone(); 65])).await;
    until("its stream has ended", || of(&p2p(&node).streams_refused, "too_many") == 1).await;
    assert!(of(&p2p(&node).gossip_refused, "source") == 0, "none of them is looked at");
    let mut stream = peer.open(relay_id(&node), MESHSUB).await;
    // More may be refused, the longer it takes to say all this.
    for _ in 0..100 {
        if stream.write_all(&publishing(&vec![empty.clone(); 64])).await.is_err() || stream.flush().await.is_err() {
            break;
        }
    }
    until("its stream has ended", || of(&p2p(&node).streams_refused, "refused_much") == 1).await;
    let refused = of(&p2p(&node).gossip_refused, "source") + of(&p2p(&node).gossip_refused, "peer_rate");
    assert!(refused > 1200, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_ends_the_stream_and_is_counted() {
    let node = TestNode::start(P2P).await;
    let (mut hears, peer, at) = (subscriber(&node, SYNC).await, TestPeer::start(), relay_id(&node));
    drop(speaker(&node, &peer).await);
    for (nth, bad) in
        [&[0x02, 0x0a, 0x09][..], &[0xff, 0xff, 0xff, 0x7f], &[0x80, 0x00], &[0x01, 0x07]].iter().enumerate()
    {
        peer.say(at, MESHSUB, bad).await;
        let refused = || of(&p2p(&node).streams_refused, "malformed");
        until("it is counted", || refused() == nth as u64 + 1).await;
    }
    // Its connection stands, and what makes sense is heard.
    let mut stream = peer.open(at, MESHSUB).await;
    say(&mut stream, &publishing(&[Said::by(&Keypair::generate_ed25519(), 1, SYNC, b"sense")])).await;
    assert_eq!(hears.hear().await.2, b"sense");
}

#[tokio::test(flavor = "multi_thread")]
async fn gossip_is_spoken_on_the_topics_of_the_operator_or_not_at_all() {
    let node = TestNode::start(&with(&[("RELAY_P2P_GOSSIP_TOPICS", "a, b")])).await;
    let mut hears = subscriber(&node, "b").await;
    let says = subscriber(&node, "a").await;
    says.publish("b", b"heard").await.unwrap();
    assert_eq!(hears.hear().await.2, b"heard");
    let silent = TestNode::start(&with(&[("RELAY_P2P_GOSSIP_TOPICS", "none")])).await;
    let peer = TestPeer::start();
    peer.dial(&relay(&silent), relay_id(&silent)).await.unwrap();
    assert!(peer.try_open(relay_id(&silent), MESHSUB).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_gossips_is_disconnected_after_the_idle_time() {
    let node = TestNode::start(&with(&[("RELAY_P2P_IDLE_TIMEOUT_SECS", "5")])).await;
    let _peer = subscriber(&node, SYNC).await;
    until("its connection is closed", || p2p(&node).connections.get() == 0).await;
    assert_eq!((p2p(&node).gossip_peers.get(), p2p(&node).gossip_subscriptions.get()), (0, 0));
}
