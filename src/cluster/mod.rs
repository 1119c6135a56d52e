//! The nodes of one cluster: who is there.
//!
//! [`membership`] keeps the [`view::View`] of live nodes, over gossip that [`gossip`] seals.

pub mod cut;
pub mod facts;
pub mod gossip;
pub mod membership;
pub mod view;

/// The version of what nodes say to one another. A node leaves those of another version alone.
pub const PROTOCOL: u32 = 1;
