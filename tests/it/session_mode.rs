//! Session mode: vaults and agents that know nothing of signatures, wherever they connect.

use std::net::SocketAddr;

use serde_json::{Value, json};
use waystation::observe::metrics::{EdgeMetrics, Reason};

use crate::support::{LONG_PATIENCE, Socket, TestAgent, TestNode, TestVault, until, within};

/// A vault that registers `name` by that alone on `path`.
async fn vault_at(address: SocketAddr, path: &str, name: &str) -> Socket {
    let mut vault = Socket::open(address, path, None).await.unwrap();
    vault.send(&json!({"type": "register", "vault_id": name})).await;
    assert_eq!(vault.next().await, json!({"type": "registered", "vault_id": name}));
    vault
}

/// An agent on `path` that has asked to pair with `name`.
async fn agent_at(address: SocketAddr, path: &str, name: &str) -> Socket {
    let mut agent = Socket::open(address, path, None).await.unwrap();
    pair(&mut agent, name).await;
    agent
}

async fn pair(agent: &mut Socket, name: &str) {
    agent.send(&json!({"type": "pair", "vault_id": name, "token": "tök\"en"})).await;
}

/// The vault accepts the pair that it is shown next; the session's name.
async fn accept(vault: &mut Socket, name: &str) -> Value {
    let mut shown = vault.next().await;
    let session = shown["session_id"].take();
    assert_eq!(shown, json!({"type": "pair", "session_id": null, "vault_id": name, "token": "tök\"en"}));
    assert_eq!(session.as_str().unwrap().len(), 32);
    vault.send(&json!({"type": "pair_accept", "session_id": session})).await;
    session
}

/// A vault at the first address and an agent at the second, paired.
async fn paired(vault_at_node: SocketAddr, agent_at_node: SocketAddr, name: &str) -> (Socket, Socket, Value) {
    let mut vault = vault_at(vault_at_node, "/ws", name).await;
    let mut agent = agent_at(agent_at_node, "/ws-client", name).await;
    let session = accept(&mut vault, name).await;
    assert_eq!(agent.next().await, json!({"type": "paired", "session_id": session, "vault_id": name}));
    (vault, agent, session)
}

async fn talk(vault: &mut Socket, agent: &mut Socket, session: &Value) {
    for payload in [json!("sealed"), json!({"a": [1.5, null]}), json!(0)] {
        let message = json!({"type": "message", "session_id": session, "payload": payload});
        agent.send(&json!({"type": "message", "payload": payload})).await;
        assert_eq!(vault.next().await, message);
        vault.send(&message).await;
        assert_eq!(agent.next().await, message);
    }
}

async fn expect_error(socket: &mut Socket, code: &str) -> Value {
    let error = socket.next().await;
    assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!(code)), "{error}");
    error
}

async fn expect_closed(socket: &mut Socket, session: &Value, reason: &str) {
    assert_eq!(socket.next().await, json!({"type": "closed", "session_id": session, "reason": reason}));
}

#[tokio::test]
async fn paired_sides_talk_whatever_their_paths_and_nodes() {
    let nodes = TestNode::cluster(2, &[]).await;
    for (at, (vault_node, agent_node, vault_path, agent_path)) in
        [(0, 0, "/ws", "/ws-client"), (0, 1, "/ws", "/"), (1, 0, "/", "/ws-client"), (1, 1, "/", "/")]
            .iter()
            .enumerate()
    {
        let name = format!("vault \"{at}\"");
        let mut vault = vault_at(nodes[*vault_node].public, vault_path, &name).await;
        let mut agent = agent_at(nodes[*agent_node].public, agent_path, &name).await;
        let session = accept(&mut vault, &name).await;
        assert_eq!(agent.next().await, json!({"type": "paired", "session_id": session, "vault_id": name}));
        talk(&mut vault, &mut agent, &session).await;
    }
}

#[tokio::test]
async fn payloads_are_carried_as_they_were_spelled_and_in_order() {
    let nodes = TestNode::cluster(2, &[]).await;
    let (mut vault, mut agent, session) = paired(nodes[0].public, nodes[1].public, "v").await;
    let session = session.as_str().unwrap();
    for number in 0..500 {
        let payload = format!(r#"{{ "n" : {number}.0, "u": "\u00e9" }}"#);
        agent.send_raw(format!(r#"{{"type":"message","payload":{payload},"session_id":"{session}"}}"#)).await;
    }
    for number in 0..500 {
        assert_eq!(vault.next().await["payload"]["n"], f64::from(number));
    }
    agent.send_raw(r#"{"type":"message","payload": 1.50 }"#.to_owned()).await;
    let spelled = format!(r#"{{"type":"message","session_id":"{session}","payload":1.50}}"#);
    assert_eq!(vault.next_text().await, spelled);
}

#[tokio::test]
async fn either_side_ends_a_session_by_word_or_by_leaving() {
    let nodes = TestNode::cluster(2, &[]).await;
    let (a, b) = (nodes[0].public, nodes[1].public);
    let (mut vault, mut agent, session) = paired(a, b, "v").await;
    agent.send(&json!({"type": "close"})).await;
    expect_closed(&mut vault, &session, "closed by the agent").await;

    pair(&mut agent, "v").await;
    let session = accept(&mut vault, "v").await;
    assert_eq!(agent.next().await["type"], "paired");
    vault.send(&json!({"type": "close", "session_id": session})).await;
    expect_closed(&mut agent, &session, "closed by the vault").await;

    pair(&mut agent, "v").await;
    let session = accept(&mut vault, "v").await;
    assert_eq!(agent.next().await["type"], "paired");
    drop(agent);
    expect_closed(&mut vault, &session, "the agent has disconnected").await;

    let mut agent = agent_at(b, "/", "v").await;
    let session = accept(&mut vault, "v").await;
    assert_eq!(agent.next().await["type"], "paired");
    drop(vault);
    expect_closed(&mut agent, &session, "the vault has disconnected").await;
    until("no session is left", || nodes[1].node().metrics.vault.sessions.get() == 0).await;
    pair(&mut agent, "v").await;
    expect_error(&mut agent, "RELAY_VAULT_NOT_CONNECTED").await;
}

#[tokio::test]
async fn a_vault_may_refuse_with_a_reason_or_without() {
    let node = TestNode::start(&[]).await;
    let mut vault = vault_at(node.public, "/ws", "v").await;
    let mut agent = agent_at(node.public, "/ws-client", "v").await;
    for (reason, message) in [(json!("bad token"), "bad token"), (json!(null), "The vault refused the pair")] {
        let session = vault.next().await["session_id"].take();
        vault.send(&json!({"type": "pair_refuse", "session_id": session, "reason": reason})).await;
        let error = expect_error(&mut agent, "RELAY_PAIR_REFUSED").await;
        assert_eq!((&error["message"], &error["vault_id"]), (&json!(message), &json!("v")));
        pair(&mut agent, "v").await;
    }
}

#[tokio::test]
async fn nobody_gets_into_anothers_session() {
    let node = TestNode::start(&[]).await;
    let (mut vault, mut agent, session) = paired(node.public, node.public, "v").await;
    let mut other_vault = vault_at(node.public, "/ws", "w").await;
    let mut other_agent = agent_at(node.public, "/ws-client", "w").await;
    accept(&mut other_vault, "w").await;
    assert_eq!(other_agent.next().await["type"], "paired");
    for kind in ["message", "close", "pair_accept", "pair_refuse"] {
        other_vault.send(&json!({"type": kind, "session_id": session, "payload": "forged"})).await;
        expect_error(&mut other_vault, "RELAY_SESSION_NOT_FOUND").await;
    }
    for kind in ["message", "close"] {
        other_agent.send(&json!({"type": kind, "session_id": session, "payload": "forged"})).await;
        expect_error(&mut other_agent, "RELAY_SESSION_NOT_FOUND").await;
    }
    talk(&mut vault, &mut agent, &session).await;
}

#[tokio::test]
async fn a_name_with_a_key_is_not_served_on_any_node() {
    let nodes = TestNode::cluster(3, &[]).await;
    let mut owner = TestVault::registered(nodes[0].public, "v", 7).await;
    for node in &nodes {
        let mut stranger = Socket::open(node.public, "/ws", None).await.unwrap();
        stranger.send(&json!({"type": "register", "vault_id": "v"})).await;
        expect_error(&mut stranger, "RELAY_UNAUTHORIZED").await;
        let mut agent = agent_at(node.public, "/ws-client", "v").await;
        expect_error(&mut agent, "RELAY_UNAUTHORIZED").await;
    }
    let mut agent = TestAgent::connect(nodes[2].public).await;
    agent.ask("v", "req_1").await;
    owner.expect_request("req_1").await;
}

#[tokio::test]
async fn a_key_that_is_bound_takes_the_name_from_those_without_on_every_node() {
    let nodes = TestNode::cluster(3, &[]).await;
    let (mut vault, mut agent, session) = paired(nodes[0].public, nodes[1].public, "v").await;
    let mut elsewhere = vault_at(nodes[1].public, "/ws", "v").await;
    let mut owner = TestVault::registered(nodes[2].public, "v", 7).await;
    expect_closed(&mut vault, &session, "vault_id belongs to a key").await;
    expect_error(&mut vault, "RELAY_UNAUTHORIZED").await;
    expect_error(&mut elsewhere, "RELAY_UNAUTHORIZED").await;
    expect_closed(&mut agent, &session, "the vault has disconnected").await;
    pair(&mut agent, "v").await;
    expect_error(&mut agent, "RELAY_UNAUTHORIZED").await;
    owner.expect_nothing().await;
}

#[tokio::test]
async fn the_newest_registration_gets_new_pairs_and_the_older_keeps_its_own() {
    let nodes = TestNode::cluster(2, &[]).await;
    let (mut old, mut agent, session) = paired(nodes[0].public, nodes[0].public, "v").await;
    let mut new = vault_at(nodes[1].public, "/ws", "v").await;
    let mut late = agent_at(nodes[0].public, "/ws-client", "v").await;
    accept(&mut new, "v").await;
    assert_eq!(late.next().await["type"], "paired");
    talk(&mut old, &mut agent, &session).await;
    drop(new);
    assert_eq!(late.next().await["type"], "closed");
    pair(&mut late, "v").await;
    accept(&mut old, "v").await;
    assert_eq!(late.next().await["type"], "paired");
}

#[tokio::test]
async fn a_node_that_dies_ends_its_sessions_on_the_others() {
    let mut nodes = TestNode::cluster(2, &[]).await;
    let (mut vault, _agent, session) = paired(nodes[0].public, nodes[1].public, "v").await;
    let (_vault, mut agent, other) = paired(nodes[1].public, nodes[0].public, "w").await;
    nodes.pop().unwrap().kill();
    expect_closed(&mut vault, &session, "the other side's relay node is gone").await;
    expect_closed(&mut agent, &other, "the other side's relay node is gone").await;
}

#[tokio::test]
async fn a_node_that_drains_closes_its_sockets_and_tells_the_other_sides() {
    let mut nodes = TestNode::cluster(2, &[]).await;
    let (mut vault, mut agent, session) = paired(nodes[0].public, nodes[1].public, "v").await;
    let (mut other_vault, mut other_agent, other) = paired(nodes[1].public, nodes[0].public, "w").await;
    let draining = tokio::spawn(nodes.pop().unwrap().drain());
    expect_closed(&mut vault, &session, "the agent has disconnected").await;
    expect_closed(&mut other_agent, &other, "the vault has disconnected").await;
    assert_eq!(agent.closed().await, (1012, "service restart".to_owned()));
    assert_eq!(other_vault.closed().await, (1012, "service restart".to_owned()));
    drop((agent, other_vault));
    draining.await.unwrap();
}

#[tokio::test]
async fn it_can_be_turned_off() {
    let node = TestNode::start(&[("RELAY_VAULT_SESSION_MODE", "false")]).await;
    let mut vault = Socket::open(node.public, "/ws", None).await.unwrap();
    vault.send(&json!({"type": "register", "vault_id": "v"})).await;
    expect_error(&mut vault, "RELAY_UNAUTHORIZED").await;
    let mut agent = agent_at(node.public, "/ws-client", "v").await;
    expect_error(&mut agent, "RELAY_UNAUTHORIZED").await;
    agent.send(&json!({"type": "message", "payload": 1})).await;
    agent.expect_error("RELAY_INVALID_ENVELOPE", "Unknown message type: message").await;
}

#[tokio::test]
async fn whoever_stands_for_a_vault_or_is_paired_is_in_use() {
    let node = TestNode::start(&[("RELAY_IDLE_TIMEOUT_MS", "2000")]).await;
    let (mut vault, mut agent, session) = paired(node.public, node.public, "v").await;
    let mut idle = Socket::open(node.public, "/", None).await.unwrap();
    assert_eq!(idle.closed().await, (1000, "Idle timeout".to_owned()));
    talk(&mut vault, &mut agent, &session).await;
    agent.send(&json!({"type": "close"})).await;
    assert_eq!(agent.closed().await, (1000, "Idle timeout".to_owned()));
    expect_closed(&mut vault, &session, "closed by the agent").await;
}

/// So many of [`flood`]'s blocks fit into a queue of 64 MiB, however late its reader's task gets to run.
const BELOW_64_MIB: usize = 120;

/// The agent says half a mebibyte again and again, `most` times if need be, which the vault does not read, and waits
/// until `enough` holds; how often it said it.
async fn flood(agent: &mut Socket, most: usize, enough: impl Fn(&EdgeMetrics) -> bool, node: &TestNode) -> usize {
    let block = json!({"type": "message", "payload": "x".repeat(512 << 10)}).to_string();
    let mut said = 0;
    within(LONG_PATIENCE, "enough has been said", async {
        while said < most && !enough(&node.node().metrics.edge) {
            agent.send_raw(block.clone()).await;
            said += 1;
        }
    })
    .await;
    until("what was said weighs enough", || enough(&node.node().metrics.edge)).await;
    said
}

#[tokio::test]
async fn a_side_that_does_not_read_is_cut_off_and_the_other_is_told() {
    let node = TestNode::start(&[]).await;
    let (_deaf, mut agent, session) = paired(node.public, node.public, "v").await;
    flood(&mut agent, usize::MAX, |edge| edge.websockets.get() < 2, &node).await;
    expect_closed(&mut agent, &session, "the vault has disconnected").await;
}

#[tokio::test]
async fn as_much_may_wait_for_a_slow_reader_as_the_operator_allows() {
    let settings = [("RELAY_SEND_QUEUE_BYTES", "67108864"), ("RELAY_WRITE_TIMEOUT_SECS", "3600")];
    let node = TestNode::start(&settings).await;
    let (mut slow, mut agent, _) = paired(node.public, node.public, "v").await;
    let said = flood(&mut agent, BELOW_64_MIB, |edge| edge.queued_bytes.get() > 5 << 20, &node).await;
    for _ in 0..said {
        assert_eq!(slow.next().await["type"], "message");
    }
}

#[tokio::test]
async fn a_reader_that_takes_nothing_at_all_is_cut_off_in_time() {
    let settings = [("RELAY_WRITE_TIMEOUT_SECS", "1"), ("RELAY_SEND_QUEUE_BYTES", "67108864")];
    let node = TestNode::start(&settings).await;
    let (_deaf, mut agent, session) = paired(node.public, node.public, "v").await;
    flood(&mut agent, BELOW_64_MIB, |edge| edge.queued_bytes.get() > 1 << 20 || edge.websockets.get() < 2, &node).await;
    expect_closed(&mut agent, &session, "the vault has disconnected").await;
    let overflown = node.node().metrics.edge.closed.get_or_create(&Reason { reason: "slow_reader" }).get();
    assert_eq!(overflown, 0, "there was room for more");
}

#[tokio::test]
async fn heartbeats_are_answered_flat() {
    let node = TestNode::start(&[]).await;
    let (mut vault, mut agent, _) = paired(node.public, node.public, "v").await;
    let mut new = Socket::open(node.public, "/", None).await.unwrap();
    for socket in [&mut vault, &mut agent, &mut new] {
        for kind in ["heartbeat", "ping"] {
            socket.send(&json!({"type": kind})).await;
            let answer = socket.next().await;
            assert_eq!((&answer["type"], answer["payload"].is_null()), (&json!("heartbeat"), true));
            assert!(answer["timestamp"].is_string());
        }
    }
}

#[tokio::test]
async fn mistakes_are_told_and_change_nothing() {
    let node = TestNode::start(&[]).await;
    let (mut vault, mut agent, session) = paired(node.public, node.public, "v").await;
    for (frame, code) in [
        (json!({"type": "register", "vault_id": ""}), "RELAY_INVALID_ENVELOPE"),
        (json!({"type": "register", "vault_id": 7}), "RELAY_INVALID_ENVELOPE"),
        (json!({"type": "register", "vault_id": "x".repeat(257)}), "RELAY_UNAUTHORIZED"),
        (json!({"type": "pair_accept"}), "RELAY_INVALID_ENVELOPE"),
        (json!({"type": "pair_accept", "session_id": session}), "RELAY_SESSION_NOT_FOUND"),
        (json!({"type": "message", "session_id": "ab", "payload": 1}), "RELAY_INVALID_ENVELOPE"),
    ] {
        vault.send(&frame).await;
        expect_error(&mut vault, code).await;
    }
    for (frame, code) in [
        (json!({"type": "pair", "vault_id": "v"}), "RELAY_INVALID_ENVELOPE"),
        (json!({"type": "pair", "vault_id": "v", "token": "x".repeat(4097)}), "RELAY_INVALID_ENVELOPE"),
        (json!({"type": "pair", "vault_id": "v", "token": "again"}), "RELAY_INVALID_ENVELOPE"),
        (json!({"type": "message", "session_id": "ab", "payload": 1}), "RELAY_SESSION_NOT_FOUND"),
    ] {
        agent.send(&frame).await;
        expect_error(&mut agent, code).await;
    }
    talk(&mut vault, &mut agent, &session).await;
    let mut other = Socket::open(node.public, "/", None).await.unwrap();
    other.send(&json!({"type": "message", "payload": 1})).await;
    expect_error(&mut other, "RELAY_INVALID_ENVELOPE").await;
}

#[tokio::test]
async fn pairs_cost_their_address_and_a_plain_request_for_the_root_finds_nothing() {
    let node = TestNode::start(&[("RELAY_ADDRESS_RATE_LIMIT", "4")]).await;
    assert_eq!(crate::support::http::get(node.public, "/").await.status, 404);
    let mut agent = agent_at(node.public, "/ws-client", "v").await;
    for _ in 0..3 {
        expect_error(&mut agent, "RELAY_VAULT_NOT_CONNECTED").await;
        pair(&mut agent, "v").await;
    }
    expect_error(&mut agent, "RELAY_RATE_LIMITED").await;
}
