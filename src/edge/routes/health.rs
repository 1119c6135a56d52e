//! `/health` and its like, and `/pubkey`: what is answered to whoever asks, also while the node joins its cluster.

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::Services;
use crate::edge::errors::json as answer;
use crate::runtime::time;
use crate::wire::dcp::time::format;

/// The routes of this file.
pub fn routes() -> Router<Services> {
    Router::new()
        .route("/health", get(health))
        .route("/up", get(health))
        .route("/ready", get(ready))
        .route("/pubkey", get(pubkey))
}

/// Middleware: lets a request in once the node has joined its cluster, or given that up.
pub async fn await_joining(State(joined): State<CancellationToken>, request: Request, next: Next) -> Response {
    joined.cancelled().await;
    next.run(request).await
}

/// `GET /health` and `/up`: the members that agents of DCP read (its sheet, section 13), those that the clients of
/// mailboxes do (theirs, section 11), and those of the product's page. `blob_count` is `null` if the store fails.
async fn health(State(services): State<Services>) -> Response {
    let metrics = &services.edge.metrics;
    let status = if services.vault.is_draining() { "draining" } else { "ok" };
    let uptime = metrics.uptime_secs().floor() as u64;
    let body = json!({
        "status": status,
        "version": env!("CARGO_PKG_VERSION"),
        "protocol_version": "1",
        "connections": metrics.edge.websockets.get(),
        "uptime": uptime,
        "uptime_seconds": uptime,
        "blob_count": services.mailbox.blobs().await.ok(),
        "timestamp": format(time::now()),
    });
    answer(StatusCode::OK, &body)
}

/// `GET /ready`: 200 once the node serves, 503 before that and while it drains.
async fn ready(State(services): State<Services>) -> Response {
    let ready = services.joined.is_cancelled() && !services.vault.is_draining();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    answer(status, &json!({ "ready": ready }))
}

/// `GET /pubkey`: what clients know the relay by in Noise (section 8).
pub async fn pubkey(State(services): State<Services>) -> Response {
    ([(CONTENT_TYPE, "text/plain; charset=utf-8")], services.noise_public_key.to_string()).into_response()
}
