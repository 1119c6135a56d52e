//! Circuits between stock libp2p peers, through one node and through two.

use std::time::Duration;

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use tokio::task::JoinHandle;

use crate::support::peer::{TestPeer, echoes};
use crate::support::{TestNode, until};

/// Ports that nobody else has, over all transports.
pub const P2P: &[(&str, &str)] = &[
    ("RELAY_P2P_ENABLED", "true"),
    ("RELAY_P2P_LISTEN", "/ip4/127.0.0.1/tcp/0,/ip4/127.0.0.1/udp/0/quic-v1,/ip4/127.0.0.1/tcp/0/ws"),
];

/// These and more.
pub fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [P2P, more].concat()
}

/// Where the node is reached, by the transport that `has` knows.
pub fn relay_by(node: &TestNode, has: impl Fn(&Protocol<'_>) -> bool) -> Multiaddr {
    let own = node.node().p2p.as_ref().unwrap().addresses.own();
    own.into_iter().find(|address| address.iter().any(|part| has(&part))).unwrap()
}

/// Where the node is reached over TCP.
pub fn relay(node: &TestNode) -> Multiaddr {
    let own = node.node().p2p.as_ref().unwrap().addresses.own();
    let is_tcp = |address: &Multiaddr| {
        let has = |wanted: fn(&Protocol<'_>) -> bool| address.iter().any(|part| wanted(&part));
        has(|part| matches!(part, Protocol::Tcp(_))) && !has(|part| matches!(part, Protocol::Ws(_)))
    };
    own.into_iter().find(is_tcp).unwrap()
}

pub fn relay_id(node: &TestNode) -> PeerId {
    node.node().p2p.as_ref().unwrap().peer
}

/// Waits until every node knows where peers reach the others.
pub async fn all_know(nodes: &[TestNode]) {
    for node in nodes {
        let p2p = node.node().p2p.clone().unwrap();
        let all = 3 + 2 * (nodes.len() - 1);
        until("the nodes know one another's addresses", || p2p.addresses.of_cluster().len() == all).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_is_reached_through_the_node_at_which_it_has_its_place() {
    let node = TestNode::start(P2P).await;
    let (target, source) = (TestPeer::start(), TestPeer::start());
    target.reserve(&relay(&node)).await.unwrap();
    source.dial_through(&relay(&node), target.id).await.unwrap();
    assert!(source.echoed(target.id, 1 << 20).await);
    let figures = &node.node().metrics.p2p;
    assert_eq!((figures.reservations.get(), figures.circuits_opened.get_or_create(&reason("here")).get()), (1, 1));
    assert!(figures.circuit_bytes.get() > 2 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_is_reached_over_every_transport() {
    let node = TestNode::start(P2P).await;
    let quic = relay_by(&node, |part| matches!(part, Protocol::QuicV1));
    let websocket = relay_by(&node, |part| matches!(part, Protocol::Ws(_)));
    for (target_by, source_by) in [(&quic, &quic), (&websocket, &quic), (&quic, &websocket)] {
        let (target, source) = (TestPeer::start(), TestPeer::start());
        target.reserve(target_by).await.unwrap();
        source.dial_through(source_by, target.id).await.unwrap();
        assert!(source.echoed(target.id, 100_000).await, "{target_by} {source_by}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_is_reached_through_any_node() {
    let nodes = TestNode::cluster(3, P2P).await;
    all_know(&nodes).await;
    let (target, source) = (TestPeer::start(), TestPeer::start());
    target.reserve(&relay(&nodes[0])).await.unwrap();
    for node in &nodes {
        until("the peer knows that it is reached through all", || target.is_reached_through(relay_id(node))).await;
    }
    source.dial_through(&relay(&nodes[1]), target.id).await.unwrap();
    assert!(source.echoed(target.id, 100 << 20).await);
    let opened = &nodes[1].node().metrics.p2p.circuits_opened;
    assert_eq!(opened.get_or_create(&reason("node")).get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_whose_node_dies_is_reached_again_once_it_has_a_place_elsewhere() {
    let mut nodes = TestNode::cluster(3, P2P).await;
    let (target, source) = (TestPeer::start(), TestPeer::start());
    target.reserve(&relay(&nodes[0])).await.unwrap();
    source.dial_through(&relay(&nodes[1]), target.id).await.unwrap();
    nodes.remove(0).kill();
    target.reserve(&relay(&nodes[1])).await.unwrap();
    source.disconnect(target.id);
    let mut tries = 0;
    while let Err(error) = source.dial_through(&relay(&nodes[0]), target.id).await {
        tries += 1;
        assert!(tries < 100, "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(source.echoed(target.id, 1 << 20).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_connected_to_a_peer_without_a_place() {
    let nodes = TestNode::cluster(2, P2P).await;
    let source = TestPeer::start();
    let error = source.dial_through(&relay(&nodes[0]), PeerId::random()).await.unwrap_err();
    assert!(error.contains("NoReservation"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_ends_with_its_connection_on_all_nodes() {
    let nodes = TestNode::cluster(2, P2P).await;
    let (target, source) = (TestPeer::start(), TestPeer::start());
    target.reserve(&relay(&nodes[0])).await.unwrap();
    let id = target.id;
    drop(target);
    let places = &nodes[0].node().metrics.p2p.reservations;
    until("the place is given up", || places.get() == 0).await;
    let error = source.dial_through(&relay(&nodes[1]), id).await.unwrap_err();
    assert!(error.contains("NoReservation"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_peers_take_places_at_once() {
    let node = TestNode::start(P2P).await;
    let at = relay(&node);
    let peers: Vec<_> = (0..300).map(|_| TestPeer::start()).collect();
    let taken = futures::future::join_all(peers.iter().map(|peer| peer.reserve(&at))).await;
    let refused: Vec<_> = taken.iter().filter_map(|taken| taken.as_ref().err()).collect();
    assert!(refused.is_empty(), "{refused:?}");
    assert_eq!(node.node().metrics.p2p.reservations.get(), 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_that_nobody_reads_holds_up_no_other() {
    let nodes = TestNode::cluster(2, P2P).await;
    let (target, source) = (TestPeer::start(), TestPeer::start());
    target.reserve(&relay(&nodes[0])).await.unwrap();
    source.dial_through(&relay(&nodes[1]), target.id).await.unwrap();
    // Sent, and what comes back is never read: both ways fill up. Together they have more under way than a connection
    // between two nodes has room for by default.
    let stalled = stalled(24, &relay(&nodes[1]), target.id).await;
    assert!(source.echoed(target.id, 8 << 20).await);
    assert!(stalled.iter().all(|(filling, _)| !filling.is_finished()));
    stalled.iter().for_each(|(filling, _)| filling.abort());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_drains_sends_its_peers_away_and_lets_circuits_end() {
    let mut nodes = TestNode::cluster(2, P2P).await;
    let (target, idle, source) = (TestPeer::start(), TestPeer::start(), TestPeer::start());
    let (leaves, stays) = (relay(&nodes[0]), relay(&nodes[1]));
    target.reserve(&leaves).await.unwrap();
    idle.reserve(&leaves).await.unwrap();
    source.dial_through(&stays, target.id).await.unwrap();
    let stream = source.stream(target.id).await;
    let node = nodes.remove(0);
    let figures = node.node().metrics.clone();
    let draining = tokio::spawn(node.drain());
    until("the peer without a circuit is sent away", || figures.p2p.reservations.get() == 1).await;
    idle.reserve(&stays).await.unwrap();
    let error = TestPeer::start().reserve(&leaves).await.unwrap_err();
    assert!(error.contains("Refused") || error.contains("refused"), "{error}");
    assert!(echoes(stream, 1 << 20).await, "the circuit goes on");
    assert!(!draining.is_finished());
    source.disconnect(target.id);
    draining.await.unwrap();
}

/// So many peers that have circuits through `relay` to `target`, write all that fits, and read nothing.
pub async fn stalled(count: usize, relay: &Multiaddr, target: PeerId) -> Vec<(JoinHandle<()>, TestPeer)> {
    let mut stalled = Vec::new();
    for _ in 0..count {
        let peer = TestPeer::start();
        peer.dial_through(relay, target).await.unwrap();
        let stream = peer.stream(target).await;
        stalled.push((tokio::spawn(fill(stream)), peer));
    }
    stalled
}

pub async fn fill(mut stream: libp2p::Stream) {
    use futures::AsyncWriteExt;

    let block = vec![1; 64 << 10];
    while stream.write_all(&block).await.is_ok() {}
}

pub fn reason(reason: &'static str) -> waystation::observe::metrics::Reason {
    waystation::observe::metrics::Reason { reason }
}
