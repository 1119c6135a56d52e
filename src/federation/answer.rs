//! The port that nodes of other clusters call.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use futures::{Stream, StreamExt, stream};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming};

use super::call::BATCH_LIMIT;
use super::proof::Side;
use super::proto::federation_server::{Federation, FederationServer};
use super::proto::{Batch, Frame, OffloadPart, PullRequest, frame::Body};
use super::queue::Queue;
use super::{CallerState, Federation as Ways, Inner, offload, vaults};
use crate::cluster::convert;
use crate::cluster::links::accept;
use crate::cluster::links::held::{Holding, until_sent};
use crate::cluster::proto::{Done, OwnersFound, OwnersQuery, PullPage, Reply, frame, reply};
use crate::cluster::regions::{Caller, Regions};
use crate::security::peer_tls::{Shown, fault};

/// Most nodes of other clusters that may have called at one time.
const MAX_CALLERS: usize = 256;

/// Most calls on one connection of a caller.
const MAX_STREAMS: u32 = 64;

/// Most pages for callers that are read from the stores, or not yet sent, at one time; more are refused.
pub const PULLS: usize = 128;

/// Bytes after which a page for a caller ends, and places that it may ask for at a time.
const PAGE_BYTES: u32 = 1 << 20;
const PAGE_PLACES: usize = 16;

/// Most questions of one caller that are worked on at one time; more are answered with a failure.
pub const MAX_OPEN: usize = 256;

/// Most names that are asked for at a time.
const MAX_NAMES: usize = 256;

/// A page of a mailbox: the largest blob, and room for what stands around it.
pub const PAGE_LIMIT: usize = 40 << 20;

/// Why the federation port cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listener has no address.
    #[error("the federation port: {0}")]
    Listener(#[from] io::Error),
    /// gRPC failed as a whole.
    #[error("the federation port: {0}")]
    Grpc(#[from] tonic::transport::Error),
}

pub async fn serve(inner: Arc<Inner>, listener: TcpListener) -> Result<(), ServeError> {
    let stop = inner.supervisor.token();
    let refused = {
        let inner = inner.clone();
        move |error: &io::Error| inner.refuse(fault(error), &error.to_string())
    };
    let tls = {
        let inner = inner.clone();
        move || inner.settings.proof.server()
    };
    let accepted = accept::accepted("federation accept", listener, tls, &inner.supervisor, refused);
    let alive = inner.settings.timeout;
    let service = FederationServer::new(Service { inner })
        .max_decoding_message_size(BATCH_LIMIT)
        .max_encoding_message_size(PAGE_LIMIT);
    let serving = tonic::transport::Server::builder()
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .max_concurrent_streams(MAX_STREAMS)
        .http2_keepalive_interval(Some(alive))
        .http2_keepalive_timeout(Some(alive))
        .add_service(Holding(service))
        .serve_with_incoming(accepted);
    match stop.run_until_cancelled(serving).await {
        Some(ended) => Ok(ended?),
        None => Ok(()),
    }
}

struct Service {
    inner: Arc<Inner>,
}

#[tonic::async_trait]
impl Federation for Service {
    type LinkStream = Pin<Box<dyn Stream<Item = Result<Batch, Status>> + Send>>;

    async fn link(&self, request: Request<Streaming<Batch>>) -> Result<Response<Self::LinkStream>, Status> {
        let inner = &self.inner;
        let shown = shown(&request);
        let mut batches = request.into_inner();
        let first = timeout(inner.settings.timeout, batches.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no hello in time"))??;
        let theirs = first.and_then(|batch| batch.hello).ok_or_else(|| Status::invalid_argument("no hello"))?;
        self.admit(&theirs, &shown).await?;
        if inner.has_left() {
            return Err(Status::unavailable("this node has left service"));
        }
        let (queue, outgoing) = Queue::new(inner.metrics.clone());
        let caller = inner.next_caller.fetch_add(1, Ordering::Relaxed);
        {
            let mut callers = inner.callers.lock();
            if callers.len() >= MAX_CALLERS {
                inner.refuse("too_many", "too many nodes of other clusters have called");
                return Err(Status::resource_exhausted("too many callers"));
            }
            callers.insert(caller, CallerState { queue: queue.clone(), open: Arc::default() });
        }
        inner.metrics.federation.callers.inc();
        tracing::info!(caller, relay = theirs.relay_id, region = theirs.region, "another cluster has called");
        inner.supervisor.spawn_quiet(read(inner.clone(), caller, queue, shown, batches));
        let hello = Batch { hello: Some(inner.hello()), frames: Vec::new() };
        Ok(Response::new(Box::pin(stream::once(async { hello }).chain(outgoing).map(Ok))))
    }

    async fn pull(&self, request: Request<PullRequest>) -> Result<Response<PullPage>, Status> {
        let shown = shown(&request);
        let PullRequest { hello, node, what } = request.into_inner();
        self.admit(&hello.ok_or_else(|| Status::invalid_argument("no hello"))?, &shown).await?;
        let place = self.inner.pulls.clone().try_acquire_owned().map_err(|_| {
            self.inner.refuse("pulls", "too many pages are being read by callers at once");
            Status::resource_exhausted("too many pages are being read at once")
        })?;
        let node = node.parse().map_err(|_| Status::invalid_argument("no node"))?;
        let mut what = what.ok_or_else(|| Status::invalid_argument("nothing asked for"))?;
        what.bytes = what.bytes.min(PAGE_BYTES);
        what.at.truncate(PAGE_PLACES);
        let service = self.inner.cluster.afar.mailbox.get();
        let service = service.ok_or_else(|| Status::unavailable("this node is starting or has stopped"))?;
        Ok(until_sent(service.pulled(node, what).await.map_err(Status::unavailable)?, place))
    }

    type OffloadStream = offload::Answers;

    async fn offload(&self, request: Request<Streaming<OffloadPart>>) -> Result<Response<Self::OffloadStream>, Status> {
        let shown = shown(&request);
        let mut parts = request.into_inner();
        let first = timeout(self.inner.settings.timeout, parts.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no hello in time"))??;
        let theirs = first.and_then(|part| part.hello).ok_or_else(|| Status::invalid_argument("no hello"))?;
        self.admit(&theirs, &shown).await?;
        Ok(Response::new(offload::answer(&self.inner, shown, parts)?))
    }
}

impl Service {
    async fn admit(&self, hello: &super::proto::Hello, shown: &Shown) -> Result<(), Status> {
        let admitted = self.inner.admit(Side::Called, hello, shown).await;
        admitted.map_err(|unfit| Status::permission_denied(unfit.detail))
    }
}

fn shown<T>(request: &Request<T>) -> Shown {
    request.extensions().get::<Shown>().cloned().unwrap_or_default()
}

/// Reads what a caller says until it hangs up, or is silent for too long.
async fn read(inner: Arc<Inner>, caller: u64, queue: Queue, shown: Shown, mut batches: Streaming<Batch>) {
    let stop = inner.supervisor.token();
    let hear = async {
        let patience: Duration = 2 * inner.settings.timeout;
        while let Ok(Ok(Some(batch))) = timeout(patience, batches.message()).await {
            inner.metrics.federation.frames_received.inc_by(batch.frames.len() as u64);
            for frame in batch.frames {
                asked(&inner, caller, frame);
            }
        }
    };
    tokio::select! {
        () = hear => {}
        () = inner.report_capacity(&queue) => {}
        () = inner.send_off(&queue) => {}
        unfit = inner.settings.proof.lapsed(Side::Called, &shown) => inner.refuse(unfit.reason, &unfit.detail),
        () = stop.cancelled() => {}
    }
    inner.callers.lock().remove(&caller);
    inner.metrics.federation.callers.dec();
    tracing::info!(caller, "another cluster has hung up");
    if let Some(service) = inner.cluster.afar.mailbox.get() {
        service.hung_up(Caller(caller));
    }
    if let Some(service) = inner.cluster.afar.vault.get() {
        service.hung_up(Caller(caller));
    }
}

fn asked(inner: &Arc<Inner>, caller: u64, Frame { ask, body }: Frame) {
    let Some(state) = inner.callers.lock().get(&caller).cloned() else { return };
    let reply = |body| state.queue.push(0, Body::Reply(Reply { ask, body: Some(body) })).unwrap_or_default();
    match body {
        Some(Body::Ping(_)) => reply(reply::Body::Done(Done::default())),
        Some(Body::Mail(mail)) => {
            let body =
                mail.frame.and_then(|frame| frame.body).filter(is_about_mailboxes).filter(vaults::has_short_names);
            let (Some(body), Some(service)) = (body, inner.cluster.afar.mailbox.get()) else {
                inner.metrics.drop_one("federation", "unfit_frame");
                return reply(reply::Body::Failed("this is nothing to be asked".to_owned()));
            };
            if ask != 0 && state.open.fetch_add(1, Ordering::AcqRel) >= MAX_OPEN {
                state.open.fetch_sub(1, Ordering::AcqRel);
                inner.metrics.drop_one("federation", "busy");
                return reply(reply::Body::Failed("busy".to_owned()));
            }
            if let frame::Body::OwnersQuery(query) = body {
                return inner.supervisor.spawn_quiet(answer_owners(inner.clone(), caller, ask, query));
            }
            service.asked(Caller(caller), ask, mail.node.parse().ok(), body);
        }
        Some(Body::Vault(vault)) => vaults::asked(inner, caller, &state, ask, vault),
        // What a caller stores matters to those who call it.
        Some(Body::Capacity(_)) => {}
        Some(Body::Reply(_) | Body::Leaving(_)) | None => inner.metrics.drop_one("federation", "unknown_frame"),
    }
}

/// Nothing else of what nodes of one cluster say to one another is taken from outside.
fn is_about_mailboxes(body: &frame::Body) -> bool {
    use frame::Body::{MailAck, MailInterest, MailKnown, MailMark, MailPurge, OwnersQuery};
    matches!(body, MailInterest(_) | MailMark(_) | MailAck(_) | MailKnown(_) | MailPurge(_) | OwnersQuery(_))
}

async fn answer_owners(inner: Arc<Inner>, caller: u64, ask: u64, query: OwnersQuery) {
    let claims = &inner.cluster.claims;
    let asked = query.principals.iter().take(MAX_NAMES).map(|principal| async move {
        match convert::principal_from(Some(principal)) {
            Some(principal) => claims.owner_of(&principal).await.unwrap_or_default(),
            None => Bytes::new(),
        }
    });
    let keys = join_all(asked).await;
    Ways { inner }.reply(Caller(caller), ask, reply::Body::Owners(OwnersFound { keys }));
}
