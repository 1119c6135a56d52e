//! What one relay of another cluster may have of what there is, and how much is read of it: whoever takes all that it can
//! leaves others theirs.

use futures::stream;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status};
use waystation::cluster::proto::{self, MailMoved, frame::Body, reply};
use waystation::federation::proto::{Batch, Frame, OffloadPart, PullRequest};

use crate::support::cluster::{figure, figure_is};
use crate::support::far::{FarNode, FarWire, hello_of};
use crate::support::regions::{federated, regions};
use crate::support::tls::{Authority, TlsFiles};
use crate::support::{LONG_PATIENCE, SEED, TestAgent, TestNode, TestVault, VAULT, envelope, in_time, within};

const LINKS: usize = 8;
const LINKS_OF_GROUP: usize = 64;
const OFFERS: usize = 16;
const OFFERS_OF_GROUP: usize = 32;
const QUESTIONS: usize = 256;
const STREAMS: usize = 320;

/// A node that is called and does not lose patience.
async fn called() -> TestNode {
    let settings = federated("called", "127.0.0.1:0", "");
    TestNode::start(&[&settings[..], &[("RELAY_FEDERATION_PEER_TIMEOUT", "3600")]].concat()).await
}

fn refused(reason: &str) -> String {
    format!(r#"waystation_federation_refused_total{{reason="{reason}"}}"#)
}

fn code<T>(result: Result<T, Status>) -> Option<Code> {
    result.err().map(|status| status.code())
}

#[tokio::test]
async fn a_relay_has_so_many_links_and_one_address_so_many_under_whatever_names() {
    let node = called().await;
    let mut links = Vec::new();
    for _ in 0..LINKS {
        links.push(FarNode::calls_as(&node, "greedy").await.unwrap());
    }
    assert_eq!(code(FarNode::calls_as(&node, "greedy").await), Some(Code::ResourceExhausted));
    assert_eq!(figure(node.public, &refused("links")).await, 1.0);
    let others = (LINKS_OF_GROUP / LINKS) - 1;
    for relay in (0..others).map(|n| format!("relay-{n}")) {
        for _ in 0..LINKS {
            links.push(FarNode::calls_as(&node, &relay).await.unwrap());
        }
    }
    assert_eq!(code(FarNode::calls_as(&node, "one-more").await), Some(Code::ResourceExhausted));
    drop(links.remove(0));
    figure_is(node.public, "waystation_federation_callers", |callers| callers == (LINKS_OF_GROUP - 1) as f64).await;
    FarNode::calls_as(&node, "one-more").await.unwrap();
}

#[tokio::test]
async fn each_relay_that_a_certificate_names_has_links_and_its_key_so_many_together() {
    let authority = Authority::new();
    let kept = TlsFiles::new(&authority, &["called"]);
    let files = kept.settings("RELAY_FEDERATION_TLS");
    let files: Vec<_> = files.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let settings = federated("called", "127.0.0.1:0", "");
    let more = [("RELAY_FEDERATION_PEER_TIMEOUT", "3600"), ("RELAY_FEDERATION_RELAY_ID", "called")];
    let node = TestNode::start(&[&settings[..], &files, &more].concat()).await;
    let names: Vec<_> = (0..24).map(|n| format!("relay-{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let named: Vec<_> = names.iter().map(|name| format!("urn:waystation:relay:{name}")).collect();
    let shared = authority.certify_until(&named.iter().map(String::as_str).collect::<Vec<_>>(), 2199);
    let pem = authority.pem();
    // More nodes than one relay may have links.
    let (mut wires, mut links) = (Vec::new(), Vec::new());
    for name in &names {
        let wire = FarWire::certified(&node, &shared, &pem).await;
        links.push(wire.link_as(name).await.unwrap());
        wires.push(wire);
    }
    for _ in 1..LINKS {
        links.push(wires[0].link_as(names[0]).await.unwrap());
    }
    assert_eq!(code(wires[0].link_as(names[0]).await), Some(Code::ResourceExhausted));
    assert_eq!(code(wires[0].link_as("relay-99").await), Some(Code::PermissionDenied));
    for (n, wire) in wires.iter().enumerate().skip(1).cycle() {
        if links.len() == LINKS_OF_GROUP {
            break;
        }
        links.push(wire.link_as(names[n]).await.unwrap());
    }
    assert_eq!(code(wires[23].link_as(names[23]).await), Some(Code::ResourceExhausted));
    assert_eq!(figure(node.public, &refused("links")).await, 2.0);
    // Another key has its own.
    let another = authority.certify_until(&["another"], 2199);
    let wire = FarWire::certified(&node, &another, &pem).await;
    links.push(wire.link_as("another").await.unwrap());
}

#[tokio::test]
async fn one_connection_has_so_many_calls() {
    let node = called().await;
    let wire = FarWire::to(&node).await;
    // None of them says who it is, so none is answered.
    let silent: Vec<_> = (0..STREAMS)
        .map(|_| {
            let wire = wire.clone();
            tokio::spawn(async move { wire.stream::<Batch, Batch>("Link", stream::pending()).await.map(|_| ()) })
        })
        .collect();
    let ask = PullRequest { hello: Some(hello_of("far")), node: "nobody".to_owned(), what: Some(Default::default()) };
    let mut asked = Box::pin(wire.pull(ask.clone()));
    // Those on other connections are answered meanwhile.
    FarWire::to(&node).await.pull(ask).await.unwrap_err();
    assert!(futures::poll!(&mut asked).is_pending());
    silent[0].abort();
    let answer = in_time("the next call is taken", asked).await;
    assert_eq!(code(answer), Some(Code::Unavailable));
    silent.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn who_offers_blobs_and_says_nothing_more_keeps_nobody_else_from_it() {
    let node = called().await;
    let offer = |relay: &str| {
        let (relay, node) = (relay.to_owned(), &node);
        async move {
            let (says, saying) = mpsc::unbounded_channel();
            says.send(OffloadPart { hello: Some(hello_of(&relay)), blob: None }).unwrap();
            let saying = UnboundedReceiverStream::new(saying);
            let answers = FarWire::to(node).await.stream::<OffloadPart, MailMoved>("Offload", saying).await;
            answers.map(|answers| (says, answers))
        }
    };
    let mut idle = Vec::new();
    for _ in 0..OFFERS {
        idle.push(offer("idle").await.unwrap());
    }
    assert_eq!(code(offer("idle").await), Some(Code::ResourceExhausted));
    assert_eq!(figure(node.public, &refused("offers")).await, 1.0);
    let mut others = Vec::new();
    for _ in OFFERS..OFFERS_OF_GROUP {
        others.push(offer("another").await.unwrap());
    }
    assert_eq!(code(offer("third").await), Some(Code::ResourceExhausted), "all have one address");
    idle.pop();
    in_time("a place is free again", async { while offer("idle").await.is_err() {} }).await;
}

#[tokio::test]
async fn what_a_relay_asks_is_counted_over_all_its_links() {
    let node = called().await;
    let mut links = Vec::new();
    for _ in 0..4 {
        links.push(FarNode::calls_as(&node, "greedy").await.unwrap());
    }
    // All in one batch each, so that they are read before any is answered.
    let locate = |ask: u64| {
        let principal = proto::Principal { kind: proto::Kind::Vault.into(), name: format!("vault_{ask}") };
        let frame = Body::Locate(proto::Locate { principal: Some(principal) }).into();
        let vault = waystation::federation::proto::Vault { frame: Some(frame) };
        Frame { ask, body: Some(waystation::federation::proto::frame::Body::Vault(vault)) }
    };
    let asked = 2 * QUESTIONS as u64;
    links.iter().for_each(|link| link.say_batch((1..=asked).map(locate).collect()));
    let mut busy = 0;
    for link in &mut links {
        for _ in 0..asked {
            busy += usize::from(link.next_reply().await.1 == reply::Body::Failed("busy".to_owned()));
        }
    }
    assert!(busy >= QUESTIONS, "{busy} were refused");
    // Nothing of that is left.
    let link = &mut links[0];
    link.say_batch((1..=QUESTIONS as u64).map(locate).collect());
    for _ in 0..QUESTIONS {
        assert!(matches!(link.next_reply().await.1, reply::Body::Located(_)));
    }
}

#[tokio::test]
async fn whoever_has_not_been_let_in_is_not_listened_to_for_long() {
    let node = called().await;
    let long = || "x".repeat(64 << 10);
    let wire = FarWire::to(&node).await;
    let hello = waystation::federation::proto::Hello { public_url: long(), ..hello_of("far") };
    let first = Batch { hello: Some(hello.clone()), frames: Vec::new() };
    assert_eq!(code(FarNode::says_first(&wire, first).await), Some(Code::OutOfRange));
    let part = OffloadPart { hello: Some(hello.clone()), blob: None };
    let offered = wire.stream::<OffloadPart, MailMoved>("Offload", stream::iter([part])).await;
    assert_eq!(code(offered), Some(Code::OutOfRange));
    let ask = PullRequest { hello: Some(hello), node: "nobody".to_owned(), what: None };
    assert_eq!(code(wire.pull(ask).await), Some(Code::OutOfRange));
    assert_eq!(figure(node.public, &refused("too_long")).await, 3.0);
}

#[tokio::test]
async fn a_batch_of_more_parts_than_there_may_be_ends_the_link_before_it_costs_memory() {
    let node = called().await;
    let mut flooding = FarNode::calls_as(&node, "flooding").await.unwrap();
    // Two bytes each, and some three hundred once they are decoded.
    flooding.say_batch(vec![Frame::default(); 1 << 20]);
    flooding.ended().await;
    assert_eq!(figure(node.public, &refused("too_many_parts")).await, 1.0);
    let received = figure(node.public, "waystation_federation_frames_received_total").await;
    assert_eq!(received, 0.0);
    FarNode::calls_as(&node, "flooding").await.unwrap();
}

/// A request of the largest size that is allowed here crosses inside a cluster and between two, and so does its answer.
#[tokio::test]
async fn a_legal_message_of_any_size_crosses() {
    const MESSAGE: usize = 12 << 20;
    let largest = (MESSAGE + 4096).to_string();
    let queue = (2 * MESSAGE).to_string();
    let records = (1_usize << 30).to_string();
    let settings = [
        ("RELAY_MAX_MESSAGE_SIZE", largest.as_str()),
        ("RELAY_SEND_QUEUE_BYTES", &queue),
        ("RELAY_VAULT_RECORDS_BYTES", &records),
        ("RELAY_FEDERATION_PEER_TIMEOUT", "60"),
    ];
    let regions = regions(&[1, 2], &settings).await;
    let mut vault = TestVault::registered(regions[1][1].public, VAULT, SEED).await;
    let payload = "A".repeat(MESSAGE);
    for (n, node) in [&regions[0][0], &regions[1][0]].into_iter().enumerate() {
        let mut agent = TestAgent::connect(node.public).await;
        let (id, mut asked) = (format!("req_{n}"), envelope(VAULT, "req"));
        (asked["request_id"], asked["encrypted_payload"]) = (json!(id), json!(payload));
        within(LONG_PATIENCE, "it is answered", async {
            agent.submit(&asked).await;
            assert_eq!(vault.expect_request(&id).await["encrypted_payload"].as_str().unwrap().len(), MESSAGE);
            vault.respond(&id, &payload).await;
            assert_eq!(agent.expect_response(&id).await.len(), MESSAGE);
        })
        .await;
    }
}
