//! The task of one WebSocket: a single poll loop that writes what the outbox holds, reads what the protocol
//! can take, and looks at the clock once a second.
//!
//! Reading stops while the protocol waits for something, and while the other side is slow to read what it
//! has been sent; writing never waits for reading. Whatever ends the connection ends the task.

mod closing;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use super::Edge;
use super::frames::FrameQueue;
use super::liveness::{Due, Liveness};
use super::wire::Wire;
use crate::observe::metrics::{Metrics, count};
use crate::runtime::outbox::{Next, Outbox, Outgoing};
use crate::runtime::session::{Incoming, Protocol, Step};
use crate::security::limiter::ConnectionLimiter;

/// What a WebSocket allocates for reading, in bytes. tungstenite allocates and clears it at the first read,
/// and its default of 128 KiB would be what an idle connection costs. System calls read more than this at once
/// (see [`wire`](super::wire)), and longer messages get their own buffer.
const READ_BUFFER_BYTES: usize = 512;

/// Bytes of control frames that tungstenite may hold back beyond those in [`Wire`].
const MAX_HELD_CONTROL_BYTES: usize = 4096;

/// Messages read in a row before other connections get their turn.
const MESSAGES_PER_TURN: usize = 64;

/// One WebSocket of the server's side; a future that is ready when the connection has ended.
pub struct Socket<S> {
    ws: WebSocket<Wire<S>>,
    frames: FrameQueue,
    outbox: Outbox,
    protocol: Box<dyn Protocol>,
    waiting: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    limiter: Option<ConnectionLimiter>,
    ticker: Interval,
    liveness: Liveness,
    phase: Phase,
    /// Why we close, when the close code alone does not tell.
    cause: Option<&'static str>,
    figures: Figures,
    edge: Edge,
    /// Whatever must live as long as the connection: its places at the door.
    _held: Box<dyn Send>,
    /// Last, because the protocol above sees to the end of what it does when it is dropped.
    _counted: Counted,
}

/// A WebSocket's place in the figures.
struct Counted(Arc<Metrics>);

impl Counted {
    fn new(metrics: Arc<Metrics>) -> Self {
        metrics.edge.websockets.inc();
        Self(metrics)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.edge.websockets.dec();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Both sides talk.
    Open,
    /// Our close is on its way; the other side's is awaited, and its messages are ignored.
    Closing,
    /// Both closes are said: what is queued is written, and that is all.
    Flushing,
    /// What the other side sent cannot be understood: our close is written, the rest is thrown away unread.
    Rejecting,
}

/// Counted in one turn of the task and added to the node's figures at its end.
#[derive(Debug, Default)]
struct Figures {
    received: u64,
    sent: u64,
    /// What this connection has added to the gauge of queued bytes.
    queued: i64,
}

/// The connection is over, cut by us for a reason or not.
struct Ended(Option<&'static str>);

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// Takes over a stream on which the handshake is done, and the bytes that were read beyond it. `held` is
    /// dropped with the connection.
    pub fn new(
        edge: Edge,
        stream: S,
        already_read: Vec<u8>,
        outbox: Outbox,
        protocol: Box<dyn Protocol>,
        held: Box<dyn Send>,
    ) -> Self {
        let limit = Some(protocol.message_limit(edge.settings.max_message_size));
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(MAX_HELD_CONTROL_BYTES)
            .max_message_size(limit)
            .max_frame_size(limit);
        let tick = edge.settings.tick;
        let mut ticker = tokio::time::interval_at(tokio::time::Instant::now() + tick, tick);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let counted = Counted::new(edge.metrics.clone());
        Self {
            ws: WebSocket::from_partially_read(Wire::new(stream), already_read, Role::Server, Some(config)),
            frames: FrameQueue::default(),
            outbox,
            protocol,
            waiting: None,
            limiter: edge.settings.messages_per_minute.map(ConnectionLimiter::new),
            ticker,
            liveness: Liveness::new(Instant::now()),
            phase: Phase::Open,
            cause: None,
            figures: Figures::default(),
            edge,
            _held: held,
            _counted: counted,
        }
    }

    /// Goes on until nothing more can be done now.
    fn turn(&mut self, context: &mut Context<'_>) -> Result<(), Ended> {
        let now = Instant::now();
        if self.ticker.poll_tick(context).is_ready() {
            self.tick(now)?;
            // Delayed ticks are not made up for: this registers the timer again and is never ready at once.
            if self.ticker.poll_tick(context).is_ready() {
                context.waker().wake_by_ref();
            }
        }
        let mut budget = MESSAGES_PER_TURN;
        let mut more = true;
        loop {
            self.outbox.attend();
            self.protocol.proceed(context);
            let drained = self.write(context, now)?;
            match self.phase {
                Phase::Flushing if drained => return Err(Ended(None)),
                Phase::Flushing => return Ok(()),
                Phase::Rejecting => return if drained { self.discard(context) } else { Ok(()) },
                Phase::Open | Phase::Closing => {}
            }
            if !more || !self.may_read(context, now, drained) {
                return Ok(());
            }
            // What has come is gone on with, and answered, before this task sleeps or others get their turn.
            more = self.read(&mut budget, now)? && budget > 0;
            if budget == 0 {
                context.waker().wake_by_ref();
            }
        }
    }

    fn tick(&mut self, now: Instant) -> Result<(), Ended> {
        if self.phase == Phase::Open {
            if self.edge.is_stopping() {
                self.outbox.close(1012, "service restart");
            }
            if self.waiting.is_some() {
                self.liveness.held_back(now);
            } else {
                let step = self.protocol.on_tick();
                self.take(step);
            }
        }
        let in_use = self.waiting.is_some() || self.protocol.in_use();
        match self.liveness.due(now, &self.edge.settings, in_use) {
            Due::Nothing => {}
            Due::Cut(reason) => return Err(Ended((self.phase == Phase::Open).then_some(reason))),
            Due::Idle => self.end(1000, "Idle timeout", "idle"),
            Due::Ping => self.ping()?,
        }
        Ok(())
    }

    fn ping(&mut self) -> Result<(), Ended> {
        self.settle(|ws| ws.send(Message::Ping(Bytes::new())))
    }

    /// Writes until nothing is left (true) or the socket takes no more.
    fn write(&mut self, context: &mut Context<'_>, now: Instant) -> Result<bool, Ended> {
        loop {
            self.gather(context, now)?;
            if self.frames.is_empty() {
                self.frames.rest();
                return Ok(true);
            }
            match self.frames.poll_write(&mut self.ws.get_mut().stream, context) {
                Poll::Ready(Ok(_)) => {
                    self.liveness.wrote(now, self.frames.is_empty());
                    if self.frames.is_empty() {
                        self.outbox.wrote_all();
                    }
                }
                Poll::Ready(Err(_)) if self.phase == Phase::Open => {
                    // Nobody listens any more, but what was said before is still read, up to the end.
                    self.frames = FrameQueue::default();
                    self.outbox.abandon();
                    return Ok(true);
                }
                Poll::Ready(Err(_)) => return Err(Ended(None)),
                Poll::Pending => {
                    self.liveness.blocked(now);
                    return Ok(false);
                }
            }
        }
    }

    /// Takes what is to be written: control frames, then messages while there is room for them. Whatever
    /// ends the connection is noticed even without room.
    fn gather(&mut self, context: &mut Context<'_>, now: Instant) -> Result<(), Ended> {
        self.gather_control();
        while self.phase == Phase::Open && (self.frames.has_room() || self.outbox.poll_closed(context).is_ready()) {
            match self.outbox.poll_next(context) {
                Poll::Pending => break,
                Poll::Ready(Next::Write(message)) => self.queue(message),
                Poll::Ready(Next::Probe) => {
                    self.ping()?;
                    self.liveness.probe(now);
                }
                Poll::Ready(Next::Overflow) => return Err(Ended(Some("slow_reader"))),
                Poll::Ready(Next::Cut(reason)) => return Err(Ended(Some(reason))),
                Poll::Ready(Next::Close(code, reason)) => self.begin_close(code, reason, Phase::Closing, now)?,
            }
        }
        self.gather_control();
        Ok(())
    }

    fn queue(&mut self, message: Outgoing) {
        self.figures.sent += message.len() as u64;
        self.frames.push_message(message);
    }

    fn gather_control(&mut self) {
        if let Some(control) = self.ws.get_mut().take_control() {
            self.frames.push_encoded(control);
        }
    }

    /// Whether the protocol, and the state of the queue, allow reading on.
    fn may_read(&mut self, context: &mut Context<'_>, now: Instant, drained: bool) -> bool {
        if let Some(waiting) = &mut self.waiting {
            if waiting.as_mut().poll(context).is_pending() {
                return false;
            }
            self.waiting = None;
            self.liveness.held_back(now);
        }
        // Who does not read is not read from: otherwise its own requests would fill its queue.
        drained || self.outbox.queued_bytes() <= self.edge.settings.send_queue_bytes / 2
    }

    /// Reads while messages are there, the protocol takes them and the budget lasts. False if the socket
    /// has nothing more, so that there is nothing to do but wait.
    fn read(&mut self, budget: &mut usize, now: Instant) -> Result<bool, Ended> {
        let before = self.ws.get_ref().received();
        let mut complete = false;
        let more = loop {
            if *budget == 0 {
                break true;
            }
            match self.ws.read() {
                Ok(message) => {
                    *budget -= 1;
                    complete = true;
                    if !self.hear(message, now)? {
                        break true;
                    }
                }
                Err(error) => break self.fail(error, now)?,
            }
        };
        if self.ws.get_ref().received() != before || complete {
            self.liveness.heard(now, complete);
        }
        Ok(more)
    }

    /// Takes one message in; false if none must be read before something else is done.
    fn hear(&mut self, message: Message, now: Instant) -> Result<bool, Ended> {
        if self.phase != Phase::Open || message.is_close() {
            return Ok(true);
        }
        if self.limiter.as_ref().is_some_and(|limiter| !limiter.check()) {
            self.cause = Some("rate_limit");
            self.begin_close(1008, "rate limit", Phase::Closing, now)?;
            return Ok(false);
        }
        let incoming = match &message {
            Message::Text(text) => Incoming::Text(text),
            Message::Binary(bytes) => Incoming::Binary(bytes),
            Message::Ping(_) => {
                self.protocol.on_ping();
                // The answer must not wait for the next read, which may be held back.
                self.settle(WebSocket::flush)?;
                return Ok(true);
            }
            _ => return Ok(true),
        };
        if incoming.bytes().len() > self.protocol.message_limit(self.edge.settings.max_message_size) {
            self.cause = Some("too_big");
            self.begin_close(1009, "message too big", Phase::Closing, now)?;
            return Ok(false);
        }
        self.liveness.message(now);
        self.figures.received += incoming.bytes().len() as u64;
        let step = self.protocol.on_message(incoming);
        Ok(self.take(step))
    }

    /// Does what the protocol asks for; true if the next message may follow at once.
    fn take(&mut self, step: Step) -> bool {
        match step {
            Step::Continue => return true,
            Step::Wait(future) => self.waiting = Some(future),
            Step::Close(code, reason) => self.outbox.close(code, reason),
        }
        false
    }
}

impl<S> Socket<S> {
    /// Adds what this turn has counted to the node's figures.
    fn report(&mut self) {
        let edge = &self.edge.metrics.edge;
        let Figures { received, sent, queued } = &mut self.figures;
        for (counter, amount) in [(&edge.received_bytes, received), (&edge.sent_bytes, sent)] {
            if *amount > 0 {
                counter.inc_by(std::mem::take(amount));
            }
        }
        let waiting = if self.frames.is_empty() { 0 } else { self.frames.bytes() + self.outbox.queued_bytes() };
        let waiting = i64::try_from(waiting).unwrap_or(i64::MAX);
        if waiting != *queued {
            edge.queued_bytes.inc_by(waiting - *queued);
            *queued = waiting;
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Socket<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let socket = &mut *self;
        socket.ws.get_mut().register(context.waker());
        let outcome = socket.turn(context);
        socket.report();
        match outcome {
            Ok(()) => Poll::Pending,
            Err(Ended(reason)) => {
                if let Some(reason) = reason {
                    count(&socket.edge.metrics.edge.closed, reason);
                }
                Poll::Ready(())
            }
        }
    }
}

impl<S> Drop for Socket<S> {
    fn drop(&mut self) {
        self.outbox.abandon();
        self.edge.metrics.edge.queued_bytes.dec_by(self.figures.queued);
    }
}
