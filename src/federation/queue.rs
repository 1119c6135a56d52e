//! Frames on their way to another cluster: bounded by their bytes, in order, in batches.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{Stream, StreamExt};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::proto::{Batch, Frame, frame::Body};
use crate::cluster::links::LinkRefused;
use crate::observe::metrics::Metrics;

/// Bytes that may wait for one other cluster.
const QUEUE_BYTES: usize = 8 << 20;

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
    _room: Room,
}

/// Given back when the frame has been handed on, or is dropped with its link.
struct Room {
    bytes: usize,
    queued: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.queued.fetch_sub(self.bytes, Ordering::AcqRel);
        self.metrics.federation.queued_bytes.dec_by(self.bytes as i64);
    }
}

impl Queue {
    /// An empty queue, and the batches that come out of it.
    pub fn new(metrics: Arc<Metrics>) -> (Self, impl Stream<Item = Batch> + Send + 'static) {
        let (sender, receiver) = mpsc::unbounded_channel::<Queued>();
        let counted = metrics.clone();
        let batches = UnboundedReceiverStream::new(receiver).ready_chunks(BATCH_FRAMES).map(move |queued| {
            counted.federation.frames_sent.inc_by(queued.len() as u64);
            Batch { hello: None, frames: queued.into_iter().map(|queued| queued.frame).collect() }
        });
        (Self { sender, queued: Arc::default(), metrics }, batches)
    }

    /// Takes a frame.
    ///
    /// # Errors
    /// [`LinkRefused`], at once; the frame is counted as dropped.
    pub fn push(&self, ask: u64, body: Body) -> Result<(), LinkRefused> {
        let frame = Frame { ask, body: Some(body) };
        let bytes = frame.encoded_len() + FRAME_OVERHEAD_BYTES;
        let room = Room { bytes, queued: self.queued.clone(), metrics: self.metrics.clone() };
        let before = self.queued.fetch_add(bytes, Ordering::AcqRel);
        self.metrics.federation.queued_bytes.inc_by(bytes as i64);
        let pushed = if before + bytes > QUEUE_BYTES {
            Err(LinkRefused::Full)
        } else {
            self.sender.send(Queued { frame, _room: room }).map_err(|_| LinkRefused::Gone)
        };
        if let Err(refused) = pushed {
            self.metrics.drop_one("federation", if refused == LinkRefused::Full { "full" } else { "gone" });
        }
        pushed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::federation::proto::Ping;

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
}
