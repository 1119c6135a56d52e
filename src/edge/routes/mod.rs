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
use tokio_util::sync::CancellationToken;

use super::cors::{self, Cors};
use super::{Edge, errors, rate};
use crate::mailbox::MailboxService;
use crate::vault::VaultService;

pub use figures::Figures;

/// What the routes need.
#[derive(Clone)]
pub struct Services {
    /// The port itself.
    pub edge: Edge,
    /// The vault service.
    pub vault: VaultService,
    /// The mailbox service.
    pub mailbox: MailboxService,
    /// Cancelled once this node has joined its cluster. Until then clients wait, all but those who ask how it is.
    pub joined: CancellationToken,
    /// What clients know the relay by in Noise: 43 characters of base64url.
    pub noise_public_key: Arc<str>,
    /// Who may read the figures, and where.
    pub figures: Figures,
}

/// The router of the public port; `origins` may ask from browsers.
pub fn public(services: Services, origins: Vec<String>) -> Router {
    let (edge, joined) = (services.edge.clone(), services.joined.clone());
    let mut router = vault::paid()
        .layer(from_fn_with_state(edge, rate::per_address))
        .merge(vault::unpaid())
        .route("/", get(root::socket))
        .fallback(mailbox::socket)
        .layer(from_fn_with_state(joined, health::await_joining))
        .merge(health::routes())
        .route("/stats", get(figures::stats));
    if services.figures.public {
        router = router.merge(figures::routes());
    }
    let mut router = router.with_state(services).method_not_allowed_fallback(errors::unknown_route);
    if !origins.is_empty() {
        router = router.layer(from_fn_with_state(Cors::new(origins), cors::apply));
    }
    router
}

/// The router of the port for operators.
pub fn private(services: Services) -> Router {
    figures::routes()
        .route("/", get(figures::index))
        .route("/pubkey", get(health::pubkey))
        .with_state(services)
        .fallback(errors::unknown_route)
        .method_not_allowed_fallback(errors::unknown_route)
}
