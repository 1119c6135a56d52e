//! The spans of a request: one at the node that took it from its agent, and below that one at the node that has
//! the vault. Each lasts until the answer is in the node's hands. Nothing in them names anybody.

use tracing::Span;

use crate::observe::trace;

/// The span of a request that comes from an agent; none while nothing is traced.
#[must_use]
pub fn taken() -> Span {
    if trace::enabled() { tracing::info_span!("vault.request") } else { Span::none() }
}

/// The span of a request that another node has sent, below that node's `traceparent`.
#[must_use]
pub fn delivered(traceparent: &str) -> Span {
    if !trace::enabled() {
        return Span::none();
    }
    let span = tracing::info_span!("vault.deliver");
    trace::set_parent(&span, traceparent);
    span
}
