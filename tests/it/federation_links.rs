//! Links between clusters: who is let in, what each knows of the other, and how a link ends.

use serde_json::json;

use crate::support::cluster::figure_is;
use crate::support::front::Front;
use crate::support::regions::{FEDERATION_SECRET, federated, linked, peer_of, regions};
use crate::support::{TestMailbox, TestNode, free_port, id, until};

#[tokio::test]
async fn each_knows_of_the_other_who_it_is_and_how_much_it_stores() {
    let settings =
        [FEDERATION_SECRET, ("RELAY_PUBLIC_URL", "wss://relay.example"), ("RELAY_MAX_STORAGE_BYTES", "9000000")];
    let regions = regions(&[1, 2], &settings).await;
    let federation = regions[0][0].node().federation.clone().unwrap();
    let peer = federation.peers().remove(0);
    assert_eq!((peer.region.as_str(), peer.public_url.as_str()), ("region-1", "wss://relay.example"));
    assert_eq!(peer.version, env!("CARGO_PKG_VERSION"));
    assert!(!peer.relay_id.is_empty());
    let capacity = || federation.peers().remove(0).capacity.unwrap_or_default();
    until("the capacity of both nodes is known", || capacity().max == 18_000_000).await;
    let mut sender = TestMailbox::plain(regions[1][1].public, &id('a')).await;
    sender.store("m", &id('b'), &[0; 1000]).await;
    until("what is stored is known", || capacity().used == 1512).await;
    until("the round trip is known", || federation.peers().remove(0).round_trip.is_some()).await;
}

#[tokio::test]
async fn a_stranger_is_not_let_in_and_counted() {
    let port = free_port();
    let (address, peer) = (format!("127.0.0.1:{port}"), format!("http://127.0.0.1:{port}"));
    let called = TestNode::start(&[federated("a", &address, ""), vec![FEDERATION_SECRET]].concat()).await;
    let stranger =
        [federated("b", "127.0.0.1:0", &peer), vec![("RELAY_FEDERATION_SECRET", "another secret, much longer")]];
    let stranger = TestNode::start(&stranger.concat()).await;
    figure_is(called.public, r#"waystation_federation_refused_total{reason="tls"}"#, |count| count > 0.0).await;
    until("it knows why", || peer_of(&stranger).last_error.is_some()).await;
    assert!(!peer_of(&stranger).up);
}

#[tokio::test]
async fn a_cluster_that_calls_itself_or_its_like_is_told_so() {
    let port = free_port();
    let (address, peer) = (format!("127.0.0.1:{port}"), format!("http://127.0.0.1:{port}"));
    let node = TestNode::start(&federated("a", &address, &peer)).await;
    let told = || peer_of(&node).last_error.is_some_and(|error| error.contains("RELAY_REGION"));
    until("it knows why", told).await;
    assert!(!peer_of(&node).up);
}

#[tokio::test]
async fn a_peer_that_stops_is_known_to_be_down_and_has_hung_up() {
    let mut regions = regions(&[1, 1], &[("RELAY_FEDERATION_RELAY_ID", "given")]).await;
    let (eu, us) = (regions.remove(0).remove(0), regions.remove(0).remove(0));
    let federation = eu.node().federation.clone().unwrap();
    assert_eq!(federation.peers().remove(0).relay_id, "given");
    us.stop().await;
    until("the link is down", || !federation.peers().remove(0).up).await;
    figure_is(eu.public, "waystation_federation_callers", |callers| callers == 0.0).await;
}

#[tokio::test]
async fn without_federation_there_is_no_such_port_and_the_old_path_is_nobodys() {
    let node = TestNode::start(&[]).await;
    assert!(node.node().federated.is_none() && node.node().federation.is_none());
    let regions = regions(&[1, 1], &[]).await;
    linked(&regions[0][0], 1).await;
    // A frame of the original relays is no call.
    let mut client = TestMailbox::silent(regions[0][0].public).await;
    client.say("f", &json!({"type": "PeerHandshake", "relay_id": "x", "version": 1, "listen_addr": "y"})).await;
    client.ended().await;
}

#[tokio::test]
async fn a_link_that_flaps_is_made_again_and_leaves_nothing_behind() {
    const CUTS: usize = 6;
    let called = TestNode::start(&federated("us", "127.0.0.1:0", "")).await;
    let front = Front::of(called.node().federated.unwrap()).await;
    let url = front.url();
    let caller = TestNode::start(&federated("eu", "127.0.0.1:0", &url)).await;
    let failed = format!(r#"waystation_federation_failed_total{{peer="{url}"}}"#);
    for cuts in 1..=CUTS {
        linked(&caller, 1).await;
        figure_is(called.public, "waystation_federation_callers", |callers| callers == 1.0).await;
        front.cut();
        figure_is(caller.public, &failed, |failed| failed == cuts as f64).await;
    }
    linked(&caller, 1).await;
    assert_eq!(front.connections(), (1, 1), "there are never two");
    figure_is(called.public, "waystation_federation_callers", |callers| callers == 1.0).await;
    for node in [&caller, &called] {
        figure_is(node.public, "waystation_federation_queued_bytes", |bytes| bytes == 0.0).await;
    }
    let mut recipient = TestMailbox::plain(caller.public, &id('b')).await;
    recipient.settle().await;
    let mut sender = TestMailbox::plain(called.public, &id('a')).await;
    sender.store("m", &id('b'), b"x").await;
    recipient.expect_blob(b"x").await;
}
