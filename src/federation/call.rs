//! Calling a peer, and keeping the link: connects, says hello, and starts over, ever less often, when it breaks.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tonic::Request;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::{ServiceExt, service_fn};

use super::inflow::{Admission, BATCH_LIMIT, Inflow, PeerCodec, Refused};
use super::peer::Peer;
use super::proof::{Changes, Side, Unfit};
use super::proto::{Batch, Frame, Ping, frame};
use super::queue::Queue;
use super::{Inner, vaults};
use crate::cluster::links::stream::{NodeStream, Origin};
use crate::config::PeerUrl;
use crate::runtime::backoff::Backoff;
use crate::security::peer_tls::fault;

const LINK: PathAndQuery = PathAndQuery::from_static("/waystation.federation.v1.Federation/Link");

/// Waits between two attempts. Together with [`TIMEOUT_TCP`] shorter than the grace of vaults (15 s): a peer that is back
/// soon is linked to before what waits for its vaults ends.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// How long a TCP connection may take: a host that is gone swallows what comes to it, and is called anew when it is back.
const TIMEOUT_TCP: Duration = Duration::from_secs(5);

/// A link has lasted if it stood for longer than anybody waits between two attempts.
const LASTED: Duration = RETRY.1;

/// A peer is pinged this many times in the time after which it is taken for dead.
const PINGS: u32 = 3;

/// Longest text of an error that is kept, in bytes.
const MAX_ERROR_BYTES: usize = 512;

#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("no connection")]
    Connect(#[from] tonic::transport::Error),
    #[error("no answer in time")]
    Slow(#[from] tokio::time::error::Elapsed),
    #[error("refused: {}", .0.message())]
    Refused(#[from] tonic::Status),
    #[error(transparent)]
    Unfit(#[from] Unfit),
    #[error("it was silent for {0} s")]
    Silent(u64),
    #[error("the other side closed it")]
    Closed,
    #[error("the node that answered leaves service")]
    Leaving,
}

/// Keeps the link to `peer` until it is removed or this node stops.
pub async fn run(inner: Arc<Inner>, peer: Arc<Peer>) {
    let stop = inner.supervisor.token();
    tokio::select! {
        never = keep(&inner, &peer) => match never {},
        () = peer.ending.cancelled() => {}
        () = stop.cancelled() => {}
    }
    peer.note_ended();
}

async fn keep(inner: &Arc<Inner>, peer: &Arc<Peer>) -> Infallible {
    let mut pace = Pace::new();
    let mut files = inner.settings.proof.changes();
    loop {
        let mut since = None;
        files.forget();
        let error = match call(inner, peer, &mut since).await {
            Err(error) => error,
            Ok(never) => match never {},
        };
        let hurries = pace.ended(since.map(|since| since.elapsed()));
        if matches!(error, CallError::Leaving) {
            tracing::info!(peer = %peer.name, "the node that answered leaves service: calling again");
            // Another node answers at once, if there is one.
            if hurries {
                continue;
            }
        } else {
            let error = with_causes(&error);
            if let Some(left_out) = inner.may_log("link") {
                tracing::warn!(peer = %peer.name, error, left_out, "no link to another cluster");
            }
            peer.failed(error);
        }
        rest(&mut pace.backoff, &mut files).await;
    }
}

/// When a peer is called again.
struct Pace {
    backoff: Backoff,
    may_hurry: bool,
}

impl Pace {
    fn new() -> Self {
        Self { backoff: Backoff::new(RETRY.0, RETRY.1), may_hurry: true }
    }

    /// A call has ended, whose link stood for so long; `None` if it never did. Whether the next one may be made soon, which
    /// it may if the last link has stood. But who ends them again and again, before they have lasted, is waited for.
    fn ended(&mut self, stood: Option<Duration>) -> bool {
        let has_lasted = stood > Some(LASTED);
        let hurries = has_lasted || (stood.is_some() && self.may_hurry);
        if hurries {
            self.backoff.reset();
            self.may_hurry = has_lasted;
        }
        hurries
    }
}

/// Waits for the next attempt; not for long, once files of certificates have changed: what kept the two apart may be gone.
async fn rest(backoff: &mut Backoff, files: &mut Changes) {
    let length = backoff.next(rand::random());
    tokio::select! {
        () = tokio::time::sleep(length) => {}
        () = files.next() => backoff.reset(),
    }
}

/// What tonic says of every error that is not one of the protocol.
const NOTHING_SAID: &str = "transport error";

/// An error, and what it came of: the outermost says little.
fn with_causes(error: &dyn Error) -> String {
    let (mut text, mut next) = (error.to_string(), error.source());
    while let Some(cause) = next {
        let said = cause.to_string();
        // A status says its message once more, and its code.
        if said != NOTHING_SAID && !text.contains(&said) && !cause.is::<tonic::Status>() {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    text.truncate(text.floor_char_boundary(MAX_ERROR_BYTES));
    text
}

/// Calls a peer; `since` is set once the link stands.
async fn call(inner: &Arc<Inner>, peer: &Arc<Peer>, since: &mut Option<Instant>) -> Result<Infallible, CallError> {
    let patience = inner.settings.timeout;
    let origin: Arc<Mutex<Origin>> = Arc::default();
    let connector = {
        let (inner, peer, origin) = (inner.clone(), peer.clone(), origin.clone());
        service_fn(move |_: Uri| {
            let (inner, peer, origin) = (inner.clone(), peer.clone(), origin.clone());
            async move {
                let stream = connect(&inner, &peer.url).await?;
                *origin.lock() = stream.connect_info();
                io::Result::Ok(TokioIo::new(stream))
            }
        })
    };
    let channel = timeout(patience, endpoint(patience).connect_with_connector(connector)).await??;
    let (queue, batches) = Queue::new(inner.metrics.clone());
    let hello = Batch { hello: Some(inner.hello()), frames: Vec::new() };
    let outgoing = stream::once(async { hello }).chain(batches);
    let admission = Admission::default();
    let limited = {
        let (inner, admission) = (inner.clone(), admission.clone());
        let too_long: Arc<Refused> = Arc::new(move |detail| inner.refuse("too_long", detail));
        move |response: http::Response<Body>| {
            response.map(|body| Body::new(Inflow::new(body, admission.clone(), too_long.clone())))
        }
    };
    let channel = ServiceExt::<http::Request<Body>>::map_response(channel, limited);
    let mut grpc = Grpc::new(channel).max_decoding_message_size(BATCH_LIMIT);
    grpc.ready().await?;
    let calling = grpc.streaming(Request::new(outgoing), LINK, PeerCodec::<Batch, Batch>::default());
    let mut answers = timeout(patience, calling).await??.into_inner();
    let first = timeout(patience, answers.message()).await??;
    let theirs = first.and_then(|batch| batch.hello).ok_or(CallError::Closed)?;
    let origin = origin.lock().clone();
    let relay = inner.admit(Side::Calling, &theirs, &origin.shown, false).await?;
    admission.admit(BATCH_LIMIT, &inner.callers.reading, &inner.settings.proof.party_of(&relay, &origin));
    tracing::info!(peer = %peer.name, relay = theirs.relay_id, region = theirs.region, "linked to another cluster");
    peer.up(queue.clone(), theirs);
    *since = Some(Instant::now());
    if let Some(service) = inner.cluster.afar.mailbox.get() {
        service.peer_up(&peer.name);
    }
    let _standing = vaults::Standing::begin(inner, peer);
    let mut pings = interval(patience / PINGS);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reports = std::pin::pin!(inner.report_capacity(&queue));
    let mut lapsed = std::pin::pin!(inner.settings.proof.lapsed(Side::Calling, &origin.shown));
    let mut heard = Instant::now();
    loop {
        tokio::select! {
            batch = answers.message() => {
                heard = Instant::now();
                let frames = batch?.ok_or(CallError::Closed)?.frames;
                inner.metrics.federation.frames_received.inc_by(frames.len() as u64);
                for frame in frames {
                    if matches!(frame.body, Some(frame::Body::Leaving(_))) {
                        return Err(CallError::Leaving);
                    }
                    told(inner, peer, frame);
                }
            }
            _ = pings.tick() => {
                if heard.elapsed() >= patience {
                    return Err(CallError::Silent(patience.as_secs()));
                }
                ping(inner, peer);
            }
            unfit = &mut lapsed => {
                inner.refuse(unfit.reason, &unfit.detail);
                peer.distrust();
                return Err(unfit.into());
            }
            () = &mut reports => return Err(CallError::Closed),
        }
    }
}

fn told(inner: &Inner, peer: &Peer, frame: Frame) {
    match frame.body {
        Some(frame::Body::Reply(reply)) => {
            if let Some(body) = reply.body {
                peer.asks.close(reply.ask, body);
            }
        }
        Some(frame::Body::Capacity(capacity)) => peer.holds(capacity),
        Some(frame::Body::Mail(mail)) => {
            let (about, body) = (mail.node.parse(), mail.frame.and_then(|frame| frame.body));
            if let (Ok(about), Some(body), Some(service)) = (about, body, inner.cluster.afar.mailbox.get()) {
                service.told(&peer.name, about, body);
            }
        }
        Some(frame::Body::Vault(vault)) => vaults::told(inner, peer, vault),
        Some(frame::Body::Ping(_) | frame::Body::Leaving(_)) | None => {
            inner.metrics.drop_one("federation", "unknown_frame")
        }
    }
}

fn ping(inner: &Arc<Inner>, peer: &Arc<Peer>) {
    let (number, answer) = peer.asks.open();
    if peer.push(number.get(), frame::Body::Ping(Ping {})).is_err() {
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
pub fn channel(inner: &Arc<Inner>, peer: &Peer) -> Channel {
    let (inner, url, patience) = (inner.clone(), peer.url.clone(), inner.settings.timeout);
    let connector = service_fn(move |_: Uri| {
        let (inner, url) = (inner.clone(), url.clone());
        async move {
            let stream = connect(&inner, &url).await?;
            // Whoever answers says nothing of itself here, so it must be fit to speak for some relay.
            let judged = inner.settings.proof.judge_any(&stream.shown(), &inner.first_keys).await;
            judged.map_err(|unfit| {
                inner.refuse(unfit.reason, &unfit.detail);
                io::Error::new(io::ErrorKind::PermissionDenied, unfit)
            })?;
            io::Result::Ok(TokioIo::new(stream))
        }
    });
    endpoint(patience).connect_timeout(patience).connect_with_connector_lazy(connector)
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

async fn connect(inner: &Inner, url: &PeerUrl) -> io::Result<NodeStream> {
    let tcp = timeout(TIMEOUT_TCP, TcpStream::connect(&url.address)).await??;
    tcp.set_nodelay(true)?;
    match inner.settings.proof.client(url.host()) {
        None => Ok(NodeStream::plain(tcp)),
        Some((tls, name)) => {
            let connecting = tokio_rustls::TlsConnector::from(tls).connect(name, tcp).await;
            Ok(NodeStream::called(connecting.inspect_err(|error| inner.note_bad_certificate(error))?))
        }
    }
}

impl Inner {
    /// Counts who was called and has no good certificate; other failures are those of a link like any.
    fn note_bad_certificate(&self, error: &io::Error) {
        let reason = fault(error);
        if !matches!(reason, "tls" | "timeout") {
            self.refuse(reason, &error.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::config::Pins;
    use crate::federation::proof::PeerProof;
    use crate::security::peer_tls::PeerTls;
    use crate::security::reload::{Look, Reload, Reloaded};

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn who_was_there_is_called_again_soon_unless_it_ends_links_again_and_again() {
        let mut pace = Pace::new();
        let mut waits = |stood: &[Option<u64>]| {
            let calls = stood.iter().map(|stood| {
                let hurries = pace.ended(stood.map(Duration::from_millis));
                (hurries, pace.backoff.next(1.0).as_millis())
            });
            calls.collect::<Vec<_>>()
        };
        let failed = waits(&[None; 6]);
        assert_eq!(failed, [250, 500, 1000, 2000, 4000, 5000].map(|wait| (false, wait)));
        // It stands for a moment, once, and then again and again.
        assert_eq!(
            waits(&[Some(10), Some(10), None, Some(10)]),
            [(true, 250), (false, 500), (false, 1000), (false, 2000)]
        );
        // It lasts.
        assert_eq!(
            waits(&[Some(6_000), Some(6_000), Some(10), Some(10)]),
            [(true, 250), (true, 250), (true, 250), (false, 500)]
        );
    }

    #[tokio::test]
    async fn files_that_change_end_the_wait_for_the_next_attempt() {
        let dir = tempfile::tempdir().unwrap();
        let files = ["cert.pem", "key.pem", "ca.pem"].map(|name| dir.path().join(name));
        let write = || {
            let key = KeyPair::generate().unwrap();
            let certificate = CertificateParams::new(vec!["relay".to_owned()]).unwrap().self_signed(&key).unwrap();
            let texts = [certificate.pem(), key.serialize_pem(), certificate.pem()];
            files.iter().zip(texts).for_each(|(file, text)| std::fs::write(file, text).unwrap());
        };
        write();
        let tls = Reloaded::new("certificates", files.to_vec(), PeerTls::from_files).unwrap();
        let proof = PeerProof::Certificates(tls.clone(), Pins::new());
        let (mut backoff, mut changes) = (Backoff::new(HOUR, HOUR), proof.changes());
        let mut resting = std::pin::pin!(rest(&mut backoff, &mut changes));
        assert!(futures::poll!(&mut resting).is_pending());
        write();
        assert_eq!(tls.look(), Look::Taken);
        resting.await;
    }
}
