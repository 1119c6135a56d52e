//! What waits to be sent to one peer.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{Notify, OwnedSemaphorePermit};

/// Messages that may wait for one peer, and their bytes: with the window of its stream, half a minute of a line that takes
/// documents of the largest size one a second.
const MOST: (usize, usize) = (256, 1 << 20);

/// A message that is sent to many peers, and in memory once, until the last of them has it.
#[derive(Debug)]
pub struct Parcel {
    /// An RPC, with its length before it.
    pub framed: Bytes,
    waiting_bytes: Gauge,
    _room: OwnedSemaphorePermit,
}

impl Parcel {
    /// One that takes `room` in what all together may take.
    pub fn new(framed: Bytes, room: OwnedSemaphorePermit, waiting_bytes: &Gauge) -> Self {
        waiting_bytes.inc_by(framed.len() as i64);
        Self { framed, waiting_bytes: waiting_bytes.clone(), _room: room }
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        self.waiting_bytes.dec_by(self.framed.len() as i64);
    }
}

/// A bounded queue with one reader.
#[derive(Debug, Default)]
pub struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Arc<Parcel>>,
    bytes: usize,
    gate: Gate,
}

/// Whether a queue takes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Gate {
    #[default]
    Open,
    Shut,
    Ended,
}

impl Queue {
    /// One more.
    ///
    /// # Errors
    /// Why it is not taken, in one word for figures.
    pub fn push(&self, parcel: &Arc<Parcel>) -> Result<(), &'static str> {
        {
            let mut state = self.state.lock();
            if state.gate != Gate::Open {
                return Err("shut");
            }
            if state.waiting.len() >= MOST.0 || state.bytes + parcel.framed.len() > MOST.1 {
                return Err("full");
            }
            state.bytes += parcel.framed.len();
            state.waiting.push_back(parcel.clone());
        }
        self.changed.notify_one();
        Ok(())
    }

    /// The next, if one waits.
    pub fn pop(&self) -> Option<Arc<Parcel>> {
        let mut state = self.state.lock();
        let parcel = state.waiting.pop_front();
        match &parcel {
            Some(parcel) => state.bytes -= parcel.framed.len(),
            // A peer that nothing is said to costs no memory.
            None => state.waiting = VecDeque::new(),
        }
        parcel
    }

    /// Waits for the next; none, once the queue has ended. One task at a time may wait.
    pub async fn next(&self) -> Option<Arc<Parcel>> {
        loop {
            if let Some(parcel) = self.pop() {
                return Some(parcel);
            }
            if self.has_ended() {
                return None;
            }
            self.changed.notified().await;
        }
    }

    /// Takes things again, unless it has ended.
    pub fn open(&self) {
        self.turn(Gate::Open);
    }

    /// Takes nothing for now, and lets go of what waits: how much that was.
    pub fn shut(&self) -> usize {
        self.turn(Gate::Shut)
    }

    /// Takes nothing ever again, and lets go of what waits.
    pub fn end(&self) {
        self.turn(Gate::Ended);
        self.changed.notify_one();
    }

    /// Waits until it has ended.
    pub async fn ended(&self) {
        while !self.has_ended() {
            self.changed.notified().await;
        }
    }

    fn has_ended(&self) -> bool {
        self.state.lock().gate == Gate::Ended
    }

    fn turn(&self, gate: Gate) -> usize {
        let mut state = self.state.lock();
        if state.gate != Gate::Ended {
            state.gate = gate;
        }
        if gate == Gate::Open {
            return 0;
        }
        state.bytes = 0;
        std::mem::take(&mut state.waiting).len()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    fn parcel(bytes: usize, room: &Arc<Semaphore>, gauge: &Gauge) -> Arc<Parcel> {
        let room = room.clone().try_acquire_owned().unwrap();
        Arc::new(Parcel::new(vec![0; bytes].into(), room, gauge))
    }

    #[test]
    fn a_queue_is_bounded_in_number_and_in_bytes() {
        let (room, gauge) = (Arc::new(Semaphore::new(9)), Gauge::default());
        for (bytes, fit) in [(1, MOST.0), (64 << 10, 16)] {
            let (queue, parcel) = (Queue::default(), parcel(bytes, &room, &gauge));
            let taken = (0..MOST.0 + 10).filter(|_| queue.push(&parcel).is_ok()).count();
            assert_eq!(taken, fit);
            assert_eq!(queue.push(&parcel), Err("full"));
            assert!(queue.pop().is_some());
            assert_eq!(queue.push(&parcel), Ok(()));
        }
    }

    #[test]
    fn what_is_in_many_queues_is_charged_once_and_given_back_by_the_last() {
        let (room, gauge) = (Arc::new(Semaphore::new(1)), Gauge::default());
        let queues = [(); 3].map(|()| Queue::default());
        let parcel = parcel(7, &room, &gauge);
        assert!(queues.iter().all(|queue| queue.push(&parcel).is_ok()));
        drop(parcel);
        assert_eq!((queues[0].pop().map(|parcel| parcel.framed.len()), queues[1].shut()), (Some(7), 1));
        assert_eq!((gauge.get(), room.available_permits()), (7, 0));
        queues[2].end();
        assert_eq!((gauge.get(), room.available_permits()), (0, 1));
    }

    #[tokio::test]
    async fn a_queue_that_is_shut_takes_nothing_and_one_that_has_ended_stays_so() {
        let (room, gauge) = (Arc::new(Semaphore::new(9)), Gauge::default());
        let (queue, parcel) = (Queue::default(), parcel(1, &room, &gauge));
        queue.shut();
        assert_eq!(queue.push(&parcel), Err("shut"));
        queue.open();
        assert_eq!(queue.push(&parcel), Ok(()));
        assert!(queue.next().await.is_some());
        queue.end();
        queue.open();
        assert_eq!(queue.push(&parcel), Err("shut"));
        assert!(queue.next().await.is_none());
        queue.ended().await;
    }
}
