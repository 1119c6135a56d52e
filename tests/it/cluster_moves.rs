//! Vaults move from node to node, and nodes die under them: what has been accepted waits, and follows.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::cluster::{expect_requests, kill};
use crate::support::http::{get, post};
use crate::support::{SEED, TestAgent, TestNode, TestVault, envelope, in_time, registration, until};

const VAULT: &str = "vault_demo01";

const NOT_CONNECTED: (&str, &str) = ("RELAY_VAULT_NOT_CONNECTED", "Vault vault_demo01 is not connected");

/// How soon after a vault has come back what waits for it must have been answered.
const SOON: Duration = Duration::from_secs(3);

#[tokio::test]
async fn the_newest_socket_is_routed_to_and_the_older_one_takes_over() {
    let nodes = TestNode::cluster(3, &[]).await;
    let mut older = TestVault::registered(nodes[0].public, VAULT, 7).await;
    let mut agents = Vec::new();
    for (n, node) in nodes.iter().enumerate() {
        let mut agent = TestAgent::connect(node.public).await;
        agent.ask(VAULT, &format!("before_{n}")).await;
        older.expect_request(&format!("before_{n}")).await;
        older.respond(&format!("before_{n}"), "EjRW").await;
        agent.expect_response(&format!("before_{n}")).await;
        agents.push(agent);
    }

    let mut newer = TestVault::registered(nodes[1].public, VAULT, 7).await;
    // The ack comes before all nodes have heard; what is said after it is read once they have.
    newer.expect_nothing().await;
    for (n, agent) in agents.iter_mut().enumerate() {
        agent.ask(VAULT, &format!("moved_{n}")).await;
        newer.expect_request(&format!("moved_{n}")).await;
    }
    older.expect_nothing().await;

    newer.close().await;
    assert_eq!(expect_requests(&mut older, 3).await, ["moved_0", "moved_1", "moved_2"]);
    for (n, agent) in agents.iter_mut().enumerate() {
        older.respond(&format!("moved_{n}"), "EjRW").await;
        agent.expect_response(&format!("moved_{n}")).await;
        agent.ask(VAULT, &format!("after_{n}")).await;
        older.expect_request(&format!("after_{n}")).await;
    }
}

#[tokio::test]
async fn what_a_vault_has_not_answered_follows_it_to_another_node() {
    let nodes = TestNode::cluster(3, &[]).await;
    let mut vault = TestVault::registered(nodes[0].public, VAULT, 7).await;
    let mut agent = TestAgent::connect(nodes[1].public).await;
    agent.ask(VAULT, "req_1").await;
    vault.expect_request("req_1").await;
    drop(vault);
    let mut vault = TestVault::registered(nodes[2].public, VAULT, 7).await;
    vault.expect_request("req_1").await;
    vault.respond("req_1", "EjRW").await;
    agent.expect_response("req_1").await;
}

#[tokio::test]
async fn a_newer_poll_at_another_node_takes_nothing_from_a_socket() {
    let nodes = TestNode::cluster(2, &[]).await;
    let mut vault = TestVault::registered(nodes[0].public, VAULT, SEED).await;
    let mut agents = [TestAgent::connect(nodes[0].public).await, TestAgent::connect(nodes[1].public).await];
    agents[0].ask(VAULT, "req_1").await;
    vault.expect_request("req_1").await;
    let poll = async |wait_ms: u64| {
        let mut body = registration(VAULT, SEED);
        body["timeout_ms"] = json!(wait_ms);
        post(nodes[1].public, "/relay/poll", &body).await.expect(200)["messages"].take()
    };
    assert_eq!(poll(1).await, json!([]));
    for (n, agent) in agents.iter_mut().enumerate() {
        let id = format!("req_new_{n}");
        agent.ask(VAULT, &id).await;
        vault.expect_request(&id).await;
    }
    vault.close().await;
    let mut polled = Vec::new();
    in_time("all three are polled", async {
        while polled.len() < 3 {
            let messages = poll(1_000).await;
            polled.extend(messages.as_array().unwrap().iter().map(|m| m["request_id"].as_str().unwrap().to_owned()));
        }
    })
    .await;
    polled.sort();
    assert_eq!(polled, ["req_1", "req_new_0", "req_new_1"]);
}

#[tokio::test]
async fn a_vault_that_moves_again_and_again_is_found_each_time() {
    let nodes = TestNode::cluster(3, &[]).await;
    let mut agent = TestAgent::connect(nodes[0].public).await;
    let mut vault: Option<TestVault> = None;
    for turn in 0..9 {
        let mut next = TestVault::registered(nodes[turn % 3].public, VAULT, 7).await;
        let id = format!("req_{turn}");
        agent.ask(VAULT, &id).await;
        next.expect_request(&id).await;
        if let Some(before) = vault.replace(next) {
            before.close().await;
        }
        let vault = vault.as_mut().unwrap();
        vault.respond(&id, "EjRW").await;
        agent.expect_response(&id).await;
    }
}

#[tokio::test]
async fn requests_for_a_vault_whose_node_died_wait_for_it_to_come_back_elsewhere() {
    let mut nodes = TestNode::cluster(3, &[]).await;
    let mut vault = TestVault::registered(nodes[0].public, VAULT, 7).await;
    let mut agents = [TestAgent::connect(nodes[1].public).await, TestAgent::connect(nodes[2].public).await];
    agents[0].ask(VAULT, "req_pending").await;
    vault.expect_request("req_pending").await;
    kill(&mut nodes, 0).await;
    for (n, agent) in agents.iter_mut().enumerate() {
        agent.ask(VAULT, &format!("req_new_{n}")).await;
    }
    post(nodes[1].public, "/relay/request", &envelope(VAULT, "req_http")).await.expect(202);

    let mut vault = TestVault::registered(nodes[1].public, VAULT, 7).await;
    let back = Instant::now();
    let waited = expect_requests(&mut vault, 4).await;
    assert_eq!(waited, ["req_http", "req_new_0", "req_new_1", "req_pending"]);
    for id in &waited {
        vault.respond(id, "EjRW").await;
    }
    agents[0].expect_response("req_new_0").await;
    agents[0].expect_response("req_pending").await;
    agents[1].expect_response("req_new_1").await;
    get(nodes[0].public, "/relay/response/req_http").await.expect(200);
    assert!(back.elapsed() < SOON, "{:?} after the vault was back", back.elapsed());
}

#[tokio::test]
async fn a_request_may_be_on_its_way_when_the_node_dies() {
    let mut nodes = TestNode::cluster(3, &[]).await;
    let vault = TestVault::registered(nodes[0].public, VAULT, 7).await;
    let mut agent = TestAgent::connect(nodes[1].public).await;
    // Nobody knows yet that the node is dead.
    drop((vault, nodes.remove(0)));
    agent.send_frame("request", envelope(VAULT, "req_1")).await;
    let mut vault = TestVault::registered(nodes[1].public, VAULT, 7).await;
    vault.expect_request("req_1").await;
    vault.respond("req_1", "EjRW").await;
    assert_eq!(agent.expect("ack").await, json!({"request_id": "req_1", "accepted": true}));
    agent.expect_response("req_1").await;
}

#[tokio::test]
async fn a_vault_whose_node_died_and_that_stays_away_is_reported_after_the_grace() {
    let mut nodes = TestNode::cluster(3, &[("RELAY_VAULT_RECONNECT_GRACE_SECS", "1")]).await;
    let mut vault = TestVault::registered(nodes[0].public, VAULT, 7).await;
    let mut agent = TestAgent::connect(nodes[1].public).await;
    agent.ask(VAULT, "req_1").await;
    vault.expect_request("req_1").await;
    kill(&mut nodes, 0).await;
    let error = agent.expect_error(NOT_CONNECTED.0, NOT_CONNECTED.1).await;
    assert_eq!(error["request_id"], "req_1");
    agent.send_frame("request", envelope(VAULT, "req_2")).await;
    let error = agent.expect_error(NOT_CONNECTED.0, NOT_CONNECTED.1).await;
    assert_eq!(error["request_id"], "req_2");
}

#[tokio::test]
async fn a_vault_that_stays_away_is_reported_to_agents_on_other_nodes_after_the_grace() {
    let nodes = TestNode::cluster(3, &[("RELAY_VAULT_RECONNECT_GRACE_SECS", "1")]).await;
    let mut vault = TestVault::registered(nodes[0].public, VAULT, 7).await;
    let mut agent = TestAgent::connect(nodes[1].public).await;
    agent.ask(VAULT, "req_1").await;
    vault.expect_request("req_1").await;
    vault.close().await;
    let mut late = TestAgent::connect(nodes[2].public).await;
    late.ask(VAULT, "req_2").await;
    for (agent, id) in [(&mut agent, "req_1"), (&mut late, "req_2")] {
        let error = agent.expect_error(NOT_CONNECTED.0, NOT_CONNECTED.1).await;
        assert_eq!(error["request_id"], id);
    }
}

#[tokio::test]
async fn an_answer_is_polled_elsewhere_when_the_agents_node_has_died() {
    let mut nodes = TestNode::cluster(3, &[]).await;
    let mut vault = TestVault::registered(nodes[1].public, VAULT, 7).await;
    post(nodes[0].public, "/relay/request", &envelope(VAULT, "req_1")).await.expect(202);
    vault.expect_request("req_1").await;
    kill(&mut nodes, 0).await;
    for node in &nodes {
        get(node.public, "/relay/response/req_1").await.expect(202);
    }
    vault.respond("req_1", "EjRW").await;
    for node in &nodes {
        get(node.public, "/relay/response/req_1").await.expect(200);
    }
}

#[tokio::test]
async fn a_request_outlives_the_one_node_that_had_both_its_agent_and_its_vault() {
    let mut nodes = TestNode::cluster(3, &[]).await;
    let mut vault = TestVault::registered(nodes[0].public, VAULT, 7).await;
    post(nodes[0].public, "/relay/request", &envelope(VAULT, "req_1")).await.expect(202);
    vault.expect_request("req_1").await;
    let kept = |node: &TestNode| node.node().metrics.vault.records.get();
    until("another node keeps it too", || kept(&nodes[1]) + kept(&nodes[2]) == 1).await;
    kill(&mut nodes, 0).await;
    for node in &nodes {
        get(node.public, "/relay/response/req_1").await.expect(202);
    }
    let mut vault = TestVault::registered(nodes[1].public, VAULT, 7).await;
    vault.expect_request("req_1").await;
    vault.respond("req_1", "EjRW").await;
    for node in &nodes {
        get(node.public, "/relay/response/req_1").await.expect(200);
    }
}
