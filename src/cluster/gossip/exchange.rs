//! Gossip messages to bytes and back, by way of the library's own UDP socket on loopback.
//!
//! Two sockets: the library's (`inner`) and ours (`shim`), which is connected to it, so that the kernel lets
//! nothing of other processes through. The library's cannot be connected; what other processes send to it is
//! told by its sender's address and counted as injected.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use chitchat::ChitchatEnvelope;
use chitchat::transport::{RecvOutcome, Socket, UdpSocket as LibrarySocket};
use tokio::net::UdpSocket;
use tokio::time::Instant;

/// How long bytes may be under way on loopback before they are given up. They arrive within microseconds
/// unless the library cannot read them, or the machine is out of buffers.
const PATIENCE: Duration = Duration::from_millis(50);

/// The two sockets.
pub struct Exchange {
    inner: LibrarySocket,
    shim: UdpSocket,
    shim_address: SocketAddr,
    /// What was handed to the library and not taken up yet: who sent it, and until when it is awaited. Kept
    /// here and not in a future, because the library drops its receiving future at every tick.
    under_way: Option<(SocketAddr, Instant)>,
    buffer: Vec<u8>,
}

/// What came out of the library's socket.
pub enum Taken {
    /// A message from the node that sent its bytes.
    Message(RecvOutcome),
    /// A message that another process of this machine slipped in.
    Injected,
    /// A message that had been given up, so that its sender is no longer known.
    Late,
    /// The bytes handed over were no message that the library knows.
    Unreadable,
}

impl Exchange {
    /// Binds both sockets to loopback.
    ///
    /// # Errors
    /// If loopback cannot be bound.
    pub async fn open() -> anyhow::Result<Self> {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let inner = LibrarySocket::open(loopback).await?;
        let shim = UdpSocket::bind(loopback).await?;
        shim.connect(inner.local_addr()?).await?;
        // Until the socket has been seen writable once, `try_send` would refuse.
        shim.writable().await?;
        let shim_address = shim.local_addr()?;
        Ok(Self { inner, shim, shim_address, under_way: None, buffer: vec![0; 1 << 16] })
    }

    /// The bytes of `message`; `None` if they were lost on the way.
    ///
    /// # Errors
    /// If loopback fails, or the message is too long for a datagram.
    pub async fn bytes_of(&mut self, message: ChitchatEnvelope) -> anyhow::Result<Option<&[u8]>> {
        // What an earlier call gave up on may have arrived since.
        while self.shim.try_recv(&mut self.buffer).is_ok() {}
        self.inner.send(self.shim_address, message).await?;
        match tokio::time::timeout(PATIENCE, self.shim.recv(&mut self.buffer)).await {
            Ok(length) => Ok(self.buffer.get(..length?)),
            Err(_) => Ok(None),
        }
    }

    /// Whether the library can be given bytes now: it takes one message at a time.
    pub fn is_free(&self) -> bool {
        self.under_way.is_none()
    }

    /// Hands the bytes that `from` sent to the library; false if loopback would not take them.
    pub fn give(&mut self, from: SocketAddr, bytes: &[u8], now: Instant) -> bool {
        let given = self.is_free() && self.shim.try_send(bytes).is_ok();
        if given {
            self.under_way = Some((from, now + PATIENCE));
        }
        given
    }

    /// Waits for the library's socket. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// If the library's socket is broken.
    pub async fn take(&mut self) -> anyhow::Result<Taken> {
        let Some((from, deadline)) = self.under_way else {
            let unasked = self.inner.recv().await?;
            return Ok(if unasked.from_addr == self.shim_address { Taken::Late } else { Taken::Injected });
        };
        let Ok(received) = tokio::time::timeout_at(deadline, self.inner.recv()).await else {
            self.under_way = None;
            return Ok(Taken::Unreadable);
        };
        let mut message = received?;
        if message.from_addr != self.shim_address {
            return Ok(Taken::Injected);
        }
        self.under_way = None;
        message.from_addr = from;
        Ok(Taken::Message(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chitchat::{ChitchatMessage, ProtocolVersion};

    fn message() -> ChitchatEnvelope {
        ChitchatEnvelope { version: ProtocolVersion::V1, message: ChitchatMessage::BadCluster }
    }

    #[tokio::test]
    async fn a_message_goes_out_as_bytes_and_comes_back_from_its_sender() {
        let (mut near, mut far) = (Exchange::open().await.unwrap(), Exchange::open().await.unwrap());
        let bytes = near.bytes_of(message()).await.unwrap().unwrap().to_vec();
        let from = ([10, 0, 0, 1], 7).into();
        assert!(far.give(from, &bytes, Instant::now()));
        assert!(!far.give(from, &bytes, Instant::now()), "one at a time");
        let Taken::Message(taken) = far.take().await.unwrap() else { panic!("no message") };
        assert_eq!((taken.from_addr, taken.envelope), (from, message()));
        assert!(far.is_free());
    }

    #[tokio::test]
    async fn what_the_library_cannot_read_does_not_block_the_next() {
        let mut exchange = Exchange::open().await.unwrap();
        assert!(exchange.give(([10, 0, 0, 1], 7).into(), b"nonsense", Instant::now()));
        assert!(matches!(exchange.take().await.unwrap(), Taken::Unreadable));
        assert!(exchange.is_free());
    }

    #[tokio::test]
    async fn another_process_cannot_inject_even_while_a_message_is_awaited() {
        let mut exchange = Exchange::open().await.unwrap();
        let mut intruder = LibrarySocket::open((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let target = exchange.inner.local_addr().unwrap();
        intruder.send(target, message()).await.unwrap();
        assert!(matches!(exchange.take().await.unwrap(), Taken::Injected));
        intruder.send(target, message()).await.unwrap();
        let bytes = Exchange::open().await.unwrap().bytes_of(message()).await.unwrap().unwrap().to_vec();
        assert!(exchange.give(([10, 0, 0, 1], 7).into(), &bytes, Instant::now()));
        assert!(matches!(exchange.take().await.unwrap(), Taken::Injected));
        assert!(matches!(exchange.take().await.unwrap(), Taken::Message(_)));
    }
}
