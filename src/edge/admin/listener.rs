//! The port for operators: accepts a few connections, over TLS if that is set up.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use super::auth::Connection;
use crate::observe::metrics::{Metrics, count};
use crate::security::certificate::common_name;
use crate::security::reload::Reloaded;

/// Connections at one time, those in their TLS handshake included.
pub const MAX_CONNECTIONS: usize = 64;

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// How long nothing is accepted after accepting has failed.
const PAUSE: Duration = Duration::from_millis(100);

/// What gRPC speaks on.
pub struct Stream {
    bytes: Bytes,
    who: Connection,
    _counted: Counted,
}

enum Bytes {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection's place.
struct Counted {
    _permit: OwnedSemaphorePermit,
    metrics: Arc<Metrics>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.admin.connections.dec();
    }
}

/// Accepts connections into `accepted` until `stop`, each with the certificate of its time. Beyond [`MAX_CONNECTIONS`], they wait to be accepted.
///
/// # Errors
/// None: what fails concerns one connection, or is tried again.
pub async fn accept(
    listener: TcpListener,
    tls: Option<Reloaded<ServerConfig>>,
    metrics: Arc<Metrics>,
    accepted: mpsc::Sender<io::Result<Stream>>,
    stop: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let next = async {
            let permit = places.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let Some((Ok(permit), accepting)) = stop.run_until_cancelled(next).await else { return Ok(()) };
        let (tcp, address) = match accepting {
            Ok(accepting) => accepting,
            Err(error) => {
                tracing::warn!(%error, "cannot accept an operator's connection");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        metrics.admin.connections.inc();
        let counted = Counted { _permit: permit, metrics: metrics.clone() };
        let tls = tls.as_ref().map(Reloaded::current);
        let (accepted, metrics) = (accepted.clone(), metrics.clone());
        tokio::spawn(async move {
            let secured = tokio::time::timeout(HANDSHAKE, secure(tcp, tls)).await;
            match secured.unwrap_or_else(|late| Err(late.into())) {
                Ok((bytes, certificate)) => {
                    let stream = Stream { bytes, who: Connection { address, certificate }, _counted: counted };
                    // Nobody takes it once the node stops.
                    drop(accepted.send(Ok(stream)).await);
                }
                Err(error) => {
                    count(&metrics.admin.refused, "tls");
                    tracing::debug!(%address, %error, "an operator's connection was refused");
                }
            }
        });
    }
}

async fn secure(tcp: TcpStream, tls: Option<Arc<ServerConfig>>) -> io::Result<(Bytes, Option<Arc<str>>)> {
    tcp.set_nodelay(true)?;
    let Some(tls) = tls else { return Ok((Bytes::Plain(tcp), None)) };
    let stream = TlsAcceptor::from(tls).accept(tcp).await?;
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let name = shown.map(|leaf| common_name(leaf).unwrap_or_else(|| "without a name".to_owned()).into());
    Ok((Bytes::Tls(Box::new(stream)), name))
}

impl Connected for Stream {
    type ConnectInfo = Connection;

    fn connect_info(&self) -> Connection {
        self.who.clone()
    }
}

macro_rules! each {
    ($self:expr, $stream:ident => $call:expr) => {
        match &mut $self.get_mut().bytes {
            Bytes::Plain($stream) => $call,
            Bytes::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
