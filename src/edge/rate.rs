//! The request rate of one address, for every route at once.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Edge;
use super::client::ClientInfo;
use crate::observe::metrics::count;
use crate::security::limiter::RateLimited;

/// Marks a request that its client's budget has paid for.
#[derive(Debug, Clone, Copy)]
struct Paid;

/// Middleware: charges every request to its client's address, and answers 429 when the budget is used up.
pub async fn per_address(State(edge): State<Edge>, mut request: Request, next: Next) -> Response {
    match charge(&edge, &mut request) {
        Ok(()) => next.run(request).await,
        Err(refused) => refused.into_response(),
    }
}

/// Charges `request` to its client's address, once, however often it is called.
///
/// # Errors
/// When to come back, if the budget is used up.
pub fn charge(edge: &Edge, request: &mut Request) -> Result<(), RateLimited> {
    if request.extensions().get::<Paid>().is_some() {
        return Ok(());
    }
    let client = ClientInfo::of(edge, request);
    edge.admission.request(client.key).inspect_err(|_| count(&edge.metrics.edge.refused, "rate_limit"))?;
    request.extensions_mut().insert(Paid);
    Ok(())
}
