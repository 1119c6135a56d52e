//! yamux, with peers that send larger frames than rust-yamux reads.
//!
//! The protocol bounds a frame by nothing but the window of its stream, and js-libp2p sends as much in one frame as it has
//! to send and the window has room for. rust-yamux widens windows as fast as a stream is read, but ends the connection when
//! a frame of more than 1 MiB comes. So it is shown several small frames instead of a large one.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::UpgradeInfo;
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade};
use libp2p::yamux::{Config, Muxer};

use crate::wire::p2p::yamux::{HEADER_BYTES, Header};

/// Largest body of a frame that yamux is shown. It has room for a whole body as soon as its header has come.
const MOST: u32 = 64 << 10;

/// yamux so configured.
#[derive(Debug, Clone)]
pub struct Multiplex(pub Config);

impl UpgradeInfo for Multiplex {
    type Info = <Config as UpgradeInfo>::Info;
    type InfoIter = <Config as UpgradeInfo>::InfoIter;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.protocol_info()
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> InboundConnectionUpgrade<C> for Multiplex {
    type Output = Muxer<SmallFrames<C>>;
    type Error = io::Error;
    type Future = <Config as InboundConnectionUpgrade<SmallFrames<C>>>::Future;

    fn upgrade_inbound(self, connection: C, info: Self::Info) -> Self::Future {
        self.0.upgrade_inbound(SmallFrames::new(connection), info)
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> OutboundConnectionUpgrade<C> for Multiplex {
    type Output = Muxer<SmallFrames<C>>;
    type Error = io::Error;
    type Future = <Config as OutboundConnectionUpgrade<SmallFrames<C>>>::Future;

    fn upgrade_outbound(self, connection: C, info: Self::Info) -> Self::Future {
        self.0.upgrade_outbound(SmallFrames::new(connection), info)
    }
}

/// A connection on which no frame that comes has a body of more than [`MOST`] bytes. What is sent passes as it is.
#[derive(Debug)]
pub struct SmallFrames<C> {
    connection: C,
    at: At,
}

/// What is due on a connection next.
#[derive(Debug)]
enum At {
    /// The rest of a header, of which so many bytes have come.
    Header([u8; HEADER_BYTES], usize),
    /// The header of a part, of which so many bytes have been handed on; then its body, then the other part.
    Part(Header, usize, Option<Header>),
    /// So many bytes of a body; then the other part.
    Body(u32, Option<Header>),
}

impl At {
    const START: Self = Self::Header([0; HEADER_BYTES], 0);

    fn frame(header: Header) -> Self {
        let (part, other) = header.split(MOST);
        Self::Part(part, 0, other)
    }
}

impl<C> SmallFrames<C> {
    fn new(connection: C) -> Self {
        Self { connection, at: At::START }
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for SmallFrames<C> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        let Self { connection, at } = &mut *self;
        loop {
            match at {
                At::Header(bytes, come) => {
                    match ready!(Pin::new(&mut *connection).poll_read(context, &mut bytes[*come..]))? {
                        0 if *come == 0 => return Poll::Ready(Ok(0)),
                        0 => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                        more => *come += more,
                    }
                    if *come == HEADER_BYTES {
                        *at = At::frame(Header::new(*bytes));
                    }
                }
                At::Part(header, given, other) => {
                    let left = &header.bytes()[*given..];
                    let more = left.len().min(out.len());
                    out[..more].copy_from_slice(&left[..more]);
                    *given += more;
                    if *given == HEADER_BYTES {
                        *at = At::Body(header.body(), *other);
                    }
                    return Poll::Ready(Ok(more));
                }
                At::Body(0, other) => *at = other.map_or(At::START, At::frame),
                At::Body(left, _) => {
                    let most = out.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    let more = ready!(Pin::new(&mut *connection).poll_read(context, &mut out[..most]))?;
                    *left = left.saturating_sub(u32::try_from(more).unwrap_or(u32::MAX));
                    return Poll::Ready(Ok(more));
                }
            }
        }
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for SmallFrames<C> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write_vectored(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_close(context)
    }
}

#[cfg(test)]
mod tests;
