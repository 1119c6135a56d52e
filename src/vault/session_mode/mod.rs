//! Session mode: the plain flow for clients that know nothing of signatures.
//!
//! A vault registers by its name alone; an agent pairs with it by a token, which the vault accepts or refuses; then
//! opaque messages pass both ways until either side ends. A session has two ends, [`vaults`] and [`agents`], which
//! speak to each other in [`words`], whether they are on one node or on two; [`table`] holds both and does no input
//! or output of its own. The other files are the sockets' part and the node's.
//!
//! Nobody proves anything here, so:
//! - a name that a key owns is never served: not registered, not paired with, and taken away when a key is bound
//!   to it. The names are principals of a kind of their own, so signed requests never come here;
//! - of several registrations of one name the newest gets new pairs; the others keep what they have;
//! - a session's name is 128 random bits, and even so a frame of it is taken only from the socket, or the node,
//!   at which its end is known to be;
//! - nothing is kept: a vault that goes ends its sessions, and so does a node that dies, and a message that is lost
//!   between two nodes, which is noticed by a number on each.

mod agent_socket;
mod agents;
mod passed;
mod refusal;
mod role;
mod serve;
mod table;
#[cfg(test)]
mod tests;
mod vault_socket;
mod vaults;
mod words;

pub use role::Role;
pub use table::{Table, reason};
pub use words::Word;
