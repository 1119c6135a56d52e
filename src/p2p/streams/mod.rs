//! Streams of the protocols that are served here: each that a peer opens is handed to whoever serves it, with the
//! connection that it came by, and others are opened towards a peer on a connection that is known.
//!
//! Nothing passes through the swarm's own task: a connection hands on its streams by itself, and opens those that are
//! wanted from a queue of its own. So the cost of either does not grow with the number of connections.

mod behaviour;
mod connection;
mod handler;
mod hold;

use std::sync::Arc;

use libp2p::{Stream, StreamProtocol};

pub use behaviour::{Door, Streams};
pub(super) use connection::ip_of;
pub use connection::{Carried, Connection, OpenError};
pub use hold::{Hold, Serving, Work};

/// Who serves the streams that peers open. Called by the tasks of connections; must not block.
pub trait Serve: Send + Sync + 'static {
    /// A peer has opened a stream of one of the protocols that are offered.
    fn stream(&self, connection: &Arc<Connection>, protocol: StreamProtocol, stream: Stream);

    /// A connection stands.
    fn opened(&self, connection: &Arc<Connection>);

    /// Goes on with what the task of a connection carried that has ended.
    fn outlive(&self, work: Carried);

    /// A connection has ended, and its streams with it.
    fn closed(&self, connection: &Arc<Connection>);
}
