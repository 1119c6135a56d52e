//! The vault service: live requests from agents to vaults, the Delegated Custody Protocol.
//!
//! [`state`] holds the rules, for one vault, without input or output; [`service`] runs them for all vaults of this
//! node; the other files are the ways in: an agent's socket, a vault's socket, HTTP, and other nodes.

mod admin;
mod afar;
mod agent;
mod effects;
mod frames;
pub mod http;
mod limit;
mod pair;
pub mod pairing;
mod peers;
mod record;
mod refusal;
mod register;
pub mod service;
mod session_mode;
mod snapshot;
mod socket;
mod span;
mod state;
mod upkeep;

pub use agent::AgentProtocol;
pub use pairing::PairingResponse;
pub use record::{PollToken, Submitter};
pub use service::{VaultService, VaultSettings};
pub use session_mode::Role;
pub use snapshot::Snapshot;
pub use socket::VaultProtocol;
