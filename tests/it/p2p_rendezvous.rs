//! Rendezvous, as stock peers see it: register at one node, be found at another.

use libp2p::core::PeerRecord;
use libp2p::{PeerId, StreamProtocol};

use crate::p2p_circuits::{P2P, relay, relay_id, with};
use crate::support::peer::TestPeer;
use crate::support::{TestNode, within};

const RENDEZVOUS: StreamProtocol = StreamProtocol::new("/rendezvous/1.0.0");

/// A peer with a place at the node: what a record needs is an address at which its peer is reached.
async fn placed(node: &TestNode) -> TestPeer {
    let peer = TestPeer::start();
    peer.reserve(&relay(node)).await.unwrap();
    peer
}

/// Asks again until exactly these are found.
async fn found(peer: &TestPeer, at: PeerId, namespace: &'static str, expected: &[PeerId]) {
    let mut expected = expected.to_vec();
    expected.sort();
    let asking = async {
        loop {
            let (mut found, _) = peer.discover(at, Some(namespace), None, None).await.unwrap();
            found.sort();
            if found == expected {
                return;
            }
        }
    };
    within(crate::support::PATIENCE, "the others are found", asking).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_registers_at_one_node_is_found_at_another() {
    let nodes = TestNode::cluster(2, P2P).await;
    let (first, second) = (placed(&nodes[0]).await, placed(&nodes[1]).await);
    let (here, there) = (relay_id(&nodes[0]), relay_id(&nodes[1]));
    assert_eq!(first.register(here, "x", None).await, Ok(7200));
    assert_eq!(second.register(there, "x", Some(259_200)).await, Ok(259_200));
    for (peer, at) in [(&first, here), (&second, there)] {
        found(peer, at, "x", &[first.id, second.id]).await;
    }
    assert_eq!(second.discover(there, Some("y"), None, None).await.unwrap().0, []);
    first.unregister(here, "x");
    found(&second, there, "x", &[second.id]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_is_good_at_every_node() {
    let nodes = TestNode::cluster(2, P2P).await;
    let (here, there) = (relay_id(&nodes[0]), relay_id(&nodes[1]));
    let (first, second, asks) = (placed(&nodes[0]).await, placed(&nodes[0]).await, placed(&nodes[1]).await);
    first.register(here, "x", None).await.unwrap();
    second.register(here, "x", None).await.unwrap();
    found(&asks, there, "x", &[first.id, second.id]).await;
    let (page, cookie) = asks.discover(there, Some("x"), None, Some(1)).await.unwrap();
    assert_eq!(page, [second.id], "the newest first");
    // What is young may be told twice; the rest is told in any case.
    let (rest, _) = first.discover(here, Some("x"), cookie.clone(), None).await.unwrap();
    assert!(rest.contains(&first.id), "{rest:?}");
    let error = first.discover(here, Some("y"), cookie, None).await.unwrap_err();
    assert!(error.contains("InvalidCookie"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn registrations_survive_the_node_that_took_them_and_reach_one_that_comes_later() {
    let mut nodes = TestNode::cluster(2, P2P).await;
    let (peer, asks) = (placed(&nodes[0]).await, placed(&nodes[1]).await);
    peer.register(relay_id(&nodes[0]), "x", None).await.unwrap();
    found(&asks, relay_id(&nodes[1]), "x", &[peer.id]).await;
    nodes.remove(0).kill();
    let late = nodes[0].twin(&[]).await;
    let asks = placed(&late).await;
    found(&asks, relay_id(&late), "x", &[peer.id]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn registrations_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let durable = with(&[("RELAY_STORAGE_BACKEND", "rocksdb"), ("RELAY_DATA_DIR", dir.path().to_str().unwrap())]);
    let node = TestNode::start(&durable).await;
    let (peer, id) = (placed(&node).await, relay_id(&node));
    peer.register(id, "x", None).await.unwrap();
    node.stop().await;
    let node = TestNode::start(&durable).await;
    assert_eq!(relay_id(&node), id, "the relay is the same peer");
    let asks = placed(&node).await;
    found(&asks, id, "x", &[peer.id]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_is_refused_with_its_status() {
    let node = TestNode::start(&with(&[("RELAY_P2P_PEER_MAX_REGISTRATIONS", "1")])).await;
    let (peer, at) = (placed(&node).await, relay_id(&node));
    for ttl in [7199, 259_201] {
        let error = peer.register(at, "x", Some(ttl)).await.unwrap_err();
        assert!(error.contains("InvalidTtl"), "{error}");
    }
    peer.register(at, "x", None).await.unwrap();
    peer.register(at, "x", None).await.unwrap();
    let error = peer.register(at, "y", None).await.unwrap_err();
    assert!(error.contains("Unavailable"), "{error}");
    let error = peer.discover(at, None, None, None).await.unwrap_err();
    assert!(error.contains("NotAuthorized"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registrations_of_a_namespace_are_bounded_and_renewed_by_who_has_one() {
    let node = TestNode::start(&with(&[("RELAY_P2P_NAMESPACE_MAX_REGISTRATIONS", "1")])).await;
    let (first, second, at) = (placed(&node).await, placed(&node).await, relay_id(&node));
    first.register(at, "x", None).await.unwrap();
    let error = second.register(at, "x", None).await.unwrap_err();
    assert!(error.contains("Unavailable"), "{error}");
    first.register(at, "x", None).await.unwrap();
    second.register(at, "y", None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_for_registrations_is_bounded() {
    // Of which one address may have an eighth.
    let node = TestNode::start(&with(&[("RELAY_P2P_REGISTRATIONS_BYTES", "32768")])).await;
    let (peer, at) = (placed(&node).await, relay_id(&node));
    let mut taken = 0;
    for namespace in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        taken += usize::from(peer.register(at, namespace, None).await.is_ok());
    }
    assert!((2..8).contains(&taken), "{taken}");
    peer.register(at, "a", None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn all_namespaces_are_told_only_where_the_operator_says_so() {
    let node = TestNode::start(&with(&[("RELAY_P2P_LIST_ALL_NAMESPACES", "true")])).await;
    let (peer, at) = (placed(&node).await, relay_id(&node));
    peer.register(at, "x", None).await.unwrap();
    assert_eq!(peer.discover(at, None, None, None).await.unwrap().0, [peer.id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_answered_or_reset() {
    let node = TestNode::start(P2P).await;
    let (peer, at) = (placed(&node).await, relay_id(&node));
    for (said, answer) in [
        // A registration without a namespace: status 100.
        (&[0x02, 0x08, 0x00][..], &[0x08, 0x01, 0x1a][..]),
        // One with a record that is none: status 101.
        (&[0x0a, 0x08, 0x00, 0x12, 0x06, 0x0a, 0x01, 0x78, 0x12, 0x01, 0x09], &[0x08, 0x01, 0x1a]),
        (&[0x02, 0x08, 0x01], &[]),
        (&[0xff, 0xff, 0xff, 0xff], &[]),
    ] {
        let said_back = peer.say(at, RENDEZVOUS, said).await;
        assert!(said_back.get(1..).unwrap_or_default().starts_with(answer), "{said:x?} {said_back:x?}");
        assert_eq!(said_back.is_empty(), answer.is_empty(), "{said:x?} {said_back:x?}");
    }
}

/// Peers of other implementations sign records in the form of the specification, and read no other. What they are is known
/// once they have answered to identify, which takes them longer than to ask.
#[tokio::test(flavor = "multi_thread")]
async fn who_asks_before_it_has_said_what_it_is_is_told_what_it_can_read() {
    let node = TestNode::start(P2P).await;
    let (at, address) = (relay_id(&node), relay(&node));
    let target = TestPeer::start_as("js-libp2p/3.0.0");
    target.dial(&address, at).await.unwrap();
    let record = PeerRecord::new_interop(&target.key, vec![address.clone()]).unwrap();
    let record = record.into_signed_envelope().into_protobuf_encoding();
    let register = [&[0x08, 0x00][..], &field(2, &[field(1, b"x"), field(2, &record)].concat())].concat();
    let registered = target.say(at, RENDEZVOUS, &framed(&register)).await;
    assert!(registered.get(1..).unwrap_or_default().starts_with(&[0x08, 0x01, 0x1a]), "{registered:x?}");

    let discover = framed(&[&[0x08, 0x03][..], &field(5, &field(1, b"x"))].concat());
    for _ in 0..20 {
        let asks = TestPeer::start_as("js-libp2p/3.0.0");
        asks.dial(&address, at).await.unwrap();
        let told = asks.say(at, RENDEZVOUS, &discover).await;
        assert!(told.windows(record.len()).any(|part| part == record), "{told:x?}");
    }
}

/// A field of bytes in protobuf.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2][..], &framed(bytes)].concat()
}

/// These bytes with their length before them.
fn framed(bytes: &[u8]) -> Vec<u8> {
    let mut framed = Vec::new();
    prost::encode_length_delimiter(bytes.len(), &mut framed).unwrap();
    framed.extend(bytes);
    framed
}
