//! How a WebSocket ends: closes in either direction (RFC 6455, section 7), and input that makes no sense.

use std::io::ErrorKind;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocket};
use tokio_tungstenite::tungstenite::{Error, Utf8Bytes};

use super::super::wire::Wire;
use super::{Ended, Phase, Socket};
use crate::observe::metrics::count;
use crate::runtime::outbox::Next;

/// Bytes of a rejected message that are read and forgotten in one go.
const DISCARD_BYTES: usize = 2048;

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// What an error of reading means: true if the other phase it leads to goes on at once, false if the
    /// socket has just nothing more now.
    pub(super) fn fail(&mut self, error: Error, now: Instant) -> Result<bool, Ended> {
        let (code, reason, cause) = match error {
            Error::Io(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Error::ConnectionClosed => {
                self.phase = Phase::Flushing;
                self.liveness.closing(now);
                return Ok(true);
            }
            Error::Capacity(_) => (1009, "message too big", "too_big"),
            Error::Utf8(_) => (1007, "invalid UTF-8", "invalid_utf8"),
            Error::Protocol(error) if !is_disconnect(&error) => (1002, "protocol error", "protocol_error"),
            _ => return Err(Ended(None)),
        };
        if self.phase == Phase::Closing {
            return Err(Ended(None));
        }
        self.cause = Some(cause);
        self.begin_close(code, reason, Phase::Rejecting, now)?;
        Ok(true)
    }

    /// Closes once everything queued is written.
    pub(super) fn end(&mut self, code: u16, reason: &'static str, cause: &'static str) {
        self.cause = Some(cause);
        self.outbox.close(code, reason);
    }

    /// Queues our close frame.
    pub(super) fn begin_close(
        &mut self,
        code: u16,
        reason: &'static str,
        next: Phase,
        now: Instant,
    ) -> Result<(), Ended> {
        // What was said before the reason to close is still sent. Nobody else is woken by the outbox now.
        while let Poll::Ready(Next::Write(message)) = self.outbox.poll_next(&mut Context::from_waker(Waker::noop())) {
            self.queue(message);
        }
        self.phase = next;
        self.waiting = None;
        self.liveness.closing(now);
        let cause = self.cause.unwrap_or(match code {
            1000 => "normal",
            1008 => "policy",
            1012 => "restart",
            _ => "protocol",
        });
        count(&self.edge.metrics.edge.closed, cause);
        let frame = CloseFrame { code: CloseCode::from(code), reason: Utf8Bytes::from_static(reason) };
        self.settle(|ws| ws.close(Some(frame)))
    }

    /// Hands control frames to tungstenite, which may keep them for later.
    pub(super) fn settle<F>(&mut self, act: F) -> Result<(), Ended>
    where
        F: FnOnce(&mut WebSocket<Wire<S>>) -> Result<(), Error>,
    {
        match act(&mut self.ws) {
            Ok(()) => Ok(()),
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(Error::ConnectionClosed) => {
                self.phase = Phase::Flushing;
                Ok(())
            }
            Err(_) => Err(Ended(None)),
        }
    }

    /// Ends our side and throws away what still comes, so that the close frame is not overtaken by the reset
    /// that unread bytes would cause.
    pub(super) fn discard(&mut self, context: &mut Context<'_>) -> Result<(), Ended> {
        let mut stream = Pin::new(&mut self.ws.get_mut().stream);
        match stream.as_mut().poll_shutdown(context) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Err(Ended(None)),
            Poll::Pending => return Ok(()),
        }
        loop {
            let mut bytes = [0; DISCARD_BYTES];
            let mut buffer = ReadBuf::new(&mut bytes);
            match stream.as_mut().poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(_) => return Err(Ended(None)),
                Poll::Pending => return Ok(()),
            }
        }
    }
}

/// Whether the other side just went away, as clients do.
fn is_disconnect(error: &ProtocolError) -> bool {
    matches!(error, ProtocolError::ResetWithoutClosingHandshake | ProtocolError::ReceivedAfterClosing)
}
