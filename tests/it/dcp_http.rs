//! Agents over HTTP: `/relay/request` and `/relay/response`, and what every route has in common.

use std::time::Duration;

use serde_json::{Value, json};
use waystation::runtime::time::now;
use waystation::wire::dcp::time;

use crate::support::{ELSEWHERE, TestNode, VAULT, envelope, get, http, one_of_each, post};

const REQUEST: &str = "/relay/request";
const TOKEN: &str = "x-relay-poll-token";

fn pending(id: &str) -> Value {
    json!({"pending": true, "request_id": id, "message": "Response not yet available"})
}

#[tokio::test]
async fn a_request_is_submitted_polled_for_and_answered() {
    let (node, mut vault, _agent) = one_of_each(&[("RELAY_VAULT_RATE_LIMIT", "60")]).await;
    let submitted = envelope(VAULT, "req_b1");
    let reply = post(node.public, REQUEST, &submitted).await;
    let expected = r#"{"queued":true,"accepted":true,"request_id":"req_b1","message":"Request queued for delivery"}"#;
    assert_eq!((reply.status.as_u16(), reply.text.as_str()), (202, expected));
    assert_eq!(reply.header("content-type"), "application/json; charset=utf-8");
    assert_eq!((reply.header("x-ratelimit-limit"), reply.header("x-ratelimit-remaining")), ("60", "59"));
    assert_eq!(reply.header(TOKEN).len(), 32);

    let request = vault.expect_request("req_b1").await;
    assert_eq!(request, submitted);
    let polled = get(node.public, "/relay/response/req_b1").await;
    assert_eq!(polled.expect(202), pending("req_b1"));
    let response = json!({"version": "1", "request_id": "req_b1", "encrypted_payload": "EjRW", "more": [1]});
    vault.send_frame("response", response.clone()).await;
    vault.expect("ack").await;
    for _ in 0..2 {
        let polled = get(node.public, "/relay/response/req_b1").await;
        assert_eq!((polled.status.as_u16(), polled.text.as_str()), (200, response.to_string().as_str()));
    }
    assert_eq!(post(node.public, REQUEST, &submitted).await.expect(200), response);
}

#[tokio::test]
async fn a_request_that_waits_already_is_a_duplicate_and_costs_no_quota() {
    let (node, mut vault, _agent) = one_of_each(&[("RELAY_VAULT_RATE_LIMIT", "3")]).await;
    post(node.public, REQUEST, &envelope(VAULT, "req_1")).await.expect(202);
    let submitted = envelope(VAULT, "req_2");
    post(node.public, REQUEST, &submitted).await.expect(202);
    for _ in 0..5 {
        let reply = post(node.public, REQUEST, &submitted).await;
        assert_eq!((reply.header("x-ratelimit-limit"), reply.headers.get("x-ratelimit-remaining")), ("3", None));
        let expected = json!({"error": {
            "code": "RELAY_DUPLICATE_REQUEST",
            "message": "Duplicate request_id: req_2",
            "details": {"request_id": "req_2"},
        }});
        assert_eq!(reply.expect(409), expected);
    }
    let reply = post(node.public, REQUEST, &envelope(VAULT, "req_3")).await;
    assert_eq!(reply.header("x-ratelimit-remaining"), "0");
    reply.expect(202);
    for request in ["req_1", "req_2", "req_3"] {
        vault.expect_request(request).await;
    }
    vault.expect_nothing().await;
}

#[tokio::test]
async fn the_vault_that_is_not_there_is_503() {
    let node = TestNode::start(&[("RELAY_VAULT_RATE_LIMIT", "60")]).await;
    let reply = post(node.public, REQUEST, &envelope(VAULT, "req_1")).await;
    assert_eq!((reply.header("x-ratelimit-limit"), reply.headers.get("x-ratelimit-remaining")), ("60", None));
    let expected = json!({"error": {
        "code": "RELAY_VAULT_NOT_CONNECTED", "message": "Vault vault_demo01 is not connected",
    }});
    assert_eq!(reply.expect(503), expected);
    let expected = json!({"error": {"code": "RELAY_TIMEOUT", "message": "Request not found or expired"}});
    assert_eq!(get(node.public, "/relay/response/req_1").await.expect(404), expected);
}

#[tokio::test]
async fn a_request_over_websocket_is_answered_over_http_and_the_other_way_round() {
    let (node, mut vault, mut agent) = one_of_each(&[]).await;
    let by_socket = agent.ask(VAULT, "req_1").await;
    assert_eq!(post(node.public, REQUEST, &by_socket).await.status, 409);
    vault.expect_request("req_1").await;
    vault.respond("req_1", "EjRW").await;
    assert_eq!(get(node.public, "/relay/response/req_1").await.expect(200)["encrypted_payload"], "EjRW");

    let by_http = envelope(VAULT, "req_2");
    post(node.public, REQUEST, &by_http).await.expect(202);
    agent.expect_response("req_1").await;
    agent.submit(&by_http).await;
    vault.expect_request("req_2").await;
    vault.respond("req_2", "q83v").await;
    assert_eq!(agent.expect_response("req_2").await, "q83v");
    assert_eq!(get(node.public, "/relay/response/req_2").await.expect(200)["encrypted_payload"], "q83v");
}

#[tokio::test]
async fn an_answer_is_for_the_address_that_asked_or_whoever_has_its_token() {
    let (node, mut vault, _agent) = one_of_each(&[]).await;
    let submitted = envelope(VAULT, "req_1");
    let reply = post(node.public, REQUEST, &submitted).await;
    let token = reply.header(TOKEN).to_owned();
    let poll = || http(node.public, "GET", "/relay/response/req_1").from(ELSEWHERE);
    assert_eq!(poll().send().await.error().0, 404);
    assert_eq!(poll().header(TOKEN, &"0".repeat(32)).send().await.error().0, 404);
    assert_eq!(poll().header(TOKEN, &token).send().await.expect(202), pending("req_1"));
    vault.expect_request("req_1").await;
    vault.respond("req_1", "EjRW").await;
    assert_eq!(poll().send().await.error().0, 404);
    assert_eq!(poll().header(TOKEN, &token).send().await.expect(200)["encrypted_payload"], "EjRW");
    let repeat = || http(node.public, "POST", REQUEST).from(ELSEWHERE).json(&submitted);
    assert_eq!(repeat().header(TOKEN, &token).send().await.status, 200);
    vault.expect_nothing().await;
    assert_eq!(repeat().send().await.status, 202, "without the token it is a request of its own");
    vault.expect_request("req_1").await;
}

#[tokio::test]
async fn each_failing_check_of_an_envelope_is_400() {
    let node = TestNode::start(&[]).await;
    let table = [
        ("version", "RELAY_INVALID_ENVELOPE", "Missing version"),
        ("vault_id", "RELAY_INVALID_ENVELOPE", "Missing vault_id"),
        ("request_id", "RELAY_INVALID_ENVELOPE", "Missing request_id"),
        ("action_type", "RELAY_INVALID_ENVELOPE", "Missing action_type"),
        ("encrypted_payload", "RELAY_INVALID_ENVELOPE", "Missing encrypted_payload"),
        ("expires_at", "RELAY_INVALID_ENVELOPE", "Missing expires_at"),
    ];
    for (field, code, message) in table {
        let mut envelope = envelope(VAULT, "req_1");
        envelope.as_object_mut().unwrap().remove(field);
        let refused = post(node.public, REQUEST, &envelope).await.error();
        assert_eq!(refused, (400, code.to_owned(), message.to_owned()));
    }
    for text in ["[]", "\"text\"", "7"] {
        let reply = http(node.public, "POST", REQUEST).header("content-type", "application/json").body(text);
        assert_eq!(reply.send().await.error().2, "Missing version", "{text}");
    }
    let mut late = envelope(VAULT, "req_1");
    late["expires_at"] = json!("2026-01-02T03:09:06.000Z");
    let expected = (400, "RELAY_MESSAGE_EXPIRED".to_owned(), "Message has expired".to_owned());
    assert_eq!(post(node.public, REQUEST, &late).await.error(), expected);
    let mut far = envelope(VAULT, "req_1");
    far["expires_at"] = json!(time::format(now().plus(Duration::from_secs(1000))));
    let error = post(node.public, REQUEST, &far).await.expect(400)["error"].take();
    assert_eq!(error["message"], "TTL too long (max 5 minutes)");
    assert_eq!(error["details"]["max_ttl_ms"], 300_000);
    let ttl = error["details"]["ttl_ms"].as_u64().unwrap();
    assert!((990_000..=1_000_000).contains(&ttl), "{ttl}");
}

#[tokio::test]
async fn paths_are_exact_but_for_repeated_slashes() {
    let (node, _vault, _agent) = one_of_each(&[]).await;
    assert_eq!(post(node.public, "//relay/request", &envelope(VAULT, "req_1")).await.status, 202);
    assert_eq!(get(node.public, "//relay//response/req_1?x=1").await.status, 202);
    let expected = json!({"message": "Route POST:/relay/request/ not found", "error": "Not Found", "statusCode": 404});
    assert_eq!(post(node.public, "/relay/request/", &envelope(VAULT, "req_2")).await.expect(404), expected);
    let expected = json!({"message": "Route GET:/relay/request not found", "error": "Not Found", "statusCode": 404});
    assert_eq!(get(node.public, REQUEST).await.expect(404), expected);
    let expected = json!({"message": "Route GET:/x?y=1 not found", "error": "Not Found", "statusCode": 404});
    assert_eq!(get(node.public, "/x?y=1").await.expect(404), expected);
    for path in ["/health", "/metrics", "/stats", "/relay/response/req_1"] {
        let head = http(node.public, "HEAD", path).send().await;
        assert!(head.status.is_success() && head.text.is_empty(), "{path}: {head:?}");
    }
    assert_eq!(get(node.public, "/ws").await.status, 426);
}

#[tokio::test]
async fn bodies_that_are_no_json_get_the_frameworks_answers() {
    let node = TestNode::start(&[]).await;
    let json = |path: &'static str, text: &'static str| {
        http(node.public, "POST", path).header("content-type", "application/json").body(text).send()
    };
    for path in [REQUEST, "/relay/poll", "/relay/respond", "/v1/pairing-claims", "/v1/invites/register"] {
        let malformed = json(path, "{").await.expect(400);
        assert_eq!((&malformed["statusCode"], &malformed["error"]), (&json!(400), &json!("Bad Request")));
        assert_eq!(malformed["code"], "FST_ERR_CTP_INVALID_JSON_BODY", "{path}");
        assert_eq!(json(path, "").await.expect(400)["code"], "FST_ERR_CTP_EMPTY_JSON_BODY", "{path}");
        assert_eq!(json(path, "null").await.expect(400)["statusCode"], 400, "{path}");
        let bare = http(node.public, "POST", path).send().await;
        assert_eq!(bare.expect(400)["code"], "FST_ERR_CTP_EMPTY_JSON_BODY", "{path}");
        let other = http(node.public, "POST", path).header("content-type", "text/xml").body("<a/>").send().await;
        assert_eq!(other.expect(415)["code"], "FST_ERR_CTP_INVALID_MEDIA_TYPE", "{path}");
    }
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_passes_and_one_byte_more_does_not() {
    let (node, _vault, _agent) = one_of_each(&[("RELAY_MAX_MESSAGE_SIZE", "4096")]).await;
    let sized = |id: &str, bytes: usize| {
        let mut envelope = envelope(VAULT, id);
        let rest = envelope.to_string().len() - envelope["encrypted_payload"].as_str().unwrap().len();
        envelope["encrypted_payload"] = json!("A".repeat(bytes - rest));
        assert_eq!(envelope.to_string().len(), bytes);
        envelope
    };
    assert_eq!(post(node.public, REQUEST, &sized("req_1", 4096)).await.status, 202);
    let refused = post(node.public, REQUEST, &sized("req_2", 4097)).await.expect(413);
    assert_eq!(refused["code"], "FST_ERR_CTP_BODY_TOO_LARGE");
}

#[tokio::test]
async fn the_oauth_add_on_is_not_served() {
    let node = TestNode::start(&[]).await;
    for path in [
        "/.well-known/oauth-authorization-server",
        "/.well-known/oauth-protected-resource/v/vault_demo01/mcp",
        "/oauth/jwks",
        "/oauth/authorize",
        "/oauth/authorize/status?session=x",
    ] {
        assert_eq!(get(node.public, path).await.status, 404, "{path}");
    }
    for path in ["/oauth/register", "/oauth/connect", "/oauth/token", "/oauth/revoke", "/v/vault_demo01/mcp"] {
        assert_eq!(post(node.public, path, &json!({})).await.status, 404, "{path}");
    }
}
