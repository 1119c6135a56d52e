//! What libp2p peers say: circuit relay version 2, what is signed in it, rendezvous, gossipsub, and the protocols of Dusk.
//!
//! Messages are those of the specification, read strictly: what is missing or unknown where it matters is an error
//! with the status that the specification has for it. Peer ids and addresses are bytes here; whoever uses them knows
//! what they are.

pub mod cbor;
pub mod circuit;
pub mod delimited;
pub mod directory;
pub mod envelope;
pub mod gif;
pub mod peer_record;
pub mod pubsub;
pub mod rendezvous;
pub mod turn_credentials;
pub mod voucher;
pub mod yamux;
