//! Bounds, as those who run into them see them.

use std::net::IpAddr;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::{Error, Message};
use waystation::observe::metrics::Reason;

use crate::support::socket::connect;
use crate::support::{
    ELSEWHERE, PATIENCE, SEED, Socket, TestAgent, TestNode, TestVault, VAULT, envelope, get, http, one_of_each, post,
    registration, until, within,
};

fn closed(code: u16, reason: &str) -> (u16, String) {
    (code, reason.to_owned())
}

async fn refused_handshake(node: &TestNode, path: &str) -> ::http::Response<Option<Vec<u8>>> {
    match Socket::open(node.public, path, None).await {
        Err(Error::Http(response)) => *response,
        Err(other) => panic!("not refused by HTTP: {other}"),
        Ok(_) => panic!("let in"),
    }
}

#[tokio::test]
async fn a_vault_takes_so_many_requests_a_minute_by_whatever_way_they_come() {
    let (node, mut vault, mut agent) = one_of_each(&[("RELAY_VAULT_RATE_LIMIT", "2")]).await;
    let answered = agent.ask(VAULT, "req_1").await;
    post(node.public, "/relay/request", &envelope(VAULT, "req_2")).await.expect(202);

    agent.send_frame("request", envelope(VAULT, "req_3")).await;
    let error = agent.expect("error").await;
    assert_eq!((&error["code"], &error["request_id"]), (&json!("RELAY_RATE_LIMITED"), &json!("req_3")));
    let message = error["message"].as_str().unwrap();
    assert!(message.starts_with("Rate limit exceeded for vault vault_demo01. Try again in "), "{message}");

    let reply = post(node.public, "/relay/request", &envelope(VAULT, "req_4")).await;
    let seconds: u64 = reply.header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&seconds));
    assert_eq!(reply.header("x-ratelimit-reset"), reply.header("retry-after"));
    assert_eq!((reply.header("x-ratelimit-limit"), reply.header("x-ratelimit-remaining")), ("2", "0"));
    let error = reply.expect(429)["error"].take();
    let expected = format!("Rate limit exceeded for vault vault_demo01. Try again in {seconds} seconds.");
    assert_eq!((&error["code"], &error["message"]), (&json!("RELAY_RATE_LIMITED"), &json!(expected)));
    let retry_after = error["details"]["retry_after_ms"].as_u64().unwrap();
    assert_eq!(retry_after.div_ceil(1000), seconds);
    let details = json!({"vault_id": VAULT, "limit": 2, "window_ms": 60_000, "retry_after_ms": retry_after});
    assert_eq!(error["details"], details);

    vault.expect_request("req_1").await;
    vault.expect_request("req_2").await;
    agent.submit(&answered).await;
    vault.expect_nothing().await;
    let mut other = TestVault::registered(node.public, "vault_other", 8).await;
    agent.ask("vault_other", "req_5").await;
    other.expect_request("req_5").await;
}

#[tokio::test]
async fn an_address_makes_so_many_calls_a_minute() {
    let node = TestNode::start(&[("RELAY_ADDRESS_RATE_LIMIT", "3")]).await;
    let poll = || http(node.public, "GET", "/relay/response/req_1");
    for _ in 0..3 {
        assert_eq!(poll().send().await.status, 404);
    }
    let refused = poll().send().await;
    let seconds: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=20).contains(&seconds), "{seconds}");
    assert_eq!(refused.expect(429)["statusCode"], 429);
    assert_eq!(refused_handshake(&node, "/ws").await.status(), 429);
    assert_eq!(post(node.public, "/relay/request", &envelope(VAULT, "req_1")).await.error().1, "RELAY_RATE_LIMITED");
    assert_eq!(get(node.public, "/health").await.status, 200, "probes are not charged");
    assert_eq!(poll().from(ELSEWHERE).send().await.status, 404, "others have budgets of their own");
}

#[tokio::test]
async fn requests_and_registrations_cost_the_address_too() {
    let node = TestNode::start(&[("RELAY_ADDRESS_RATE_LIMIT", "6")]).await;
    let mut vault = TestVault::registered(node.public, VAULT, SEED).await;
    let mut agent = TestAgent::connect(node.public).await;
    agent.ask(VAULT, "req_1").await;
    agent.ask(VAULT, "req_2").await;
    vault.expect_request("req_1").await;
    vault.expect_request("req_2").await;
    vault.register(VAULT, SEED).await;
    agent.send_frame("request", envelope(VAULT, "req_3")).await;
    let error = agent.expect("error").await;
    assert_eq!((&error["code"], &error["request_id"]), (&json!("RELAY_RATE_LIMITED"), &json!("req_3")));
    assert!(error["message"].as_str().unwrap().starts_with("Rate limit exceeded for your address."), "{error}");
    vault.send_frame("register", registration(VAULT, SEED)).await;
    assert_eq!(vault.expect("error").await["code"], "RELAY_RATE_LIMITED");
    vault.respond("req_2", "EjRW").await;
    assert_eq!(agent.expect_response("req_2").await, "EjRW");
}

#[tokio::test]
async fn a_connection_says_so_much_a_minute() {
    let node = TestNode::start(&[("RELAY_CONNECTION_RATE_LIMIT", "3")]).await;
    let mut agent = TestAgent::connect(node.public).await;
    for _ in 0..3 {
        agent.expect_nothing().await;
    }
    agent.send_frame("heartbeat", json!({})).await;
    assert_eq!(agent.closed().await, closed(1008, "rate limit"));
    TestAgent::connect(node.public).await.expect_nothing().await;
}

#[tokio::test]
async fn an_address_has_so_many_connections() {
    let node = TestNode::start(&[("RELAY_ADDRESS_MAX_CONNECTIONS", "2")]).await;
    let (first, _second) = (TestAgent::connect(node.public).await, TestVault::connect(node.public).await);
    let refused = refused_handshake(&node, "/ws").await;
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (429, "10"));
    TestAgent::connect_from(node.public, ELSEWHERE).await.expect_nothing().await;
    first.close().await;
    until("a place is free", || node.node().metrics.edge.connections.get() < 2).await;
    TestAgent::connect(node.public).await.expect_nothing().await;
}

#[tokio::test]
async fn a_node_has_so_many_connections() {
    let node = TestNode::start(&[("RELAY_MAX_CONNECTIONS", "1")]).await;
    let _inside = TestAgent::connect(node.public).await;
    let refused = http(node.public, "GET", "/health").from(ELSEWHERE).send().await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (503, "10"));
}

#[tokio::test]
async fn a_vault_has_so_many_requests_pending() {
    let (node, mut vault, mut agent) = one_of_each(&[("RELAY_VAULT_MAX_PENDING", "1")]).await;
    agent.ask(VAULT, "req_1").await;
    agent.send_frame("request", envelope(VAULT, "req_2")).await;
    let error = agent.expect_error("RELAY_UNAVAILABLE", "Failed to store message").await;
    assert_eq!(error["request_id"], "req_2");
    let reply = post(node.public, "/relay/request", &envelope(VAULT, "req_3")).await;
    assert_eq!(reply.header("retry-after"), "1");
    let expected = (503, "RELAY_UNAVAILABLE".to_owned(), "Failed to store message".to_owned());
    assert_eq!(reply.error(), expected);
    vault.expect_request("req_1").await;
    vault.respond("req_1", "EjRW").await;
    agent.expect_response("req_1").await;
    agent.ask(VAULT, "req_4").await;
    vault.expect_request("req_4").await;
}

#[tokio::test]
async fn a_message_of_exactly_the_limit_passes_and_a_longer_one_closes() {
    let (_node, mut vault, mut agent) = one_of_each(&[("RELAY_MAX_MESSAGE_SIZE", "4096")]).await;
    let sized = |id: &str, bytes: usize| {
        let mut text = crate::support::socket::frame("request", envelope(VAULT, id)).to_string();
        text.insert_str(text.len() - 1, &" ".repeat(bytes - text.len()));
        text
    };
    agent.send_raw(sized("req_1", 4096)).await;
    agent.expect("ack").await;
    vault.expect_request("req_1").await;
    agent.send_raw(sized("req_2", 4097)).await;
    assert_eq!(agent.closed().await, closed(1009, "message too big"));
    vault.send_raw(Message::Binary(vec![b' '; 4097].into())).await;
    assert_eq!(vault.closed().await, closed(1009, "message too big"));
}

#[tokio::test]
async fn a_vault_that_does_not_read_is_cut_off_and_loses_nothing() {
    // Only the bound of the queue is to cut it off, however slow the machine.
    let settings = [
        ("RELAY_MAX_MESSAGE_SIZE", "65536"),
        ("RELAY_SEND_QUEUE_BYTES", "131072"),
        ("RELAY_WRITE_TIMEOUT_SECS", "3600"),
    ];
    let (node, vault, mut agent) = one_of_each(&settings).await;
    let edge = &node.node().metrics.edge;
    node.websockets_are(2).await;
    let mut sent = 0;
    while edge.websockets.get() == 2 {
        assert!(sent < 900, "the vault is never cut off");
        let mut envelope = envelope(VAULT, &format!("req_{sent}"));
        envelope["encrypted_payload"] = json!("A".repeat(60_000));
        agent.submit(&envelope).await;
        sent += 1;
    }
    let overflown = edge.closed.get_or_create(&Reason { reason: "slow_reader" }).get();
    assert_eq!(overflown, 1, "{}", node.node().metrics.prometheus());
    let mut back = TestVault::registered(node.public, VAULT, SEED).await;
    for id in 0..sent {
        back.expect_request(&format!("req_{id}")).await;
    }
    for id in 0..sent {
        back.respond(&format!("req_{id}"), "EjRW").await;
        agent.expect_response(&format!("req_{id}")).await;
    }
    drop(vault);
}

#[tokio::test]
async fn connections_that_nobody_uses_are_closed_and_those_in_use_are_not() {
    let (node, mut vault, mut waiting) = one_of_each(&[("RELAY_IDLE_TIMEOUT_MS", "1000")]).await;
    waiting.ask(VAULT, "req_1").await;
    vault.expect_request("req_1").await;
    let (mut stranger, mut idle) = (TestVault::connect(node.public).await, TestAgent::connect(node.public).await);
    assert_eq!(stranger.closed().await, closed(1000, "Idle timeout"));
    assert_eq!(idle.closed().await, closed(1000, "Idle timeout"));
    vault.respond("req_1", "EjRW").await;
    assert_eq!(waiting.expect_response("req_1").await, "EjRW");
}

#[tokio::test]
async fn only_so_many_addresses_have_a_budget_of_their_own() {
    let node = TestNode::start(&[("RELAY_ADDRESS_RATE_LIMIT", "1"), ("RELAY_TRACKED_ADDRESSES", "100")]).await;
    let status = async |last: u8| {
        let poll = http(node.public, "GET", "/relay/response/req_1").from([127, 0, 1, last].into());
        poll.send().await.status.as_u16()
    };
    for last in 1..=100 {
        assert_eq!(status(last).await, 404);
    }
    assert_eq!(status(101).await, 404, "all others have one together");
    assert_eq!(status(102).await, 429);
}

#[tokio::test]
async fn a_trusted_proxy_speaks_for_its_clients_and_nobody_else_does() {
    let node = TestNode::start(&[("RELAY_ADDRESS_RATE_LIMIT", "1"), ("RELAY_TRUSTED_PROXIES", "127.0.0.2")]).await;
    let status = async |source: IpAddr, client: &str| {
        let poll = http(node.public, "GET", "/relay/response/req_1").from(source);
        poll.header("x-forwarded-for", client).send().await.status.as_u16()
    };
    let (proxy, stranger) = (ELSEWHERE, [127, 0, 0, 3].into());
    assert_eq!((status(proxy, "192.0.2.1").await, status(proxy, "192.0.2.2").await), (404, 404));
    assert_eq!(status(proxy, "192.0.2.1").await, 429);
    assert_eq!((status(stranger, "192.0.2.3").await, status(stranger, "192.0.2.4").await), (404, 429));
}

#[tokio::test]
async fn memory_for_requests_and_answers_is_bounded_and_the_newest_answers_stay() {
    let (node, mut vault, mut agent) = one_of_each(&[("RELAY_VAULT_RECORDS_BYTES", "1048576")]).await;
    let large = "A".repeat(300_000);
    for n in 0..4 {
        let id = format!("req_{n}");
        agent.ask(VAULT, &id).await;
        vault.expect_request(&id).await;
        vault.respond(&id, &large).await;
        agent.expect_response(&id).await;
    }
    let poll = async |id: &str| get(node.public, &format!("/relay/response/{id}")).await.status.as_u16();
    assert_eq!((poll("req_0").await, poll("req_3").await), (404, 200));

    let asking = |id: &str| {
        let mut envelope = envelope(VAULT, id);
        envelope["encrypted_payload"] = json!(large);
        envelope
    };
    agent.submit(&asking("req_4")).await;
    agent.send_frame("request", asking("req_5")).await;
    let error = agent.expect_error("RELAY_UNAVAILABLE", "Failed to store message").await;
    assert_eq!(error["request_id"], "req_5");
}

#[tokio::test]
async fn a_client_that_does_not_say_what_it_wants_is_not_waited_for() {
    let node = TestNode::start(&[("RELAY_HANDSHAKE_TIMEOUT_SECS", "1")]).await;
    let answer_to = async |said: &str| {
        let mut stream = connect(node.public, None).await;
        stream.write_all(said.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // It may be cut while bytes of ours are unread.
        stream.read_to_end(&mut answer).await.ok();
        String::from_utf8(answer).unwrap()
    };
    const HEAD: &str = "POST /relay/request HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    let half_a_body = format!("{HEAD}Content-Length: 100\r\n\r\n{{");
    let answers = async { tokio::join!(answer_to(""), answer_to(HEAD), answer_to(&half_a_body)) };
    // Well before the default would end it.
    let (nothing, no_request, late) = within(PATIENCE / 2, "the relay gives up", answers).await;
    assert_eq!((nothing.as_str(), no_request.as_str()), ("", ""));
    assert!(late.starts_with("HTTP/1.1 408 "), "{late}");
}
