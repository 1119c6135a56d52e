//! Waystation: a relay for end-to-end encrypted traffic between people who cannot reach each other directly.
//!
//! Any node serves any client: what is registered, stored or reserved on one node is reached from every other.
//! The modules below are listed in the order of their dependencies: each uses only those above it.

pub mod cluster;
pub mod domain;
pub mod observe;
pub mod runtime;
pub mod security;
pub mod wire;
