//! Frames on their way to another cluster: bounded by their bytes, in order, in batches.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use futures::Stream;
use prost::Message;
use tokio::sync::mpsc;

use super::inflow::BATCH_BYTES;
use super::proto::{Batch, Frame, frame::Body};
use crate::cluster::links::LinkRefused;
use crate::observe::metrics::Metrics;

/// Bytes that may wait for one other cluster, but for the largest frames.
const QUEUE_BYTES: usize = 8 << 20;

/// What a frame takes of that at most: so one of any size can wait, and smaller ones beside it.
const MAX_CHARGE_BYTES: usize = QUEUE_BYTES / 4 * 3;

/// What a frame costs in the queue besides its bytes.
const FRAME_OVERHEAD_BYTES: usize = 128;

/// Most frames in one batch.
const BATCH_FRAMES: usize = 256;

/// The end that frames are put in; clones share it.
#[derive(Clone)]
pub struct Queue {
    sender: mpsc::UnboundedSender<Queued>,
    queued: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
}

struct Queued {
    frame: Frame,
    room: Room,
}

/// Given back when the frame has been handed on, or is dropped with its link.
struct Room {
    bytes: usize,
    charge: usize,
    queued: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.queued.fetch_sub(self.charge, Ordering::AcqRel);
        self.metrics.federation.queued_bytes.dec_by(self.bytes as i64);
    }
}

impl Queue {
    /// An empty queue, and the batches that come out of it.
    pub fn new(metrics: Arc<Metrics>) -> (Self, impl Stream<Item = Batch> + Send + Unpin + 'static) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let batches = Batches { receiver, next: None, metrics: metrics.clone() };
        (Self { sender, queued: Arc::default(), metrics }, batches)
    }

    /// Takes a frame.
    ///
    /// # Errors
    /// [`LinkRefused`], at once; the frame is counted as dropped.
    pub fn push(&self, ask: u64, body: Body) -> Result<(), LinkRefused> {
        let frame = Frame { ask, body: Some(body) };
        let bytes = frame.encoded_len() + FRAME_OVERHEAD_BYTES;
        let charge = bytes.min(MAX_CHARGE_BYTES);
        let room = Room { bytes, charge, queued: self.queued.clone(), metrics: self.metrics.clone() };
        let before = self.queued.fetch_add(charge, Ordering::AcqRel);
        self.metrics.federation.queued_bytes.inc_by(bytes as i64);
        let pushed = if before + charge > QUEUE_BYTES {
            Err(LinkRefused::Full)
        } else {
            self.sender.send(Queued { frame, room }).map_err(|_| LinkRefused::Gone)
        };
        if let Err(refused) = pushed {
            self.metrics.drop_one("federation", if refused == LinkRefused::Full { "full" } else { "gone" });
        }
        pushed
    }
}

/// What waits, as it leaves.
struct Batches {
    receiver: mpsc::UnboundedReceiver<Queued>,
    /// What did not fit the last batch.
    next: Option<Queued>,
    metrics: Arc<Metrics>,
}

impl Stream for Batches {
    type Item = Batch;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Batch>> {
        let Self { receiver, next, metrics } = &mut *self;
        let first = match next.take() {
            Some(first) => first,
            None => match ready!(receiver.poll_recv(cx)) {
                Some(first) => first,
                None => return Poll::Ready(None),
            },
        };
        let (mut bytes, mut frames) = (first.room.bytes, vec![first.frame]);
        while frames.len() < BATCH_FRAMES
            && let Poll::Ready(Some(more)) = receiver.poll_recv(cx)
        {
            if bytes + more.room.bytes > BATCH_BYTES {
                *next = Some(more);
                break;
            }
            bytes += more.room.bytes;
            frames.push(more.frame);
        }
        metrics.federation.frames_sent.inc_by(frames.len() as u64);
        Poll::Ready(Some(Batch { hello: None, frames }))
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;
    use crate::cluster::proto;
    use crate::federation::proto::{Ping, Vault};

    fn large(bytes: usize) -> Body {
        let notify = proto::Notify { vault_id: String::new(), frame: vec![0; bytes].into() };
        Body::Vault(Vault { frame: Some(proto::frame::Body::Notify(notify).into()) })
    }

    #[tokio::test]
    async fn frames_come_out_in_order_and_give_their_room_back() {
        let (queue, batches) = Queue::new(Metrics::new());
        for ask in 1..=3 {
            queue.push(ask, Body::Ping(Ping {})).unwrap();
        }
        let mut batches = std::pin::pin!(batches);
        let batch = batches.next().await.unwrap();
        assert_eq!(batch.frames.iter().map(|frame| frame.ask).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(queue.queued.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn what_does_not_fit_is_refused_and_what_nobody_reads_is_gone() {
        let (queue, batches) = Queue::new(Metrics::new());
        let fits = (0..).take_while(|ask| queue.push(*ask, Body::Ping(Ping {})).is_ok()).count();
        assert!(fits > QUEUE_BYTES / 256 && fits <= QUEUE_BYTES / FRAME_OVERHEAD_BYTES, "{fits}");
        drop(batches);
        assert_eq!(queue.queued.load(Ordering::Relaxed), 0);
        assert_eq!(queue.push(1, Body::Ping(Ping {})), Err(LinkRefused::Gone));
    }

    #[tokio::test]
    async fn a_batch_of_several_frames_is_short_and_a_frame_of_any_size_is_one() {
        let (queue, mut batches) = Queue::new(Metrics::new());
        for bytes in [1000, 2 * QUEUE_BYTES, 1000, BATCH_BYTES - 2000, 1000] {
            queue.push(0, large(bytes)).unwrap();
        }
        let mut sent = Vec::new();
        for _ in 0..4 {
            sent.push(batches.next().await.unwrap().frames.len());
        }
        assert_eq!(sent, [1, 1, 2, 1]);
    }

    #[tokio::test]
    async fn one_frame_of_any_size_can_wait_and_small_ones_beside_it() {
        let (queue, mut batches) = Queue::new(Metrics::new());
        queue.push(0, large(3 * QUEUE_BYTES)).unwrap();
        assert_eq!(queue.push(0, large(3 * QUEUE_BYTES)), Err(LinkRefused::Full));
        queue.push(0, large(QUEUE_BYTES / 8)).unwrap();
        batches.next().await.unwrap();
        queue.push(0, large(3 * QUEUE_BYTES)).unwrap();
        assert_eq!(queue.metrics.federation.queued_bytes.get() as usize / QUEUE_BYTES, 3);
    }
}
