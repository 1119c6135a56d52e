//! The routes of the public port.

mod figures;
mod health;
mod mailbox;
mod root;
mod vault;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::get;

use super::cors::{self, Cors};
use super::{Edge, errors, rate};
use crate::mailbox::MailboxService;
use crate::vault::VaultService;

/// What the routes need.
#[derive(Clone)]
pub struct Services {
    /// The port itself.
    pub edge: Edge,
    /// The vault service.
    pub vault: VaultService,
    /// The mailbox service.
    pub mailbox: MailboxService,
    /// Whether this node has joined its cluster and is not leaving it.
    pub ready: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// The router of the public port; `origins` may ask from browsers.
pub fn router(services: Services, origins: Vec<String>) -> Router {
    let edge = services.edge.clone();
    let mut router = vault::paid()
        .layer(from_fn_with_state(edge, rate::per_address))
        .merge(vault::unpaid())
        .route("/", get(root::socket))
        .route("/health", get(health::health))
        .route("/ready", get(health::ready))
        .route("/metrics", get(figures::metrics))
        .route("/stats", get(figures::stats))
        .fallback(mailbox::socket)
        .with_state(services)
        .method_not_allowed_fallback(errors::unknown_route);
    if !origins.is_empty() {
        router = router.layer(from_fn_with_state(Cors::new(origins), cors::apply));
    }
    router
}
