//! What waits to be sent on one link, encoded as it is queued and handed out in batches.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use prost::{Message, length_delimiter_len};

use crate::cluster::proto::Frame;
use crate::observe::metrics::Metrics;

/// Most bytes in a batch of more than one frame: eight chunks of the size that tonic writes.
pub const BATCH_BYTES: usize = 256 << 10;

/// What stands before each frame in an encoded `Batch`: field 2, length-delimited.
const FRAMES_KEY: u8 = 2 << 3 | 2;

/// A bounded queue with one reader.
pub struct LinkQueue {
    state: Mutex<State>,
    waker: AtomicWaker,
    limit: usize,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct State {
    /// Batches that take no more frames.
    full: VecDeque<Growing>,
    /// The last batch. Handed out, it is a part split off this buffer, whose memory is used again once the part has
    /// been written.
    last: Growing,
    /// What the frames take of the limit.
    charged: usize,
    /// The reader has seen what waits, and lets others run before it takes it.
    lingering: bool,
    /// The node cannot be reached: frames are refused rather than kept for nobody.
    down: bool,
}

/// A batch that has not been handed out.
#[derive(Default)]
struct Growing {
    bytes: BytesMut,
    frames: usize,
    charged: usize,
}

impl Growing {
    fn push(&mut self, frame: &Frame, bytes: usize, charge: usize) {
        self.charged += charge;
        self.bytes.reserve(bytes);
        self.bytes.put_u8(FRAMES_KEY);
        let encoded = frame.encode_length_delimited(&mut self.bytes);
        debug_assert!(encoded.is_ok(), "a growing buffer has room");
        self.frames += 1;
    }

    /// What there is; the buffer's memory stays.
    fn split(&mut self) -> Self {
        let (frames, charged) = (std::mem::take(&mut self.frames), std::mem::take(&mut self.charged));
        Self { bytes: self.bytes.split(), frames, charged }
    }
}

impl State {
    fn push(&mut self, frame: &Frame, bytes: usize, charge: usize) {
        self.charged += charge;
        if self.last.frames > 0 && self.last.bytes.len() + bytes > BATCH_BYTES {
            let full = self.last.split();
            self.full.push_back(full);
        }
        if bytes > BATCH_BYTES {
            // Not into the buffer, which would keep the memory.
            let mut own = Growing::default();
            own.push(frame, bytes, charge);
            self.full.push_back(own);
        } else {
            self.last.push(frame, bytes, charge);
        }
    }

    fn is_empty(&self) -> bool {
        self.full.is_empty() && self.last.frames == 0
    }

    fn pop(&mut self) -> Growing {
        let batch = self.full.pop_front().unwrap_or_else(|| self.last.split());
        self.charged -= batch.charged;
        batch
    }
}

impl LinkQueue {
    pub fn new(limit: usize, metrics: Arc<Metrics>) -> Self {
        Self { state: Mutex::default(), waker: AtomicWaker::new(), limit, metrics }
    }

    /// Takes a frame, or gives it back if it does not fit.
    pub fn push(&self, frame: Frame) -> Result<(), Box<Frame>> {
        self.push_below(frame, self.limit)
    }

    /// The same, if no more than a quarter of what may wait does then.
    pub fn push_if_room(&self, frame: Frame) -> Result<(), Box<Frame>> {
        self.push_below(frame, self.limit / 4)
    }

    fn push_below(&self, frame: Frame, limit: usize) -> Result<(), Box<Frame>> {
        let length = frame.encoded_len();
        let bytes = 1 + length_delimiter_len(length) + length;
        {
            // One frame of any size can wait, and smaller ones beside it.
            let charge = bytes.min(self.limit / 4 * 3);
            let mut state = self.state.lock();
            if state.down || state.charged + charge > limit {
                return Err(Box::new(frame));
            }
            state.push(&frame, bytes, charge);
        }
        self.metrics.cluster.link_queued_bytes.inc_by(bytes as i64);
        self.waker.wake();
        Ok(())
    }

    /// The link is broken: forgets and counts what waits, and takes nothing before [`LinkQueue::open`].
    pub fn break_off(&self) {
        let lost = std::mem::replace(&mut *self.state.lock(), State { down: true, ..State::default() });
        let bytes = lost.full.iter().map(|batch| batch.bytes.len()).sum::<usize>() + lost.last.bytes.len();
        self.metrics.cluster.link_queued_bytes.dec_by(bytes as i64);
        for _ in 0..lost.full.iter().map(|batch| batch.frames).sum::<usize>() + lost.last.frames {
            self.metrics.drop_one("link", "broken");
        }
    }

    /// The link stands: frames are taken.
    pub fn open(&self) {
        self.state.lock().down = false;
    }

    /// What waits, up to the size of a batch: a `Batch` as protobuf bytes. One task at a time may wait here.
    ///
    /// It gives way once before it takes anything: the tasks that are ready to run then add their frames to the
    /// batch, where they would otherwise cost a batch, and a write to the socket, each.
    pub fn poll_batch(&self, context: &mut Context<'_>) -> Poll<Bytes> {
        self.waker.register(context.waker());
        let mut state = self.state.lock();
        if state.is_empty() {
            return Poll::Pending;
        }
        if !std::mem::replace(&mut state.lingering, true) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        state.lingering = false;
        let Growing { bytes, frames, .. } = state.pop();
        drop(state);
        let figures = &self.metrics.cluster;
        figures.link_queued_bytes.dec_by(bytes.len() as i64);
        figures.frames_sent.inc_by(frames as u64);
        figures.batches_sent.inc();
        Poll::Ready(bytes.freeze())
    }
}

impl Drop for LinkQueue {
    fn drop(&mut self) {
        self.break_off();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::proto::{Batch, Notify, frame::Body};

    fn frame(bytes: usize) -> Frame {
        Body::Notify(Notify { vault_id: "v".into(), frame: vec![0; bytes].into() }).into()
    }

    /// Polls as a task does that is run again at once when it gives way.
    fn next(queue: &LinkQueue) -> Poll<Bytes> {
        let mut context = Context::from_waker(futures::task::noop_waker_ref());
        match queue.poll_batch(&mut context) {
            Poll::Pending => queue.poll_batch(&mut context),
            ready => ready,
        }
    }

    fn frames(batch: Poll<Bytes>) -> Option<Vec<Frame>> {
        match batch {
            Poll::Ready(batch) => Some(Batch::decode(batch).unwrap().frames),
            Poll::Pending => None,
        }
    }

    #[test]
    fn what_waits_together_leaves_together_as_a_batch_of_the_protocol() {
        let queue = LinkQueue::new(1 << 20, Metrics::new());
        for bytes in 0..300 {
            queue.push(frame(bytes)).unwrap();
        }
        assert_eq!(frames(next(&queue)), Some((0..300).map(frame).collect()));
        assert!(next(&queue).is_pending());
    }

    #[test]
    fn the_reader_gives_way_once_so_that_a_batch_can_grow() {
        let queue = LinkQueue::new(1 << 20, Metrics::new());
        let mut context = Context::from_waker(futures::task::noop_waker_ref());
        queue.push(frame(10)).unwrap();
        assert!(queue.poll_batch(&mut context).is_pending());
        queue.push(frame(10)).unwrap();
        assert_eq!(frames(queue.poll_batch(&mut context)), Some(vec![frame(10), frame(10)]));
    }

    #[test]
    fn a_full_batch_is_followed_by_another() {
        let queue = LinkQueue::new(4 * BATCH_BYTES, Metrics::new());
        for _ in 0..5 {
            queue.push(frame(BATCH_BYTES / 2 - 100)).unwrap();
        }
        let sizes = [(); 4].map(|()| frames(next(&queue)).map(|frames| frames.len()));
        assert_eq!(sizes, [Some(2), Some(2), Some(1), None]);
    }

    #[test]
    fn a_frame_larger_than_a_batch_travels_alone_and_in_order() {
        let queue = LinkQueue::new(4 * BATCH_BYTES, Metrics::new());
        for bytes in [1, 2 * BATCH_BYTES, 2] {
            queue.push(frame(bytes)).unwrap();
        }
        let sent = [(); 3].map(|()| frames(next(&queue)).unwrap());
        assert_eq!(sent, [1, 2 * BATCH_BYTES, 2].map(|bytes| vec![frame(bytes)]));
    }

    #[test]
    fn what_does_not_fit_is_refused_at_once() {
        let queue = LinkQueue::new(1000, Metrics::new());
        assert!(queue.push(frame(500)).is_ok());
        assert!(queue.push(frame(500)).is_err());
        assert!(next(&queue).is_ready());
        assert!(queue.push(frame(500)).is_ok());
    }

    #[test]
    fn what_can_be_done_without_takes_no_more_than_a_quarter() {
        let queue = LinkQueue::new(4000, Metrics::new());
        assert_eq!((0..10).filter(|_| queue.push_if_room(frame(300)).is_ok()).count(), 3);
        assert!(queue.push(frame(2900)).is_ok(), "the rest is for others");
        assert!(queue.push_if_room(frame(1)).is_err());
        while next(&queue).is_ready() {}
        assert!(queue.push_if_room(frame(300)).is_ok());
    }

    #[test]
    fn one_frame_of_any_size_can_wait_and_small_ones_beside_it() {
        let queue = LinkQueue::new(1000, Metrics::new());
        let waiting = || queue.metrics.cluster.link_queued_bytes.get();
        queue.push(frame(3000)).unwrap();
        assert!(queue.push(frame(3000)).is_err());
        queue.push(frame(100)).unwrap();
        assert!((3100..3200).contains(&waiting()));
        assert_eq!(frames(next(&queue)).map(|frames| frames.len()), Some(2));
        queue.push(frame(3000)).unwrap();
        queue.break_off();
        assert_eq!(waiting(), 0);
    }

    #[test]
    fn a_broken_link_takes_nothing_until_it_stands_again() {
        let queue = LinkQueue::new(1 << 20, Metrics::new());
        queue.push(frame(10)).unwrap();
        queue.break_off();
        assert!(queue.push(frame(10)).is_err());
        assert!(next(&queue).is_pending());
        queue.open();
        assert!(queue.push(frame(10)).is_ok());
    }
}
