//! A node leaves service without losing what it has accepted.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::cluster::expect_requests;
use crate::support::http::{get, post};
use crate::support::{Process, Socket, TestAgent, TestNode, TestVault, envelope, in_time};

const VAULT: &str = "vault_demo01";

/// The relay closes the socket because it restarts; the client agrees, as all of them do.
async fn is_sent_away(socket: &mut Socket) {
    assert_eq!(socket.closed().await, (1012, "service restart".to_owned()));
    socket.ended().await;
}

/// Waits until the node says that it leaves service.
async fn drains(address: std::net::SocketAddr) {
    in_time("the node drains", async {
        while get(address, "/health").await.json()["status"] != "draining" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_lone_node_lets_what_is_pending_end_before_it_does() {
    let mut process = Process::start(&[]).await;
    let mut vault = TestVault::registered(process.public, VAULT, 7).await;
    let mut agent = TestAgent::connect(process.public).await;
    let mut idle = TestAgent::connect(process.public).await;
    agent.ask(VAULT, "req_1").await;
    vault.expect_request("req_1").await;

    process.sigterm();
    is_sent_away(&mut idle).await;
    drains(process.public).await;
    get(process.public, "/ready").await.expect(503);
    agent.expect_nothing().await;

    vault.respond("req_1", "EjRW").await;
    agent.expect_response("req_1").await;
    is_sent_away(&mut agent).await;
    is_sent_away(&mut vault).await;
    assert!(process.ended().await.success());
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut process = Process::start(&[("RELAY_DRAIN_TIMEOUT_SECS", "300")]).await;
    let mut vault = TestVault::registered(process.public, VAULT, 7).await;
    let mut agent = TestAgent::connect(process.public).await;
    agent.ask(VAULT, "req_1").await;
    vault.expect_request("req_1").await;
    process.sigterm();
    drains(process.public).await;
    agent.expect_nothing().await;
    process.sigterm();
    process.ended().await;
    agent.ended().await;
    vault.ended().await;
}

#[tokio::test]
async fn an_agent_that_has_gone_is_not_waited_for() {
    let node = TestNode::start(&[("RELAY_DRAIN_TIMEOUT_SECS", "300")]).await;
    let mut vault = TestVault::registered(node.public, VAULT, 7).await;
    let mut agent = TestAgent::connect(node.public).await;
    agent.ask(VAULT, "req_1").await;
    vault.expect_request("req_1").await;
    agent.close().await;
    vault.close().await;
    in_time("the node ends", node.drain()).await;
}

#[tokio::test]
async fn an_agents_socket_stays_until_the_answer_comes_from_another_node() {
    let mut nodes = TestNode::cluster(2, &[]).await;
    let mut vault = TestVault::registered(nodes[0].public, VAULT, 7).await;
    let mut agent = TestAgent::connect(nodes[1].public).await;
    agent.ask(VAULT, "req_1").await;
    vault.expect_request("req_1").await;
    let (address, leaving) = (nodes[1].public, nodes.remove(1));
    let leaving = tokio::spawn(leaving.drain());
    drains(address).await;
    agent.expect_nothing().await;
    vault.respond("req_1", "EjRW").await;
    agent.expect_response("req_1").await;
    is_sent_away(&mut agent).await;
    in_time("the node ends", leaving).await.unwrap();
}

#[tokio::test]
async fn a_vault_that_owes_an_answer_may_give_it_before_its_node_ends() {
    let mut nodes = TestNode::cluster(2, &[]).await;
    let mut vault = TestVault::registered(nodes[0].public, VAULT, 7).await;
    let mut free = TestVault::registered(nodes[0].public, "vault_free", 7).await;
    let mut agent = TestAgent::connect(nodes[1].public).await;
    agent.ask(VAULT, "req_1").await;
    vault.expect_request("req_1").await;
    let leaving = tokio::spawn(nodes.remove(0).drain());
    // One that owes nothing does not have to wait.
    is_sent_away(&mut free).await;
    vault.respond("req_1", "EjRW").await;
    agent.expect_response("req_1").await;
    is_sent_away(&mut vault).await;
    in_time("the node ends", leaving).await.unwrap();
}

#[tokio::test]
async fn what_a_vault_has_not_answered_follows_it_from_a_leaving_node() {
    let mut nodes = TestNode::cluster(3, &[]).await;
    let mut vault = TestVault::registered(nodes[0].public, VAULT, 7).await;
    let mut agents = [TestAgent::connect(nodes[0].public).await, TestAgent::connect(nodes[1].public).await];
    for (n, agent) in agents.iter_mut().enumerate() {
        agent.ask(VAULT, &format!("req_{n}")).await;
        vault.expect_request(&format!("req_{n}")).await;
    }
    let (address, leaving) = (nodes[0].public, nodes.remove(0));
    let leaving = tokio::spawn(leaving.drain());
    drains(address).await;
    drop(vault);
    let mut vault = TestVault::registered(nodes[1].public, VAULT, 7).await;
    assert_eq!(expect_requests(&mut vault, 2).await, ["req_0", "req_1"]);
    for (n, agent) in agents.iter_mut().enumerate() {
        vault.respond(&format!("req_{n}"), "EjRW").await;
        agent.expect_response(&format!("req_{n}")).await;
    }
    is_sent_away(&mut agents[0]).await;
    in_time("the node ends", leaving).await.unwrap();
}

#[tokio::test]
async fn requests_wait_for_a_vault_that_was_sent_away_even_after_its_node_has_ended() {
    let mut nodes = TestNode::cluster(3, &[]).await;
    let mut vault = TestVault::registered(nodes[0].public, VAULT, 7).await;
    let mut agent = TestAgent::connect(nodes[1].public).await;
    let leaving = tokio::spawn(nodes.remove(0).drain());
    is_sent_away(&mut vault).await;
    agent.ask(VAULT, "req_1").await;
    drop(vault);
    in_time("the node ends", leaving).await.unwrap();
    agent.ask(VAULT, "req_2").await;
    let mut other = TestAgent::connect(nodes[1].public).await;
    other.ask(VAULT, "req_3").await;

    let mut vault = TestVault::registered(nodes[1].public, VAULT, 7).await;
    assert_eq!(expect_requests(&mut vault, 3).await, ["req_1", "req_2", "req_3"]);
    for id in ["req_1", "req_2", "req_3"] {
        vault.respond(id, "EjRW").await;
    }
    for id in ["req_1", "req_2"] {
        agent.expect_response(id).await;
    }
    other.expect_response("req_3").await;
}

#[tokio::test]
async fn a_request_submitted_over_http_is_polled_elsewhere_when_its_node_has_left() {
    let mut nodes = TestNode::cluster(3, &[]).await;
    let mut near = TestVault::registered(nodes[0].public, "vault_near", 7).await;
    let mut far = TestVault::registered(nodes[1].public, "vault_far", 7).await;
    let leaving = nodes.remove(0);
    for (vault, name) in [(&mut near, "vault_near"), (&mut far, "vault_far")] {
        for id in ["answered", "pending"] {
            let id = format!("{name}_{id}");
            post(leaving.public, "/relay/request", &envelope(name, &id)).await.expect(202);
            vault.expect_request(&id).await;
        }
        vault.respond(&format!("{name}_answered"), "EjRW").await;
    }
    near.close().await;
    in_time("the node ends", leaving.drain()).await;

    let poll =
        async |node: &TestNode, id: &str| get(node.public, &format!("/relay/response/{id}")).await.status.as_u16();
    for node in &nodes {
        for name in ["vault_near", "vault_far"] {
            assert_eq!(poll(node, &format!("{name}_answered")).await, 200, "{name}");
            assert_eq!(poll(node, &format!("{name}_pending")).await, 202, "{name}");
        }
    }
    let mut near = TestVault::registered(nodes[1].public, "vault_near", 7).await;
    near.expect_request("vault_near_pending").await;
    near.respond("vault_near_pending", "EjRW").await;
    far.respond("vault_far_pending", "EjRW").await;
    for node in &nodes {
        for name in ["vault_near", "vault_far"] {
            assert_eq!(poll(node, &format!("{name}_pending")).await, 200, "{name}");
        }
    }
}

#[tokio::test]
async fn whoever_still_waits_at_the_drain_timeout_is_told() {
    let node = TestNode::start(&[("RELAY_DRAIN_TIMEOUT_SECS", "1")]).await;
    let mut vault = TestVault::registered(node.public, VAULT, 7).await;
    let mut agent = TestAgent::connect(node.public).await;
    agent.ask(VAULT, "req_1").await;
    vault.expect_request("req_1").await;
    let begun = Instant::now();
    let leaving = tokio::spawn(node.drain());
    let error = agent.expect("error").await;
    assert_eq!((&error["code"], &error["request_id"]), (&json!("RELAY_UNAVAILABLE"), &json!("req_1")));
    agent.ended().await;
    vault.ended().await;
    in_time("the node ends", leaving).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1));
}
