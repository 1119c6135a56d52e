//! Calling a peer, and keeping the link: connects, says hello, and starts over, ever less often, when it breaks.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tonic::Request;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic_prost::ProstCodec;
use tower::service_fn;

use super::Inner;
use super::peer::Peer;
use super::proto::{Batch, Frame, Ping, frame::Body};
use super::queue::Queue;
use crate::cluster::links::stream::NodeStream;
use crate::runtime::backoff::Backoff;
use crate::security::tls::ClusterTls;

const LINK: PathAndQuery = PathAndQuery::from_static("/waystation.federation.v1.Federation/Link");

/// Largest batch, or blob, that is read: the largest body, and room for what stands around it.
pub const BATCH_LIMIT: usize = 17 << 20;

/// Waits between two attempts.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// A link has lasted if it ends later than this: the next attempt need not wait longer than the first.
const LASTED: Duration = Duration::from_secs(10);

/// A peer is pinged this many times in the time after which it is taken for dead.
const PINGS: u32 = 3;

#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("no connection: {0}")]
    Connect(#[from] tonic::transport::Error),
    #[error("no answer in time")]
    Slow(#[from] tokio::time::error::Elapsed),
    #[error("refused: {0}")]
    Refused(#[from] tonic::Status),
    #[error("{0}")]
    Unfit(String),
    #[error("the other side closed it")]
    Closed,
}

/// Keeps the link to `peer` until this node stops.
pub async fn run(inner: Arc<Inner>, peer: Arc<Peer>) {
    let stop = inner.supervisor.token();
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    loop {
        let begun = Instant::now();
        let Some(ended) = stop.run_until_cancelled(call(&inner, &peer)).await else { return };
        let error = match ended {
            Err(error) => error.to_string(),
            Ok(never) => match never {},
        };
        if let Some(left_out) = inner.may_log("link") {
            tracing::warn!(peer = %peer.name, error, left_out, "no link to another cluster");
        }
        peer.down(error);
        if begun.elapsed() > LASTED {
            backoff.reset();
        }
        if stop.run_until_cancelled(tokio::time::sleep(backoff.next(rand::random()))).await.is_none() {
            return;
        }
    }
}

async fn call(inner: &Arc<Inner>, peer: &Arc<Peer>) -> Result<Infallible, CallError> {
    let patience = inner.settings.timeout;
    let endpoint = endpoint(patience);
    let channel = timeout(patience, endpoint.connect_with_connector(service_fn(connector(inner, peer)))).await??;
    let (queue, batches) = Queue::new(inner.metrics.clone());
    let hello = Batch { hello: Some(inner.hello()), frames: Vec::new() };
    let outgoing = stream::once(async { hello }).chain(batches);
    let mut grpc = Grpc::new(channel).max_decoding_message_size(BATCH_LIMIT);
    grpc.ready().await?;
    let calling = grpc.streaming(Request::new(outgoing), LINK, ProstCodec::<Batch, Batch>::default());
    let mut answers = timeout(patience, calling).await??.into_inner();
    let first = timeout(patience, answers.message()).await??;
    let theirs = first.and_then(|batch| batch.hello).ok_or(CallError::Closed)?;
    inner.check(&theirs).map_err(CallError::Unfit)?;
    tracing::info!(peer = %peer.name, relay = theirs.relay_id, region = theirs.region, "linked to another cluster");
    peer.up(queue.clone(), theirs);
    if let Some(service) = inner.cluster.afar.mailbox.get() {
        service.peer_up(&peer.name);
    }
    let mut pings = interval(patience / PINGS);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reports = std::pin::pin!(inner.report_capacity(&queue));
    let mut heard = Instant::now();
    loop {
        tokio::select! {
            batch = answers.message() => {
                heard = Instant::now();
                let frames = batch?.ok_or(CallError::Closed)?.frames;
                inner.metrics.federation.frames_received.inc_by(frames.len() as u64);
                frames.into_iter().for_each(|frame| told(inner, peer, frame));
            }
            _ = pings.tick() => {
                if heard.elapsed() >= patience {
                    return Err(CallError::Unfit(format!("it was silent for {} s", patience.as_secs())));
                }
                ping(inner, peer);
            }
            () = &mut reports => return Err(CallError::Closed),
        }
    }
}

fn told(inner: &Inner, peer: &Peer, frame: Frame) {
    match frame.body {
        Some(Body::Reply(reply)) => {
            if let Some(body) = reply.body {
                inner.asks.close(reply.ask, body);
            }
        }
        Some(Body::Capacity(capacity)) => peer.holds(capacity),
        Some(Body::Mail(mail)) => {
            let (about, body) = (mail.node.parse(), mail.frame.and_then(|frame| frame.body));
            if let (Ok(about), Some(body), Some(service)) = (about, body, inner.cluster.afar.mailbox.get()) {
                service.told(&peer.name, about, body);
            }
        }
        Some(Body::Ping(_)) | None => inner.metrics.drop_one("federation", "unknown_frame"),
    }
}

fn ping(inner: &Arc<Inner>, peer: &Arc<Peer>) {
    let (number, answer) = inner.asks.open();
    if peer.push(number.get(), Body::Ping(Ping {})).is_err() {
        return;
    }
    let (peer, patience, begun) = (peer.clone(), inner.settings.timeout, Instant::now());
    inner.supervisor.spawn_quiet(async move {
        if let Ok(Ok(_)) = timeout(patience, answer).await {
            peer.answered_after(begun.elapsed());
        }
    });
}

/// Connects when it is used first, and again when it is used after it broke.
pub fn channel(inner: &Arc<Inner>, peer: &Arc<Peer>) -> Channel {
    let patience = inner.settings.timeout;
    endpoint(patience).connect_timeout(patience).connect_with_connector_lazy(service_fn(connector(inner, peer)))
}

fn endpoint(patience: Duration) -> Endpoint {
    // The URI is never resolved: the connector knows the address.
    Endpoint::from_static("http://peer.waystation.internal")
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .http2_keep_alive_interval(patience / PINGS)
        .keep_alive_timeout(patience)
        .keep_alive_while_idle(true)
}

type Connecting = BoxFuture<'static, io::Result<TokioIo<NodeStream>>>;

fn connector(inner: &Arc<Inner>, peer: &Arc<Peer>) -> impl FnMut(Uri) -> Connecting + Send + 'static {
    let (address, tls) = (peer.url.address.clone(), inner.settings.tls.clone());
    move |_| {
        let (address, tls) = (address.clone(), tls.clone());
        Box::pin(async move {
            let tcp = TcpStream::connect(&address).await?;
            tcp.set_nodelay(true)?;
            Ok(TokioIo::new(match tls {
                None => NodeStream::Plain(tcp),
                Some(tls) => {
                    // Whichever node answers.
                    let name = ClusterTls::any_node().map_err(io::Error::other)?;
                    let connector = tokio_rustls::TlsConnector::from(tls.client);
                    NodeStream::Client(Box::new(connector.connect(name, tcp).await?))
                }
            }))
        })
    }
}
