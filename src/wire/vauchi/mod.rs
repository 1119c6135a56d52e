//! The Vauchi mailbox protocol as the clients of January 2026 speak it.
//!
//! Section numbers in this folder are those of the protocol's fact sheet. A WebSocket message is a frame: four
//! bytes of length, then JSON whose byte strings are arrays of integers. [`incoming`] reads what clients send,
//! [`outgoing`] writes what they get; a blob's bytes are written once on the way in, into a buffer of their own,
//! and spelled once on the way out, into the frame ([`array`]).

pub mod array;
mod cursor;
pub mod frame;
pub mod handshake;
pub mod incoming;
mod members;
pub mod outgoing;
pub mod payload;
pub mod proof;
#[cfg(test)]
mod tests;
mod writer;
