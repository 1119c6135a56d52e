//! Waystation: a relay for end-to-end encrypted traffic between people who cannot reach each other directly.
//!
//! Any node serves any client: what is registered, stored or reserved on one node is reached from every other.
//! ARCHITECTURE.md says which module may use which; a test holds them to it.

pub mod bench;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod domain;
pub mod edge;
pub mod federation;
pub mod mailbox;
pub mod node;
pub mod observe;
pub mod p2p;
pub mod runtime;
pub mod security;
pub mod store;
pub mod vault;
pub mod wire;
