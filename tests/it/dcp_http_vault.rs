//! Vaults without a socket: `/v1/mobile/vaults/{id}/online`, `/relay/poll` and `/relay/respond`.

use std::net::SocketAddr;

use serde_json::{Value, json};
use waystation::domain::principal::Principal;

use crate::support::{Reply, SEED, TestAgent, TestNode, TestVault, VAULT, get, one_of_each, post, registration, until};

const PROOF: (u16, &str, &str) = (401, "RELAY_UNAUTHORIZED", "A signed proof of vault ownership is required");

fn with(mut body: Value, more: Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn poll_body(wait_ms: i64, more: Value) -> Value {
    with(with(registration(VAULT, SEED), json!({"timeout_ms": wait_ms})), more)
}

fn respond_body(vault: &str, seed: u8, request: &str) -> Value {
    with(registration(vault, seed), json!({"version": "1", "request_id": request, "encrypted_payload": "EjRW"}))
}

async fn online(address: SocketAddr, vault: &str, seed: u8) -> Reply {
    post(address, &format!("/v1/mobile/vaults/{vault}/online"), &registration(vault, seed)).await
}

async fn poll(address: SocketAddr, wait_ms: i64, more: Value) -> Value {
    post(address, "/relay/poll", &poll_body(wait_ms, more)).await.expect(200)
}

fn refusal(reply: &Reply) -> (u16, String, String) {
    reply.error()
}

fn owned((status, code, message): (u16, &str, &str)) -> (u16, String, String) {
    (status, code.to_owned(), message.to_owned())
}

/// A node at which the vault is online without a socket, and an agent.
async fn polling() -> (TestNode, TestAgent) {
    let node = TestNode::start(&[]).await;
    assert_eq!(online(node.public, VAULT, SEED).await.expect(200), json!({"success": true, "vault_id": VAULT}));
    let agent = TestAgent::connect(node.public).await;
    (node, agent)
}

#[tokio::test]
async fn a_vault_that_polls_gets_requests_and_answers_them() {
    let (node, mut agent) = polling().await;
    let envelope = agent.ask(VAULT, "req_b1").await;
    let polled = poll(node.public, 30_000, json!({})).await;
    assert_eq!(polled, json!({"messages": [envelope], "last_message_id": "req_b1"}));
    let answer = respond_body(VAULT, SEED, "req_b1");
    let replied = post(node.public, "/relay/respond", &answer).await;
    assert_eq!(replied.expect(200), json!({"success": true, "request_id": "req_b1"}));
    assert_eq!(agent.expect("response").await, answer, "the proof travels with the answer");
    assert_eq!(get(node.public, "/relay/response/req_b1").await.expect(200), answer);
}

#[tokio::test]
async fn a_poll_waits_for_a_request() {
    let (node, mut vault, mut agent) = one_of_each(&[]).await;
    vault.send_frame("unregister", json!({"vault_id": VAULT})).await;
    vault.expect_nothing().await;
    let polled = tokio::spawn(poll(node.public, 30_000, json!({})));
    let here = || node.node().cluster.presence.held(&Principal::vault(VAULT)).is_some();
    until("the vault is here because it polls", here).await;
    let envelope = agent.ask(VAULT, "req_1").await;
    assert_eq!(polled.await.unwrap()["messages"], json!([envelope]));
}

#[tokio::test]
async fn a_poll_that_does_not_wait_is_empty_and_repeats_what_was_seen_last() {
    let (node, _agent) = polling().await;
    let none = json!({"messages": [], "last_message_id": ""});
    assert_eq!(poll(node.public, 0, json!({})).await, none);
    assert_eq!(poll(node.public, 1, json!({})).await, none);
    let seen = json!({"messages": [], "last_message_id": "req_0"});
    assert_eq!(poll(node.public, -1, json!({"last_message_id": "req_0"})).await, seen);
}

#[tokio::test]
async fn what_was_handed_out_comes_again_only_when_the_vault_shows_it_did_not_arrive() {
    let (node, mut agent) = polling().await;
    agent.ask(VAULT, "req_1").await;
    assert_eq!(poll(node.public, 30_000, json!({})).await["last_message_id"], "req_1");
    let empty = json!({"messages": [], "last_message_id": "req_1"});
    assert_eq!(poll(node.public, 1, json!({"last_message_id": "req_1"})).await, empty);
    let again = poll(node.public, 30_000, json!({"last_message_id": "req_0"})).await;
    assert_eq!(again["messages"][0]["request_id"], "req_1");
}

#[tokio::test]
async fn what_a_vault_left_unanswered_on_its_socket_can_be_polled() {
    let node = TestNode::start(&[]).await;
    let mut vault = TestVault::registered(node.public, VAULT, SEED).await;
    let mut agent = TestAgent::connect(node.public).await;
    agent.ask(VAULT, "req_1").await;
    vault.expect_request("req_1").await;
    drop(vault);
    node.websockets_are(1).await;
    assert_eq!(poll(node.public, 30_000, json!({})).await["last_message_id"], "req_1");
}

#[tokio::test]
async fn a_socket_that_opens_takes_over_from_the_poll() {
    let (node, mut agent) = polling().await;
    agent.ask(VAULT, "req_1").await;
    let mut vault = TestVault::registered(node.public, VAULT, SEED).await;
    vault.expect_request("req_1").await;
    vault.respond("req_1", "EjRW").await;
    assert_eq!(agent.expect_response("req_1").await, "EjRW");
}

#[tokio::test]
async fn only_the_owner_polls() {
    let (node, mut agent) = polling().await;
    agent.ask(VAULT, "req_1").await;
    let poll = |body: Value| async move { refusal(&post(node.public, "/relay/poll", &body).await) };
    let poll = &poll;
    assert_eq!(poll(json!({"vault_id": VAULT})).await, owned(PROOF));
    assert_eq!(poll(with(poll_body(1, json!({})), json!({"signature": "AAAA"}))).await, owned(PROOF));
    assert_eq!(poll(with(registration(VAULT, 8), json!({"timeout_ms": 1}))).await, owned(PROOF), "another key");
    assert_eq!(poll(registration("vault_unbound", SEED)).await, owned(PROOF), "a poll binds no name");
    let used = poll_body(1, json!({}));
    let first = post(node.public, "/relay/poll", &used).await.expect(200);
    assert_eq!(first["last_message_id"], "req_1");
    assert_eq!(poll(used.clone()).await, owned(PROOF), "a proof is good once");
    let bare = used["nonce"].as_str().unwrap().trim_end_matches('=').to_owned();
    assert_eq!(poll(with(used, json!({"nonce": bare}))).await, owned(PROOF), "however it is spelled");
}

#[tokio::test]
async fn only_the_owner_responds() {
    let (node, mut agent) = polling().await;
    agent.ask(VAULT, "req_1").await;
    online(node.public, "vault_evil", 8).await.expect(200);
    let respond = |body: Value| async move { refusal(&post(node.public, "/relay/respond", &body).await) };
    let respond = &respond;
    let not_owner = owned((403, "RELAY_UNAUTHORIZED", "Not the owner of this request"));
    assert_eq!(respond(respond_body("vault_evil", 8, "req_1")).await, not_owner);
    assert_eq!(respond(respond_body(VAULT, SEED, "req_unknown")).await, not_owner);
    assert_eq!(respond(respond_body(VAULT, 8, "req_1")).await, owned(PROOF));
    assert_eq!(respond(json!({"request_id": "req_1", "encrypted_payload": "x"})).await, owned(PROOF));
    let envelope = owned((400, "RELAY_INVALID_ENVELOPE", "Invalid response envelope"));
    assert_eq!(respond(registration(VAULT, SEED)).await, envelope);
    agent.expect_nothing().await;
    let used = respond_body(VAULT, SEED, "req_1");
    post(node.public, "/relay/respond", &used).await.expect(200);
    assert_eq!(respond(used).await, owned(PROOF));
}

#[tokio::test]
async fn only_the_owner_is_online() {
    let node = TestNode::start(&[]).await;
    let path = "/v1/mobile/vaults/vault_demo01/online";
    assert_eq!(post(node.public, path, &json!({})).await.expect(400), json!({"error": "Missing public_key"}));
    assert_eq!(refusal(&post(node.public, path, &json!({"public_key": "x"})).await), owned(PROOF));
    let for_another = registration("vault_other", SEED);
    assert_eq!(refusal(&post(node.public, path, &for_another).await), owned(PROOF));
    online(node.public, VAULT, SEED).await.expect(200);
    assert_eq!(refusal(&online(node.public, VAULT, 8).await), owned(PROOF));
    let mut thief = TestVault::connect(node.public).await;
    thief.send_frame("register", registration(VAULT, 8)).await;
    thief.expect_error("RELAY_UNAUTHORIZED", "vault_id is already registered to a different key").await;
}
