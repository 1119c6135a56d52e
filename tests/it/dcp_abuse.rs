//! What could be done to relays of this protocol before, and cannot be done to this one (sheet section 20). What
//! is shown by the tests of ordinary use is not repeated here.

use serde_json::json;

use crate::support::{ELSEWHERE, SEED, TestAgent, TestNode, TestVault, VAULT, envelope, get, http, one_of_each, post};

#[tokio::test]
async fn requests_to_a_vault_that_is_away_use_up_none_of_its_quota() {
    let node = TestNode::start(&[("RELAY_VAULT_RATE_LIMIT", "2")]).await;
    let mut agent = TestAgent::connect(node.public).await;
    for n in 0..5 {
        agent.send_frame("request", envelope(VAULT, &format!("req_{n}"))).await;
        assert_eq!(agent.expect("error").await["code"], "RELAY_VAULT_NOT_CONNECTED");
    }
    let mut vault = TestVault::registered(node.public, VAULT, SEED).await;
    for id in ["req_a", "req_b"] {
        agent.ask(VAULT, id).await;
        vault.expect_request(id).await;
    }
}

#[tokio::test]
async fn an_answer_is_not_public_to_whoever_knows_its_name() {
    let (node, mut vault, mut agent) = one_of_each(&[]).await;
    agent.ask(VAULT, "req_1").await;
    vault.expect_request("req_1").await;
    vault.respond("req_1", "secret").await;
    assert_eq!(agent.expect_response("req_1").await, "secret");
    let poll = http(node.public, "GET", "/relay/response/req_1").from(ELSEWHERE).send().await;
    assert_eq!(poll.status, 404);
}

#[tokio::test]
async fn a_request_to_another_vault_under_an_answered_name_is_asked_there() {
    let (node, mut vault, mut agent) = one_of_each(&[]).await;
    agent.ask(VAULT, "req_1").await;
    vault.expect_request("req_1").await;
    vault.respond("req_1", "first vault").await;
    agent.expect_response("req_1").await;
    let mut other = TestVault::registered(node.public, "vault_other", 8).await;
    agent.ask("vault_other", "req_1").await;
    other.expect_request("req_1").await;
    other.respond("req_1", "second vault").await;
    assert_eq!(agent.expect_response("req_1").await, "second vault");
}

#[tokio::test]
async fn requests_that_wait_for_a_human_are_not_pushed_out_by_later_ones() {
    let (_node, mut vault, mut agent) = one_of_each(&[]).await;
    agent.ask(VAULT, "req_human").await;
    vault.expect_request("req_human").await;
    for n in 0..300 {
        let id = format!("req_{n}");
        agent.ask(VAULT, &id).await;
        vault.expect_request(&id).await;
        vault.respond(&id, "EjRW").await;
        agent.expect_response(&id).await;
    }
    vault.respond("req_human", "approved").await;
    assert_eq!(agent.expect_response("req_human").await, "approved");
}

#[tokio::test]
async fn a_dozen_sockets_of_one_vault_live_side_by_side() {
    let node = TestNode::start(&[]).await;
    let mut sockets = Vec::new();
    for _ in 0..16 {
        sockets.push(TestVault::registered(node.public, VAULT, SEED).await);
    }
    let mut agent = TestAgent::connect(node.public).await;
    while let Some(mut newest) = sockets.pop() {
        let id = format!("req_{}", sockets.len());
        agent.ask(VAULT, &id).await;
        newest.expect_request(&id).await;
        for older in &mut sockets {
            older.expect_nothing().await;
        }
        newest.respond(&id, "EjRW").await;
        agent.expect_response(&id).await;
        newest.close().await;
    }
}

#[tokio::test]
async fn guessing_names_of_requests_leaves_nothing_behind() {
    let node = TestNode::start(&[]).await;
    for n in 0..20 {
        assert_eq!(get(node.public, &format!("/relay/response/req_{n}")).await.status, 404);
        let offline = post(node.public, "/relay/request", &envelope(&format!("vault_{n}"), "req_1")).await;
        assert_eq!(offline.status, 503);
    }
    let stats = get(node.public, "/stats").await.expect(200);
    assert_eq!((&stats["totalMessages"], &stats["connectedVaults"]), (&json!(0), &json!(0)), "{stats}");
    let metrics = &node.node().metrics.vault;
    assert_eq!((metrics.records.get(), metrics.pending.get(), metrics.undelivered.get()), (0, 0, 0));
}

#[tokio::test]
async fn a_stranger_cannot_empty_or_answer_what_a_vault_polls() {
    let (node, vault, mut agent) = one_of_each(&[]).await;
    drop(vault);
    node.websockets_are(1).await;
    agent.ask(VAULT, "req_1").await;
    let poll = json!({"vault_id": VAULT, "timeout_ms": 1000});
    assert_eq!(post(node.public, "/relay/poll", &poll).await.status, 401);
    let respond = json!({"vault_id": VAULT, "request_id": "req_1", "encrypted_payload": "forged"});
    assert_eq!(post(node.public, "/relay/respond", &respond).await.status, 401);
    agent.expect_nothing().await;
    TestVault::registered(node.public, VAULT, SEED).await.expect_request("req_1").await;
}
