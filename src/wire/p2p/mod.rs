//! What libp2p peers say: circuit relay version 2, and what is signed in it.
//!
//! Messages are those of the specification, read strictly: what is missing or unknown where it matters is an error
//! with the status that the specification has for it. Peer ids and addresses are bytes here; whoever uses them knows
//! what they are.

pub mod circuit;
pub mod delimited;
pub mod envelope;
pub mod peer_record;
pub mod rendezvous;
pub mod voucher;
pub mod yamux;
