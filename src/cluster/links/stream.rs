//! The bytes under a link: TCP, or TLS over it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tonic::transport::server::Connected;

use crate::cluster::shares::Place;
use crate::security::peer_tls::Shown;

/// A connection between two nodes.
pub struct NodeStream {
    bytes: Bytes,
    /// Of one that was accepted, if there are only so many: held until it ends.
    _place: Option<Place>,
}

enum Bytes {
    /// Without TLS: loopback only.
    Plain(TcpStream),
    /// This node called.
    Client(Box<tokio_rustls::client::TlsStream<TcpStream>>),
    /// This node was called.
    Server(Box<tokio_rustls::server::TlsStream<TcpStream>>),
}

/// What is known of the other side of a connection before it has said anything.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// What it showed.
    pub shown: Shown,
    /// Where it is; `None` once it has gone.
    pub address: Option<SocketAddr>,
}

macro_rules! each {
    ($self:expr, $stream:ident => $call:expr) => {
        match &mut $self.get_mut().bytes {
            Bytes::Plain($stream) => $call,
            Bytes::Client($stream) => $call,
            Bytes::Server($stream) => $call,
        }
    };
}

impl AsyncRead for NodeStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for NodeStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.bytes {
            Bytes::Plain(stream) => stream.is_write_vectored(),
            Bytes::Client(stream) => stream.is_write_vectored(),
            Bytes::Server(stream) => stream.is_write_vectored(),
        }
    }
}

impl NodeStream {
    /// Without TLS.
    #[must_use]
    pub fn plain(tcp: TcpStream) -> Self {
        Self { bytes: Bytes::Plain(tcp), _place: None }
    }

    /// This node called.
    #[must_use]
    pub fn called(tls: tokio_rustls::client::TlsStream<TcpStream>) -> Self {
        Self { bytes: Bytes::Client(Box::new(tls)), _place: None }
    }

    /// This node was called.
    #[must_use]
    pub fn accepted(tls: tokio_rustls::server::TlsStream<TcpStream>) -> Self {
        Self { bytes: Bytes::Server(Box::new(tls)), _place: None }
    }

    /// The same, which holds a place.
    #[must_use]
    pub fn holding(self, place: Option<Place>) -> Self {
        Self { _place: place, ..self }
    }

    /// What the other side showed.
    #[must_use]
    pub fn shown(&self) -> Shown {
        match &self.bytes {
            Bytes::Plain(_) => Shown::default(),
            Bytes::Client(stream) => Shown::of(stream.get_ref().1),
            Bytes::Server(stream) => Shown::of(stream.get_ref().1),
        }
    }

    fn tcp(&self) -> &TcpStream {
        match &self.bytes {
            Bytes::Plain(tcp) => tcp,
            Bytes::Client(stream) => stream.get_ref().0,
            Bytes::Server(stream) => stream.get_ref().0,
        }
    }
}

impl Connected for NodeStream {
    type ConnectInfo = Origin;

    fn connect_info(&self) -> Origin {
        Origin { shown: self.shown(), address: self.tcp().peer_addr().ok() }
    }
}
