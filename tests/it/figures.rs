//! What operators and monitoring see: `/health`, `/ready`, `/metrics`, `/stats`, the log; and what web pages may see.

use serde_json::{Value, json};
use waystation::wire::dcp::time;

use crate::support::{Process, SEED, TestNode, TestVault, VAULT, envelope, get, http, one_of_each, post};

const PAGE: &str = "https://app.example";

/// The value of a metric without labels.
fn value(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// A node that has carried one request and its answer, and refused another one.
async fn used() -> TestNode {
    let (node, mut vault, mut agent) = one_of_each(&[("RELAY_VAULT_RATE_LIMIT", "1")]).await;
    agent.ask(VAULT, "req_1").await;
    vault.expect_request("req_1").await;
    vault.respond("req_1", "EjRW").await;
    agent.expect_response("req_1").await;
    agent.send_frame("request", envelope(VAULT, "req_2")).await;
    agent.expect("error").await;
    node
}

#[tokio::test]
async fn health_says_what_agents_and_operators_read() {
    let (node, _vault, _agent) = one_of_each(&[]).await;
    node.websockets_are(2).await;
    let mut health = get(node.public, "/health").await.expect(200);
    assert!(time::parse(health["timestamp"].as_str().unwrap()).is_some());
    assert!(health["uptime"].as_u64().is_some() && health["uptime"] == health["uptime_seconds"]);
    health.as_object_mut().unwrap().retain(|name, _| !matches!(&**name, "timestamp" | "uptime" | "uptime_seconds"));
    let expected = json!({
        "status": "ok", "version": env!("CARGO_PKG_VERSION"), "protocol_version": "1", "connections": 2,
        "blob_count": 0,
    });
    assert_eq!(health, expected);
    assert_eq!(get(node.public, "/up").await.expect(200)["status"], "ok");
    for unknown in ["/healthy", "/health/x", "/version", "/readyz", "/"] {
        assert_eq!(get(node.public, unknown).await.status, 404, "{unknown}");
    }
}

#[tokio::test]
async fn a_node_is_ready_until_it_drains() {
    let (node, mut vault, mut agent) = one_of_each(&[]).await;
    assert_eq!(get(node.public, "/ready").await.expect(200), json!({"ready": true}));
    agent.ask(VAULT, "req_1").await;
    vault.expect_request("req_1").await;
    let address = node.public;
    let draining = tokio::spawn(node.drain());
    crate::support::in_time("the node says that it drains", async {
        while get(address, "/health").await.expect(200)["status"] != "draining" {}
    })
    .await;
    assert_eq!(get(address, "/ready").await.expect(503), json!({"ready": false}));
    vault.respond("req_1", "EjRW").await;
    assert_eq!(agent.expect_response("req_1").await, "EjRW");
    assert_eq!(agent.closed().await, (1012, "service restart".to_owned()));
    assert_eq!(vault.closed().await, (1012, "service restart".to_owned()));
    draining.await.unwrap();
}

#[tokio::test]
async fn metrics_are_text_for_prometheus_and_the_old_tree_for_those_who_ask_for_json() {
    let node = used().await;
    for path in ["/metrics", "/metrics?format=prometheus"] {
        let text = get(node.public, path).await;
        assert_eq!(text.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
        for (name, expected) in [
            ("dcp_relay_messages_total", 1.0),
            ("dcp_relay_messages_pending", 0.0),
            ("dcp_relay_messages_delivered", 1.0),
            ("dcp_relay_rate_limit_max", 1.0),
            ("dcp_relay_pairing_claims_total", 0.0),
            ("dcp_relay_pairing_claims_pending", 0.0),
            ("dcp_relay_mobile_pairings_total", 0.0),
            ("dcp_relay_push_tokens_registered", 0.0),
            ("dcp_total_messages", 2.0),
            ("dcp_errors", 1.0),
        ] {
            assert_eq!(value(&text.text, name), Some(expected), "{name}: {}", text.text);
            assert!(text.text.contains(&format!("# HELP {name} ")) && text.text.contains(&format!("# TYPE {name} ")));
        }
        for name in ["dcp_relay_vaults_connected", "dcp_relay_vaults_tracked", "dcp_relay_ws_clients"] {
            assert!(value(&text.text, name).is_some(), "{name}: {}", text.text);
        }
    }
    let asked_by_name = http(node.public, "GET", "/metrics?format=prometheus").header("accept", "application/json");
    assert!(asked_by_name.send().await.text.starts_with("# "));

    let reply = http(node.public, "GET", "/metrics").header("accept", "application/json").send().await;
    assert_eq!((reply.header("content-type"), reply.header("vary")), ("application/json; charset=utf-8", "accept"));
    let tree = reply.expect(200);
    assert_eq!(
        tree["messages"],
        json!({"totalMessages": 1, "pendingMessages": 0, "deliveredMessages": 1, "vaultCount": 1})
    );
    assert_eq!(tree["rateLimit"], json!({"trackedVaults": 1, "maxRequests": 1, "windowMs": 60_000}));
    assert_eq!(
        tree["config"],
        json!({
            "rateLimitPerMinute": 1, "rateLimitWindowMs": 60_000, "messageTtlMs": 300_000, "heartbeatIntervalMs": 30_000,
        })
    );
    assert_eq!((&tree["total_messages"], &tree["errors"], &tree["rate_limits_hit"]), (&json!(2), &json!(1), &json!(1)));
    for section in ["connections", "pairingClaims", "mobilePairings", "push", "websockets"] {
        assert!(tree[section].is_object(), "{section}: {tree}");
    }
    assert!(tree["uptime"].as_f64().unwrap() > 0.0 && tree["timestamp"].is_string() && tree["uptime_seconds"].is_u64());
}

#[tokio::test]
async fn stats_are_the_figures_at_the_top_level() {
    let node = used().await;
    let stats = get(node.public, "/stats").await.expect(200);
    assert_eq!((&stats["totalMessages"], &stats["deliveredMessages"]), (&json!(1), &json!(1)));
    for name in ["pendingMessages", "vaultCount", "connectedVaults"] {
        assert!(stats[name].is_u64(), "{name}: {stats}");
    }
    for name in ["rateLimit", "pairingClaims", "mobilePairings", "push"] {
        assert!(stats[name].is_object(), "{name}: {stats}");
    }
    assert!(time::parse(stats["timestamp"].as_str().unwrap()).is_some());
}

#[tokio::test]
async fn gauges_follow_what_is_open_and_what_waits() {
    let (node, mut vault, mut agent) = one_of_each(&[]).await;
    let _second = TestVault::registered(node.public, VAULT, SEED).await;
    agent.ask(VAULT, "req_1").await;
    let websockets = |tree: &Value| tree["websockets"].clone();
    let tree =
        || async { http(node.public, "GET", "/metrics").header("accept", "application/json").send().await.json() };
    let expected = json!({"vaultConnections": 2, "clientConnections": 1, "pendingClientRequests": 1});
    assert_eq!(websockets(&tree().await), expected);
    vault.respond("req_1", "EjRW").await;
    drop((vault, agent));
    node.websockets_are(1).await;
    let expected = json!({"vaultConnections": 1, "clientConnections": 0, "pendingClientRequests": 0});
    assert_eq!(websockets(&tree().await), expected);
}

#[tokio::test]
async fn web_pages_see_nothing_unless_their_origin_is_set() {
    let closed = TestNode::start(&[]).await;
    let open = TestNode::start(&[("RELAY_CORS_ORIGINS", PAGE)]).await;
    let ask = |node: &TestNode, origin: &str| http(node.public, "GET", "/health").header("origin", origin).send();
    assert_eq!(ask(&closed, PAGE).await.header("access-control-allow-origin"), "");
    assert_eq!(ask(&open, "https://evil.example").await.header("access-control-allow-origin"), "");
    assert_eq!(ask(&open, PAGE).await.header("access-control-allow-origin"), PAGE);

    let preflight = |node: &TestNode| {
        let request = http(node.public, "OPTIONS", "/relay/request").header("origin", PAGE);
        request.header("access-control-request-method", "POST").send()
    };
    assert_eq!(preflight(&closed).await.status, 404);
    let allowed = preflight(&open).await;
    assert_eq!(allowed.status, 204);
    assert_eq!(allowed.header("access-control-allow-methods"), "GET,HEAD,PUT,PATCH,POST,DELETE");
}

#[tokio::test]
async fn the_process_says_where_it_serves_and_leaves_in_order() {
    let mut process = Process::start(&[]).await;
    assert_eq!(process.line().await.as_deref(), Some("Press Ctrl+C to stop"));
    let mut vault = TestVault::registered(process.public, VAULT, SEED).await;
    assert_eq!(post(process.public, "/relay/request", &envelope(VAULT, "req_1")).await.status, 202);
    vault.expect_request("req_1").await;
    vault.respond("req_1", "EjRW").await;
    process.sigterm();
    assert_eq!(vault.closed().await, (1012, "service restart".to_owned()));
    assert!(process.ended().await.success());
    assert_eq!(process.line().await.as_deref(), Some("DCP Relay stopped"));
}

#[tokio::test]
async fn the_log_has_the_level_and_the_form_that_are_set() {
    let logged = async |level: &str, format: &str| {
        let mut process = Process::start_with_log(&[("RELAY_LOG_LEVEL", level), ("RELAY_LOG_FORMAT", format)]).await;
        process.sigterm();
        let mut lines = Vec::new();
        while let Some(line) = process.log_line().await {
            lines.push(line);
        }
        lines
    };
    let (quiet, text, lines) = tokio::join!(logged("error", "text"), logged("info", "text"), logged("info", "json"));
    assert!(quiet.is_empty(), "{quiet:?}");
    assert!(text.iter().any(|line| line.contains(" INFO ") && line.contains("serving")), "{text:?}");
    let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["level"] == "INFO" && line["message"] == "serving"), "{lines:?}");
}
