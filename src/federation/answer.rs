//! The port that nodes of other clusters call.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use futures::{Stream, StreamExt, stream};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tonic::{Code, Request, Response, Status, Streaming};
use tower::util::MapRequestLayer;

use super::callers::{CIRCUITS, Standing};
use super::inflow::{Admission, BATCH_LIMIT, Inflow, Refused};
use super::proof::Side;
use super::proto::federation_server::{Federation, FederationServer};
use super::proto::{Batch, CircuitCall, Frame, Hello, OffloadPart, PullRequest, frame::Body};
use super::queue::Queue;
use super::{Federation as Ways, Inner, circuits, offload, vaults};
use crate::cluster::convert;
use crate::cluster::links::accept;
use crate::cluster::links::circuits::PART_LIMIT;
use crate::cluster::links::held::{Holding, until_sent};
use crate::cluster::links::stream::Origin;
use crate::cluster::proto::{Done, OwnersFound, OwnersQuery, PullPage, frame, reply};
use crate::cluster::regions::{self, Regions};
use crate::cluster::shares::{Party, Place, Places};
use crate::security::peer_tls::{Shown, fault};

/// Most calls on one connection of a caller: all circuits that a party may have, and 64.
const MAX_STREAMS: u32 = CIRCUITS.party as u32 + 64;

/// Bytes after which a page for a caller ends, and places that it may ask for at a time.
const PAGE_BYTES: u32 = 1 << 20;
const PAGE_PLACES: usize = 16;

/// Longest blob that is offered: the largest body, and room for what stands around it.
const OFFER_LIMIT: usize = 17 << 20;

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
    let doors = Some(inner.callers.doors.clone());
    let accepted = accept::accepted("federation accept", listener, tls, doors, &inner.supervisor, refused);
    let alive = inner.settings.timeout;
    let too_long: Arc<Refused> = {
        let inner = inner.clone();
        Arc::new(move |detail| inner.refuse("too_long", detail))
    };
    let limited = move |mut request: http::Request<tonic::body::Body>| {
        let admission = Admission::default();
        request.extensions_mut().insert(admission.clone());
        request.map(|body| tonic::body::Body::new(Inflow::new(body, admission, too_long.clone())))
    };
    let service = FederationServer::new(Service { inner })
        .max_decoding_message_size(BATCH_LIMIT)
        .max_encoding_message_size(BATCH_LIMIT);
    let serving = tonic::transport::Server::builder()
        .layer(MapRequestLayer::new(limited))
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
        let (asker, mut batches) = Asker::of(request);
        let first = timeout(inner.settings.timeout, batches.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no hello in time"))??;
        let theirs = first.and_then(|batch| batch.hello);
        let (theirs, party) = self.admit(theirs, &asker, false).await?;
        if inner.has_left() {
            return Err(Status::unavailable("this node has left service"));
        }
        let (queue, outgoing) = Queue::new(inner.metrics.clone());
        let standing = inner.callers.begin(&party, &queue).ok_or_else(|| self.crowded("links", &party))?;
        asker.admission.admit(BATCH_LIMIT, &inner.callers.reading, &party);
        inner.metrics.federation.callers.inc();
        let caller = standing.number;
        tracing::info!(caller, relay = theirs.relay_id, region = theirs.region, "another cluster has called");
        inner.supervisor.spawn_quiet(read(inner.clone(), standing, queue, asker.origin.shown, batches));
        let hello = Batch { hello: Some(inner.hello()), frames: Vec::new() };
        Ok(Response::new(Box::pin(stream::once(async { hello }).chain(outgoing).map(Ok))))
    }

    async fn pull(&self, request: Request<PullRequest>) -> Result<Response<PullPage>, Status> {
        let (asker, PullRequest { hello, node, what }) = Asker::of(request);
        let (_, party) = self.admit(hello, &asker, true).await?;
        let place = self.place("pulls", &self.inner.callers.pulls, &party)?;
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
        let (asker, mut parts) = Asker::of(request);
        let first = timeout(self.inner.settings.timeout, parts.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no hello in time"))??;
        let (_, party) = self.admit(first.and_then(|part| part.hello), &asker, true).await?;
        let place = self.place("offers", &self.inner.callers.offers, &party)?;
        asker.admission.admit(OFFER_LIMIT, &self.inner.callers.reading, &party);
        Ok(Response::new(offload::answer(&self.inner, place, asker.origin.shown, parts)))
    }

    type CircuitStream = circuits::Answer;

    async fn circuit(&self, request: Request<Streaming<CircuitCall>>) -> Result<Response<Self::CircuitStream>, Status> {
        let (asker, mut calls) = Asker::of(request);
        let first = timeout(self.inner.settings.timeout, calls.message())
            .await
            .map_err(|_| Status::deadline_exceeded("nothing was asked for in time"))??;
        let (hello, part) = first.map(|call| (call.hello, call.part)).unwrap_or_default();
        let (_, party) = self.admit(hello, &asker, true).await?;
        let place = self.place("circuits", &self.inner.callers.circuits, &party)?;
        asker.admission.admit(PART_LIMIT, &self.inner.callers.reading, &party);
        // What is still to be sent when a circuit has ended is its caller's as well.
        let place = Arc::new(place);
        let answer = circuits::answer(&self.inner, (party, place.clone()), asker.origin.shown, part, calls)?;
        Ok(until_sent(answer, place))
    }
}

impl Service {
    /// Who it is, and whose share it takes, if it is to be spoken to.
    async fn admit(&self, hello: Option<Hello>, asker: &Asker, beside: bool) -> Result<(Hello, Party), Status> {
        let hello = hello.ok_or_else(|| Status::invalid_argument("no hello"))?;
        let admitted = self.inner.admit(Side::Called, &hello, &asker.origin.shown, beside).await;
        let relay = admitted.map_err(|unfit| Status::permission_denied(unfit.detail))?;
        Ok((hello, self.inner.settings.proof.party_of(&relay, &asker.origin)))
    }

    fn place(&self, what: &'static str, places: &Places, party: &Party) -> Result<Place, Status> {
        places.take(party, 1).ok_or_else(|| self.crowded(what, party))
    }

    /// Refuses who has as many of these as it may have.
    fn crowded(&self, what: &'static str, party: &Party) -> Status {
        let text = format!("{party} has as many {what} here as it may have, or all have together");
        self.inner.refuse(what, &text);
        Status::resource_exhausted(text)
    }
}

/// Who calls.
struct Asker {
    origin: Origin,
    admission: Admission,
}

impl Asker {
    fn of<T>(request: Request<T>) -> (Self, T) {
        let origin = request.extensions().get::<Origin>().cloned().unwrap_or_default();
        let admission = request.extensions().get::<Admission>().cloned().unwrap_or_default();
        (Self { origin, admission }, request.into_inner())
    }
}

/// Reads what a caller says until it hangs up, or is silent for too long.
async fn read(inner: Arc<Inner>, standing: Standing, queue: Queue, shown: Shown, mut batches: Streaming<Batch>) {
    let (stop, caller) = (inner.supervisor.token(), standing.number);
    let hear = async {
        let patience: Duration = 2 * inner.settings.timeout;
        loop {
            match timeout(patience, batches.message()).await {
                Ok(Ok(Some(batch))) => {
                    inner.metrics.federation.frames_received.inc_by(batch.frames.len() as u64);
                    batch.frames.into_iter().for_each(|frame| asked(&inner, caller, frame));
                }
                Ok(Err(status)) if status.code() == Code::ResourceExhausted => {
                    return inner.refuse("too_many_parts", status.message());
                }
                Ok(Ok(None) | Err(_)) | Err(_) => return,
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
    drop(standing);
    inner.metrics.federation.callers.dec();
    tracing::info!(caller, "another cluster has hung up");
    if let Some(service) = inner.cluster.afar.mailbox.get() {
        service.hung_up(regions::Caller(caller));
    }
    if let Some(service) = inner.cluster.afar.vault.get() {
        service.hung_up(regions::Caller(caller));
    }
}

fn asked(inner: &Arc<Inner>, caller: u64, Frame { ask, body }: Frame) {
    let Some(state) = inner.callers.get(caller) else { return };
    let reply = |body| state.reply(ask, body).unwrap_or_default();
    match body {
        Some(Body::Ping(_)) => reply(reply::Body::Done(Done::default())),
        Some(Body::Mail(mail)) => {
            let body =
                mail.frame.and_then(|frame| frame.body).filter(is_about_mailboxes).filter(vaults::has_short_names);
            let (Some(body), Some(service)) = (body, inner.cluster.afar.mailbox.get()) else {
                inner.metrics.drop_one("federation", "unfit_frame");
                return reply(reply::Body::Failed("this is nothing to be asked".to_owned()));
            };
            if !state.may_ask(ask) {
                return vaults::busy(inner, &state, ask);
            }
            if ask == 0 && matches!(body, frame::Body::OwnersQuery(_)) {
                return inner.metrics.drop_one("federation", "unfit_frame");
            }
            if let frame::Body::OwnersQuery(query) = body {
                return inner.supervisor.spawn_quiet(answer_owners(inner.clone(), caller, ask, query));
            }
            service.asked(regions::Caller(caller), ask, mail.node.parse().ok(), body);
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
    Ways { inner }.reply(regions::Caller(caller), ask, reply::Body::Owners(OwnersFound { keys }));
}
