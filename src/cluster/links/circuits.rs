//! Circuits whose halves are at two nodes: a call each, on a connection apart from the links, so that bytes that nobody
//! reads hold up no frame.
//!
//! A call begins with who is to be connected and the answer to that. From then on it carries bytes both ways, each way
//! until it says that it has ended: a call that breaks off before has lost the rest, and is no orderly end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures::stream::BoxStream;
use futures::{AsyncRead, AsyncWrite, Stream, StreamExt};
use http::uri::PathAndQuery;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::PollSender;
use tonic::client::Grpc;
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::cluster::proto::{CircuitEnd, CircuitOpen, CircuitPart, circuit_part::Part};
use crate::cluster::shares::Party;
use crate::domain::ids::NodeRun;

use super::client::{circuits_channel, hello};
use super::{AskError, Inner, LinkRefused, Links, Peer};

const CIRCUIT: PathAndQuery = PathAndQuery::from_static("/waystation.cluster.v1.Cluster/Circuit");

/// Most bytes in one part.
const PART_BYTES: usize = 64 << 10;

/// Largest part on the wire: its bytes and what says so.
pub const PART_LIMIT: usize = PART_BYTES + 1024;

/// Parts that may wait to be sent: one under way, one behind it.
pub const PARTS: usize = 2;

/// How far a circuit that comes from elsewhere may be handed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Not at all: it comes from a node of this cluster.
    Node,
    /// To the node of this cluster that holds its target: it comes from another cluster, of which this party calls.
    Cluster(Party),
}

/// Who has the other halves of circuits that begin elsewhere. Called as they come; must not block.
pub trait Exchange: Send + Sync {
    /// A half that is elsewhere is to be connected to one here. What becomes of it is answered first, by
    /// [`FarHalf::answer`].
    fn circuit(&self, reach: Reach, open: CircuitOpen, half: FarHalf);
}

impl Links {
    /// Says who has the other halves of circuits. Later calls have no effect.
    pub fn exchange_with(&self, exchange: Arc<dyn Exchange>) {
        self.inner.exchange.fill(exchange);
    }

    /// Who has them, once it is there.
    #[must_use]
    pub fn exchange(&self) -> Option<Arc<dyn Exchange>> {
        self.inner.exchange.get()
    }

    /// Has that run of that node connect a circuit: the half there, or the status with which it refuses.
    ///
    /// # Errors
    /// [`AskError`]; `patience` at most after the call.
    pub async fn circuit(
        &self,
        to: &NodeRun,
        mut open: CircuitOpen,
        patience: Duration,
    ) -> Result<Result<FarHalf, i32>, AskError> {
        let inner = &self.inner;
        let known = inner.peers.read().get(&to.node).filter(|peer| peer.run == *to).cloned();
        let peer = known.filter(|peer| !inner.settings.cut.is_cut(peer.gossip)).ok_or(LinkRefused::Gone)?;
        open.hello = Some(hello(inner));
        match tokio::time::timeout(patience, call(inner, &peer, open)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(status)) => Err(AskError::Failed(status.message().to_owned())),
            Err(_) => Err(AskError::TimedOut),
        }
    }
}

async fn call(inner: &Arc<Inner>, peer: &Arc<Peer>, open: CircuitOpen) -> Result<Result<FarHalf, i32>, Status> {
    let channel = peer.circuits.get_or_init(|| circuits_channel(inner, peer)).clone();
    let mut grpc = Grpc::new(channel).max_decoding_message_size(PART_LIMIT);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let (sender, parts) = mpsc::channel(PARTS);
    let first = futures::stream::iter([CircuitPart { part: Some(Part::Open(open)) }]);
    let request = Request::new(first.chain(ReceiverStream::new(parts)));
    let codec = ProstCodec::<CircuitPart, CircuitPart>::default();
    let mut incoming = grpc.streaming(request, CIRCUIT, codec).await?.into_inner();
    Ok(status(&mut incoming).await?.map(|()| FarHalf::new(sender, incoming)))
}

/// The status of a circuit that stands (circuit relay version 2, "Status codes").
const OK: i32 = 100;

/// What became of a circuit, as the first part of the answer says; the status with which it is refused.
///
/// # Errors
/// When the call fails before.
pub async fn status(answer: &mut Streaming<CircuitPart>) -> Result<Result<(), i32>, Status> {
    match answer.message().await?.and_then(|part| part.part) {
        Some(Part::Status(OK)) => Ok(Ok(())),
        Some(Part::Status(refused)) => Ok(Err(refused)),
        _ => Err(Status::internal("nothing was said of the circuit")),
    }
}

/// The half of a circuit that is at another node, or in another cluster.
pub struct FarHalf {
    outgoing: PollSender<CircuitPart>,
    incoming: BoxStream<'static, Result<CircuitPart, Status>>,
    current: Bytes,
    ended: bool,
}

impl FarHalf {
    /// Of which this is said, and that heard.
    pub fn new(
        outgoing: mpsc::Sender<CircuitPart>,
        incoming: impl Stream<Item = Result<CircuitPart, Status>> + Send + 'static,
    ) -> Self {
        let incoming = incoming.boxed();
        Self { outgoing: PollSender::new(outgoing), incoming, current: Bytes::new(), ended: false }
    }

    /// Tells the other node what became of its circuit; bytes follow only [`OK`].
    pub async fn answer(&mut self, status: i32) {
        if let Some(sender) = self.outgoing.get_ref() {
            // A node that does not hear it has hung up.
            sender.send(CircuitPart { part: Some(Part::Status(status)) }).await.unwrap_or_default();
        }
    }

    fn send(&mut self, cx: &mut Context<'_>, part: impl FnOnce() -> Part) -> Poll<io::Result<()>> {
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        ready!(self.outgoing.poll_reserve(cx)).map_err(|_| broken())?;
        Poll::Ready(self.outgoing.send_item(CircuitPart { part: Some(part()) }).map_err(|_| broken()))
    }
}

impl AsyncRead for FarHalf {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        while self.current.is_empty() {
            if self.ended {
                return Poll::Ready(Ok(0));
            }
            match ready!(self.incoming.poll_next_unpin(cx)) {
                Some(Ok(CircuitPart { part: Some(Part::Data(bytes)) })) => self.current = bytes,
                Some(Ok(CircuitPart { part: Some(Part::End(_)) })) => self.ended = true,
                Some(Ok(_)) => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
                Some(Err(status)) => return Poll::Ready(Err(io::Error::other(status))),
                None => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            }
        }
        let taken = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..taken]);
        Poll::Ready(Ok(taken))
    }
}

impl AsyncWrite for FarHalf {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let part = &bytes[..bytes.len().min(PART_BYTES)];
        ready!(self.send(cx, || Part::Data(Bytes::copy_from_slice(part))))?;
        Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was handed to the call is sent as soon as it can be.
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.outgoing.is_closed() {
            ready!(self.send(cx, || Part::End(CircuitEnd {})))?;
            self.outgoing.close();
        }
        Poll::Ready(Ok(()))
    }
}

/// The answer to another node's call.
pub type Answer = ReceiverStream<CircuitPart>;

impl Inner {
    /// Another node's call, of which the first part has been read.
    pub fn connected(&self, open: CircuitOpen, parts: Streaming<CircuitPart>) -> Result<Answer, Status> {
        let exchange = self.exchange.get().ok_or_else(|| Status::unavailable("this node keeps no circuits"))?;
        let (sender, answer) = mpsc::channel(PARTS);
        exchange.circuit(Reach::Node, open, FarHalf::new(sender, parts));
        Ok(ReceiverStream::new(answer))
    }
}
