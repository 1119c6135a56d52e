//! The sending end of a link: connects, says hello, drains its queue, and starts over when it breaks.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use futures::future::BoxFuture;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::TcpStream;
use tonic::Request;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::cluster::PROTOCOL;
use crate::cluster::proto::{Batch, Hello};
use crate::runtime::backoff::Backoff;
use crate::security::tls::ClusterTls;

use super::codec::LinkCodec;
use super::stream::NodeStream;
use super::{Inner, Peer};

/// The one call between nodes.
const LINK: PathAndQuery = PathAndQuery::from_static("/waystation.cluster.v1.Cluster/Link");

/// How long a connection, and then the other's welcome, may take.
pub const TIMEOUT_CONNECT: Duration = Duration::from_secs(2);

/// HTTP/2 window of one stream: what may be on its way unread.
const STREAM_WINDOW: u32 = 1 << 20;

/// HTTP/2 window of a connection.
const CONNECTION_WINDOW: u32 = 4 << 20;

/// HTTP/2 window of one circuit: what one that nobody reads keeps in memory.
const CIRCUIT_WINDOW: u32 = 256 << 10;

/// HTTP/2 window of a connection of circuits. As large as it can be: circuits that nobody reads must not take all of it
/// from those that somebody does. Their number and their own windows bound what is kept.
pub const CIRCUITS_WINDOW: u32 = (1 << 31) - 1;

/// Longest wait between two attempts: a node that is back is linked again within this time.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// How often a link looks whether it has been cut on purpose.
const CUT_CHECK: Duration = Duration::from_millis(100);

/// Keeps the link to `peer` until it is gone from the view or this node stops; one that leaves does not open it
/// again.
pub async fn run(inner: Arc<Inner>, peer: Arc<Peer>) {
    let mut backoff = Backoff::new(Duration::from_millis(50), LONGEST_WAIT);
    while !peer.gone.is_cancelled() && !inner.leaving.load(Ordering::Relaxed) {
        let attempt = link(&inner, &peer, &mut backoff);
        if let Some(Err(error)) = peer.gone.run_until_cancelled(attempt).await {
            tracing::debug!(peer = %peer.run, %error, "link broken");
        }
        peer.queue.break_off();
        peer.broken.notify_waiters();
        peer.gone.run_until_cancelled(tokio::time::sleep(backoff.next(rand::random()))).await;
    }
}

#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("no connection: {0}")]
    Connect(#[from] tonic::transport::Error),
    #[error("no answer in time")]
    Slow(#[from] tokio::time::error::Elapsed),
    #[error("refused: {0}")]
    Refused(#[from] tonic::Status),
    #[error("another run answers at that address")]
    WrongRun,
    #[error("the other side closed it")]
    Closed,
}

async fn link(inner: &Arc<Inner>, peer: &Arc<Peer>, backoff: &mut Backoff) -> Result<(), LinkError> {
    let channel = tokio::time::timeout(TIMEOUT_CONNECT, connect(inner, peer)).await??;
    let outgoing = Outgoing { hello: Some(hello(inner)), peer: peer.clone() };
    let mut grpc = Grpc::new(channel);
    grpc.ready().await?;
    let call = grpc.streaming(Request::new(outgoing), LINK, LinkCodec);
    let mut answers = tokio::time::timeout(TIMEOUT_CONNECT, call).await??.into_inner();
    let welcome = tokio::time::timeout(TIMEOUT_CONNECT, answers.message()).await??.ok_or(LinkError::Closed)?;
    if welcome.node_id != peer.run.node.as_str() || welcome.generation != peer.run.generation.0 {
        return Err(LinkError::WrongRun);
    }
    backoff.reset();
    peer.queue.open();
    let _up = Up::new(inner, peer);
    inner.link_up(&peer.run);
    // Nothing more is said on this stream; it ends with the link.
    tokio::select! {
        ended = answers.message() => ended.map_err(LinkError::from).and(Err(LinkError::Closed)),
        () = until_cut(inner, peer) => Err(LinkError::Closed),
    }
}

async fn until_cut(inner: &Inner, peer: &Peer) {
    while !inner.settings.cut.is_cut(peer.gossip) {
        tokio::time::sleep(CUT_CHECK).await;
    }
}

/// Who this node is.
pub fn hello(inner: &Inner) -> Hello {
    let me = &inner.settings.me;
    Hello {
        cluster_id: inner.settings.cluster.to_string(),
        protocol: PROTOCOL,
        node_id: me.node.to_string(),
        generation: me.generation.0,
    }
}

async fn connect(inner: &Arc<Inner>, peer: &Arc<Peer>) -> Result<Channel, tonic::transport::Error> {
    endpoint().connect_with_connector(service_fn(connector(inner, peer))).await
}

/// Connects when it is used first, and again when it is used after it broke.
pub fn channel(inner: &Arc<Inner>, peer: &Arc<Peer>) -> Channel {
    endpoint().connect_timeout(TIMEOUT_CONNECT).connect_with_connector_lazy(service_fn(connector(inner, peer)))
}

/// As [`channel`], for circuits.
pub fn circuits_channel(inner: &Arc<Inner>, peer: &Arc<Peer>) -> Channel {
    endpoint()
        .initial_stream_window_size(CIRCUIT_WINDOW)
        .initial_connection_window_size(CIRCUITS_WINDOW)
        .connect_timeout(TIMEOUT_CONNECT)
        .connect_with_connector_lazy(service_fn(connector(inner, peer)))
}

fn endpoint() -> Endpoint {
    // The URI is never resolved: the connector knows the address.
    Endpoint::from_static("http://node.waystation.internal")
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true)
}

fn connector(inner: &Arc<Inner>, peer: &Arc<Peer>) -> impl FnMut(Uri) -> Connecting + Send + 'static {
    let (address, gossip, node) = (peer.grpc.clone(), peer.gossip, peer.run.node.clone());
    let (tls, cut) = (inner.settings.tls.clone(), inner.settings.cut.clone());
    move |_| {
        let (address, node, tls, cut) = (address.clone(), node.clone(), tls.clone(), cut.clone());
        Box::pin(async move {
            if cut.is_cut(gossip) {
                return Err(io::Error::from(io::ErrorKind::ConnectionRefused));
            }
            let tcp = TcpStream::connect(&address).await?;
            tcp.set_nodelay(true)?;
            Ok(TokioIo::new(match tls {
                None => NodeStream::plain(tcp),
                Some(tls) => {
                    let name = ClusterTls::name_of(&node).map_err(io::Error::other)?;
                    let connector = tokio_rustls::TlsConnector::from(tls.client);
                    NodeStream::called(connector.connect(name, tcp).await?)
                }
            }))
        })
    }
}

type Connecting = BoxFuture<'static, io::Result<TokioIo<NodeStream>>>;

/// The figure of links that are up, for as long as this one is.
struct Up<'a>(&'a Inner);

impl<'a> Up<'a> {
    fn new(inner: &'a Inner, peer: &Peer) -> Self {
        tracing::info!(peer = %peer.run, "link up");
        inner.metrics.cluster.links_up.inc();
        Self(inner)
    }
}

impl Drop for Up<'_> {
    fn drop(&mut self) {
        self.0.metrics.cluster.links_up.dec();
    }
}

/// Hello, then whatever the queue holds.
struct Outgoing {
    hello: Option<Hello>,
    peer: Arc<Peer>,
}

impl Stream for Outgoing {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(hello) = self.hello.take() {
            let hello = Batch { hello: Some(hello), frames: Vec::new() };
            return Poll::Ready(Some(hello.encode_to_vec().into()));
        }
        self.peer.queue.poll_batch(context).map(Some)
    }
}
