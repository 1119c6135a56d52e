//! libp2p: places for peers that cannot be reached directly, and circuits to them, whichever node each half is at.
//!
//! [`host`] puts the relay together, and `running` is its swarm; [`streams`] hands on what peers open; [`circuit`] serves circuit relay
//! version 2, [`rendezvous`] says who is to be found where, [`directory`] by which name, and [`turn_credentials`] opens a
//! TURN server. What all nodes know of peers is theirs by [`spread`]. [`gossip`] passes on what is said to all, and [`gif`]
//! looks for pictures.

pub mod addresses;
mod boxed;
pub mod circuit;
pub mod directory;
mod framing;
pub mod gif;
pub mod gossip;
mod host;
pub mod identity;
mod multiplex;
mod observed;
mod parts;
mod peers;
mod rates;
pub mod rendezvous;
mod running;
mod served;
pub mod spread;
pub mod streams;
mod swarm;
pub mod turn_credentials;

pub use circuit::CircuitLimits;
pub use directory::DirectoryLimits;
pub use gif::{GifLimits, ProviderParts};
pub use gossip::GossipLimits;
pub use host::Host;
pub use identity::KeyPlace;
pub use parts::{HostError, HostParts, HostSettings};
pub use rendezvous::RendezvousLimits;
pub use turn_credentials::TurnCredentialsSettings;

/// A count, as figures have it.
fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
