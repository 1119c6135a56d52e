//! Who serves the streams that peers open.

use std::sync::Arc;

use libp2p::{Stream, StreamProtocol};

use crate::observe::metrics::Metrics;

use super::circuit::{Circuits, HOP};
use super::gif::{GIF, Gifs};
use super::gossip::{self, Gossip};
use super::rendezvous::{RENDEZVOUS, Rendezvous};
use super::streams::{Connection, Serve};

/// Who serves what.
pub(super) struct Served {
    pub circuits: Circuits,
    pub rendezvous: Rendezvous,
    /// If it is spoken.
    pub gossip: Option<Gossip>,
    pub gifs: Gifs,
    pub metrics: Arc<Metrics>,
}

impl Served {
    /// The protocols of which peers may open streams.
    pub fn offered(&self) -> Arc<[StreamProtocol]> {
        let gossip = self.gossip.iter().flat_map(|_| gossip::PROTOCOLS);
        [HOP, RENDEZVOUS, GIF].into_iter().chain(gossip).collect()
    }
}

impl Serve for Served {
    fn stream(&self, connection: &Arc<Connection>, protocol: StreamProtocol, stream: Stream) {
        if protocol == HOP {
            self.circuits.serve(connection, stream);
        } else if protocol == RENDEZVOUS {
            self.rendezvous.serve(connection, stream);
        } else if protocol == GIF {
            self.gifs.serve(connection, stream);
        } else if let Some(gossip) = self.gossip.as_ref().filter(|_| gossip::PROTOCOLS.contains(&protocol)) {
            gossip.serve(connection, protocol, stream);
        }
    }

    fn opened(&self, connection: &Arc<Connection>) {
        let total = self.metrics.p2p.connections.inc() + 1;
        tracing::debug!("peer connected: {} (total connections: {total})", connection.peer);
    }

    fn closed(&self, connection: &Arc<Connection>) {
        self.metrics.p2p.connections.dec();
        tracing::debug!("peer disconnected: {}", connection.peer);
        self.circuits.closed(connection);
        if let Some(gossip) = &self.gossip {
            gossip.closed(connection);
        }
    }
}
