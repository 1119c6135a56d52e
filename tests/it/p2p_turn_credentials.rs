//! Credentials for a TURN server, as clients of Dusk ask for them.

use libp2p::PeerId;
use waystation::observe::metrics::Reason;
use waystation::security::turn_password::turn_password;

use crate::p2p_circuits::{P2P, relay, relay_id, with};
use crate::support::dusk::TURN_CREDENTIALS;
use crate::support::peer::TestPeer;
use crate::support::{TestNode, until};

const SECRET: &str = "a secret of two servers";

async fn connected(node: &TestNode) -> TestPeer {
    let peer = TestPeer::start();
    peer.dial(&relay(node), relay_id(node)).await.unwrap();
    peer
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_those_of_who_asks_and_open_the_server_with_the_same_secret() {
    let turn = [
        ("DUSK_TURN_SECRET", SECRET),
        ("DUSK_TURN_PUBLIC_IP", "2001:db8::1"),
        ("DUSK_TURN_UDP_PORT", "3479"),
        ("DUSK_TURN_TCP_PORT", "3480"),
        ("RELAY_TURN_CREDENTIALS_TTL_SECS", "3600"),
    ];
    let node = TestNode::start(&with(&turn)).await;
    let (peer, at) = (connected(&node).await, relay_id(&node));
    for named in [peer.id.to_string(), PeerId::random().to_string(), "somebody else".into()] {
        let given = peer.turn_credentials(at, &named).await.unwrap();
        let (expiry, whose) = given.username.split_once(':').unwrap();
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let left = expiry.parse::<u64>().unwrap() - now;
        assert!(given.ttl == 3600 && (3590..=3600).contains(&left), "{given:?}");
        assert_eq!(whose, peer.id.to_string());
        assert_eq!(given.password, turn_password(SECRET.as_bytes(), &given.username));
        assert_eq!(given.uris, ["turn:[2001:db8::1]:3479", "turn:[2001:db8::1]:3480?transport=tcp"]);
    }
    assert_eq!(node.node().metrics.p2p.turn_credentials.get(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_of_a_server_that_is_not_there() {
    let host = ("DUSK_TURN_PUBLIC_HOST", "turn.example");
    let empty = [("DUSK_TURN_SECRET", ""), host];
    let off = [("DUSK_TURN_SECRET", SECRET), host, ("DUSK_TURN_ENABLED", "false")];
    for settings in [P2P, &with(&empty), &with(&off)] {
        let node = TestNode::start(settings).await;
        let peer = connected(&node).await;
        assert!(!peer.speaks(relay_id(&node), TURN_CREDENTIALS).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_and_what_is_one_too_many_is_not_answered() {
    let turn =
        [("RELAY_TURN_SECRET", SECRET), ("RELAY_TURN_PUBLIC_HOST", "turn.example"), ("RELAY_P2P_PEER_RATE_LIMIT", "3")];
    let node = TestNode::start(&with(&turn)).await;
    let (peer, at) = (connected(&node).await, relay_id(&node));
    let metrics = node.node().metrics.clone();
    for said in [&b"\xa0"[..], b"\xff"] {
        assert!(peer.say(at, TURN_CREDENTIALS, said).await.is_empty(), "{said:x?}");
    }
    let malformed = metrics.p2p.streams_refused.get_or_create(&Reason { reason: "malformed" }).clone();
    until("both are counted", || malformed.get() == 2).await;
    assert!(peer.turn_credentials(at, "x").await.is_some());
    assert!(peer.turn_credentials(at, "x").await.is_none());
    assert_eq!(metrics.p2p.turn_credentials_refused.get_or_create(&Reason { reason: "peer_rate" }).get(), 1);
    assert!(connected(&node).await.turn_credentials(at, "x").await.is_some(), "another peer");
}
