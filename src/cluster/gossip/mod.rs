//! Gossip that only nodes of the cluster can read or write.
//!
//! The gossip library sends its messages in the clear and takes them from anybody. Its transport can be
//! replaced, but what a replacement is given is a message that only the library can turn into bytes. So the
//! library's own UDP socket does that over loopback ([`exchange`]), and [`transport`] seals those bytes and
//! carries them between nodes.

mod exchange;
mod transport;

pub use transport::SealedTransport;
