//! Circuits between stock libp2p peers of two clusters.

use libp2p::PeerId;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status};
use waystation::cluster::proto::{CircuitOpen, CircuitPart, circuit_part::Part};
use waystation::config::PeerUrl;
use waystation::federation::proto::CircuitCall;

use super::p2p_circuits::{P2P, fill, reason, relay, relay_id, stalled, with};
use crate::support::far::{FarWire, hello_of};
use crate::support::peer::TestPeer;
use crate::support::regions::{linked, regions};
use crate::support::{TestNode, in_time, until};

/// Two regions, the first of two nodes.
async fn two() -> (TestNode, TestNode, TestNode) {
    let mut regions = regions(&[2, 1], P2P).await;
    let (near, mut far) = (regions.pop().unwrap().remove(0), regions.pop().unwrap());
    (near, far.remove(0), far.remove(0))
}

fn opened(node: &TestNode) -> u64 {
    node.node().metrics.p2p.circuits_opened.get_or_create(&reason("region")).get()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_is_reached_from_another_region_at_whichever_node_it_has_its_place() {
    let (near, called, other) = two().await;
    for (target_at, size) in [(&called, 50 << 20), (&other, 20 << 20)] {
        let (target, source) = (TestPeer::start(), TestPeer::start());
        target.reserve(&relay(target_at)).await.unwrap();
        source.dial_through(&relay(&near), target.id).await.unwrap();
        assert!(source.echoed(target.id, size).await);
    }
    assert_eq!(opened(&near), 2);
    assert_eq!(opened(&called), 0, "it crosses once");
    let carried = other.node().metrics.p2p.circuit_bytes.get();
    assert!(carried > 40 << 20, "{carried}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_regions_are_asked_for_a_peer_that_nobody_has_once_in_a_while() {
    let (near, called, _) = two().await;
    let (source, nobody) = (TestPeer::start(), PeerId::random());
    for _ in 0..3 {
        let error = source.dial_through(&relay(&near), nobody).await.unwrap_err();
        assert!(error.contains("NoReservation"), "{error}");
    }
    let asked = called.node().metrics.federation.lookups_answered.get();
    assert!((1..3).contains(&asked), "asked {asked} times");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_moves_to_another_region_is_reached_there() {
    let (near, called, _) = two().await;
    let (target, source) = (TestPeer::start(), TestPeer::start());
    target.reserve(&relay(&near)).await.unwrap();
    source.dial_through(&relay(&near), target.id).await.unwrap();
    target.disconnect(relay_id(&near));
    until("its place is given up", || near.node().metrics.p2p.reservations.get() == 0).await;
    source.disconnect(target.id);
    target.reserve(&relay(&called)).await.unwrap();
    source.dial_through(&relay(&near), target.id).await.unwrap();
    assert!(source.echoed(target.id, 1 << 20).await);
    assert_eq!(opened(&near), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_between_regions_that_nobody_reads_holds_up_no_other() {
    let (near, called, _) = two().await;
    let (target, source) = (TestPeer::start(), TestPeer::start());
    target.reserve(&relay(&called)).await.unwrap();
    source.dial_through(&relay(&near), target.id).await.unwrap();
    // Together they have more under way than the connection between the clusters has room for.
    let stalled = stalled(12, &relay(&near), target.id).await;
    assert!(source.echoed(target.id, 8 << 20).await);
    assert!(stalled.iter().all(|(filling, _)| !filling.is_finished()));
    stalled.iter().for_each(|(filling, _)| filling.abort());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_ends_when_its_other_region_is_no_peer_any_more() {
    let (near, called, _other) = two().await;
    let (target, source) = (TestPeer::start(), TestPeer::start());
    target.reserve(&relay(&called)).await.unwrap();
    source.dial_through(&relay(&near), target.id).await.unwrap();
    let stream = source.stream(target.id).await;
    let federation = near.node().federation.clone().unwrap();
    let peer = federation.peers().remove(0).url;
    assert!(federation.remove(&PeerUrl::parse(&peer).unwrap()).await);
    linked(&near, 0).await;
    in_time("the circuit breaks", fill(stream)).await;
    until("both ends are given up", || near.node().metrics.p2p.circuits.get() == 0).await;
    until("both ends are given up", || called.node().metrics.p2p.circuits.get() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_has_so_many_circuits() {
    const CIRCUITS: usize = 256;
    let settings = [("RELAY_P2P_PEER_MAX_CIRCUITS", "1000"), ("RELAY_FEDERATION_PEER_TIMEOUT", "3600")];
    let node = regions(&[1, 1], &with(&settings)).await.remove(0).remove(0);
    // One cluster may have a part only of what one peer may have.
    let targets = [TestPeer::start(), TestPeer::start()];
    for target in &targets {
        target.reserve(&relay(&node)).await.unwrap();
    }
    let wire = FarWire::to(&node).await;
    let mut turn = targets.iter().cycle();
    let mut open = || {
        let (wire, target) = (wire.clone(), turn.next().unwrap().id);
        async move {
            let (says, saying) = mpsc::unbounded_channel();
            let open = CircuitOpen {
                hello: None,
                source: PeerId::random().to_bytes().into(),
                target: target.to_bytes().into(),
                crossed: false,
            };
            let part = Some(CircuitPart { part: Some(Part::Open(open)) });
            says.send(CircuitCall { hello: Some(hello_of("greedy")), part }).unwrap();
            let saying = UnboundedReceiverStream::new(saying);
            let mut answers = wire.stream::<CircuitCall, CircuitPart>("Circuit", saying).await?;
            let first = answers.message().await?;
            assert_eq!(first, Some(CircuitPart { part: Some(Part::Status(100)) }));
            Ok::<_, Status>((says, answers))
        }
    };
    let mut circuits = Vec::new();
    for _ in 0..CIRCUITS {
        circuits.push(open().await.unwrap());
    }
    assert_eq!(open().await.map(|_| ()).unwrap_err().code(), Code::ResourceExhausted);
    let (says, mut answers) = circuits.pop().unwrap();
    // Much more than there is room for, and no word is waited for that anything has been taken.
    for _ in 0..100 {
        let part = Some(CircuitPart { part: Some(Part::Data(vec![7; 60_000].into())) });
        // Whoever is cut off already has said enough.
        says.send(CircuitCall { hello: None, part }).unwrap_or_default();
    }
    in_time("the circuit ends", async { while let Ok(Some(_)) = answers.message().await {} }).await;
    in_time("a place is free again", async { while open().await.is_err() {} }).await;
}
