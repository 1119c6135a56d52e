//! How much of a circuit between clusters is under way.
//!
//! Circuits of two clusters share a connection, whose window is that of all calls of a stranger: what is not read of one
//! would soon keep all others waiting. So what comes is read at once, whether anybody takes it or not, and whoever sends
//! has so much under way at most that has not been taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;

use crate::cluster::links::FarHalf;
use crate::cluster::links::circuits::PART_LIMIT;
use crate::cluster::proto::{CircuitPart, circuit_part::Part};
use crate::runtime::supervisor::Supervisor;

/// What may be under way one way, and what a part counts for besides its bytes: so there are 2048 parts at most.
const BYTES: usize = 512 << 10;
const PART_COST: usize = 256;

/// How long what was said last may stand still once its circuit has ended here.
const LINGER: Duration = Duration::from_secs(60);

/// What has been taken is said once it is so much.
const WORTH_SAYING: usize = BYTES / 4;

/// Both ways of one circuit.
pub struct Window {
    /// What may still be sent.
    room: Semaphore,
    /// What has come and has not been taken.
    waiting: AtomicUsize,
    /// What has been taken and has not been said.
    taken: AtomicUsize,
    is_taken: Notify,
    /// Cancelled when the other side has said all.
    heard_end: CancellationToken,
    /// Cancelled when this side has, or can say no more.
    said_all: CancellationToken,
    /// Cancelled when nothing is heard any more, be it said or not.
    over: CancellationToken,
}

/// What is said of a circuit.
struct Outgoing {
    window: Arc<Window>,
    parts: mpsc::Receiver<CircuitPart>,
    /// For which there is no room yet.
    next: Option<CircuitPart>,
    /// The end has been said; what has been taken has still to be.
    ended: bool,
}

impl Window {
    /// Nothing is under way. All is over once the guard is dropped; [`half`] keeps it.
    pub fn new() -> (Arc<Self>, DropGuard) {
        let this = Self {
            room: Semaphore::new(BYTES),
            waiting: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            is_taken: Notify::new(),
            heard_end: CancellationToken::new(),
            said_all: CancellationToken::new(),
            over: CancellationToken::new(),
        };
        let guard = this.over.clone().drop_guard();
        (Arc::new(this), guard)
    }

    /// What is said to the other side: `parts`, as there is room for them, and what has been taken of its own.
    pub fn outgoing(self: &Arc<Self>, parts: mpsc::Receiver<CircuitPart>) -> impl Stream<Item = CircuitPart> + use<> {
        let outgoing = Outgoing { window: self.clone(), parts, next: None, ended: false };
        stream::unfold(outgoing, |mut outgoing| async move { Some((outgoing.next().await?, outgoing)) })
    }

    /// A part has come; false if it is one too many, or none that may come.
    fn comes(&self, part: &CircuitPart) -> bool {
        match part.part {
            Some(Part::Data(_) | Part::End(_)) if self.heard_end.is_cancelled() => false,
            Some(Part::Data(_)) => self.waiting.fetch_add(cost(part), Ordering::Relaxed) + cost(part) <= BYTES,
            Some(Part::Taken(taken)) => {
                let taken = taken as usize;
                let is_owed = taken <= BYTES - self.room.available_permits().min(BYTES);
                if is_owed {
                    self.room.add_permits(taken);
                }
                is_owed
            }
            Some(Part::End(_)) => {
                self.heard_end.cancel();
                true
            }
            Some(Part::Open(_) | Part::Status(_)) | None => false,
        }
    }

    fn is_taken(&self, part: &CircuitPart) {
        let cost = cost(part);
        self.waiting.fetch_sub(cost, Ordering::Relaxed);
        if self.taken.fetch_add(cost, Ordering::Relaxed) + cost >= WORTH_SAYING {
            self.is_taken.notify_one();
        }
    }
}

impl Outgoing {
    async fn next(&mut self) -> Option<CircuitPart> {
        loop {
            let window = &*self.window;
            if window.taken.load(Ordering::Relaxed) >= WORTH_SAYING {
                let taken = window.taken.swap(0, Ordering::Relaxed);
                return Some(CircuitPart { part: Some(Part::Taken(u32::try_from(taken).unwrap_or(u32::MAX))) });
            }
            tokio::select! {
                () = window.is_taken.notified() => {}
                part = with_room(&mut self.parts, &mut self.next, &window.room), if !self.ended => {
                    // Without an end that was said, the circuit breaks off at once.
                    self.ended = matches!(part.as_ref()?.part, Some(Part::End(_)));
                    return part;
                }
                () = window.heard_end.cancelled(), if self.ended => return None,
                () = window.over.cancelled() => return None,
            }
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.window.said_all.cancel();
    }
}

/// The next part, once there is room for it.
async fn with_room(
    parts: &mut mpsc::Receiver<CircuitPart>,
    next: &mut Option<CircuitPart>,
    room: &Semaphore,
) -> Option<CircuitPart> {
    if next.is_none() {
        *next = parts.recv().await;
    }
    let cost = u32::try_from(cost(next.as_ref()?)).ok()?;
    // Never closed.
    room.acquire_many(cost).await.ok()?.forget();
    next.take()
}

/// The same part, so that what it keeps in memory is not much more than it counts for: bytes are a piece of the message that
/// they came in, which has what its sender likes besides.
fn compact(mut part: CircuitPart) -> CircuitPart {
    if let Some(Part::Data(bytes)) = &mut part.part
        && bytes.len() < PART_LIMIT / 4
    {
        *bytes = Bytes::copy_from_slice(bytes);
    }
    part
}

fn cost(part: &CircuitPart) -> usize {
    match &part.part {
        Some(Part::Data(bytes)) => bytes.len() + PART_COST,
        _ => 0,
    }
}

/// The half of a circuit in another cluster, of which `outgoing` is said and `incoming` heard, until `end`. It keeps `held`
/// as long as it is kept itself.
pub fn half(
    (window, guard): (Arc<Window>, DropGuard),
    outgoing: mpsc::Sender<CircuitPart>,
    incoming: impl Stream<Item = Result<CircuitPart, Status>> + Send + Unpin + 'static,
    end: impl Future<Output = ()> + Send + 'static,
    held: impl Send + Sync + 'static,
    supervisor: &Supervisor,
) -> FarHalf {
    let (sender, heard) = mpsc::unbounded_channel();
    let (hearing, stop) = (window.clone(), supervisor.token());
    supervisor.spawn_quiet(async move {
        let _guard = guard;
        let has_gone = async {
            sender.closed().await;
            // What was said before has still to be taken, and is, as long as there is ever more room.
            let mut room = hearing.room.available_permits();
            while timeout(LINGER, hearing.said_all.cancelled()).await.is_err() {
                let before = std::mem::replace(&mut room, hearing.room.available_permits());
                if room == before {
                    break;
                }
            }
        };
        tokio::select! {
            () = hear(&hearing, incoming, &sender) => {}
            () = has_gone => {}
            () = end => {}
            () = stop.cancelled() => {}
        }
    });
    let heard = UnboundedReceiverStream::new(heard).inspect(move |part| {
        let _held = &held;
        if let Ok(part) = part {
            window.is_taken(part);
        }
    });
    FarHalf::new(outgoing, heard)
}

/// Reads all that comes, to its end; what waits is bounded, because whoever sends more is not read any further.
async fn hear(
    window: &Window,
    mut incoming: impl Stream<Item = Result<CircuitPart, Status>> + Unpin,
    sender: &mpsc::UnboundedSender<Result<CircuitPart, Status>>,
) {
    while let Some(part) = incoming.next().await {
        let part = match part.map(compact) {
            Ok(part) if !window.comes(&part) => {
                Err(Status::invalid_argument("more of a circuit than there is room for"))
            }
            part => part,
        };
        let is_bad = part.is_err();
        if !matches!(part, Ok(CircuitPart { part: Some(Part::Taken(_)) })) {
            // Whoever hears it may have gone; what is taken of the rest still counts.
            sender.send(part).unwrap_or_default();
        }
        if is_bad {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::future::{join, poll_immediate};
    use futures::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Two halves that lead to one another.
    fn circuit(supervisor: &Supervisor) -> [FarHalf; 2] {
        let (one, other) = (Window::new(), Window::new());
        let ((to_one, from_one), (to_other, from_other)) = (mpsc::channel(2), mpsc::channel(2));
        let said_by_one = one.0.outgoing(from_one).map(Ok).boxed();
        let said_by_other = other.0.outgoing(from_other).map(Ok).boxed();
        [
            half(one, to_one, said_by_other, std::future::pending(), (), supervisor),
            half(other, to_other, said_by_one, std::future::pending(), (), supervisor),
        ]
    }

    #[tokio::test]
    async fn much_more_than_a_window_passes_both_ways_and_each_way_ends_by_itself() {
        let supervisor = Supervisor::new();
        let [one, other] = circuit(&supervisor);
        let bytes: Vec<u8> = (0..5 * BYTES).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let ((mut read_one, mut write_one), (read_other, mut write_other)) = (one.split(), other.split());
        let echoing = async {
            futures::io::copy(read_other, &mut write_other).await.unwrap();
            write_other.close().await.unwrap();
        };
        let writing = async {
            write_one.write_all(&bytes).await.unwrap();
            write_one.close().await.unwrap();
        };
        let mut echoed = Vec::new();
        let (_, read) = join(join(echoing, writing), read_one.read_to_end(&mut echoed)).await;
        assert!(read.is_ok() && echoed == bytes);
    }

    #[tokio::test]
    async fn what_nobody_takes_is_bounded_and_arrives_though_its_sender_has_gone() {
        let supervisor = Supervisor::new();
        let [mut one, mut other] = circuit(&supervisor);
        let block = vec![7; 64 << 10];
        let mut sent = 0;
        while poll_immediate(one.write_all(&block)).await.is_some() {
            sent += block.len();
            assert!(sent < 2 * BYTES);
            tokio::task::yield_now().await;
        }
        assert!(sent >= BYTES / 2);
        let closing = async {
            one.close().await.unwrap();
            drop(one);
        };
        let mut read = Vec::new();
        let (_, all) = join(closing, other.read_to_end(&mut read)).await;
        assert!(all.is_ok() && read.len() >= sent);
    }

    #[tokio::test]
    async fn a_half_that_goes_without_an_end_breaks_the_circuit() {
        let supervisor = Supervisor::new();
        let [one, mut other] = circuit(&supervisor);
        drop(one);
        assert!(other.read_to_end(&mut Vec::new()).await.is_err());
    }

    #[tokio::test]
    async fn whoever_sends_more_than_there_is_room_for_is_not_read_any_further() {
        let supervisor = Supervisor::new();
        let data = |length: usize| Ok(CircuitPart { part: Some(Part::Data(Bytes::from(vec![7; length]))) });
        for (length, count) in [(64 << 10, 8), (1, 2041)] {
            let window = Window::new();
            let waiting = window.0.clone();
            let (sender, _parts) = mpsc::channel(2);
            let incoming = stream::iter((0..10 * count).map(move |_| data(length))).chain(stream::pending());
            let mut half = half(window, sender, incoming, std::future::pending(), (), &supervisor);
            waiting.over.cancelled().await;
            assert!(waiting.waiting.load(Ordering::Relaxed) <= BYTES + (64 << 10) + PART_COST);
            assert!(half.read_to_end(&mut Vec::new()).await.is_err());
        }
    }
}
