//! A load generator that drives any DCP relay from outside, and the floor that a relay is judged against.
//!
//! It speaks only the public protocol (DCP relay protocol, sections 4 to 8), so the figures of this relay and of
//! any other are comparable. Three commands:
//!
//! - [`load`]: round trips from agents to vaults and back, as fast as a fixed number in flight allows;
//! - [`idle`]: many registered vaults that only send heartbeats, for the memory of one connection;
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
pub mod process;
pub mod report;
pub mod tally;
pub mod target;

mod agent;
mod vault;
