//! What libp2p peers may not do, and what it costs them.

use std::time::{Duration, Instant};

use libp2p::StreamProtocol;
use prost::Message;

use crate::p2p_circuits::{P2P, relay, relay_id, with};
use crate::support::peer::{TestPeer, echoes};
use crate::support::{TestNode, until};

const HOP: StreamProtocol = StreamProtocol::new("/libp2p/circuit/relay/0.2.0/hop");

#[tokio::test(flavor = "multi_thread")]
async fn the_places_of_a_node_are_bounded_and_kept_by_who_has_one() {
    let node = TestNode::start(&with(&[("RELAY_P2P_MAX_RESERVATIONS", "1")])).await;
    let (first, second) = (TestPeer::start(), TestPeer::start());
    first.reserve(&relay(&node)).await.unwrap();
    let error = second.reserve(&relay(&node)).await.unwrap_err();
    assert!(error.contains("ResourceLimitExceeded"), "{error}");
    // Once more is a renewal.
    first.reserve(&relay(&node)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_places_of_one_address_are_bounded() {
    let node = TestNode::start(&with(&[("RELAY_P2P_ADDRESS_MAX_RESERVATIONS", "1")])).await;
    let (first, second) = (TestPeer::start(), TestPeer::start());
    first.reserve(&relay(&node)).await.unwrap();
    let error = second.reserve(&relay(&node)).await.unwrap_err();
    assert!(error.contains("ResourceLimitExceeded"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_circuits_of_a_peer_are_bounded() {
    let node = TestNode::start(&with(&[("RELAY_P2P_PEER_MAX_CIRCUITS", "1")])).await;
    let [target, first, second] = [(); 3].map(|()| TestPeer::start());
    target.reserve(&relay(&node)).await.unwrap();
    first.dial_through(&relay(&node), target.id).await.unwrap();
    let error = second.dial_through(&relay(&node), target.id).await.unwrap_err();
    assert!(error.contains("ResourceLimitExceeded"), "{error}");
    first.disconnect(target.id);
    let circuits = node.node().p2p.clone().unwrap();
    until("the circuit has ended", || circuits.circuits() == 0).await;
    second.dial_through(&relay(&node), target.id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_circuits_of_a_node_and_of_an_address_are_bounded() {
    for (setting, refusal) in
        [("RELAY_P2P_MAX_CIRCUITS", "circuits"), ("RELAY_P2P_ADDRESS_MAX_CIRCUITS", "address_circuits")]
    {
        let node = TestNode::start(&with(&[(setting, "1")])).await;
        let [target, first, second] = [(); 3].map(|()| TestPeer::start());
        target.reserve(&relay(&node)).await.unwrap();
        first.dial_through(&relay(&node), target.id).await.unwrap();
        second.dial_through(&relay(&node), target.id).await.unwrap_err();
        let refused = &node.node().metrics.p2p.circuits_refused;
        assert_eq!(refused.get_or_create(&reason(refusal)).get(), 1, "{refusal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connections_of_a_peer_are_bounded() {
    let node = TestNode::start(&with(&[("RELAY_P2P_PEER_MAX_CONNECTIONS", "1")])).await;
    let peer = TestPeer::start();
    peer.dial(&relay(&node), relay_id(&node)).await.unwrap();
    peer.dial(&relay(&node), relay_id(&node)).await.unwrap_or_default();
    let refused = &node.node().metrics.p2p.connections_refused;
    until("the second connection is refused", || refused.get_or_create(&reason("peer")).get() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_ends_when_its_time_is_up() {
    let node = TestNode::start(&with(&[("RELAY_P2P_CIRCUIT_SECS", "1")])).await;
    let (target, source) = (TestPeer::start(), TestPeer::start());
    target.reserve(&relay(&node)).await.unwrap();
    source.dial_through(&relay(&node), target.id).await.unwrap();
    let ended = &node.node().metrics.p2p.circuits_ended;
    until("the circuit has ended", || ended.get_or_create(&reason("duration")).get() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_is_slowed_to_its_rate() {
    let node = TestNode::start(&with(&[("RELAY_P2P_CIRCUIT_RATE", "100000")])).await;
    let (target, source) = (TestPeer::start(), TestPeer::start());
    target.reserve(&relay(&node)).await.unwrap();
    source.dial_through(&relay(&node), target.id).await.unwrap();
    let begun = Instant::now();
    assert!(source.echoed(target.id, 200_000).await);
    // It can only take longer than that: two seconds' worth, less what may pass at once, and one read.
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_a_place_or_a_stream_is_closed() {
    let node = TestNode::start(&with(&[("RELAY_P2P_IDLE_TIMEOUT_SECS", "5")])).await;
    let (placed, idle) = (TestPeer::start(), TestPeer::start());
    placed.reserve(&relay(&node)).await.unwrap();
    idle.dial(&relay(&node), relay_id(&node)).await.unwrap();
    let connections = &node.node().metrics.p2p.connections;
    until("both are connected", || connections.get() == 2).await;
    until("one is not any more", || connections.get() == 1).await;
    assert_eq!(node.node().metrics.p2p.reservations.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_ends_when_the_operator_says() {
    let node = TestNode::start(&with(&[("RELAY_P2P_RESERVATION_SECS", "60")])).await;
    let (peer, at) = (TestPeer::start(), relay_id(&node));
    peer.dial(&relay(&node), at).await.unwrap();
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let answer = peer.say(at, HOP, &[0x02, 0x08, 0x00]).await;
    let expire = Hop::decode_length_delimited(&answer[..]).unwrap().reservation.unwrap().expire;
    assert!((now + 59..now + 90).contains(&expire), "{expire} {now} {answer:x?}");
}

/// As much of the answer as says until when there is a place.
#[derive(prost::Message)]
struct Hop {
    #[prost(message, optional, tag = "3")]
    reservation: Option<Reservation>,
}

#[derive(prost::Message)]
struct Reservation {
    #[prost(uint64, tag = "1")]
    expire: u64,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_comes_with_the_addresses_that_the_operator_gives() {
    let given = "/dns4/relay.example/tcp/4001";
    let node = TestNode::start(&with(&[("DUSK_RELAY_EXTERNAL_ADDR", given)])).await;
    let own = node.node().p2p.as_ref().unwrap().addresses.own();
    assert_eq!(own.iter().map(ToString::to_string).collect::<Vec<_>>(), [format!("{given}/p2p/{}", relay_id(&node))]);
    let (peer, listening) = (TestPeer::start(), node.node().p2p.as_ref().unwrap().listening[0].clone());
    peer.reserve(&listening.with(libp2p::multiaddr::Protocol::P2p(relay_id(&node)))).await.unwrap();
    until("the peer knows it", || peer.reached_at().iter().any(|address| address.starts_with(given))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_bounded_in_all_by_peer_and_by_address() {
    for (setting, reason) in
        [("RELAY_P2P_MAX_CONNECTIONS", "connections"), ("RELAY_P2P_ADDRESS_MAX_CONNECTIONS", "address_connections")]
    {
        let node = TestNode::start(&with(&[(setting, "1")])).await;
        let (first, second) = (TestPeer::start(), TestPeer::start());
        first.reserve(&relay(&node)).await.unwrap();
        second.reserve(&relay(&node)).await.unwrap_err();
        let refused = &node.node().metrics.p2p.connections_refused;
        assert!(refused.get_or_create(&self::reason(reason)).get() > 0, "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_carries_what_it_may_and_then_ends() {
    let node = TestNode::start(&with(&[("RELAY_P2P_CIRCUIT_BYTES", "100000")])).await;
    let (target, source) = (TestPeer::start(), TestPeer::start());
    target.reserve(&relay(&node)).await.unwrap();
    source.dial_through(&relay(&node), target.id).await.unwrap();
    assert!(source.echoed(target.id, 10_000).await);
    let stream = source.stream(target.id).await;
    assert!(tokio::spawn(echoes(stream, 1 << 20)).await.is_err(), "the circuit breaks");
    let ended = &node.node().metrics.p2p.circuits_ended;
    until("the circuit has ended", || ended.get_or_create(&reason("bytes")).get() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_trusted_is_bound_only_by_the_node() {
    let [trusted, first, second] = [(); 3].map(|()| TestPeer::start());
    let node = TestNode::start(&with(&[
        ("RELAY_P2P_TRUSTED_PEERS", &trusted.id.to_string()),
        ("RELAY_P2P_PEER_MAX_CIRCUITS", "1"),
        ("RELAY_P2P_ADDRESS_MAX_CIRCUITS", "1"),
        ("RELAY_P2P_CIRCUIT_BYTES", "1000"),
        ("RELAY_P2P_ADDRESS_MAX_RESERVATIONS", "2"),
    ]))
    .await;
    for placed in [&first, &second, &trusted] {
        placed.reserve(&relay(&node)).await.unwrap();
    }
    for target in [&first, &second] {
        trusted.dial_through(&relay(&node), target.id).await.unwrap();
        assert!(trusted.echoed(target.id, 100_000).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_from_one_address_has_a_rate() {
    let node = TestNode::start(&with(&[("RELAY_P2P_ADDRESS_RATE_LIMIT", "3")])).await;
    let peer = TestPeer::start();
    let mut refused = 0;
    for _ in 0..4 {
        refused += usize::from(peer.reserve(&relay(&node)).await.is_err());
    }
    assert_eq!(refused, 1);
    let refused = &node.node().metrics.p2p.reservations_refused;
    assert_eq!(refused.get_or_create(&reason("address_rate")).get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_answered_so_and_the_connection_stays() {
    const MALFORMED: &[u8] = &[0x05, 0x08, 0x02, 0x28, 0x90, 0x03];
    const UNEXPECTED: &[u8] = &[0x05, 0x08, 0x02, 0x28, 0x91, 0x03];

    let node = TestNode::start(P2P).await;
    let (peer, at) = (TestPeer::start(), relay_id(&node));
    peer.dial(&relay(&node), at).await.unwrap();
    for (said, answer) in [
        // An unknown type must not pass for a request for a place.
        (&[0x02, 0x08, 0x07][..], MALFORMED),
        (&[0x02, 0x08, 0x02], UNEXPECTED),
        (&[0x02, 0x08, 0x01], MALFORMED),
        (&[0x03, 0xff, 0xff, 0xff], MALFORMED),
        // Longer than a message may be.
        (&[0x81, 0x20], MALFORMED),
        (&[0xff, 0xff, 0xff, 0xff], MALFORMED),
        // No peer id.
        (&[0x07, 0x08, 0x01, 0x12, 0x03, 0x0a, 0x01, 0x07], MALFORMED),
        // Cut off.
        (&[0x05, 0x08], &[]),
    ] {
        assert_eq!(peer.say(at, HOP, said).await, answer, "{said:x?}");
    }
    assert_eq!(node.node().metrics.p2p.reservations.get(), 0);
    peer.reserve(&relay(&node)).await.unwrap();
}

fn reason(reason: &'static str) -> waystation::observe::metrics::Reason {
    waystation::observe::metrics::Reason { reason }
}
