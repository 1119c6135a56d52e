//! `/health` and `/ready`.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::json;

use super::Services;
use crate::edge::errors::json as answer;
use crate::runtime::time;
use crate::wire::dcp::time::format;

/// `GET /health`: the members that the shipped agents read (sheet section 13) and those of the product's page.
pub async fn health(State(services): State<Services>) -> Response {
    let metrics = &services.edge.metrics;
    let status = if services.vault.is_draining() { "draining" } else { "ok" };
    let body = json!({
        "status": status,
        "version": env!("CARGO_PKG_VERSION"),
        "protocol_version": "1",
        "connections": metrics.edge.websockets.get(),
        "uptime": metrics.uptime_secs().floor() as u64,
        "timestamp": format(time::now()),
    });
    answer(StatusCode::OK, &body)
}

/// `GET /ready`: 200 once the node serves, 503 before that and while it drains.
pub async fn ready(State(services): State<Services>) -> Response {
    let ready = (services.ready)() && !services.vault.is_draining();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    answer(status, &json!({ "ready": ready }))
}
