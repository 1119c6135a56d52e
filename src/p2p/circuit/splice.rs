//! The bytes of a circuit, both ways, until both have ended.
//!
//! One task carries both ways. An idle circuit keeps no buffer: what is read goes through one buffer of the thread, and
//! only what the other side does not take at once is kept, and nothing more is read from that way until it has been
//! taken. So a side that does not read holds up its own circuit, and what waits for it is bounded.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::{AsyncRead, AsyncWrite};
use prometheus_client::metrics::counter::Counter;
use tokio::time::{Instant, Sleep, sleep_until};

use super::budget::Budget;
use super::limits::CircuitLimits;

/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;

/// How long a circuit may stand still while something waits to be taken, or after one way of it has ended: the other end has
/// most likely gone.
const STUCK: Duration = Duration::from_secs(60);

/// Reads of one way before the task lets others run.
const TURNS: usize = 16;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
}

/// Why a circuit ended.
#[derive(Debug)]
pub enum End {
    /// Both sides were done.
    Done,
    /// One side went away.
    Broken(io::Error),
    /// It lasted as long as it may.
    TooLong,
    /// It carried as much as it may.
    TooMuch,
    /// It stood still though there was something to do.
    Stuck,
}

impl End {
    /// One word for figures.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Broken(_) => "broken",
            Self::TooLong => "duration",
            Self::TooMuch => "bytes",
            Self::Stuck => "stuck",
        }
    }
}

/// Carries bytes between `source` and `target` until both have closed, or a limit ends it. Dropping this resets both.
/// What is carried is counted in `meter` as it goes.
pub async fn splice<A, B>(mut source: A, mut target: B, limits: &CircuitLimits, meter: &Counter) -> End
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut out, mut back) = (Way::new(limits, meter), Way::new(limits, meter));
    let mut stuck = Stuck::default();
    let both = poll_fn(|cx| {
        let done = (out.poll(cx, &mut source, &mut target)?, back.poll(cx, &mut target, &mut source)?);
        match done {
            (Poll::Ready(()), Poll::Ready(())) => Poll::Ready(Ok(())),
            _ => {
                let longest = if out.is_stuck() || back.is_stuck() { Some(STUCK) } else { limits.idle };
                stuck.poll(cx, longest, || out.moved.wrapping_add(back.moved))
            }
        }
    });
    let end = match limits.duration {
        None => both.await,
        Some(longest) => tokio::time::timeout(longest, both).await.unwrap_or(Err(End::TooLong)),
    };
    let end = end.err().unwrap_or(End::Done);
    if let End::Broken(error) = &end {
        tracing::debug!(%error, "a circuit broke");
    }
    end
}

/// Ends a circuit on which something waits to be taken, or of which one way has ended, when nothing moves for a while. A
/// circuit on which both sides are silent has no such end, and no timer, unless a limit says so.
#[derive(Default)]
struct Stuck {
    timer: Option<Pin<Box<Sleep>>>,
    longest: Duration,
    moved: u64,
}

impl Stuck {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        longest: Option<Duration>,
        moved: impl Fn() -> u64,
    ) -> Poll<Result<(), End>> {
        if longest != Some(self.longest) {
            self.timer = None;
        }
        let Some(longest) = longest else { return Poll::Pending };
        let moved = moved();
        let timer = self.timer.get_or_insert_with(|| {
            (self.moved, self.longest) = (moved, longest);
            Box::pin(tokio::time::sleep(longest))
        });
        while timer.as_mut().poll(cx).is_ready() {
            if moved == self.moved {
                return Poll::Ready(Err(End::Stuck));
            }
            // Looked at only when the time is up, so that bytes that move cost nothing more.
            self.moved = moved;
            timer.as_mut().reset(Instant::now() + longest);
        }
        Poll::Pending
    }
}

/// One way of a circuit.
struct Way<'a> {
    meter: &'a Counter,
    /// What was read and not yet taken.
    kept: Vec<u8>,
    carried: u64,
    /// Changes with every byte that is read or taken.
    moved: u64,
    most: Option<u64>,
    budget: Option<(Budget, Pin<Box<Sleep>>)>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Closing,
    Closed,
}

impl<'a> Way<'a> {
    fn new(limits: &CircuitLimits, meter: &'a Counter) -> Self {
        let now = Instant::now();
        Self {
            meter,
            kept: Vec::new(),
            carried: 0,
            moved: 0,
            most: limits.bytes,
            budget: limits.rate.map(|rate| (Budget::new(rate, now), Box::pin(sleep_until(now)))),
            state: State::Open,
        }
    }

    /// Whether something waits for the other side to take it, its end included, or has ended.
    fn is_stuck(&self) -> bool {
        !self.kept.is_empty() || self.state != State::Open
    }

    /// Carries what can be. Ready once the way is closed.
    fn poll<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Result<Poll<()>, End>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        match self.carry(cx, from, to) {
            Poll::Ready(Err(end)) => Err(end),
            Poll::Ready(Ok(())) => Ok(Poll::Ready(())),
            Poll::Pending => Ok(Poll::Pending),
        }
    }

    fn carry<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Poll<Result<(), End>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut turns = TURNS;
        while self.state == State::Open {
            ready!(self.give_kept(cx, to))?;
            if !self.may_carry(cx) {
                return self.flush(cx, to);
            }
            if turns == 0 {
                cx.waker().wake_by_ref();
                return self.flush(cx, to);
            }
            turns -= 1;
            match self.read(cx, from, to)? {
                Poll::Ready(0) => self.state = State::Closing,
                Poll::Ready(_) => {}
                Poll::Pending => return self.flush(cx, to),
            }
        }
        if self.state == State::Closing {
            ready!(Pin::new(to).poll_close(cx)).map_err(End::Broken)?;
            self.state = State::Closed;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once, and hands on what the other side takes of it; how much was read.
    fn read<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Result<Poll<usize>, End>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        SCRATCH.with_borrow_mut(|scratch| {
            let room = usize::try_from(self.left()).unwrap_or(usize::MAX).min(READ_BYTES);
            // One byte beyond what may be carried shows that there is more.
            let buffer = &mut scratch[..room.max(1)];
            let read = match Pin::new(from).poll_read(cx, buffer) {
                Poll::Ready(read) => read.map_err(End::Broken)?,
                Poll::Pending => return Ok(Poll::Pending),
            };
            if read > room {
                return Err(End::TooMuch);
            }
            self.carried += read as u64;
            self.moved = self.moved.wrapping_add(read as u64);
            self.meter.inc_by(read as u64);
            if let Some((budget, _)) = &mut self.budget {
                budget.carried(read, Instant::now());
            }
            let mut rest = &buffer[..read];
            while !rest.is_empty() {
                match Pin::new(&mut *to).poll_write(cx, rest).map_err(End::Broken)? {
                    Poll::Ready(0) => return Err(End::Broken(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(taken) => rest = &rest[taken..],
                    Poll::Pending => {
                        self.kept = rest.to_vec();
                        break;
                    }
                }
            }
            Ok(Poll::Ready(read))
        })
    }

    /// Hands on what is kept.
    fn give_kept<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, to: &mut W) -> Poll<Result<(), End>> {
        let mut given = 0;
        while given < self.kept.len() {
            match Pin::new(&mut *to).poll_write(cx, &self.kept[given..]).map_err(End::Broken)? {
                Poll::Ready(0) => return Poll::Ready(Err(End::Broken(io::ErrorKind::WriteZero.into()))),
                Poll::Ready(taken) => {
                    given += taken;
                    self.moved = self.moved.wrapping_add(taken as u64);
                }
                Poll::Pending => {
                    self.kept.drain(..given);
                    return Poll::Pending;
                }
            }
        }
        self.kept = Vec::new();
        Poll::Ready(Ok(()))
    }

    /// What was handed on must not wait in a buffer while nothing more comes.
    fn flush<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, to: &mut W) -> Poll<Result<(), End>> {
        match Pin::new(to).poll_flush(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(End::Broken(error))),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        }
    }

    /// Whether the rate lets more be carried now; if not, the task is woken when it does.
    fn may_carry(&mut self, cx: &mut Context<'_>) -> bool {
        let Some((budget, sleep)) = &mut self.budget else { return true };
        let Some(next) = budget.next(Instant::now()) else { return true };
        sleep.as_mut().reset(next);
        pin!(sleep.as_mut()).poll(cx).is_ready()
    }

    fn left(&self) -> u64 {
        self.most.map_or(u64::MAX, |most| most.saturating_sub(self.carried))
    }
}

#[cfg(test)]
mod tests;
