//! Accepting connections of other nodes, over TCP or TLS.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;

use crate::runtime::supervisor::Supervisor;

use super::stream::NodeStream;

/// How long a caller may take for TLS.
const TIMEOUT_TLS: Duration = Duration::from_secs(5);

/// Callers that may be in their TLS handshake at once.
const HANDSHAKES: usize = 64;

type Accepted = mpsc::Sender<Result<NodeStream, io::Error>>;

/// The connections that come to `listener`, until the node stops, each over the TLS of its time; `refused` is told why
/// some do not get so far.
pub fn accepted(
    name: &'static str,
    listener: TcpListener,
    tls: impl Fn() -> Option<Arc<ServerConfig>> + Send + Sync + 'static,
    supervisor: &Supervisor,
    refused: impl Fn(&io::Error) + Clone + Send + Sync + 'static,
) -> ReceiverStream<Result<NodeStream, io::Error>> {
    let (sender, accepted) = mpsc::channel(HANDSHAKES);
    let (supervisor, stop) = (supervisor.clone(), supervisor.token());
    let spawner = supervisor.clone();
    spawner.spawn(name, async move {
        stop.run_until_cancelled(accept(listener, tls, sender, supervisor, refused)).await;
        Ok::<(), io::Error>(())
    });
    ReceiverStream::new(accepted)
}

async fn accept(
    listener: TcpListener,
    tls: impl Fn() -> Option<Arc<ServerConfig>> + Send + Sync + 'static,
    sender: Accepted,
    supervisor: Supervisor,
    refused: impl Fn(&io::Error) + Clone + Send + Sync + 'static,
) {
    // A place in the channel first: no more handshakes at once than it has places.
    while let Ok(place) = sender.clone().reserve_owned().await {
        let tcp = match listener.accept().await {
            Ok((tcp, _)) => tcp,
            Err(error) => {
                // Out of descriptors, most likely: others must close some first.
                tracing::warn!(%error, "cannot accept a node");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (tls, refused) = (tls(), refused.clone());
        supervisor.spawn_quiet(async move {
            match tokio::time::timeout(TIMEOUT_TLS, secure(tls, tcp)).await {
                Ok(Ok(stream)) => drop(place.send(Ok(stream))),
                Ok(Err(error)) => refused(&error),
                Err(_) => refused(&io::Error::new(io::ErrorKind::TimedOut, "no handshake in time")),
            }
        });
    }
}

async fn secure(tls: Option<Arc<ServerConfig>>, tcp: TcpStream) -> io::Result<NodeStream> {
    // serve_with_incoming does not do this, and without it every small batch waits 40 ms.
    tcp.set_nodelay(true)?;
    Ok(match tls {
        None => NodeStream::Plain(tcp),
        Some(tls) => NodeStream::Server(Box::new(TlsAcceptor::from(tls).accept(tcp).await?)),
    })
}
