//! What waits to be sent on one link, handed out in batches.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use parking_lot::Mutex;

use crate::cluster::proto::{Batch, Frame};
use crate::observe::metrics::Metrics;

/// Most frames in one batch.
const BATCH_FRAMES: usize = 256;

/// Bytes after which a batch is full: four HTTP/2 frames of the size that tonic writes.
const BATCH_BYTES: usize = 256 << 10;

/// A bounded queue with one reader.
pub struct LinkQueue {
    state: Mutex<State>,
    waker: AtomicWaker,
    limit: usize,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct State {
    frames: VecDeque<Frame>,
    bytes: usize,
    /// The node cannot be reached: frames are refused rather than kept for nobody.
    down: bool,
}

impl LinkQueue {
    pub fn new(limit: usize, metrics: Arc<Metrics>) -> Self {
        Self { state: Mutex::default(), waker: AtomicWaker::new(), limit, metrics }
    }

    /// Takes a frame, or gives it back if it does not fit.
    pub fn push(&self, frame: Frame) -> Result<(), Box<Frame>> {
        let weight = frame.weight();
        {
            let mut state = self.state.lock();
            if state.down || state.bytes + weight > self.limit {
                return Err(Box::new(frame));
            }
            state.bytes += weight;
            state.frames.push_back(frame);
        }
        self.metrics.cluster.link_queued_bytes.inc_by(weight as i64);
        self.waker.wake();
        Ok(())
    }

    /// The link is broken: forgets and counts what waits, and takes nothing before [`LinkQueue::open`].
    pub fn break_off(&self) {
        let lost = std::mem::replace(&mut *self.state.lock(), State { down: true, ..State::default() });
        self.metrics.cluster.link_queued_bytes.dec_by(lost.bytes as i64);
        for _ in lost.frames {
            self.metrics.drop_one("link", "broken");
        }
    }

    /// The link stands: frames are taken.
    pub fn open(&self) {
        self.state.lock().down = false;
    }

    /// Everything that waits, up to the size of a batch. One task at a time may wait here.
    pub fn poll_batch(&self, context: &mut Context<'_>) -> Poll<Batch> {
        self.waker.register(context.waker());
        let mut state = self.state.lock();
        let (mut frames, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH_BYTES && frames.len() < BATCH_FRAMES {
            let Some(frame) = state.frames.pop_front() else { break };
            bytes += frame.weight();
            frames.push(frame);
        }
        if frames.is_empty() {
            state.frames = VecDeque::new();
            return Poll::Pending;
        }
        state.bytes -= bytes;
        drop(state);
        let figures = &self.metrics.cluster;
        figures.link_queued_bytes.dec_by(bytes as i64);
        figures.frames_sent.inc_by(frames.len() as u64);
        figures.batches_sent.inc();
        Poll::Ready(Batch { hello: None, frames })
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
    use crate::cluster::proto::{Notify, frame::Body};

    fn frame(bytes: usize) -> Frame {
        Body::Notify(Notify { vault_id: "v".into(), frame: vec![0; bytes].into() }).into()
    }

    fn next(queue: &LinkQueue) -> Poll<usize> {
        queue.poll_batch(&mut Context::from_waker(futures::task::noop_waker_ref())).map(|b| b.frames.len())
    }

    #[test]
    fn what_waits_together_leaves_together() {
        let queue = LinkQueue::new(1 << 20, Metrics::new());
        for _ in 0..300 {
            queue.push(frame(10)).unwrap();
        }
        assert_eq!([next(&queue), next(&queue), next(&queue)], [Poll::Ready(256), Poll::Ready(44), Poll::Pending]);
    }

    #[test]
    fn what_does_not_fit_is_refused_at_once() {
        let queue = LinkQueue::new(1000, Metrics::new());
        assert!(queue.push(frame(500)).is_ok());
        assert!(queue.push(frame(500)).is_err());
    }

    #[test]
    fn a_broken_link_takes_nothing_until_it_stands_again() {
        let queue = LinkQueue::new(1 << 20, Metrics::new());
        queue.push(frame(10)).unwrap();
        queue.break_off();
        assert!(queue.push(frame(10)).is_err());
        assert_eq!(next(&queue), Poll::Pending);
        queue.open();
        assert!(queue.push(frame(10)).is_ok());
    }
}
