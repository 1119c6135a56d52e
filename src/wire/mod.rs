//! Bytes to and from the words of the domain, one file a protocol. Pure: no sockets, no clock, no randomness.

pub mod gossip;
