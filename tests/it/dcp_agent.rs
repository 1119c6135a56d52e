//! Agents on `/ws-client`: requests, their answers, their errors, and requests that come twice.

use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use waystation::runtime::time::now;
use waystation::wire::dcp::time;

use crate::support::socket::frame;
use crate::support::{ELSEWHERE, SEED, Socket, TestAgent, TestNode, TestVault, VAULT, envelope, one_of_each};

/// A frame of the relay without its time, which differs.
fn untimed(frame: &str) -> &str {
    let (head, time) = frame.rsplit_once(r#","timestamp":""#).unwrap();
    assert!(time::parse(time.trim_end_matches("\"}")).is_some(), "{frame}");
    head
}

#[tokio::test]
async fn the_worked_example_byte_by_byte() {
    let node = TestNode::start(&[]).await;
    let mut vault = TestVault::connect(node.public).await;
    vault.send_frame("register", crate::support::registration(VAULT, SEED)).await;
    let expected = r#"{"type":"ack","payload":{"vault_id":"vault_demo01","registered":true}"#;
    assert_eq!(untimed(&vault.next_text().await), expected);

    let mut agent = TestAgent::connect(node.public).await;
    let expires = time::format(now().plus(Duration::from_secs(300)));
    let request = format!(
        concat!(
            r#"{{"version":"1","vault_id":"vault_demo01","request_id":"req_00112233445566778899aabbccddeeff","#,
            r#""action_type":"read","encrypted_payload":"q83vEjRWeJA=","expires_at":"{}"}}"#
        ),
        expires
    );
    agent.send_raw(format!(r#"{{"type":"request","payload":{request},"timestamp":"2026-01-02T03:04:06.000Z"}}"#)).await;
    let expected = format!(r#"{{"type":"request","payload":{request}"#);
    assert_eq!(untimed(&vault.next_text().await), expected);
    let expected = r#"{"type":"ack","payload":{"request_id":"req_00112233445566778899aabbccddeeff","accepted":true}"#;
    assert_eq!(untimed(&agent.next_text().await), expected);

    let response = concat!(
        r#"{"version":"1","request_id":"req_00112233445566778899aabbccddeeff","#,
        r#""encrypted_payload":"EjRWeJCrze8=","timestamp":"2026-01-02T03:04:06.100Z"}"#
    );
    let sent = format!(r#"{{"type":"response","payload":{response},"timestamp":"2026-01-02T03:04:06.100Z"}}"#);
    vault.send_raw(sent).await;
    let expected = format!(r#"{{"type":"response","payload":{response}"#);
    assert_eq!(untimed(&agent.next_text().await), expected);
    let expected = r#"{"type":"ack","payload":{"request_id":"req_00112233445566778899aabbccddeeff","stored":true}"#;
    assert_eq!(untimed(&vault.next_text().await), expected);
}

#[tokio::test]
async fn the_payload_travels_as_it_was_spelled_unknown_members_included() {
    let (_node, mut vault, mut agent) = one_of_each(&[]).await;
    let expires = time::format(now().plus(Duration::from_secs(60)));
    let spelled = format!(
        "{{ \"vault_id\":\"vault_demo01\", \"version\" : 1.0, \"request_id\":\"req_\\u0031\",\"new\":[1e-7, {{}}],\
         \"action_type\":\"sign\",\"encrypted_payload\":\"q83v\",\"expires_at\":\"{expires}\" }}"
    );
    agent.send_raw(format!("{{\"type\":\"request\",\"payload\":{spelled}}}")).await;
    let received = vault.next_text().await;
    assert!(received.contains(&spelled), "{received}");
    assert_eq!(agent.expect("ack").await["request_id"], "req_1");
    vault
        .send_raw(
            "{\"type\":\"response\",\"payload\":{\"request_id\":\"req_1\",\"encrypted_payload\":\"A\", \"x\":1.50}}",
        )
        .await;
    vault.expect("ack").await;
    assert!(agent.next_text().await.contains("\"x\":1.50}"));
}

#[tokio::test]
async fn frames_in_binary_messages_are_frames() {
    let (_node, mut vault, mut agent) = one_of_each(&[]).await;
    let request = frame("request", envelope(VAULT, "req_1")).to_string();
    agent.send_raw(Message::Binary(request.into_bytes().into())).await;
    agent.expect("ack").await;
    vault.expect_request("req_1").await;
    let answer = frame("response", json!({"request_id": "req_1", "encrypted_payload": "EjRW"})).to_string();
    vault.send_raw(Message::Binary(answer.into_bytes().into())).await;
    vault.expect("ack").await;
    assert_eq!(agent.expect_response("req_1").await, "EjRW");
}

#[tokio::test]
async fn each_failing_check_of_an_envelope_has_its_answer() {
    const INVALID: &str = "RELAY_INVALID_ENVELOPE";
    let ahead = |secs| json!(time::format(now().plus(Duration::from_secs(secs))));
    let table: Vec<(&str, Value, &str, &str)> = vec![
        ("version", json!(null), INVALID, "Missing version"),
        ("version", json!(""), INVALID, "Missing version"),
        ("vault_id", json!(""), INVALID, "Missing vault_id"),
        ("vault_id", json!("v".repeat(257)), INVALID, "vault_id too long (max 256 bytes)"),
        ("action_type", json!(null), INVALID, "Missing action_type"),
        ("action_type", json!("launch"), INVALID, "Invalid action_type: launch"),
        ("encrypted_payload", json!(""), INVALID, "Missing encrypted_payload"),
        ("expires_at", json!(null), INVALID, "Missing expires_at"),
        ("expires_at", json!("soon"), INVALID, "Invalid expires_at format"),
        ("expires_at", json!("2026-01-02T03:09:06.000Z"), "RELAY_MESSAGE_EXPIRED", "Message has expired"),
        ("expires_at", ahead(420), INVALID, "TTL too long (max 5 minutes)"),
    ];
    let (_node, mut vault, mut agent) = one_of_each(&[]).await;
    for (field, value, code, message) in table {
        let mut envelope = envelope(VAULT, "req_1");
        envelope[field] = value;
        agent.send_frame("request", envelope).await;
        assert_eq!(agent.expect_error(code, message).await["request_id"], "req_1");
    }
    let mut nameless = envelope(VAULT, "");
    agent.send_frame("request", nameless.take()).await;
    agent.expect("error").await;
    vault.expect_nothing().await;
}

#[tokio::test]
async fn an_agent_whose_clock_is_ahead_is_served() {
    let (_node, mut vault, mut agent) = one_of_each(&[]).await;
    for action in ["sign", "read", "write", "budget"] {
        let mut envelope = envelope(VAULT, action);
        envelope["action_type"] = json!(action);
        envelope["version"] = json!(1);
        envelope["expires_at"] = json!(time::format(now().plus(Duration::from_secs(300 + 50))));
        agent.submit(&envelope).await;
        vault.expect_request(action).await;
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_told_while_nothing_is_pending() {
    let (_node, _vault, mut agent) = one_of_each(&[]).await;
    for text in ["{", "[]", "null", r#"{"type":"request"}"#, r#"{"payload":{}}"#] {
        agent.send_raw(text).await;
        let error = agent.expect_error("RELAY_INVALID_ENVELOPE", "Invalid message format").await;
        assert_eq!(error.get("request_id"), None, "{text}");
    }
    agent.send_frame("register", json!({})).await;
    agent.expect_error("RELAY_INVALID_ENVELOPE", "Unknown message type: register").await;
    agent.send_frame("request", json!({"version": "1", "vault_id": VAULT})).await;
    agent.expect_error("RELAY_INVALID_ENVELOPE", "Missing request_id").await;
}

#[tokio::test]
async fn an_error_that_names_no_request_does_not_fail_those_that_wait() {
    let (node, mut vault, mut agent) = one_of_each(&[]).await;
    agent.ask(VAULT, "req_1").await;
    agent.send_raw("{").await;
    agent.send_frame("nonsense", json!({})).await;
    agent.send_frame("request", json!({"version": "1", "vault_id": VAULT})).await;
    agent.expect_nothing().await;
    assert_eq!(node.node().metrics.vault.malformed.get(), 3, "what is not told is counted");
    vault.expect_request("req_1").await;
    vault.respond("req_1", "EjRW").await;
    assert_eq!(agent.expect_response("req_1").await, "EjRW");
    agent.send_raw("{").await;
    agent.expect("error").await;
}

#[tokio::test]
async fn an_unknown_vault_is_not_connected() {
    let node = TestNode::start(&[]).await;
    let mut agent = TestAgent::connect(node.public).await;
    agent.send_frame("request", envelope(VAULT, "req_00112233445566778899aabbccddeeff")).await;
    let expected = json!({
        "code": "RELAY_VAULT_NOT_CONNECTED",
        "message": "Vault vault_demo01 is not connected",
        "request_id": "req_00112233445566778899aabbccddeeff",
    });
    assert_eq!(agent.expect("error").await, expected);
}

#[tokio::test]
async fn requests_keep_their_order_and_answers_need_not() {
    let (_node, mut vault, mut agent) = one_of_each(&[]).await;
    let ids: Vec<String> = (0..50).map(|n| format!("req_{n}")).collect();
    for id in &ids {
        agent.ask(VAULT, id).await;
    }
    for id in &ids {
        vault.expect_request(id).await;
    }
    for id in ids.iter().rev() {
        vault.respond(id, id).await;
        assert_eq!(agent.expect_response(id).await, *id);
    }
}

#[tokio::test]
async fn a_repeated_request_moves_to_the_socket_that_repeats_it() {
    let (node, mut vault, mut first) = one_of_each(&[]).await;
    let envelope = first.ask(VAULT, "req_1").await;
    vault.expect_request("req_1").await;
    let mut second = TestAgent::connect(node.public).await;
    second.submit(&envelope).await;
    first.close().await;
    vault.respond("req_1", "EjRW").await;
    assert_eq!(second.expect_response("req_1").await, "EjRW");
    vault.expect_nothing().await;
}

#[tokio::test]
async fn a_repeat_of_what_is_answered_gets_the_answer_and_no_ack() {
    let (node, mut vault, mut agent) = one_of_each(&[]).await;
    let envelope = agent.ask(VAULT, "req_1").await;
    vault.expect_request("req_1").await;
    agent.close().await;
    vault.respond("req_1", "EjRW").await;
    let mut back = TestAgent::connect(node.public).await;
    for _ in 0..2 {
        back.send_frame("request", envelope.clone()).await;
        assert_eq!(back.expect_response("req_1").await, "EjRW");
    }
    vault.expect_nothing().await;
}

#[tokio::test]
async fn the_same_name_from_elsewhere_or_on_another_envelope_is_a_request_of_its_own() {
    let (node, mut vault, mut agent) = one_of_each(&[]).await;
    let envelope = agent.ask(VAULT, "req_1").await;
    vault.expect_request("req_1").await;
    vault.respond("req_1", "for the first").await;
    assert_eq!(agent.expect_response("req_1").await, "for the first");

    let mut stranger = TestAgent::connect_from(node.public, ELSEWHERE).await;
    stranger.submit(&envelope).await;
    vault.expect_request("req_1").await;
    vault.respond("req_1", "for the stranger").await;
    assert_eq!(stranger.expect_response("req_1").await, "for the stranger");

    let mut changed = envelope.clone();
    changed["encrypted_payload"] = json!("AAAA");
    agent.submit(&changed).await;
    assert_eq!(vault.expect_request("req_1").await["encrypted_payload"], "AAAA");
    vault.respond("req_1", "for the change").await;
    assert_eq!(agent.expect_response("req_1").await, "for the change");
}

#[tokio::test]
async fn no_other_path_is_an_agents() {
    let node = TestNode::start(&[]).await;
    for path in ["/ws/", "/socket", "/ws-client/x"] {
        let mut other = Socket::open(node.public, path, None).await.unwrap();
        other.send_frame("heartbeat", json!({})).await;
        other.ended().await;
    }
    let mut with_query = Socket::open(node.public, "/ws-client?token=x", None).await.unwrap();
    with_query.expect_nothing().await;
}
