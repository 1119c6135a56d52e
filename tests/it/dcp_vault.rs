//! Vaults on `/ws`: registration, several sockets of one vault, coming back, and who owns a name.

use serde_json::{Value, json};
use waystation::runtime::time::now;
use waystation::wire::dcp::registration::Registration;
use waystation::wire::dcp::time;

use crate::support::vault::{PUBLIC_KEY, key, response};
use crate::support::{Process, SEED, TestAgent, TestNode, TestVault, VAULT, one_of_each, registration};

const UNAUTHORIZED: &str = "RELAY_UNAUTHORIZED";
const REPLAYED: &str = "Nonce already used (replay detected)";
const OTHER_KEY: &str = "vault_id is already registered to a different key";
const NOT_OWNER: &str = "Not the owner of this request";

fn without(mut payload: Value, field: &str) -> Value {
    payload.as_object_mut().unwrap().remove(field);
    payload
}

fn with(mut payload: Value, field: &str, value: impl Into<Value>) -> Value {
    payload[field] = value.into();
    payload
}

fn signed(timestamp: &str, nonce: &[u8]) -> Value {
    Registration::sign(VAULT, PUBLIC_KEY, &key(SEED), timestamp, nonce)
}

#[tokio::test]
async fn each_failing_check_of_a_registration_has_its_answer_and_leaves_the_socket_open() {
    const ENVELOPE: &str = "RELAY_INVALID_ENVELOPE";
    const MISSING: &str = "Missing authentication fields (signing_public_key, timestamp, nonce, signature)";
    let fresh = || registration(VAULT, SEED);
    let vector = signed("2026-01-02T03:04:05.678Z", &(0..32).collect::<Vec<u8>>());
    assert_eq!(vector["signing_public_key"], "6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw=");
    assert_eq!(
        vector["signature"],
        "YCCOfElLQcd3EM9F8EsFmwrYfQvg0kAcgSM7C1kYfmx9VQ7LqyncvZHGdcor2ds9XT9banobm9Ze6jIyKThwAQ=="
    );
    let table = [
        (without(fresh(), "vault_id"), ENVELOPE, "Missing vault_id or public_key"),
        (with(fresh(), "vault_id", ""), ENVELOPE, "Missing vault_id or public_key"),
        (without(fresh(), "public_key"), ENVELOPE, "Missing vault_id or public_key"),
        (with(fresh(), "vault_id", "v".repeat(257)), ENVELOPE, "vault_id too long (max 256 bytes)"),
        (json!([]), ENVELOPE, "Invalid message format"),
        (without(fresh(), "signing_public_key"), UNAUTHORIZED, MISSING),
        (without(fresh(), "timestamp"), UNAUTHORIZED, MISSING),
        (without(fresh(), "nonce"), UNAUTHORIZED, MISSING),
        (without(fresh(), "signature"), UNAUTHORIZED, MISSING),
        (with(fresh(), "timestamp", "yesterday"), UNAUTHORIZED, "Invalid timestamp format"),
        (vector, UNAUTHORIZED, "Timestamp too far from server time"),
        (signed(&time::format(now()), &[1; 31]), UNAUTHORIZED, "Nonce must be at least 32 bytes"),
        (with(fresh(), "signing_public_key", "AAAA"), UNAUTHORIZED, "Invalid signing public key size"),
        (with(fresh(), "signature", "AAAA"), UNAUTHORIZED, "Invalid signature size"),
        (with(fresh(), "vault_id", "vault_other"), UNAUTHORIZED, "Invalid signature"),
        (with(fresh(), "pairing_token", "dcp_pair_x"), UNAUTHORIZED, "Invalid pairing token"),
    ];
    let node = TestNode::start(&[]).await;
    let mut vault = TestVault::connect(node.public).await;
    for (payload, code, message) in table {
        vault.send_frame("register", payload).await;
        let error = vault.expect_error(code, message).await;
        assert_eq!(error.get("request_id"), None);
    }
    vault.register(VAULT, SEED).await;
}

#[tokio::test]
async fn frames_that_make_no_sense_are_told_so() {
    let node = TestNode::start(&[]).await;
    let mut vault = TestVault::connect(node.public).await;
    for kind in ["register", "response", "unregister", "pairing_result"] {
        vault.send(&json!({"type": kind})).await;
        vault.expect_error("RELAY_INVALID_ENVELOPE", "Invalid message format").await;
    }
    vault.send_raw("{").await;
    vault.expect_error("RELAY_INVALID_ENVELOPE", "Invalid message format").await;
    vault.send_frame("pair", json!({})).await;
    vault.expect_error("RELAY_INVALID_ENVELOPE", "Unknown message type: pair").await;
    vault.register(VAULT, SEED).await;
    vault.send_frame("response", json!({"request_id": "req_1"})).await;
    vault.expect_error("RELAY_INVALID_ENVELOPE", "Invalid response envelope").await;
}

#[tokio::test]
async fn heartbeats_are_always_answered() {
    let node = TestNode::start(&[]).await;
    let mut vault = TestVault::connect(node.public).await;
    for payload in [json!({}), json!({"vault_id": VAULT, "timestamp": "x"}), json!(null)] {
        vault.send_frame("heartbeat", payload).await;
        let answer = vault.expect("heartbeat").await;
        assert!(time::parse(answer["timestamp"].as_str().unwrap()).is_some(), "{answer}");
    }
    vault.send(&json!({"type": "heartbeat"})).await;
    vault.expect("heartbeat").await;
}

#[tokio::test]
async fn one_socket_stands_for_the_vault_it_registered_last() {
    let (_node, mut vault, mut agent) = one_of_each(&[]).await;
    vault.register("vault_second", 8).await;
    agent.ask("vault_second", "req_1").await;
    vault.expect_request("req_1").await;
    agent.send_frame("request", crate::support::envelope(VAULT, "req_2")).await;
    let error = agent.expect_error("RELAY_VAULT_NOT_CONNECTED", "Vault vault_demo01 is not connected").await;
    assert_eq!(error["request_id"], "req_2");
}

#[tokio::test]
async fn the_newest_socket_gets_the_requests_and_any_may_answer() {
    let (node, mut older, mut agent) = one_of_each(&[]).await;
    let mut newer = TestVault::registered(node.public, VAULT, SEED).await;
    agent.ask(VAULT, "req_1").await;
    newer.expect_request("req_1").await;
    older.expect_nothing().await;
    older.respond("req_1", "EjRW").await;
    assert_eq!(agent.expect_response("req_1").await, "EjRW");
    newer.expect_nothing().await;
}

#[tokio::test]
async fn what_the_newest_socket_leaves_unanswered_goes_to_the_newest_left() {
    let (node, mut oldest, mut agent) = one_of_each(&[]).await;
    let mut middle = TestVault::registered(node.public, VAULT, SEED).await;
    let mut newest = TestVault::registered(node.public, VAULT, SEED).await;
    agent.ask(VAULT, "req_1").await;
    newest.expect_request("req_1").await;
    drop(newest);
    middle.expect_request("req_1").await;
    agent.ask(VAULT, "req_2").await;
    middle.expect_request("req_2").await;
    middle.close().await;
    oldest.expect_request("req_1").await;
    oldest.expect_request("req_2").await;
    oldest.respond("req_2", "AAAA").await;
    assert_eq!(agent.expect_response("req_2").await, "AAAA");
}

#[tokio::test]
async fn what_a_dead_socket_holds_goes_to_the_newer_one_and_a_live_socket_stays() {
    let (node, mut oldest, mut agent) = one_of_each(&[]).await;
    // Nobody reads from this one, so no ping is answered.
    let dead = TestVault::registered(node.public, VAULT, SEED).await;
    agent.ask(VAULT, "req_1").await;
    let mut newest = TestVault::registered(node.public, VAULT, SEED).await;
    let live = tokio::spawn(async move {
        oldest.expect_request("req_1").await;
        oldest
    });
    newest.expect_request("req_1").await;
    node.websockets_are(3).await;
    newest.close().await;
    live.await.unwrap().respond("req_1", "EjRW").await;
    assert_eq!(agent.expect_response("req_1").await, "EjRW");
    drop(dead);
}

#[tokio::test]
async fn an_older_socket_that_closes_takes_nothing_with_it() {
    let (node, older, mut agent) = one_of_each(&[]).await;
    let mut newer = TestVault::registered(node.public, VAULT, SEED).await;
    older.close().await;
    agent.ask(VAULT, "req_1").await;
    newer.expect_request("req_1").await;
    newer.expect_nothing().await;
}

#[tokio::test]
async fn a_vault_that_unregisters_is_offline_at_once() {
    let (_node, mut vault, mut agent) = one_of_each(&[]).await;
    agent.ask(VAULT, "req_1").await;
    vault.expect_request("req_1").await;
    vault.send_frame("unregister", json!({"vault_id": VAULT})).await;
    vault.expect_nothing().await;
    let message = "Vault vault_demo01 is not connected";
    assert_eq!(agent.expect_error("RELAY_VAULT_NOT_CONNECTED", message).await["request_id"], "req_1");
    agent.send_frame("request", crate::support::envelope(VAULT, "req_2")).await;
    assert_eq!(agent.expect_error("RELAY_VAULT_NOT_CONNECTED", message).await["request_id"], "req_2");
    vault.register(VAULT, SEED).await;
    agent.ask(VAULT, "req_3").await;
    vault.expect_request("req_3").await;
}

#[tokio::test]
async fn nobody_unregisters_the_vault_of_another() {
    let (node, mut vault, mut agent) = one_of_each(&[]).await;
    let mut unregistered = TestVault::connect(node.public).await;
    let mut foreign = TestVault::registered(node.public, "vault_evil", 8).await;
    for stranger in [&mut unregistered, &mut foreign] {
        stranger.send_frame("unregister", json!({"vault_id": VAULT})).await;
        stranger.expect_error(UNAUTHORIZED, "unregister vault_id mismatch").await;
    }
    agent.ask(VAULT, "req_1").await;
    vault.expect_request("req_1").await;
}

#[tokio::test]
async fn answers_are_taken_only_from_the_vault_that_was_asked() {
    let (node, mut vault, mut agent) = one_of_each(&[]).await;
    agent.ask(VAULT, "req_1").await;
    vault.expect_request("req_1").await;
    let mut unregistered = TestVault::connect(node.public).await;
    let mut foreign = TestVault::registered(node.public, "vault_evil", 8).await;
    for stranger in [&mut unregistered, &mut foreign] {
        stranger.send_frame("response", response("req_1", "forged")).await;
        stranger.expect_error(UNAUTHORIZED, NOT_OWNER).await;
    }
    vault.send_frame("response", response("req_unknown", "EjRW")).await;
    vault.expect_error(UNAUTHORIZED, NOT_OWNER).await;
    vault.respond("req_1", "genuine").await;
    assert_eq!(agent.expect_response("req_1").await, "genuine");
}

#[tokio::test]
async fn the_first_answer_stands() {
    let (_node, mut vault, mut agent) = one_of_each(&[]).await;
    let envelope = agent.ask(VAULT, "req_1").await;
    vault.expect_request("req_1").await;
    vault.respond("req_1", "first").await;
    vault.respond("req_1", "second").await;
    assert_eq!(agent.expect_response("req_1").await, "first");
    agent.send_frame("request", envelope).await;
    assert_eq!(agent.expect_response("req_1").await, "first");
}

#[tokio::test]
async fn requests_wait_for_a_vault_that_has_just_gone() {
    let (node, mut vault, mut agent) = one_of_each(&[]).await;
    agent.ask(VAULT, "req_1").await;
    vault.expect_request("req_1").await;
    drop(vault);
    node.websockets_are(1).await;
    agent.ask(VAULT, "req_2").await;
    agent.ask(VAULT, "req_3").await;
    let mut back = TestVault::registered(node.public, VAULT, SEED).await;
    for request in ["req_1", "req_2", "req_3"] {
        back.expect_request(request).await;
    }
    for request in ["req_1", "req_2", "req_3"] {
        back.respond(request, request).await;
        assert_eq!(agent.expect_response(request).await, request);
    }
}

#[tokio::test]
async fn after_the_grace_agents_are_told_at_once() {
    let (node, mut vault, mut agent) = one_of_each(&[("RELAY_VAULT_RECONNECT_GRACE_SECS", "1")]).await;
    agent.ask(VAULT, "req_1").await;
    vault.expect_request("req_1").await;
    drop(vault);
    node.websockets_are(1).await;
    agent.ask(VAULT, "req_2").await;
    let message = "Vault vault_demo01 is not connected";
    for request in ["req_1", "req_2"] {
        let error = agent.expect_error("RELAY_VAULT_NOT_CONNECTED", message).await;
        assert_eq!(error["request_id"], request);
    }
    agent.send_frame("request", crate::support::envelope(VAULT, "req_3")).await;
    assert_eq!(agent.expect_error("RELAY_VAULT_NOT_CONNECTED", message).await["request_id"], "req_3");
    TestVault::registered(node.public, VAULT, SEED).await.expect_nothing().await;
}

#[tokio::test]
async fn a_name_belongs_to_the_first_key_that_proves_it() {
    let (node, mut vault, mut agent) = one_of_each(&[]).await;
    let mut thief = TestVault::connect(node.public).await;
    thief.send_frame("register", registration(VAULT, 8)).await;
    thief.expect_error(UNAUTHORIZED, OTHER_KEY).await;
    agent.ask(VAULT, "req_1").await;
    vault.expect_request("req_1").await;
    thief.expect_nothing().await;
    drop(vault);
    thief.send_frame("register", registration(VAULT, 8)).await;
    thief.expect_error(UNAUTHORIZED, OTHER_KEY).await;
}

#[tokio::test]
async fn a_registration_is_taken_once_however_it_is_spelled() {
    let node = TestNode::start(&[]).await;
    let mut vault = TestVault::connect(node.public).await;
    let recorded = registration(VAULT, SEED);
    vault.send_frame("register", recorded.clone()).await;
    vault.expect("ack").await;
    let mut thief = TestVault::connect(node.public).await;
    for nonce in spellings(recorded["nonce"].as_str().unwrap()) {
        thief.send_frame("register", with(recorded.clone(), "nonce", nonce)).await;
        thief.expect_error(UNAUTHORIZED, REPLAYED).await;
    }
}

/// Ways to write the same bytes in base64, as lenient decoders read it.
fn spellings(nonce: &str) -> [String; 4] {
    [
        nonce.to_owned(),
        nonce.trim_end_matches('=').to_owned(),
        nonce.replace('+', "-").replace('/', "_"),
        format!("{} {}", &nonce[..8], &nonce[8..]),
    ]
}

#[tokio::test]
async fn whoever_cannot_sign_uses_up_no_nonce() {
    let node = TestNode::start(&[]).await;
    let genuine = registration(VAULT, SEED);
    let mut thief = TestVault::connect(node.public).await;
    let forged = with(genuine.clone(), "signature", registration(VAULT, SEED)["signature"].clone());
    thief.send_frame("register", forged).await;
    thief.expect_error(UNAUTHORIZED, "Invalid signature").await;
    let mut vault = TestVault::connect(node.public).await;
    vault.send_frame("register", genuine).await;
    vault.expect("ack").await;
}

#[tokio::test]
async fn names_and_nonces_outlive_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [("RELAY_STORAGE_BACKEND", "rocksdb"), ("RELAY_DATA_DIR", dir.path().to_str().unwrap())];
    let mut process = Process::start(&settings).await;
    let recorded = registration(VAULT, SEED);
    let mut vault = TestVault::connect(process.public).await;
    vault.send_frame("register", recorded.clone()).await;
    vault.expect("ack").await;
    process.sigkill();
    process.ended().await;

    let process = Process::start(&settings).await;
    let mut thief = TestVault::connect(process.public).await;
    thief.send_frame("register", registration(VAULT, 8)).await;
    thief.expect_error(UNAUTHORIZED, OTHER_KEY).await;
    for nonce in spellings(recorded["nonce"].as_str().unwrap()) {
        thief.send_frame("register", with(recorded.clone(), "nonce", nonce)).await;
        thief.expect_error(UNAUTHORIZED, REPLAYED).await;
    }
    let mut vault = TestVault::registered(process.public, VAULT, SEED).await;
    TestAgent::connect(process.public).await.ask(VAULT, "req_1").await;
    vault.expect_request("req_1").await;
}
