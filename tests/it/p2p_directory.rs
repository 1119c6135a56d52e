//! The directory of Dusk, as its clients see it: be found by a name at one node, look for it at another.

use libp2p::{Multiaddr, PeerId};
use waystation::observe::metrics::Reason;

use crate::p2p_circuits::{P2P, all_know, relay, relay_id, with};
use crate::support::dusk::{Answer, Ask, DIRECTORY, Found};
use crate::support::peer::TestPeer;
use crate::support::{PATIENCE, TestNode, until, within};

/// No limit that a test could hit by the way.
const FREE: &[(&str, &str)] = &[("RELAY_P2P_PEER_RATE_LIMIT", "1000000"), ("RELAY_P2P_ADDRESS_RATE_LIMIT", "1000000")];

/// A peer that is connected with the node.
async fn connected(node: &TestNode) -> TestPeer {
    let peer = TestPeer::start();
    peer.dial(&relay(node), relay_id(node)).await.unwrap();
    peer
}

/// Asks again until exactly these are found, in that order.
async fn found(peer: &TestPeer, at: PeerId, query: &str, expected: &[&str]) -> Vec<Found> {
    let asking = async {
        loop {
            let found = peer.search(at, query).await;
            if found.iter().map(|found| found.display_name.as_str()).eq(expected.iter().copied()) {
                return found;
            }
        }
    };
    within(PATIENCE, "the others are found", asking).await
}

fn refused(node: &TestNode, reason: &'static str) -> u64 {
    node.node().metrics.p2p.directory_refused.get_or_create(&Reason { reason }).get()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_called_so_at_one_node_is_found_and_reached_at_another() {
    let nodes = TestNode::cluster(2, &with(FREE)).await;
    all_know(&nodes).await;
    let (here, there) = (relay_id(&nodes[0]), relay_id(&nodes[1]));
    let (ann, asks) = (TestPeer::start(), connected(&nodes[1]).await);
    ann.reserve(&relay(&nodes[0])).await.unwrap();
    // As the client says it, who knows the relay by another name than the relay itself does.
    let said = format!("/dns4/relay.example/tcp/4001/p2p/{here}/p2p-circuit/p2p/{}", ann.id);
    let register = Ask::Register { display_name: " Ann ", relay_addr: &said };
    assert_eq!(ann.directory(here, &register).await, Answer::Ok);
    let ann_there = found(&asks, there, "AN", &["Ann"]).await.remove(0);
    assert_eq!(ann_there.peer_id, ann.id.to_string());
    assert_eq!(ann_there.relay_addr, format!("{}/p2p-circuit/p2p/{}", relay(&nodes[1]), ann.id));
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!((now - 60..=now).contains(&ann_there.last_seen), "{ann_there:?}");
    asks.dial(&ann_there.relay_addr.parse().unwrap(), ann.id).await.unwrap();
    assert!(asks.echoed(ann.id, 1000).await);
    assert_eq!(asks.names(there, &ann.id.to_string()).await, ["Ann"], "by its id");
    assert!(asks.search(there, "").await.is_empty() && asks.search(there, "%").await.is_empty());
    assert_eq!(ann.directory(here, &Ask::Remove).await, Answer::Ok);
    found(&asks, there, "ann", &[]).await;
    assert_eq!(ann.directory(here, &Ask::Remove).await, Answer::Ok, "there is nothing left");
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_survive_the_node_that_took_them_and_reach_one_that_comes_later() {
    let mut nodes = TestNode::cluster(2, &with(FREE)).await;
    let (ann, asks) = (connected(&nodes[0]).await, connected(&nodes[1]).await);
    ann.is_called(relay_id(&nodes[0]), "Ann").await;
    found(&asks, relay_id(&nodes[1]), "ann", &["Ann"]).await;
    nodes.remove(0).kill();
    let late = nodes[0].twin(&[]).await;
    found(&connected(&late).await, relay_id(&late), "ann", &["Ann"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_and_that_they_were_removed_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let durable = with(&[("RELAY_STORAGE_BACKEND", "rocksdb"), ("RELAY_DATA_DIR", dir.path().to_str().unwrap())]);
    let node = TestNode::start(&durable).await;
    let id = relay_id(&node);
    let (ann, hanna) = (connected(&node).await, connected(&node).await);
    assert_eq!(ann.is_called(id, "Ann").await, Answer::Ok);
    assert_eq!(hanna.is_called(id, "Hanna").await, Answer::Ok);
    assert_eq!(hanna.directory(id, &Ask::Remove).await, Answer::Ok);
    let before = ann.search(id, "ann").await;
    node.stop().await;
    let node = TestNode::start(&durable).await;
    let after = connected(&node).await.search(id, "ann").await;
    assert_eq!((after.len(), &after[0].display_name), (1, &"Ann".to_owned()), "{after:?}");
    assert_eq!(after[0].last_seen, before[0].last_seen);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_ends_unless_it_is_renewed() {
    let node = TestNode::start(&with(&[FREE, &[("RELAY_P2P_DIRECTORY_TTL_SECS", "2")]].concat())).await;
    let (stays, goes, at) = (connected(&node).await, connected(&node).await, relay_id(&node));
    assert_eq!(goes.is_called(at, "Ann 1").await, Answer::Ok);
    let renewing = async {
        loop {
            assert_eq!(stays.is_called(at, "Ann 2").await, Answer::Ok);
            if stays.names(at, "ann").await == ["Ann 2"] {
                return;
            }
        }
    };
    within(PATIENCE, "the other has ended", renewing).await;
    let ended = async { while !stays.names(at, "ann").await.is_empty() {} };
    within(PATIENCE, "this one has ended as well", ended).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_is_refused_with_its_reason() {
    let node = TestNode::start(P2P).await;
    let (peer, at) = (connected(&node).await, relay_id(&node));
    let longest = "\u{1f319}".repeat(64);
    for (name, reason, expected) in [
        ("", "name_length", "1-64 characters"),
        (" \n", "name_length", "1-64 characters"),
        (&*"n".repeat(65), "name_length", "1-64 characters"),
        ("a\u{1b}[2J", "name_control", "control characters"),
    ] {
        let before = refused(&node, reason);
        let Answer::Error(error) = peer.is_called(at, name).await else { panic!("{name:?} was taken") };
        assert!(error.contains(expected), "{error}");
        assert_eq!(refused(&node, reason), before + 1);
    }
    assert!(peer.search(at, &peer.id.to_string()).await.is_empty(), "nothing is kept");
    assert_eq!(peer.is_called(at, &longest).await, Answer::Ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_an_address_that_a_peer_made_up() {
    let listed = PeerId::random();
    let there = format!("/ip4/192.0.2.7/tcp/4001/p2p/{listed}");
    let node = TestNode::start(&with(&[("DUSK_PEER_RELAYS", there.as_str())])).await;
    let (peer, at, victim) = (connected(&node).await, relay_id(&node), PeerId::random());
    let evil = "/ip4/198.51.100.66/tcp/1";
    let id = peer.id;
    for said in [
        evil.to_owned(),
        format!("{evil}/p2p/{id}"),
        format!("{evil}/p2p/{at}"),
        format!("{evil}/p2p/{}/p2p-circuit/p2p/{id}", PeerId::random()),
        format!("{evil}/p2p/{at}/p2p-circuit/p2p/{victim}"),
        format!("{evil}/p2p/{victim}/p2p-circuit/p2p/{at}/p2p-circuit/p2p/{id}"),
        "no address".into(),
    ] {
        let register = Ask::Register { display_name: "Eve", relay_addr: &said };
        let Answer::Error(error) = peer.directory(at, &register).await else { panic!("{said} was taken") };
        assert!(error.contains("relay_addr"), "{error}");
    }
    assert_eq!(refused(&node, "relay_addr"), 7);
    assert!(peer.search(at, "eve").await.is_empty(), "nothing is kept");
    for (through, told) in [(at, relay(&node).to_string()), (listed, there)] {
        let said = format!("{evil}/p2p/{through}/p2p-circuit/p2p/{id}");
        let register = Ask::Register { display_name: "Eve", relay_addr: &said };
        assert_eq!(peer.directory(at, &register).await, Answer::Ok);
        let found = peer.search(at, "eve").await;
        assert_eq!(found[0].relay_addr, format!("{told}/p2p-circuit/p2p/{id}"));
        assert!(found[0].relay_addr.parse::<Multiaddr>().is_ok());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_come_first_and_the_same_once_more_is_nothing_new() {
    let node = TestNode::start(P2P).await;
    let (first, second, at) = (connected(&node).await, connected(&node).await, relay_id(&node));
    first.is_called(at, "Ann 1").await;
    second.is_called(at, "Ann 2").await;
    assert_eq!(first.is_called(at, "Ann 1").await, Answer::Ok);
    assert_eq!(first.names(at, "ann").await, ["Ann 2", "Ann 1"]);
    assert_eq!(first.is_called(at, "Ann 3").await, Answer::Ok);
    assert_eq!(first.names(at, "ann").await, ["Ann 3", "Ann 2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_for_profiles_is_bounded_and_renewals_pass() {
    // Of which one address may have an eighth.
    let node = TestNode::start(&with(&[("RELAY_P2P_DIRECTORY_BYTES", "32768")])).await;
    let at = relay_id(&node);
    let mut taken = Vec::new();
    for _ in 0..8 {
        let peer = connected(&node).await;
        match peer.is_called(at, "Ann").await {
            Answer::Ok => taken.push(peer),
            Answer::Error(error) => assert!(error.contains("no more profiles"), "{error}"),
            other => panic!("{other:?}"),
        }
    }
    assert!((2..8).contains(&taken.len()), "{}", taken.len());
    assert_eq!(refused(&node, "address_full"), 8 - taken.len() as u64);
    assert_eq!(taken[0].is_called(at, "Bob").await, Answer::Ok);
    let profiles = &node.node().metrics.p2p.profiles;
    until("they are counted", || profiles.get() == i64::try_from(taken.len()).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_known_leaves_a_mark_because_another_node_may_know() {
    let node = TestNode::start(P2P).await;
    let (peer, at) = (connected(&node).await, relay_id(&node));
    assert_eq!(peer.directory(at, &Ask::Remove).await, Answer::Ok);
    let profiles = &node.node().metrics.p2p.profiles;
    until("it is counted", || profiles.get() == 1).await;
    assert_eq!(peer.is_called(at, "Ann").await, Answer::Ok);
    assert_eq!(peer.names(at, "ann").await, ["Ann"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_share_of_an_address_holds_at_all_nodes() {
    let settings = [("RELAY_P2P_DIRECTORY_BYTES", "16384")];
    let nodes = TestNode::cluster(2, &with(&[&settings[..], FREE].concat())).await;
    let (here, there) = (connected(&nodes[0]).await, connected(&nodes[1]).await);
    assert_eq!(here.is_called(relay_id(&nodes[0]), "Ann").await, Answer::Ok);
    found(&there, relay_id(&nodes[1]), "ann", &["Ann"]).await;
    assert!(matches!(there.is_called(relay_id(&nodes[1]), "Bob").await, Answer::Error(_)));
    assert_eq!(refused(&nodes[1], "address_full"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_peer_and_an_address_may_ask_is_bounded() {
    let node =
        TestNode::start(&with(&[("RELAY_P2P_PEER_RATE_LIMIT", "2"), ("RELAY_P2P_ADDRESS_RATE_LIMIT", "5")])).await;
    let (first, second, third, at) =
        (connected(&node).await, connected(&node).await, connected(&node).await, relay_id(&node));
    let limited = async |peer: &TestPeer| {
        let answer = peer.directory(at, &Ask::Search { query: "x" }).await;
        matches!(&answer, Answer::Error(error) if error.contains("too many"))
    };
    assert!(!limited(&first).await && !limited(&first).await && limited(&first).await);
    assert_eq!(refused(&node, "peer_rate"), 1);
    assert!(!limited(&second).await && !limited(&second).await);
    assert!(!limited(&third).await && limited(&third).await);
    assert_eq!(refused(&node, "address_rate"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_not_answered() {
    let node = TestNode::start(P2P).await;
    let (peer, at) = (connected(&node).await, relay_id(&node));
    let long = [&[0x79, 0x28, 0x00][..], &[b'R'; 0x2800]].concat();
    let bad: [&[u8]; 5] = [&[], &[0xff], b"\x62Ok", b"\x66Remove\x00", &long];
    for said in bad {
        assert!(peer.say(at, DIRECTORY, said).await.is_empty(), "{said:x?}");
    }
    let malformed = node.node().metrics.p2p.streams_refused.get_or_create(&Reason { reason: "malformed" }).clone();
    until("all are counted", || malformed.get() == 5).await;
    assert_eq!(peer.say(at, DIRECTORY, b"\x66Remove").await, b"\x62Ok");
}
