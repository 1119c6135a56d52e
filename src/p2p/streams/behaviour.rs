//! Who may connect, and which connections there are.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, StreamProtocol};

use crate::p2p::observed::is_global;
use crate::security::address::AddressKey;
use crate::security::admission::{Admission, Permit, Refusal};

use super::connection::ip_of;
use super::handler::Handler;
use super::{Connection, Serve};

/// Connections that may be in their QUIC handshake at once.
const MAX_BEGINNING: usize = 512;

/// Of these, from one address.
const MAX_BEGINNING_OF_ADDRESS: usize = 64;

/// Connections that this relay may be making at once.
const MAX_DIALLING: usize = 64;

/// Who may connect.
pub struct Door {
    /// Bounds for the relay as a whole and for each address.
    pub admission: Arc<Admission>,
    /// Connections of one peer at one time.
    pub per_peer: usize,
    /// Told, in one word, why somebody was turned away.
    pub refused: Box<dyn Fn(&'static str) + Send>,
}

/// Connections that are being made, from addresses that need not be those of who makes them.
#[derive(Default)]
struct Beginning {
    all: HashMap<ConnectionId, Option<AddressKey>>,
    of_addresses: HashMap<AddressKey, usize>,
}

impl Beginning {
    /// One more, if there is room: for all, and for whoever is said to make it.
    fn enter(&mut self, id: ConnectionId, address: Option<AddressKey>) -> bool {
        let of_address = address.and_then(|address| self.of_addresses.get(&address)).copied().unwrap_or(0);
        if self.all.len() >= MAX_BEGINNING || of_address >= MAX_BEGINNING_OF_ADDRESS {
            return false;
        }
        if let Some(address) = address {
            *self.of_addresses.entry(address).or_default() += 1;
        }
        self.all.insert(id, address);
        true
    }

    /// It is made, or will not be; whether it was one of them.
    fn leave(&mut self, id: ConnectionId) -> bool {
        let Some(address) = self.all.remove(&id) else { return false };
        if let Some(address) = address
            && let Some(count) = self.of_addresses.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                self.of_addresses.remove(&address);
            }
        }
        true
    }
}

/// Why a connection was refused.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("this relay takes no more connections here: {0}")]
struct Refused(&'static str);

/// The streams of all connections.
pub struct Streams {
    door: Door,
    offered: Arc<[StreamProtocol]>,
    serve: Arc<dyn Serve>,
    /// Of connections that stand, and of those that are being made over TCP.
    permits: HashMap<ConnectionId, Permit>,
    /// Connections that are being made over QUIC: anybody can begin one in another's name.
    beginning: Beginning,
    /// Connections that this relay is making.
    dialling: HashSet<ConnectionId>,
    connections: HashMap<ConnectionId, Arc<Connection>>,
    by_peer: HashMap<PeerId, usize>,
}

impl Streams {
    /// Of the protocols in `offered`, which `serve` serves.
    pub fn new(door: Door, offered: Arc<[StreamProtocol]>, serve: Arc<dyn Serve>) -> Self {
        let (permits, connections, by_peer) = (HashMap::new(), HashMap::new(), HashMap::new());
        let (beginning, dialling) = (Beginning::default(), HashSet::new());
        Self { door, offered, serve, permits, beginning, dialling, connections, by_peer }
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

    /// Takes a place for a connection from that address.
    fn admit(&mut self, id: ConnectionId, remote: &Multiaddr) -> Result<(), ConnectionDenied> {
        let address = ip_of(remote).map(AddressKey::from);
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

    /// One more connection, if its peer may have it; the peer may open streams of these protocols.
    fn enter(&mut self, connection: Connection, offered: Arc<[StreamProtocol]>) -> Result<Handler, ConnectionDenied> {
        let (id, peer) = (connection.id, connection.peer);
        if self.by_peer.get(&peer).is_some_and(|open| *open >= self.door.per_peer) {
            return self.refuse("peer");
        }
        let connection = Arc::new(connection);
        self.connections.insert(id, connection.clone());
        Ok(Handler::new(connection, offered, self.serve.clone()))
    }

    fn forget(&mut self, id: ConnectionId) {
        self.permits.remove(&id);
        self.beginning.leave(id);
        self.dialling.remove(&id);
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
        if !remote.iter().any(|part| matches!(part, Protocol::Udp(_))) {
            return self.admit(id, remote);
        }
        if self.beginning.enter(id, ip_of(remote).map(AddressKey::from)) { Ok(()) } else { self.refuse("beginning") }
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        // Over QUIC its address is proven only now.
        if self.beginning.leave(id) {
            self.admit(id, remote)?;
        }
        self.enter(Connection::incoming(peer, id, remote), self.offered.clone())
    }

    /// The relay dials nobody but to tell peers whether they can be reached: where the peer is connected from, and nowhere
    /// that only machines near the relay can reach.
    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        _role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        if self.dialling.len() >= MAX_DIALLING {
            return self.refuse("dialling");
        }
        let known = |address: &Multiaddr| {
            let key = ip_of(address).filter(|ip| is_global(*ip)).map(AddressKey::from);
            key.is_some() && self.connections.values().any(|open| Some(open.peer) == peer && open.address == key)
        };
        if !addresses.iter().all(known) {
            return self.refuse("dial_elsewhere");
        }
        self.dialling.insert(id);
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        _role: Endpoint,
        _port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.dialling.remove(&id);
        // It is there to show that the peer can be reached, and for nothing else.
        self.enter(Connection::outgoing(peer, id, remote), Arc::default())
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

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn one_address_cannot_have_all_connections_that_are_being_made() {
        let (mut beginning, id) = (Beginning::default(), ConnectionId::new_unchecked);
        let from = |host: u8| Some(AddressKey::from(IpAddr::from([192, 0, 2, host])));
        let taken = (0..1000).filter(|n| beginning.enter(id(*n), from(1))).count();
        assert_eq!(taken, MAX_BEGINNING_OF_ADDRESS);
        assert!(beginning.enter(id(2000), from(2)));
        assert!(beginning.leave(id(0)) && !beginning.leave(id(0)));
        assert!(beginning.enter(id(2001), from(1)));
        for n in 0..3000 {
            beginning.enter(id(3000 + n), from(u8::try_from(n % 200).unwrap()));
        }
        assert_eq!(beginning.all.len(), MAX_BEGINNING);
        for n in 0..6000 {
            beginning.leave(id(n));
        }
        assert!(beginning.all.is_empty() && beginning.of_addresses.is_empty());
    }
}
