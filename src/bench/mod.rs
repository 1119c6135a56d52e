//! A load generator that drives any relay from outside, and the floor that a relay is judged against.
//!
//! It speaks only the public protocols (DCP relay protocol, sections 4 to 8; Vauchi relay protocol, sections 1 to 5),
//! so the figures of this relay and of any other are comparable. Four commands:
//!
//! - [`load`]: round trips from agents to vaults and back, as fast as a fixed number in flight allows;
//! - [`idle`]: many registered vaults that only send heartbeats, for the memory of one connection;
//! - [`mailbox`]: blobs that are stored, and delivered if asked for;
//! - [`floor`]: a bare WebSocket program that carries the same frames without reading them. What it costs is
//!   what the transport costs; the rest is the relay's own.

pub mod args;
pub mod client;
pub mod error;
pub mod floor;
pub mod frames;
pub mod histogram;
pub mod identity;
pub mod idle;
pub mod load;
pub mod mailbox;
pub mod process;
pub mod report;
pub mod tally;
pub mod target;

mod agent;
mod flights;
mod vault;
