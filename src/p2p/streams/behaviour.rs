//! Who may connect, and which connections there are.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, StreamProtocol};

use crate::security::address::AddressKey;
use crate::security::admission::{Admission, Permit, Refusal};

use super::handler::Handler;
use super::{Connection, Serve};

/// Who may connect.
pub struct Door {
    /// Bounds for the relay as a whole and for each address.
    pub admission: Arc<Admission>,
    /// Connections of one peer at one time.
    pub per_peer: usize,
    /// Told, in one word, why somebody was turned away.
    pub refused: Box<dyn Fn(&'static str) + Send>,
}

/// Why a connection was refused.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("this relay takes no more connections here: {0}")]
struct Refused(&'static str);

/// The streams of all connections.
pub struct Streams {
    door: Door,
    offered: &'static [StreamProtocol],
    serve: Arc<dyn Serve>,
    /// Of connections that are being made, and of those that stand.
    permits: HashMap<ConnectionId, Permit>,
    connections: HashMap<ConnectionId, Arc<Connection>>,
    by_peer: HashMap<PeerId, usize>,
}

impl Streams {
    /// Of the protocols in `offered`, which `serve` serves.
    pub fn new(door: Door, offered: &'static [StreamProtocol], serve: Arc<dyn Serve>) -> Self {
        let (permits, connections, by_peer) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { door, offered, serve, permits, connections, by_peer }
    }

    /// The connection of that number, if it stands.
    #[must_use]
    pub fn of(&self, id: ConnectionId) -> Option<&Arc<Connection>> {
        self.connections.get(&id)
    }

    fn refuse<T>(&self, why: &'static str) -> Result<T, ConnectionDenied> {
        (self.door.refused)(why);
        Err(ConnectionDenied::new(Refused(why)))
    }

    /// One more connection, if its peer may have it.
    fn enter(&mut self, connection: Connection) -> Result<Handler, ConnectionDenied> {
        let (id, peer) = (connection.id, connection.peer);
        if self.by_peer.get(&peer).is_some_and(|open| *open >= self.door.per_peer) {
            return self.refuse("peer");
        }
        let connection = Arc::new(connection);
        self.connections.insert(id, connection.clone());
        Ok(Handler::new(connection, self.offered, self.serve.clone()))
    }

    fn forget(&mut self, id: ConnectionId) {
        self.permits.remove(&id);
        self.connections.remove(&id);
    }
}

impl NetworkBehaviour for Streams {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        _local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let address = super::connection::ip_of(remote).map(AddressKey::from);
        if address.is_some_and(|address| self.door.admission.request(address).is_err()) {
            return self.refuse("address_rate");
        }
        match self.door.admission.connection(address) {
            Ok(permit) => {
                self.permits.insert(id, permit);
                Ok(())
            }
            Err(Refusal::Full) => self.refuse("connections"),
            Err(Refusal::AddressFull) => self.refuse("address_connections"),
        }
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.enter(Connection::incoming(peer, id, remote))
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        _role: Endpoint,
        _port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.enter(Connection::outgoing(peer, id, remote))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) => {
                *self.by_peer.entry(event.peer_id).or_default() += 1;
                if let Some(connection) = self.connections.get(&event.connection_id) {
                    self.serve.opened(connection);
                }
            }
            FromSwarm::ConnectionClosed(event) => {
                if let Some(open) = self.by_peer.get_mut(&event.peer_id) {
                    *open -= 1;
                    if *open == 0 {
                        self.by_peer.remove(&event.peer_id);
                    }
                }
                if let Some(connection) = self.connections.get(&event.connection_id) {
                    connection.close();
                    self.serve.closed(connection);
                }
                self.forget(event.connection_id);
            }
            FromSwarm::ListenFailure(event) => self.forget(event.connection_id),
            FromSwarm::DialFailure(event) => self.forget(event.connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").field("connections", &self.connections.len()).finish_non_exhaustive()
    }
}
