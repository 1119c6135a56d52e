//! Noise inside a WebSocket, for clients that know the relay's key (Vauchi relay protocol, section 8).
//!
//! `Noise_NK_25519_ChaChaPoly_BLAKE2s`, no prologue. The client begins, stays anonymous, and knows the relay's
//! [`StaticKey`]; after one message each way both have a [`Transport`]. What marks a Noise connection on the wire
//! stands in front of both handshake messages, is no part of them, and is left to the caller.
//!
//! Nothing here reads or writes a socket, and nothing grows: a message is at most [`MAX_MESSAGE_BYTES`] long, and
//! a connection keeps two keys and two counters.

mod handshake;
mod key;
mod transport;

pub use handshake::{Initiator, Responder};
pub use key::{KeyError, PAIR_BYTES, StaticKey};
pub use transport::Transport;

/// The only pattern that is spoken.
const PATTERN: &str = "Noise_NK_25519_ChaChaPoly_BLAKE2s";

/// Length of an X25519 key, private or public.
pub const KEY_BYTES: usize = 32;

/// What sealing adds to a frame.
pub const TAG_BYTES: usize = 16;

/// Length of each handshake message without payload: an ephemeral key and a tag.
pub const HANDSHAKE_BYTES: usize = KEY_BYTES + TAG_BYTES;

/// Longest Noise message.
pub const MAX_MESSAGE_BYTES: usize = 65_535;

/// Longest frame that one message holds. Frames are not split.
pub const MAX_FRAME_BYTES: usize = MAX_MESSAGE_BYTES - TAG_BYTES;

/// Why Noise does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoiseError {
    /// A handshake message that is too short, too long, or made for another key.
    #[error("this is no Noise handshake for the relay's key: take the key from /pubkey")]
    Handshake,
    /// A frame of this many bytes cannot be sealed.
    #[error("a frame of {0} bytes does not fit into one Noise message: it may have 65519")]
    TooLarge(usize),
    /// A message that was not sealed by the other side, is not the next one, or was changed. The connection goes on
    /// as if it had not come.
    #[error("this message cannot be opened: it is not the next one that was sealed for this connection")]
    Sealed,
    /// The cryptographic library refuses what cannot be refused, or 2^64 messages were sealed.
    #[error("Noise does not work on this connection any more: connect again")]
    Broken,
}
