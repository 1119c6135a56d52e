//! A request and its answer, with the vault on one node and the agent on another.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::cluster::{SECRET, all_meet};
use crate::support::http::{get, http, post};
use crate::support::{ELSEWHERE, SEED, TestAgent, TestNode, TestVault, VAULT, envelope, exchange};

/// A cluster with `settings`: an agent at its first node, and [`VAULT`] at its second.
async fn apart(count: usize, settings: &[(&str, &str)]) -> (Vec<TestNode>, TestVault, TestAgent) {
    let settings: Vec<_> = settings.iter().copied().chain([SECRET]).collect();
    let nodes = TestNode::cluster(count, &settings).await;
    let vault = TestVault::registered(nodes[1].public, VAULT, SEED).await;
    let agent = TestAgent::connect(nodes[0].public).await;
    (nodes, vault, agent)
}

fn sealed(size: usize) -> String {
    "A".repeat(size)
}

#[tokio::test]
async fn a_vault_answers_an_agent_on_another_node_both_ways() {
    let nodes = TestNode::cluster(2, &[SECRET]).await;
    for (home, desk) in [(0, 1), (1, 0)] {
        let name = format!("vault_at_{home}");
        let mut vault = TestVault::registered(nodes[home].public, &name, 7).await;
        let mut agent = TestAgent::connect(nodes[desk].public).await;
        let id = format!("by_socket_{home}");
        let asked = agent.ask(&name, &id).await;
        assert_eq!(vault.expect_request(&id).await, asked, "nothing of the envelope is changed");
        vault.respond(&id, "EjRW").await;
        assert_eq!(agent.expect_response(&id).await, "EjRW");

        let id = format!("by_http_{home}");
        let asked = envelope(&name, &id);
        let accepted = post(nodes[desk].public, "/relay/request", &asked).await.expect(202);
        assert_eq!((&accepted["accepted"], &accepted["queued"]), (&json!(true), &json!(true)));
        assert_eq!(vault.expect_request(&id).await, asked);
        let poll = format!("/relay/response/{id}");
        get(nodes[desk].public, &poll).await.expect(202);
        vault.respond(&id, "qrvM").await;
        let answer = get(nodes[desk].public, &poll).await.expect(200);
        assert_eq!(answer["encrypted_payload"], "qrvM");
    }
}

#[tokio::test]
async fn many_requests_of_one_agent_keep_their_order() {
    const REQUESTS: usize = 300;
    let (_nodes, mut vault, mut agent) = apart(2, &[]).await;
    for n in 0..REQUESTS {
        agent.send_frame("request", envelope(VAULT, &format!("req_{n}"))).await;
    }
    for n in 0..REQUESTS {
        vault.expect_request(&format!("req_{n}")).await;
    }
    for n in 0..REQUESTS {
        agent.expect("ack").await;
        vault.respond(&format!("req_{n}"), "EjRW").await;
    }
    for n in 0..REQUESTS {
        agent.expect_response(&format!("req_{n}")).await;
    }
}

#[tokio::test]
async fn a_mebibyte_passes_both_ways() {
    const SIZE: usize = 1 << 20;
    let (_nodes, mut vault, mut agent) = apart(2, &[("RELAY_MAX_MESSAGE_SIZE", "2097152")]).await;
    let mut large = envelope(VAULT, "req_1");
    large["encrypted_payload"] = Value::String(sealed(SIZE));
    agent.submit(&large).await;
    assert_eq!(vault.expect_request("req_1").await, large);
    vault.respond("req_1", &sealed(SIZE)).await;
    assert_eq!(agent.expect_response("req_1").await.len(), SIZE);
}

#[tokio::test]
async fn what_is_submitted_on_one_node_is_polled_on_any_other() {
    let nodes = TestNode::cluster(3, &[SECRET]).await;
    let mut vault = TestVault::registered(nodes[1].public, VAULT, SEED).await;
    let accepted = http(nodes[0].public, "POST", "/relay/request").from(ELSEWHERE).json(&envelope(VAULT, "req_1"));
    let accepted = accepted.send().await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    let token = accepted.header("x-relay-poll-token").to_owned();
    let poll = |node: &TestNode| http(node.public, "GET", "/relay/response/req_1");
    for (expected, answered) in [(202, false), (200, true)] {
        if answered {
            vault.expect_request("req_1").await;
            vault.respond("req_1", "EjRW").await;
        }
        for node in &nodes {
            assert_eq!(poll(node).from(ELSEWHERE).send().await.status, expected, "the same address");
            assert_eq!(poll(node).header("x-relay-poll-token", &token).send().await.status, expected, "the token");
            poll(node).send().await.expect(404);
        }
    }
}

#[tokio::test]
async fn an_answered_request_repeated_on_another_node_gets_its_answer_at_once() {
    let (nodes, mut vault, mut agent) = apart(3, &[]).await;
    let asked = exchange(&mut agent, &mut vault, "req_1").await;

    let mut again = TestAgent::connect(nodes[2].public).await;
    again.send_frame("request", asked.clone()).await;
    assert_eq!(again.expect_response("req_1").await, "EjRW", "and no ack before it");
    let over_http = post(nodes[2].public, "/relay/request", &asked).await.expect(200);
    assert_eq!(over_http["encrypted_payload"], "EjRW");
    vault.expect_nothing().await;
}

#[tokio::test]
async fn an_answer_outlives_the_connection_of_its_vault() {
    let (nodes, mut vault, mut agent) = apart(3, &[("RELAY_VAULT_RECONNECT_GRACE_SECS", "0")]).await;
    let asked = exchange(&mut agent, &mut vault, "req_1").await;
    vault.close().await;

    let mut again = TestAgent::connect(nodes[2].public).await;
    again.send_frame("request", asked).await;
    assert_eq!(again.expect_response("req_1").await, "EjRW");
    again.send_frame("request", envelope(VAULT, "req_2")).await;
    let error = again.expect_error("RELAY_VAULT_NOT_CONNECTED", "Vault vault_demo01 is not connected").await;
    assert_eq!(error["request_id"], "req_2");
}

#[tokio::test]
async fn a_pending_request_repeated_on_another_node_is_answered_there() {
    let (nodes, mut vault, mut agent) = apart(3, &[]).await;
    let asked = agent.ask(VAULT, "req_1").await;
    vault.expect_request("req_1").await;
    drop(agent);

    let mut again = TestAgent::connect(nodes[2].public).await;
    again.submit(&asked).await;
    vault.expect_nothing().await;
    vault.respond("req_1", "EjRW").await;
    assert_eq!(again.expect_response("req_1").await, "EjRW");
}

#[tokio::test]
async fn the_same_request_from_another_address_is_another_request() {
    let (nodes, mut vault, mut agent) = apart(3, &[]).await;
    let asked = exchange(&mut agent, &mut vault, "req_1").await;

    let mut stranger = TestAgent::connect_from(nodes[2].public, ELSEWHERE).await;
    stranger.submit(&asked).await;
    vault.expect_request("req_1").await;
    vault.respond("req_1", "qrvM").await;
    assert_eq!(stranger.expect_response("req_1").await, "qrvM");
}

#[tokio::test]
async fn an_answer_given_on_another_node_than_the_request_is_taken() {
    let nodes = TestNode::cluster(3, &[SECRET]).await;
    let mut older = TestVault::registered(nodes[0].public, VAULT, SEED).await;
    let mut newer = TestVault::registered(nodes[1].public, VAULT, SEED).await;
    let mut agent = TestAgent::connect(nodes[2].public).await;
    agent.ask(VAULT, "req_1").await;
    newer.expect_request("req_1").await;
    older.respond("req_1", "EjRW").await;
    assert_eq!(agent.expect_response("req_1").await, "EjRW");
}

#[tokio::test]
async fn a_vault_without_a_node_is_not_connected() {
    let nodes = TestNode::cluster(3, &[SECRET]).await;
    for node in &nodes {
        let mut agent = TestAgent::connect(node.public).await;
        agent.send_frame("request", envelope("vault_nobody", "req_1")).await;
        let error = agent.expect_error("RELAY_VAULT_NOT_CONNECTED", "Vault vault_nobody is not connected").await;
        assert_eq!(error["request_id"], "req_1");
        let refused = post(node.public, "/relay/request", &envelope("vault_nobody", "req_2")).await;
        assert_eq!(refused.error().0, 503);
    }
}

#[tokio::test]
async fn a_node_that_listens_everywhere_is_reached_where_it_says_and_known_for_what_it_says() {
    const EVERYWHERE: &str = "0.0.0.0:0";
    let settings = [
        SECRET,
        ("RELAY_GRPC_ADDR", EVERYWHERE),
        ("RELAY_GOSSIP_ADDR", EVERYWHERE),
        ("RELAY_ADVERTISE_HOST", "127.0.0.3"),
        ("RELAY_REGION", "north"),
    ];
    let first = TestNode::start(&settings).await;
    let second = first.join(&[SECRET]).await;
    let nodes = [first, second];
    all_meet(&nodes).await;
    let view = nodes[1].node().membership.view();
    let told = &view.members[&nodes[0].node().cluster.me.node];
    let grpc: SocketAddr = told.facts.grpc.parse().unwrap();
    assert_eq!((told.gossip.ip(), grpc.ip()), ([127, 0, 0, 3].into(), [127, 0, 0, 3].into()));
    assert_eq!(told.facts.region.as_str(), "north");

    let mut vault = TestVault::registered(nodes[0].public, VAULT, 7).await;
    let mut agent = TestAgent::connect(nodes[1].public).await;
    agent.ask(VAULT, "req_1").await;
    vault.expect_request("req_1").await;
}
