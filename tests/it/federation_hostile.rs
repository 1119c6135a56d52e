//! Another cluster that lies, floods, repeats itself or says what it may not: that costs its own link, and nothing else.

use serde_json::{Value, json};
use waystation::cluster::proto::refused::Reason;
use waystation::cluster::proto::{self, Bits, Deliver, Refused, Standing, frame::Body, reply};
use waystation::runtime::time::now;
use waystation::wire::dcp::envelope::RecordId;

use crate::support::cluster::{figure, figure_is};
use crate::support::far::{FarNode, FarPeer, has_it};
use crate::support::vault::{key, registration};
use crate::support::{SEED, TestAgent, TestNode, TestVault, VAULT, envelope, exchange};

const NOT_CONNECTED: &str = "RELAY_VAULT_NOT_CONNECTED";

const MALFORMED: &str = r#"waystation_dropped_total{queue="afar",reason="malformed_frame"}"#;
const NOT_ASKED: &str = r#"waystation_dropped_total{queue="afar",reason="not_asked"}"#;
const NO_ROOM: &str = r#"waystation_dropped_total{queue="afar",reason="no_room"}"#;
const UNFIT: &str = r#"waystation_dropped_total{queue="federation",reason="unfit_frame"}"#;
const BUSY: &str = r#"waystation_dropped_total{queue="federation",reason="busy"}"#;

/// A node that calls `peers`, and may be called.
async fn federated(peers: &str, settings: &[(&str, &str)]) -> TestNode {
    let own = [
        ("RELAY_FEDERATION_ENABLED", "true"),
        ("RELAY_FEDERATION_ADDR", "127.0.0.1:0"),
        ("RELAY_FEDERATION_PEERS", peers),
        ("RELAY_FEDERATION_PEER_TIMEOUT", "3600"),
    ];
    TestNode::start(&[&own, settings].concat()).await
}

fn bits(id: RecordId) -> Bits {
    let id = u128::from_be_bytes(id.0);
    Bits { high: (id >> 64) as u64, low: id as u64 }
}

/// A request as a peer sends it, whose id is `number`.
fn delivery(number: u8, envelope: &Value) -> Deliver {
    let text = |member: &str| envelope[member].as_str().unwrap().to_owned();
    let frame = json!({"type": "request", "payload": envelope, "timestamp": "2026-01-02T03:04:05.678Z"});
    Deliver {
        record_id: Some(bits(RecordId([number; 16]))),
        vault_id: text("vault_id"),
        request_id: text("request_id"),
        frame: frame.to_string().into(),
        expires_ms: now().0 + 200_000,
        hops: 1,
        crossings: 1,
        ..Deliver::default()
    }
}

fn deliver(deliver: Deliver) -> Body {
    Body::Deliver(Box::new(deliver))
}

fn locate(vault: &str) -> Body {
    let principal = proto::Principal { kind: proto::Kind::Vault.into(), name: vault.to_owned() };
    Body::Locate(proto::Locate { principal: Some(principal) })
}

fn reason_of(body: Body) -> Reason {
    if let Body::Refused(refused) = body { refused.reason() } else { panic!("{body:?}") }
}

#[tokio::test]
async fn a_peer_answers_no_question_that_another_was_asked() {
    let (mut honest, mut liar) = (FarPeer::listens().await, FarPeer::listens().await);
    let node = federated(&format!("{},{}", honest.url, liar.url), &[]).await;
    let urls = [honest.url.clone(), liar.url.clone()];
    let (mut honest, mut liar) = (honest.called().await, liar.called().await);
    for url in urls {
        figure_is(node.public, &format!(r#"waystation_federation_up{{peer="{url}"}}"#), |up| up == 1.0).await;
    }
    let mut agent = TestAgent::connect(node.public).await;
    agent.send_frame("request", envelope("vault_far", "req_1")).await;
    let (own, _) = liar.next().await;
    let (asked, _) = honest.next().await;
    // What it was asked itself it does not answer, but all else that it can think of.
    (1..own + asked + 100).filter(|ask| *ask != own).for_each(|ask| liar.reply(ask, has_it()));
    honest.reply(asked, reply::Body::Located(proto::Located::default()));
    agent.expect_error(NOT_CONNECTED, "Vault vault_far is not connected").await;
}

#[tokio::test]
async fn a_peer_that_claims_a_vault_and_refuses_its_requests_is_asked_once() {
    let mut peer = FarPeer::listens().await;
    let node = federated(&peer.url, &[]).await;
    let mut link = peer.called().await;
    figure_is(node.public, &format!(r#"waystation_federation_up{{peer="{}"}}"#, peer.url), |up| up == 1.0).await;
    let mut agent = TestAgent::connect(node.public).await;
    for (n, reason) in [Reason::NotHere, Reason::NotConnected, Reason::Unspecified].into_iter().enumerate() {
        let vault = format!("vault_{n}");
        agent.send_frame("request", envelope(&vault, "req_1")).await;
        let (ask, asked) = link.next().await;
        assert_eq!(asked, locate(&vault));
        link.reply(ask, has_it());
        let (_, body) = link.next().await;
        let Body::Deliver(sent) = body else { panic!("{body:?}") };
        assert_eq!((sent.crossings, sent.address, sent.token), (1, None, None), "who asked is not said");
        let refused = Refused { reason: reason.into(), retry_after_ms: 0, ..refused(&sent) };
        link.say(0, Body::Refused(refused));
        agent.expect_error(NOT_CONNECTED, &format!("Vault {vault} is not connected")).await;
        agent.send_frame("request", envelope(&vault, "req_2")).await;
        agent.expect_error(NOT_CONNECTED, &format!("Vault {vault} is not connected")).await;
    }
    // Nothing more was said of any of them.
    agent.send_frame("request", envelope(VAULT, "req_last")).await;
    assert_eq!(link.next().await.1, locate(VAULT));
}

/// Two peers that say that they have every vault, the first one sooner; and an agent that asks for one that is to be had.
async fn rivals() -> (TestNode, TestAgent, [FarPeer; 2], [FarNode; 2]) {
    let (mut liar, mut honest) = (FarPeer::listens().await, FarPeer::listens().await);
    let node = federated(&format!("{},{}", liar.url, honest.url), &[]).await;
    let links = [liar.called().await, honest.called().await];
    for peer in [&liar, &honest] {
        let up = format!(r#"waystation_federation_up{{peer="{}"}}"#, peer.url);
        figure_is(node.public, &up, |up| up == 1.0).await;
    }
    let agent = TestAgent::connect(node.public).await;
    (node, agent, [liar, honest], links)
}

/// The request that a peer is sent, which says, or said, that it has its vault.
async fn sent_to(link: &mut FarNode) -> Deliver {
    loop {
        match link.next().await {
            (_, Body::Deliver(sent)) => return *sent,
            (ask, Body::Locate(_)) => link.reply(ask, has_it()),
            other => panic!("{other:?}"),
        }
    }
}

fn answer_to(sent: &Deliver) -> Body {
    let Refused { record_id, vault_id, request_id, .. } = refused(sent);
    let payload = json!({"version": "1", "request_id": request_id, "encrypted_payload": "EjRW",
        "timestamp": "2026-01-02T03:04:06.100Z"});
    let frame = json!({"type": "response", "payload": payload, "timestamp": "2026-01-02T03:04:06.100Z"}).to_string();
    Body::Answer(proto::Answer { record_id, vault_id, request_id, frame: frame.into() })
}

#[tokio::test]
async fn a_peer_that_lets_requests_expire_is_sent_those_only_that_nobody_else_wants() {
    let (node, mut agent, [liar, _honest], [mut lying, mut answering]) = rivals().await;
    let mut asked = envelope("vault_1", "req_1");
    asked["expires_at"] = waystation::wire::dcp::time::format(now().plus(std::time::Duration::from_secs(2))).into();
    agent.send_frame("request", asked).await;
    let (ask, _) = lying.next().await;
    lying.reply(ask, has_it());
    let taken = sent_to(&mut lying).await;
    let Refused { record_id, vault_id, request_id, .. } = refused(&taken);
    lying.say(0, Body::Accepted(proto::Accepted { record_id, vault_id, request_id, remaining: None }));
    assert_eq!(answering.next().await.1, locate("vault_1"));
    let lapsed = format!(r#"waystation_federation_lapsed_total{{peer="{}"}}"#, liar.url);
    figure_is(node.public, &lapsed, |lapsed| lapsed == 1.0).await;

    // It is sooner again; but the other one says that it has the vault as well.
    let mut agent = TestAgent::connect(node.public).await;
    agent.send_frame("request", envelope("vault_2", "req_2")).await;
    let (ask, _) = lying.next().await;
    lying.reply(ask, has_it());
    let sent = sent_to(&mut answering).await;
    answering.say(0, answer_to(&sent));
    assert_eq!(agent.expect_response("req_2").await, "EjRW");

    // What nobody else has it is sent.
    agent.send_frame("request", envelope("vault_3", "req_3")).await;
    let (ask, _) = answering.next().await;
    answering.reply(ask, reply::Body::Located(proto::Located::default()));
    let sent = sent_to(&mut lying).await;
    assert_eq!(sent.request_id, "req_3");
}

#[tokio::test]
async fn a_request_that_a_peer_keeps_for_ten_seconds_is_answered_by_another() {
    let (node, mut agent, [liar, _honest], [mut lying, mut answering]) = rivals().await;
    agent.send_frame("request", envelope("vault_1", "req_1")).await;
    let (ask, _) = lying.next().await;
    lying.reply(ask, has_it());
    let kept = sent_to(&mut lying).await;
    let sent = sent_to(&mut answering).await;
    assert_eq!((sent.request_id.as_str(), sent.crossings), (kept.request_id.as_str(), 1));
    answering.say(0, answer_to(&sent));
    assert_eq!(agent.expect_response("req_1").await, "EjRW");
    let lapsed = format!(r#"waystation_federation_lapsed_total{{peer="{}"}}"#, liar.url);
    figure_is(node.public, &lapsed, |lapsed| lapsed == 1.0).await;
}

#[tokio::test]
async fn a_peer_on_whose_word_a_vault_is_refused_is_named() {
    let mut peer = FarPeer::listens().await;
    let node = federated(&peer.url, &[]).await;
    let mut link = peer.called().await;
    let up = format!(r#"waystation_federation_up{{peer="{}"}}"#, peer.url);
    figure_is(node.public, &up, |up| up == 1.0).await;
    let mut vault = TestVault::connect(node.public).await;
    vault.send_frame("register", registration(VAULT, SEED)).await;
    let ask = loop {
        if let (ask, Body::OwnersQuery(_)) = link.next_mail().await {
            break ask;
        }
    };
    let keys = vec![key(SEED + 1).public_key().0.to_vec().into()];
    link.reply(ask, reply::Body::Owners(proto::OwnersFound { keys }));
    vault.expect_error("RELAY_UNAUTHORIZED", "vault_id is already registered to a different key").await;
    let refused = format!(r#"waystation_federation_names_refused_total{{peer="{}"}}"#, peer.url);
    assert_eq!(figure(node.public, &refused).await, 1.0);
}

fn refused(sent: &Deliver) -> Refused {
    Refused {
        record_id: sent.record_id,
        vault_id: sent.vault_id.clone(),
        request_id: sent.request_id.clone(),
        ..Refused::default()
    }
}

#[tokio::test]
async fn what_a_peer_says_of_requests_that_it_was_not_sent_is_dropped() {
    let mut peer = FarPeer::listens().await;
    let node = federated(&peer.url, &[]).await;
    let link = peer.called().await;
    let mut vault = TestVault::registered(node.public, VAULT, SEED).await;
    let mut agent = TestAgent::connect(node.public).await;
    let asked = envelope(VAULT, "req_1");
    agent.submit(&asked).await;
    vault.expect_request("req_1").await;
    let sent = Deliver {
        record_id: Some(bits(RecordId::of(&asked.to_string(), [127, 0, 0, 1].into()))),
        ..delivery(0, &asked)
    };
    let Refused { record_id, vault_id, request_id, .. } = refused(&sent);
    let frame = r#"{"type":"response","payload":{"request_id":"req_1"},"timestamp":"x"}"#.into();
    let answer = proto::Answer { record_id, vault_id: vault_id.clone(), request_id: request_id.clone(), frame };
    link.say(0, Body::Answer(answer.clone()));
    link.say(0, Body::Answer(proto::Answer { request_id: "another".to_owned(), ..answer.clone() }));
    link.say(0, Body::Refused(Refused { reason: Reason::RateLimited.into(), ..refused(&sent) }));
    link.say(0, Body::Accepted(proto::Accepted { record_id, vault_id, request_id, remaining: None }));
    link.say(0, Body::Answer(proto::Answer { record_id: None, ..answer.clone() }));
    link.say(0, Body::Answer(proto::Answer { frame: "no frame".into(), ..answer }));
    figure_is(node.public, NOT_ASKED, |count| count == 4.0).await;
    figure_is(node.public, MALFORMED, |count| count == 2.0).await;
    link.say(0, deliver(sent));
    link.say(0, locate(VAULT));
    figure_is(node.public, UNFIT, |count| count == 2.0).await;
    agent.expect_nothing().await;
    vault.respond("req_1", "EjRW").await;
    assert_eq!(agent.expect_response("req_1").await, "EjRW");
}

#[tokio::test]
async fn a_caller_may_say_little_and_what_does_not_fit_reaches_no_vault() {
    let node = federated("", &[]).await;
    let mut vault = TestVault::registered(node.public, VAULT, SEED).await;
    let mut caller = FarNode::calls(&node).await;
    let asked = envelope(VAULT, "req_1");
    let far_ahead = json!({"version": "1", "vault_id": VAULT, "request_id": "req_1", "action_type": "read",
        "encrypted_payload": "AA==", "expires_at": "2100-01-01T00:00:00.000Z"});
    let odd = [
        Deliver { crossings: 0, ..delivery(1, &asked) },
        Deliver { crossings: 2, ..delivery(1, &asked) },
        Deliver { hops: 2, ..delivery(1, &asked) },
        Deliver { guard: true, ..delivery(1, &asked) },
        Deliver { answer: "an answer".into(), ..delivery(1, &asked) },
        Deliver { vault_id: "vault_other".to_owned(), ..delivery(1, &asked) },
        Deliver { request_id: "req_other".to_owned(), ..delivery(1, &asked) },
        Deliver { frame: r#"{"type":"ack","payload":{}}"#.into(), ..delivery(1, &asked) },
        Deliver { frame: "\u{fffd}".into(), ..delivery(1, &asked) },
        delivery(1, &far_ahead),
    ];
    let count = odd.len();
    for odd in odd {
        caller.say(0, deliver(odd));
        assert_eq!(reason_of(caller.next().await.1), Reason::NotHere);
    }
    assert_eq!(figure(node.public, MALFORMED).await, count as f64);
    caller.say(0, deliver(Deliver { expires_ms: 1, ..delivery(1, &asked) }));
    assert_eq!(reason_of(caller.next().await.1), Reason::Expired);
    let adopt = proto::Adopt { vault_id: VAULT.to_owned(), epoch: u64::MAX, standing: Standing::Live.into() };
    let claim = proto::Claim::default();
    for (ask, body) in [(0, Body::Adopt(adopt)), (7, Body::Claim(claim))] {
        caller.say(ask, body);
    }
    assert_eq!(caller.next_reply().await, (7, reply::Body::Failed("unfit_frame".to_owned())));
    assert_eq!(figure(node.public, UNFIT).await, 2.0);
    caller.expect_nothing().await;
    vault.expect_nothing().await;
    let mut agent = TestAgent::connect(node.public).await;
    exchange(&mut agent, &mut vault, "req_1").await;
}

#[tokio::test]
async fn a_request_that_a_caller_says_again_reaches_the_vault_once() {
    let node = federated("", &[]).await;
    let mut vault = TestVault::registered(node.public, VAULT, SEED).await;
    let (mut caller, mut another) = (FarNode::calls(&node).await, FarNode::calls(&node).await);
    let sent = delivery(1, &envelope(VAULT, "req_1"));
    for caller in [&mut caller, &mut another] {
        for _ in 0..2 {
            caller.say(0, deliver(sent.clone()));
            assert!(matches!(caller.next().await.1, Body::Accepted(_)));
        }
    }
    vault.expect_request("req_1").await;
    vault.respond("req_1", "EjRW").await;
    for caller in [&mut caller, &mut another] {
        assert!(matches!(caller.next().await.1, Body::Answer(_)));
        caller.say(0, deliver(sent.clone()));
        assert!(matches!(caller.next().await.1, Body::Answer(_)));
        caller.expect_nothing().await;
    }
    vault.expect_nothing().await;
}

#[tokio::test]
async fn a_caller_that_floods_is_refused_and_nobody_else() {
    let node = federated("", &[("RELAY_VAULT_RECORDS_BYTES", "1048576")]).await;
    let mut vault = TestVault::registered(node.public, VAULT, SEED).await;
    let mut caller = FarNode::calls(&node).await;
    const FLOOD: u64 = 2_000;
    for ask in 1..=FLOOD {
        caller.say(ask, locate(&format!("vault_{ask}")));
    }
    let mut busy = 0;
    for _ in 0..FLOOD {
        match caller.next_reply().await.1 {
            reply::Body::Located(located) => assert_eq!(located.standing(), Standing::Unspecified),
            other => busy += usize::from(other == reply::Body::Failed("busy".to_owned())),
        }
    }
    assert_eq!(figure(node.public, BUSY).await, busy as f64);

    let mut taken = 0;
    for number in 0..200 {
        caller.say(0, deliver(delivery(number, &envelope(VAULT, &format!("req_{number}")))));
        match caller.next().await.1 {
            Body::Accepted(_) => taken += 1,
            body => assert_eq!(reason_of(body), Reason::Full),
        }
    }
    assert!((20..150).contains(&taken), "{taken} of its requests were taken");
    assert_eq!(figure(node.public, NO_ROOM).await, f64::from(200 - taken));
    for number in 0..taken {
        vault.expect_request(&format!("req_{number}")).await;
    }
    // Another link of its own gets it no more; another relay has a share of its own.
    let mut again = FarNode::calls(&node).await;
    again.say(0, deliver(delivery(201, &envelope(VAULT, "req_again"))));
    assert_eq!(reason_of(again.next().await.1), Reason::Full);
    let mut agent = TestAgent::connect(node.public).await;
    let mut another = FarNode::calls_as(&node, "another").await.unwrap();
    exchange(&mut agent, &mut vault, "req_own").await;
    another.say(0, deliver(delivery(201, &envelope(VAULT, "req_another"))));
    assert!(matches!(another.next().await.1, Body::Accepted(_)));
    vault.expect_request("req_another").await;
    // What is answered makes room.
    vault.respond("req_0", "EjRW").await;
    assert!(matches!(caller.next().await.1, Body::Answer(_)));
    caller.say(0, deliver(delivery(202, &envelope(VAULT, "req_more"))));
    assert!(matches!(caller.next().await.1, Body::Accepted(_)));
    figure_is(node.public, "waystation_federation_requests_open", |open| open == f64::from(taken + 1)).await;
    drop(caller);
    figure_is(node.public, "waystation_federation_requests_open", |open| open == 1.0).await;
}
