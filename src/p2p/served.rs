//! Who serves what peers open streams for.

use std::sync::Arc;

use libp2p::{Stream, StreamProtocol};

use crate::observe::metrics::Metrics;
use crate::runtime::time;

use super::circuit::{Circuits, HOP};
use super::directory::{DIRECTORY, Directory};
use super::gif::{GIF, Gifs};
use super::gossip::{self, Gossip};
use super::peers::Peers;
use super::rendezvous::{RENDEZVOUS, Rendezvous};
use super::streams::{Carried, Connection, Serve};
use super::turn_credentials::{TURN_CREDENTIALS, TurnCredentials};

/// The services of a node.
pub struct Served {
    /// Places and circuits.
    pub circuits: Circuits,
    /// Registrations.
    pub rendezvous: Rendezvous,
    /// Profiles.
    pub directory: Directory,
    /// Credentials for TURN, if there is a TURN server.
    pub turn_credentials: Option<TurnCredentials>,
    /// Gossip, if it is spoken.
    pub gossip: Option<Gossip>,
    /// Searches for GIFs.
    pub gifs: Gifs,
    /// The connections that stand.
    pub peers: Arc<Peers>,
    /// The node's figures.
    pub metrics: Arc<Metrics>,
}

impl Served {
    /// The protocols of which peers may open streams.
    #[must_use]
    pub fn offered(&self) -> Arc<[StreamProtocol]> {
        let turn_credentials = self.turn_credentials.as_ref().map(|_| TURN_CREDENTIALS);
        let gossip = self.gossip.iter().flat_map(|_| gossip::PROTOCOLS);
        [HOP, RENDEZVOUS, DIRECTORY, GIF].into_iter().chain(turn_credentials).chain(gossip).collect()
    }
}

impl Serve for Served {
    fn stream(&self, connection: &Arc<Connection>, protocol: StreamProtocol, stream: Stream) {
        if protocol == HOP {
            self.circuits.serve(connection, stream);
        } else if protocol == RENDEZVOUS {
            self.rendezvous.serve(connection, stream);
        } else if protocol == DIRECTORY {
            self.directory.serve(connection, stream);
        } else if protocol == TURN_CREDENTIALS
            && let Some(turn_credentials) = &self.turn_credentials
        {
            turn_credentials.serve(connection, stream);
        } else if protocol == GIF {
            self.gifs.serve(connection, stream);
        } else if let Some(gossip) = self.gossip.as_ref().filter(|_| gossip::PROTOCOLS.contains(&protocol)) {
            gossip.serve(connection, protocol, stream);
        }
    }

    fn outlive(&self, work: Carried) {
        self.circuits.go_on_with(work);
    }

    fn opened(&self, connection: &Arc<Connection>) {
        self.peers.enter(connection, time::now());
        let total = self.metrics.p2p.connections.inc() + 1;
        tracing::debug!("peer connected: {} (total connections: {total})", connection.peer);
    }

    fn closed(&self, connection: &Arc<Connection>) {
        self.peers.leave(connection);
        self.metrics.p2p.connections.dec();
        tracing::debug!("peer disconnected: {}", connection.peer);
        self.circuits.closed(connection);
        if let Some(gossip) = &self.gossip {
            gossip.closed(connection);
        }
    }
}
