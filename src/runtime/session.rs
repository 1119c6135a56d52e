//! The contract between a connection and the protocol spoken on it.
//!
//! The connection owns the socket: it reads, writes, pings, and measures time. The protocol owns the meaning:
//! it is told of messages and answers through its [`Outbox`](super::outbox::Outbox). It never blocks; what has
//! to wait (a registration that is checked on another node) is handed back as a future, and no further message
//! of this connection is read until that is done, while writing goes on. What need not hold up the next message is
//! gone on with by the connection's task, see [`Protocol::proceed`].

use std::future::Future;
use std::pin::Pin;
use std::task::Context;

/// One message of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
}

impl<'a> Incoming<'a> {
    /// The bytes, whichever kind the message is.
    #[must_use]
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }
}

/// What the connection does after a message or a tick.
pub enum Step {
    /// Reads on.
    Continue,
    /// Runs this to its end before it reads the next message.
    Wait(Pin<Box<dyn Future<Output = ()> + Send>>),
    /// Sends what is queued, then closes with this code (RFC 6455, section 7.4) and reason.
    Close(u16, &'static str),
}

/// A protocol on one connection. Dropped when the connection has ended, whatever ended it.
pub trait Protocol: Send {
    /// A message has arrived.
    fn on_message(&mut self, message: Incoming<'_>) -> Step;

    /// Called about once a second, so that the protocol can notice the passing of time.
    fn on_tick(&mut self) -> Step {
        Step::Continue
    }

    /// Goes on with what was begun, as far as that is possible now; what is left wakes `context`. Called whenever the
    /// connection's task runs: before it writes, and again after messages have come.
    fn proceed(&mut self, context: &mut Context<'_>) {
        let _ = context;
    }

    /// The other side asked for a sign of life.
    fn on_ping(&mut self) {}

    /// The longest message that is read, in bytes, where `configured` is the operator's limit. A longer one closes
    /// the connection with 1009. It may shrink once the first message has come.
    fn message_limit(&self, configured: usize) -> usize {
        configured
    }

    /// Whether the connection is in use even when nothing is said on it; an idle one that is not is closed.
    fn in_use(&self) -> bool;
}
