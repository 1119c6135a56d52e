//! Who is on the other side of a connection.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::Request;

use super::Edge;
use crate::observe::metrics::Metrics;
use crate::security::address::AddressKey;
use crate::security::admission::Permit;

/// The TCP connection that a request came on; an extension of every request.
///
/// The connection counts as open until the last clone is dropped.
#[derive(Clone)]
pub struct Peer {
    address: SocketAddr,
    _counted: Arc<Counted>,
}

/// Keeps the connection's place at the door and in the figures.
struct Counted {
    _permit: Permit,
    metrics: Arc<Metrics>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.edge.connections.dec();
    }
}

impl Peer {
    pub(super) fn new(address: SocketAddr, permit: Permit, metrics: Arc<Metrics>) -> Self {
        metrics.edge.connections.inc();
        Self { address, _counted: Arc::new(Counted { _permit: permit, metrics }) }
    }

    /// The other end of the TCP connection: a client, or a proxy.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The client that a request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientInfo {
    /// Its address, as far as trusted proxies tell.
    pub address: IpAddr,
    /// What limits on it are keyed by.
    pub key: AddressKey,
    /// Whether a trusted proxy stands between.
    pub proxied: bool,
}

impl ClientInfo {
    /// The client of `request`. Without a [`Peer`], that is outside the accept loop, the unspecified address.
    #[must_use]
    pub fn of<B>(edge: &Edge, request: &Request<B>) -> Self {
        let peer = request.extensions().get::<Peer>().map(|peer| peer.address.ip());
        let peer = peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let address = edge.proxies.client_ip(peer, request.headers());
        Self { address, key: AddressKey::from(address), proxied: edge.proxies.contains(peer) }
    }
}
