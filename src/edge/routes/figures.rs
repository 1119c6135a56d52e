//! `/metrics` and `/stats`: Prometheus text and the JSON of the original relay (sheet section 13).

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, VARY, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;

use super::Services;
use crate::edge::errors::json as answer;
use crate::runtime::time;
use crate::vault::Snapshot;
use crate::wire::dcp::time::format;

/// Who may read `/metrics`, and where.
#[derive(Clone)]
pub struct Figures {
    /// Whether it is on the public port.
    pub public: bool,
    /// What whoever asks must show as a bearer token; `None`: nothing.
    pub token: Option<Arc<[u8]>>,
}

impl Figures {
    /// Whether a request with these headers may read them (RFC 6750, section 2.1).
    fn may_read(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let shown = headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().split_at_checked(7));
        shown.is_some_and(|(scheme, shown)| scheme.eq_ignore_ascii_case(b"Bearer ") && shown.ct_eq(token).into())
    }
}

/// What any port has on which the figures are.
pub fn routes() -> Router<Services> {
    Router::new().route("/metrics", get(metrics))
}

/// `GET /` of the port for operators.
pub async fn index() -> Response {
    let endpoints = ["/metrics", "/pubkey"];
    let version = env!("CARGO_PKG_VERSION");
    answer(StatusCode::OK, &json!({"endpoints": endpoints, "service": "waystation-metrics", "version": version}))
}

/// What `/metrics` may be asked for.
#[derive(Deserialize)]
pub struct Wanted {
    format: Option<String>,
}

/// `GET /metrics`: Prometheus text, or JSON for those who ask for it by `Accept`.
async fn metrics(State(services): State<Services>, Query(wanted): Query<Wanted>, headers: HeaderMap) -> Response {
    if !services.figures.may_read(&headers) {
        return (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], "Unauthorized").into_response();
    }
    let accepts = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let snapshot = services.vault.snapshot();
    if wanted.format.as_deref() != Some("prometheus") && accepts.contains("application/json") {
        let mut response = answer(StatusCode::OK, &tree(&services, &snapshot));
        response.headers_mut().insert(VARY, http::HeaderValue::from_static("accept"));
        return response;
    }
    let text = services.edge.metrics.prometheus() + &dcp_text(&services, &snapshot);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"), (VARY, "accept")], text).into_response()
}

/// `GET /stats`.
pub async fn stats(State(services): State<Services>) -> Response {
    let snapshot = services.vault.snapshot();
    let mut body = messages(&snapshot);
    merge(
        &mut body,
        json!({
            "connectedVaults": snapshot.vaults,
            "rateLimit": rate_limit(&snapshot),
            "pairingClaims": claims(&snapshot),
            "mobilePairings": phones(&snapshot),
            "push": {"registeredPushTokens": snapshot.push_tokens},
            "timestamp": format(time::now()),
        }),
    );
    answer(StatusCode::OK, &body)
}

fn tree(services: &Services, snapshot: &Snapshot) -> Value {
    let edge = &services.edge.metrics.edge;
    let uptime = services.edge.metrics.uptime_secs();
    let mut body = json!({
        "messages": messages(snapshot),
        "connections": {"connectedVaults": snapshot.vaults},
        "rateLimit": rate_limit(snapshot),
        "pairingClaims": claims(snapshot),
        "mobilePairings": phones(snapshot),
        "push": {"registeredPushTokens": snapshot.push_tokens},
        "websockets": {
            "vaultConnections": snapshot.vault_sockets, "clientConnections": snapshot.agent_sockets,
            "pendingClientRequests": snapshot.pending,
        },
        "config": {
            "rateLimitPerMinute": snapshot.rate, "rateLimitWindowMs": 60_000, "messageTtlMs": 300_000,
            "heartbeatIntervalMs": 30_000,
        },
        "uptime": uptime,
        "timestamp": format(time::now()),
    });
    merge(
        &mut body,
        json!({
            "total_connections": edge.accepted.get(),
            "active_connections": edge.websockets.get(),
            "total_messages": snapshot.total_messages,
            "errors": snapshot.errors,
            "uptime_seconds": uptime.floor() as u64,
            "rate_limits_hit": snapshot.rate_limits_hit,
        }),
    );
    body
}

fn messages(snapshot: &Snapshot) -> Value {
    json!({
        "totalMessages": snapshot.records, "pendingMessages": snapshot.undelivered,
        "deliveredMessages": snapshot.records - snapshot.undelivered, "vaultCount": snapshot.tracked_vaults,
    })
}

fn rate_limit(snapshot: &Snapshot) -> Value {
    json!({"trackedVaults": snapshot.tracked_vaults, "maxRequests": snapshot.rate, "windowMs": 60_000})
}

fn claims(snapshot: &Snapshot) -> Value {
    json!({
        "totalClaims": snapshot.claims.total, "pendingClaims": snapshot.claims.pending,
        "approvedClaims": snapshot.claims.approved, "deniedClaims": snapshot.claims.denied,
    })
}

fn phones(snapshot: &Snapshot) -> Value {
    json!({
        "totalMobilePairings": snapshot.phones.total, "approvedMobilePairings": snapshot.phones.approved,
        "deniedMobilePairings": snapshot.phones.denied,
    })
}

fn merge(into: &mut Value, from: Value) {
    if let (Some(into), Value::Object(from)) = (into.as_object_mut(), from) {
        into.extend(from);
    }
}

/// The original's gauges, and the product page's three names, as written there.
fn dcp_text(services: &Services, snapshot: &Snapshot) -> String {
    let rows: [(&str, &str, &str, i64); 14] = [
        ("dcp_relay_messages_total", "gauge", "Messages in the store", snapshot.records),
        ("dcp_relay_messages_pending", "gauge", "Messages not delivered yet", snapshot.undelivered),
        ("dcp_relay_messages_delivered", "gauge", "Messages delivered", snapshot.records - snapshot.undelivered),
        ("dcp_relay_vaults_connected", "gauge", "Vaults connected", snapshot.vaults),
        ("dcp_relay_vaults_tracked", "gauge", "Vaults in the rate limiter", snapshot.tracked_vaults),
        ("dcp_relay_rate_limit_max", "gauge", "Requests per minute and vault", i64::from(snapshot.rate)),
        ("dcp_relay_ws_clients", "gauge", "Agent sockets", snapshot.agent_sockets),
        ("dcp_relay_pairing_claims_total", "gauge", "Pairing claims", snapshot.claims.total),
        ("dcp_relay_pairing_claims_pending", "gauge", "Pairing claims pending", snapshot.claims.pending),
        ("dcp_relay_mobile_pairings_total", "gauge", "Phone pairings", snapshot.phones.total),
        ("dcp_relay_push_tokens_registered", "gauge", "Push tokens", snapshot.push_tokens),
        ("dcp_active_connections", "gauge", "WebSockets open", services.edge.metrics.edge.websockets.get()),
        ("dcp_total_messages", "counter", "Requests and answers carried", snapshot.total_messages as i64),
        ("dcp_errors", "counter", "Errors told to clients", snapshot.errors as i64),
    ];
    let mut text = String::new();
    for (name, kind, help, value) in rows {
        text.push_str(&format!("# HELP {name} {help}.\n# TYPE {name} {kind}\n{name} {value}\n"));
    }
    text
}
