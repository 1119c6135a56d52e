//! Bytes from outside to domain types and back, one file a protocol. Nothing here does input or output.

pub mod dcp;
pub mod gossip;
pub mod p2p;
pub mod vauchi;
