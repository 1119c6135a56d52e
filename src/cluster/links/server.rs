//! The receiving end of links: checks who calls, then reads frames in order.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::cluster::PROTOCOL;
use crate::cluster::proto::circuit_part::Part;
use crate::cluster::proto::cluster_server::{Cluster, ClusterServer};
use crate::cluster::proto::{Batch, CircuitPart, Hello, MoveReply, MoveRequest, PullPage, PullRequest, Welcome};
use crate::domain::ids::{Generation, NodeRun};
use crate::observe::log_gate::LogGate;
use crate::observe::metrics::count;

use super::client::CIRCUITS_WINDOW;
use super::held::{Holding, until_sent};
use super::{BATCH_LIMIT, Incoming, Inner, accept};

/// How long a caller may take for its hello.
const TIMEOUT_HELLO: Duration = Duration::from_secs(5);

/// HTTP/2 window of one stream: what a link, or a circuit that nobody reads, keeps in memory.
const STREAM_WINDOW: u32 = 512 << 10;

/// Why the node-to-node port cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listener has no address.
    #[error("the node-to-node port: {0}")]
    Listener(#[from] io::Error),
    /// gRPC failed as a whole.
    #[error("the node-to-node port: {0}")]
    Grpc(#[from] tonic::transport::Error),
}

pub async fn serve(inner: Arc<Inner>, listener: TcpListener) -> Result<(), ServeError> {
    let stop = inner.supervisor.token();
    let gate = Arc::new(Mutex::new(LogGate::once_a_minute()));
    let tls = {
        let inner = inner.clone();
        move || inner.settings.tls.as_ref().map(|tls| tls.server.clone())
    };
    let refused = {
        let (inner, gate) = (inner.clone(), gate.clone());
        move |error: &io::Error| {
            let reason = if error.kind() == io::ErrorKind::TimedOut { "timeout" } else { "tls" };
            reject(&inner, &gate, reason, &error.to_string());
        }
    };
    let accepted = accept::accepted("node-to-node accept", listener, tls, None, &inner.supervisor, refused);
    let service = ClusterServer::new(Service { inner, gate })
        .max_decoding_message_size(BATCH_LIMIT)
        .max_encoding_message_size(BATCH_LIMIT);
    let serving = tonic::transport::Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CIRCUITS_WINDOW)
        .http2_keepalive_interval(Some(Duration::from_secs(5)))
        .http2_keepalive_timeout(Some(Duration::from_secs(5)))
        .add_service(Holding(service))
        .serve_with_incoming(accepted);
    // Not gracefully: a link is never done, and its frames have been handed on as they came.
    match stop.run_until_cancelled(serving).await {
        Some(ended) => Ok(ended?),
        None => Ok(()),
    }
}

type Gate = Arc<Mutex<LogGate>>;

fn reject(inner: &Inner, gate: &Gate, reason: &'static str, detail: &str) {
    count(&inner.metrics.cluster.peer_rejected, reason);
    if let Some(left_out) = gate.lock().pass(reason, Instant::now()) {
        tracing::warn!(reason, detail, left_out, "refused a node");
    }
}

struct Service {
    inner: Arc<Inner>,
    gate: Gate,
}

#[tonic::async_trait]
impl Cluster for Service {
    type LinkStream = Pin<Box<dyn Stream<Item = Result<Welcome, Status>> + Send>>;

    async fn link(&self, request: Request<Streaming<Batch>>) -> Result<Response<Self::LinkStream>, Status> {
        let mut batches = request.into_inner();
        let first = tokio::time::timeout(TIMEOUT_HELLO, batches.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no hello in time"))??;
        let hello = first.and_then(|batch| batch.hello).ok_or_else(|| Status::invalid_argument("no hello"));
        let from = match hello.and_then(|hello| self.check(&hello)) {
            Ok(from) => from,
            Err(status) => return Err(status),
        };
        let inner = &self.inner;
        let token = inner.supervisor.token().child_token();
        let incoming = Incoming { run: from.clone(), end: token.clone(), seen: false };
        if let Some(older) = inner.incoming.write().insert(from.node.clone(), incoming) {
            older.end.cancel();
        }
        let me = &inner.settings.me;
        let welcome = Welcome { node_id: me.node.to_string(), generation: me.generation.0 };
        inner.supervisor.spawn_quiet(read(inner.clone(), from, batches, token.clone()));
        // The answer stays open until reading ends, and so tells the caller that it has ended.
        let open = futures::stream::once(async move { Ok(welcome) })
            .chain(futures::stream::once(token.cancelled_owned()).filter_map(|()| async { None }));
        Ok(Response::new(Box::pin(open)))
    }

    async fn pull(&self, request: Request<PullRequest>) -> Result<Response<PullPage>, Status> {
        let request = request.into_inner();
        let from = self.check(request.hello.as_ref().ok_or_else(|| Status::invalid_argument("no hello"))?)?;
        let (page, place) = self.inner.pulled(&from.node, request).await?;
        Ok(until_sent(page, place))
    }

    async fn r#move(&self, request: Request<MoveRequest>) -> Result<Response<MoveReply>, Status> {
        let request = request.into_inner();
        let from = self.check(request.hello.as_ref().ok_or_else(|| Status::invalid_argument("no hello"))?)?;
        Ok(Response::new(MoveReply { blobs: self.inner.moved(&from.node, request.blobs).await? }))
    }

    type CircuitStream = Pin<Box<dyn Stream<Item = Result<CircuitPart, Status>> + Send>>;

    async fn circuit(&self, request: Request<Streaming<CircuitPart>>) -> Result<Response<Self::CircuitStream>, Status> {
        let mut parts = request.into_inner();
        let first = tokio::time::timeout(TIMEOUT_HELLO, parts.message())
            .await
            .map_err(|_| Status::deadline_exceeded("nothing was asked for in time"))??;
        let Some(Part::Open(open)) = first.and_then(|part| part.part) else {
            return Err(Status::invalid_argument("nothing was asked for"));
        };
        self.check(open.hello.as_ref().ok_or_else(|| Status::invalid_argument("no hello"))?)?;
        let answer = self.inner.connected(open, parts)?;
        Ok(Response::new(Box::pin(answer.map(Ok))))
    }
}

impl Service {
    fn check(&self, hello: &Hello) -> Result<NodeRun, Status> {
        let settings = &self.inner.settings;
        let refuse = |reason, detail: String| {
            reject(&self.inner, &self.gate, reason, &detail);
            Status::permission_denied(detail)
        };
        if hello.cluster_id != settings.cluster.as_str() {
            return Err(refuse("cluster_id", "this is another cluster".to_owned()));
        }
        if hello.protocol != PROTOCOL {
            return Err(refuse("version", format!("protocol {} is not {PROTOCOL}", hello.protocol)));
        }
        let node = hello.node_id.parse().map_err(|error| refuse("malformed", format!("node id {error}")))?;
        let run = NodeRun { node, generation: Generation(hello.generation) };
        let newer = self.inner.incoming.read().get(&run.node).is_some_and(|i| i.run.generation > run.generation);
        if newer || run.node == settings.me.node {
            return Err(refuse("stale", "a newer run of that node is known".to_owned()));
        }
        Ok(run)
    }
}

async fn read(inner: Arc<Inner>, from: NodeRun, mut batches: Streaming<Batch>, token: CancellationToken) {
    // Whatever ends this ends the answer stream as well.
    let _end = token.clone().drop_guard();
    inner.stream_opened(&from);
    inner.link_up(&from);
    while let Some(Ok(Some(batch))) = token.run_until_cancelled(batches.message()).await {
        inner.metrics.cluster.frames_received.inc_by(batch.frames.len() as u64);
        for frame in batch.frames {
            inner.arrived(&from, frame);
        }
    }
}
