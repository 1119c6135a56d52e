//! Accepting connections of other nodes, over TCP or TLS.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;

use crate::cluster::shares::{Limits, Party, Place, Places};
use crate::runtime::supervisor::Supervisor;
use crate::security::peer_tls::Shown;

use super::stream::NodeStream;

/// How long a caller may take for TLS.
const TIMEOUT_TLS: Duration = Duration::from_secs(5);

/// Callers that may be in their TLS handshake at once.
const HANDSHAKES: usize = 64;

/// Of these, those from one address.
const HANDSHAKES_OF_ADDRESS: usize = HANDSHAKES / 2;

type Accepted = mpsc::Sender<Result<NodeStream, io::Error>>;

/// How many connections there may be at one time, and whose each is once TLS has said so.
#[derive(Clone)]
pub struct Doors {
    handshakes: Places,
    connections: Places,
    whose: Arc<Whose>,
}

/// Whose a connection is, that comes from there and showed this.
type Whose = dyn Fn(IpAddr, &Shown) -> Party + Send + Sync;

impl Doors {
    /// So many connections, each of which is that party's.
    #[must_use]
    pub fn new(connections: Limits, whose: Arc<Whose>) -> Self {
        let handshakes = Limits { party: HANDSHAKES_OF_ADDRESS, group: HANDSHAKES_OF_ADDRESS, all: HANDSHAKES };
        Self { handshakes: Places::new(handshakes), connections: Places::new(connections), whose }
    }

    fn knock(&self, from: IpAddr) -> io::Result<Place> {
        self.handshakes.take(&Party::at(from), 1).ok_or_else(crowded)
    }

    fn admit(&self, from: IpAddr, stream: NodeStream) -> io::Result<NodeStream> {
        let place = self.connections.take(&(self.whose)(from, &stream.shown()), 1).ok_or_else(crowded)?;
        Ok(stream.holding(Some(place)))
    }
}

fn crowded() -> io::Error {
    io::Error::new(io::ErrorKind::QuotaExceeded, "it has as many connections as it may have")
}

/// The connections that come to `listener`, until the node stops, each over the TLS of its time; `refused` is told why
/// some do not get so far.
pub fn accepted(
    name: &'static str,
    listener: TcpListener,
    tls: impl Fn() -> Option<Arc<ServerConfig>> + Send + Sync + 'static,
    doors: Option<Doors>,
    supervisor: &Supervisor,
    refused: impl Fn(&io::Error) + Clone + Send + Sync + 'static,
) -> ReceiverStream<Result<NodeStream, io::Error>> {
    let (sender, accepted) = mpsc::channel(HANDSHAKES);
    let (supervisor, stop) = (supervisor.clone(), supervisor.token());
    let spawner = supervisor.clone();
    spawner.spawn(name, async move {
        stop.run_until_cancelled(accept(listener, tls, doors, sender, supervisor, refused)).await;
        Ok::<(), io::Error>(())
    });
    ReceiverStream::new(accepted)
}

async fn accept(
    listener: TcpListener,
    tls: impl Fn() -> Option<Arc<ServerConfig>> + Send + Sync + 'static,
    doors: Option<Doors>,
    sender: Accepted,
    supervisor: Supervisor,
    refused: impl Fn(&io::Error) + Clone + Send + Sync + 'static,
) {
    // A place in the channel first: no more handshakes at once than it has places.
    while let Ok(place) = sender.clone().reserve_owned().await {
        let (tcp, from) = match listener.accept().await {
            Ok((tcp, from)) => (tcp, from.ip()),
            Err(error) => {
                // Out of descriptors, most likely: others must close some first.
                tracing::warn!(%error, "cannot accept a node");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let knocked = match doors.as_ref().map(|doors| doors.knock(from)).transpose() {
            Ok(knocked) => knocked,
            Err(error) => {
                refused(&error);
                continue;
            }
        };
        let (tls, refused, doors) = (tls(), refused.clone(), doors.clone());
        supervisor.spawn_quiet(async move {
            let secured = tokio::time::timeout(TIMEOUT_TLS, secure(tls, tcp)).await;
            drop(knocked);
            let admitted = secured.map(|stream| match doors {
                Some(doors) => doors.admit(from, stream?),
                None => stream,
            });
            match admitted {
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
        None => NodeStream::plain(tcp),
        Some(tls) => NodeStream::accepted(TlsAcceptor::from(tls).accept(tcp).await?),
    })
}
