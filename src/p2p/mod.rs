//! libp2p: places for peers that cannot be reached directly, and circuits to them, whichever node each half is at.
//!
//! [`host`] has the swarm and the ports; [`streams`] hands on what peers open; [`circuit`] serves circuit relay
//! version 2, [`rendezvous`] says who is to be found where.

pub mod addresses;
pub mod circuit;
mod framing;
mod host;
pub mod identity;
mod multiplex;
mod observed;
pub mod rendezvous;
pub mod streams;
mod swarm;

pub use circuit::CircuitLimits;
pub use host::{Host, HostError, HostParts, HostSettings, KeyPlace};
pub use rendezvous::RendezvousLimits;
