//! The accept loop of the public port: plain TCP, HTTP/1.1 with upgrades, one task a connection.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::Edge;
use super::client::Peer;
use super::paths::collapse_slashes;
use super::refuse::Doorman;
use crate::observe::metrics::count;
use crate::runtime::backoff::Backoff;
use crate::security::address::AddressKey;

/// Longest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// How often the limits at the door forget what no longer matters.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Waits between failing accepts, such as those for want of file descriptors.
const ACCEPT_BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Accepts connections and serves `router` on them until `stop` is cancelled.
///
/// Then no connection is accepted any more, and those that speak HTTP end after the request they are in;
/// WebSockets go on until they are closed through their outboxes or the supervisor stops.
///
/// # Errors
/// None: what fails concerns one connection, or is tried again.
pub async fn run(edge: Edge, listener: TcpListener, router: Router, stop: CancellationToken) -> Result<(), Infallible> {
    let doorman = Doorman::new();
    let mut backoff = Backoff::new(ACCEPT_BACKOFF.0, ACCEPT_BACKOFF.1);
    let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = sweep.tick() => {
                edge.admission.sweep();
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                backoff.reset();
                admit(&edge, &doorman, stream, address, &router, &stop);
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                count(&edge.metrics.edge.refused, "accept_error");
                tracing::warn!(%error, "cannot accept connections; raise the limit of open files if it is reached");
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    () = tokio::time::sleep(backoff.next(rand::random())) => {}
                }
            }
        }
    }
}

/// Errors that accept reports although only the connection it would have returned is broken.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

fn admit(
    edge: &Edge,
    doorman: &Doorman,
    stream: TcpStream,
    address: SocketAddr,
    router: &Router,
    stop: &CancellationToken,
) {
    edge.metrics.edge.accepted.inc();
    let proxy = edge.proxies.contains(address.ip());
    let key = (!proxy).then(|| AddressKey::from(address.ip()));
    match edge.admission.connection(key) {
        Err(refusal) => doorman.refuse(edge, stream, refusal),
        Ok(permit) => {
            prepare(&stream, edge.settings.write_timeout);
            let peer = Peer::new(address, permit, edge.metrics.clone());
            edge.supervisor.spawn_quiet(serve(edge.clone(), stream, peer, router.clone(), stop.clone()));
        }
    }
}

/// Options that only make the connection better: where they fail, it is served without them.
#[cfg_attr(not(target_os = "linux"), allow(unused_variables))]
fn prepare(stream: &TcpStream, write_timeout: Duration) {
    // Without it, a small frame waits for the acknowledgment of the one before, up to 40 ms.
    let outcome = stream.set_nodelay(true);
    // Frees connections whose other side is gone, or takes nothing, also while they speak HTTP.
    #[cfg(target_os = "linux")]
    let outcome = outcome.and(socket2::SockRef::from(stream).set_tcp_user_timeout(Some(write_timeout)));
    if let Err(error) = outcome {
        tracing::debug!(%error, "cannot set socket options");
    }
}

/// Speaks HTTP on one connection until it ends or becomes something else.
async fn serve(edge: Edge, stream: TcpStream, peer: Peer, router: Router, stop: CancellationToken) {
    let service = service_fn(|mut request: Request<Incoming>| {
        if let Some(uri) = collapse_slashes(request.uri()) {
            *request.uri_mut() = uri;
        }
        request.extensions_mut().insert(peer.clone());
        router.clone().call(request.map(Body::new))
    });
    let connection = http1::Builder::new()
        .max_buf_size(MAX_HEAD_BYTES)
        .timer(TokioTimer::new())
        .header_read_timeout(edge.settings.handshake_timeout)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(edge.settings.drain_timeout, connection).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    count(&edge.metrics.edge.refused, "drain_timeout");
                    return;
                }
            }
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "HTTP connection ended");
    }
}
