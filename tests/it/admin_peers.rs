//! Other clusters, as operators see them and change which are called.

use tonic::{Code, Streaming};
use waystation::edge::admin::proto::{
    AddPeerRequest, ListPeersRequest, Peer, PeerChange, PeerEvent, PeerState, RemovePeerRequest, WatchPeersRequest,
};

use crate::support::admin::{admin, printed, run};
use crate::support::cluster::{figure, figure_is};
use crate::support::regions::{FEDERATION_SECRET, federated, linked, peer_of, regions};
use crate::support::{LONG_PATIENCE, TestMailbox, TestNode, id, until, within};

async fn peers(node: &TestNode) -> Vec<Peer> {
    admin(node).await.list_peers(ListPeersRequest {}).await.unwrap().into_inner().peers
}

/// The next event for which that holds.
async fn event(events: &mut Streaming<PeerEvent>, wanted: impl Fn(PeerChange, &Peer) -> bool) -> Peer {
    within(LONG_PATIENCE, "a peer changes", async {
        loop {
            let event = events.message().await.unwrap().unwrap();
            let peer = event.peer.clone().unwrap();
            if wanted(event.change(), &peer) {
                return peer;
            }
        }
    })
    .await
}

#[tokio::test]
async fn peers_are_listed_with_all_that_is_known_of_them() {
    let settings =
        [FEDERATION_SECRET, ("RELAY_PUBLIC_URL", "wss://relay.example"), ("RELAY_MAX_STORAGE_BYTES", "9000000")];
    let regions = regions(&[1, 1], &settings).await;
    let node = &regions[0][0];
    let is_known = || {
        let status = peer_of(node);
        status.round_trip.is_some() && status.capacity.is_some_and(|capacity| capacity.max > 0)
    };
    until("all is known", is_known).await;
    let [peer] = <[Peer; 1]>::try_from(peers(node).await).unwrap();
    assert_eq!((peer.state(), peer.added), (PeerState::Up, false));
    assert_eq!((peer.region.as_str(), peer.public_url.as_str()), ("region-1", "wss://relay.example"));
    assert_eq!((peer.version.as_str(), peer.bytes_max), (env!("CARGO_PKG_VERSION"), 9_000_000));
    assert!(peer.since_ms > 0 && peer.round_trip_us > 0 && !peer.relay_id.is_empty() && !peer.cluster_id.is_empty());
    let table = printed(node.node().admin, &["peers"]).await;
    assert!(table.starts_with("PEER") && table.contains(&peer.relay_id) && table.contains(&peer.url), "{table}");
    let json: serde_json::Value =
        serde_json::from_str(&printed(node.node().admin, &["peers", "--json"]).await).unwrap();
    assert_eq!((&json["state"], &json["region"]), (&"up".into(), &"region-1".into()));
}

#[tokio::test]
async fn a_peer_is_added_and_removed_while_the_node_runs() {
    let called = TestNode::start(&federated("us", "127.0.0.1:0", "")).await;
    let caller = TestNode::start(&federated("eu", "127.0.0.1:0", "")).await;
    let url = format!("http://{}", called.node().federated.unwrap());
    let mut client = admin(&caller).await;
    let mut events = client.watch_peers(WatchPeersRequest {}).await.unwrap().into_inner();
    // Another spelling of the same.
    let spelt = url.replace("http:", "ws:");
    client.add_peer(AddPeerRequest { url: spelt.clone() }).await.unwrap();
    let up = event(&mut events, |_, peer| peer.state() == PeerState::Up).await;
    assert_eq!((up.url.as_str(), up.added), (url.as_str(), true));
    let again = client.add_peer(AddPeerRequest { url: url.clone() }).await.unwrap_err();
    assert_eq!(again.code(), Code::AlreadyExists);
    let mut recipient = TestMailbox::plain(caller.public, &id('b')).await;
    recipient.settle().await;
    let mut sender = TestMailbox::plain(called.public, &id('a')).await;
    sender.store("m", &id('b'), b"x").await;
    recipient.expect_blob(b"x").await;

    client.remove_peer(RemovePeerRequest { url: url.clone() }).await.unwrap();
    assert_eq!(event(&mut events, |change, _| change == PeerChange::Removed).await.url, url);
    assert!(peers(&caller).await.is_empty());
    figure_is(called.public, "waystation_federation_callers", |callers| callers == 0.0).await;
    let text = crate::support::get(caller.public, "/metrics?format=prometheus").await.text;
    assert!(!text.contains(&url), "it has no figures any more");
    let gone = client.remove_peer(RemovePeerRequest { url: spelt }).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);

    let address = caller.node().admin;
    assert_eq!(printed(address, &["peers", "add", &url]).await, "added, until the process ends\n");
    linked(&caller, 1).await;
    assert_eq!(run(address, &["peers", "add", &url]).await.status.code(), Some(1));
    assert_eq!(printed(address, &["peers", "remove", &url]).await, "removed\n");
    assert_eq!(run(address, &["peers", "remove", &url]).await.status.code(), Some(1));
    assert_eq!(run(address, &["peers", "--watch", "add", &url]).await.status.code(), Some(64));
    let calls = figure(caller.public, r#"waystation_admin_calls_total{call="AddPeer"}"#).await;
    assert_eq!(calls, 4.0);
}

#[tokio::test]
async fn a_peer_is_added_only_where_the_setting_would_take_it() {
    let open = TestNode::start(&federated("a", "127.0.0.1:0", "")).await;
    let add = async |node: &TestNode, url: &str| {
        let added = admin(node).await.add_peer(AddPeerRequest { url: url.to_owned() }).await;
        added.map_or_else(|status| status.code(), |_| Code::Ok)
    };
    for bad in ["", "relay", "ftp://127.0.0.1:1", "http://127.0.0.1:1/path", "http://127.0.0.1:1,http://127.0.0.1:2"] {
        assert_eq!(add(&open, bad).await, Code::InvalidArgument, "{bad}");
    }
    for far in ["http://relay.example:1", "https://127.0.0.1:1"] {
        assert_eq!(add(&open, far).await, Code::FailedPrecondition, "{far}");
    }
    assert!(peers(&open).await.is_empty());
    let proven = TestNode::start(&[federated("b", "127.0.0.1:0", ""), vec![FEDERATION_SECRET]].concat()).await;
    assert_eq!(add(&proven, "https://127.0.0.1:1").await, Code::Ok);
}

#[tokio::test]
async fn without_federation_there_is_nothing_to_list_or_change() {
    let node = TestNode::start(&[]).await;
    let mut client = admin(&node).await;
    let url = "http://127.0.0.1:1".to_owned();
    let codes = [
        client.list_peers(ListPeersRequest {}).await.map(drop).unwrap_err().code(),
        client.watch_peers(WatchPeersRequest {}).await.map(drop).unwrap_err().code(),
        client.add_peer(AddPeerRequest { url: url.clone() }).await.map(drop).unwrap_err().code(),
        client.remove_peer(RemovePeerRequest { url }).await.map(drop).unwrap_err().code(),
    ];
    assert_eq!(codes, [Code::FailedPrecondition; 4]);
}
