//! The public port: the accept loop, the limits at the door, and one task for each WebSocket. And, apart from it, the
//! port for operators ([`admin`]).
//!
//! A connection begins as HTTP/1.1 ([`accept`]) and is served by an `axum` router. A handler that wants to
//! speak a protocol hands its request to [`upgrade::upgrade`]; from then on nothing of the HTTP machinery
//! stays alive, and the connection is one [`socket::Socket`] and its [`Protocol`](crate::runtime::session::Protocol).

pub mod accept;
pub mod admin;
pub mod body;
pub mod client;
pub mod cors;
pub mod errors;
mod frames;
mod liveness;
pub mod paths;
pub mod rate;
mod refuse;
pub mod routes;
pub mod settings;
pub mod socket;
pub mod upgrade;
mod wire;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::observe::metrics::Metrics;
use crate::runtime::supervisor::Supervisor;
use crate::security::admission::Admission;
use crate::security::proxies::TrustedProxies;

pub use settings::EdgeSettings;

/// What every connection of the public port shares; clones are handles on the same parts.
#[derive(Clone)]
pub struct Edge {
    inner: Arc<Inner>,
}

struct Inner {
    parts: Parts,
    stop: CancellationToken,
}

/// The parts of an [`Edge`].
pub struct Parts {
    /// Sizes and times.
    pub settings: EdgeSettings,
    /// The limits at the door.
    pub admission: Arc<Admission>,
    /// Whose `X-Forwarded-For` counts.
    pub proxies: TrustedProxies,
    /// Where everything is counted.
    pub metrics: Arc<Metrics>,
    /// Runs the connections. Once its token is cancelled, WebSockets are closed with 1012 within a tick.
    pub supervisor: Supervisor,
}

impl Edge {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let stop = parts.supervisor.token();
        Self { inner: Arc::new(Inner { parts, stop }) }
    }

    fn is_stopping(&self) -> bool {
        self.inner.stop.is_cancelled()
    }
}

impl std::ops::Deref for Edge {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.inner.parts
    }
}

#[cfg(test)]
mod tests;
