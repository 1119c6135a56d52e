//! The transport that the gossip library is given: seals what goes out, opens what comes in.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use chitchat::ChitchatEnvelope;
use chitchat::transport::{RecvOutcome, SendOutcome, Socket, Transport};
use parking_lot::Mutex;
use tokio::net::UdpSocket;

use super::exchange::{Exchange, Taken};
use crate::cluster::cut::Cut;
use crate::observe::log_gate::LogGate;
use crate::observe::metrics::{Metrics, count};
use crate::wire::gossip::{Joiner, MAX_DATAGRAM_BYTES, Sealer};

/// Carries sealed gossip over a UDP socket that is bound already, so that its port is known before gossip
/// begins. Opens once.
pub struct SealedTransport {
    parts: Mutex<Option<Parts>>,
}

struct Parts {
    outer: UdpSocket,
    sealer: Sealer,
    cut: Cut,
    metrics: Arc<Metrics>,
}

impl SealedTransport {
    /// Over `outer`, with the key of `sealer`; what is cut is neither sent nor heard.
    #[must_use]
    pub fn new(outer: UdpSocket, sealer: Sealer, cut: Cut, metrics: Arc<Metrics>) -> Self {
        Self { parts: Mutex::new(Some(Parts { outer, sealer, cut, metrics })) }
    }
}

#[async_trait]
impl Transport for SealedTransport {
    async fn open(&self, _listen: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let parts = self.parts.lock().take();
        let Parts { outer, sealer, cut, metrics } =
            parts.ok_or_else(|| anyhow::anyhow!("the gossip socket is open already"))?;
        Ok(Box::new(SealedSocket {
            outer,
            sealer,
            exchange: Exchange::open().await?,
            joiner: Joiner::default(),
            rejects: Rejects { cut, metrics, gate: LogGate::once_a_minute() },
            buffer: vec![0; MAX_DATAGRAM_BYTES + 1],
        }))
    }
}

struct SealedSocket {
    outer: UdpSocket,
    sealer: Sealer,
    exchange: Exchange,
    joiner: Joiner,
    rejects: Rejects,
    buffer: Vec<u8>,
}

#[async_trait]
impl Socket for SealedSocket {
    fn local_addr(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.outer.local_addr()?)
    }

    async fn send(&mut self, to: SocketAddr, message: ChitchatEnvelope) -> anyhow::Result<SendOutcome> {
        let mut sent = SendOutcome { num_bytes_sent: 0 };
        if self.rejects.is_cut(to) {
            return Ok(sent);
        }
        let Some(bytes) = self.exchange.bytes_of(message).await? else {
            self.rejects.note("lost", None);
            return Ok(sent);
        };
        for datagram in self.sealer.seal(bytes, rand::random)? {
            match self.outer.send_to(&datagram, to).await {
                Ok(length) => sent.num_bytes_sent += length,
                // An address that cannot be reached now is a matter of that member, not of the socket.
                Err(error) => self.rejects.note("unsent", Some(&error)),
            }
        }
        Ok(sent)
    }

    async fn recv(&mut self) -> anyhow::Result<RecvOutcome> {
        loop {
            // This future may be dropped at any await: a datagram received is dealt with before the next one.
            let free = self.exchange.is_free();
            let outside = tokio::select! {
                taken = self.exchange.take() => Err(taken?),
                received = self.outer.recv_from(&mut self.buffer), if free => Ok(received),
            };
            match outside {
                Ok(received) => self.accept(received)?,
                Err(Taken::Message(message)) => return Ok(message),
                Err(Taken::Injected) => self.rejects.note("injected", None),
                Err(Taken::Late) => self.rejects.note("lost", None),
                Err(Taken::Unreadable) => self.rejects.note("malformed", None),
            }
        }
    }
}

impl SealedSocket {
    /// Opens one datagram and hands what is whole to the library.
    fn accept(&mut self, received: io::Result<(usize, SocketAddr)>) -> io::Result<()> {
        let (length, from) = match received {
            Ok(received) => received,
            Err(error) if is_passing(&error) => {
                self.rejects.note("unreceived", Some(&error));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if self.rejects.is_cut(from) {
            return Ok(());
        }
        match self.sealer.open(self.buffer.get(..length).unwrap_or_default()) {
            Ok(part) => {
                let now = tokio::time::Instant::now();
                let whole = self.joiner.join(from, part, now.into_std());
                for _ in 0..self.joiner.take_lost() {
                    self.rejects.note("unfinished", None);
                }
                if whole.is_some_and(|bytes| !self.exchange.give(from, &bytes, now)) {
                    self.rejects.note("lost", None);
                }
            }
            Err(rejected) => self.rejects.note(rejected.reason(), Some(&rejected)),
        }
        Ok(())
    }
}

/// Errors after which a UDP socket still works: a peer that was not there, or a moment without memory.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, NetworkUnreachable, OutOfMemory,
    };
    matches!(
        error.kind(),
        ConnectionRefused | ConnectionReset | HostUnreachable | Interrupted | NetworkUnreachable | OutOfMemory
    )
}

/// Counts what is thrown away, and says so in the log once a minute for each reason.
struct Rejects {
    cut: Cut,
    metrics: Arc<Metrics>,
    gate: LogGate,
}

impl Rejects {
    /// What is cut on purpose is counted, and is no news.
    fn is_cut(&self, address: SocketAddr) -> bool {
        let cut = self.cut.is_cut(address);
        if cut {
            count(&self.metrics.cluster.gossip_rejected, "cut");
        }
        cut
    }

    fn note(&mut self, reason: &'static str, why: Option<&dyn std::error::Error>) {
        count(&self.metrics.cluster.gossip_rejected, reason);
        if let Some(left_out) = self.gate.pass(reason, Instant::now()) {
            let why = why.map(ToString::to_string);
            tracing::warn!(reason, why, left_out, "gossip thrown away");
        }
    }
}
