//! What waits to be sent to one peer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::observe::metrics::Metrics;

use super::waiting::Parcel;

/// The name of the queues in the figures.
pub const QUEUE: &str = "gossip";

/// Messages that may wait for one peer, and their bytes.
const MOST: (usize, usize) = (256, 1 << 20);

/// A bounded queue with one reader. What it lets go of it counts.
pub struct Queue {
    state: Mutex<State>,
    changed: Notify,
    metrics: Arc<Metrics>,
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

impl State {
    fn pop(&mut self) -> Option<Arc<Parcel>> {
        let parcel = self.waiting.pop_front();
        match &parcel {
            Some(parcel) => self.bytes -= parcel.bytes(),
            // A peer that nothing is said to costs no memory.
            None => self.waiting = VecDeque::new(),
        }
        parcel
    }
}

impl Queue {
    /// An open one, with nothing in it.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { state: Mutex::default(), changed: Notify::new(), metrics }
    }

    /// Whether it takes a message of so many bytes.
    ///
    /// # Errors
    /// Why it does not, in one word for figures.
    pub fn has_room(&self, bytes: usize) -> Result<(), &'static str> {
        self.room(&mut self.state.lock(), bytes)
    }

    /// One more.
    ///
    /// # Errors
    /// Why it is not taken, in one word for figures.
    pub fn push(&self, parcel: &Arc<Parcel>) -> Result<(), &'static str> {
        {
            let mut state = self.state.lock();
            self.room(&mut state, parcel.bytes())?;
            state.bytes += parcel.bytes();
            state.waiting.push_back(parcel.clone());
        }
        self.changed.notify_one();
        Ok(())
    }

    fn room(&self, state: &mut State, bytes: usize) -> Result<(), &'static str> {
        if state.gate != Gate::Open {
            return Err("shut");
        }
        // Those that nobody gets any more leave their places.
        while let Some(why) = state.waiting.front().and_then(|parcel| parcel.given_up()) {
            drop(state.pop());
            self.metrics.drop_one(QUEUE, why);
        }
        if state.waiting.len() >= MOST.0 || state.bytes + bytes > MOST.1 { Err("full") } else { Ok(()) }
    }

    /// The next that is not too old at `now`, if one waits, and what to send.
    pub fn pop(&self, now: Instant) -> Option<(Arc<Parcel>, Bytes)> {
        loop {
            let parcel = self.state.lock().pop()?;
            match parcel.framed(now) {
                Ok(framed) => return Some((parcel, framed)),
                Err(why) => self.metrics.drop_one(QUEUE, why),
            }
        }
    }

    /// Waits for the next; none, once the queue has ended. One task at a time may wait.
    pub async fn next(&self) -> Option<(Arc<Parcel>, Bytes)> {
        loop {
            if let Some(next) = self.pop(Instant::now()) {
                return Some(next);
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

    /// Takes nothing for now, and lets go of what waits; `why` is one word for figures.
    pub fn shut(&self, why: &'static str) {
        for _ in self.turn(Gate::Shut) {
            self.metrics.drop_one(QUEUE, why);
        }
    }

    /// Takes nothing ever again, and lets go of what waits.
    pub fn end(&self) {
        self.turn(Gate::Ended);
        self.changed.notify_one();
    }

    /// Whether it takes nothing ever again.
    pub fn has_ended(&self) -> bool {
        self.state.lock().gate == Gate::Ended
    }

    /// What it lets go of.
    fn turn(&self, gate: Gate) -> VecDeque<Arc<Parcel>> {
        let mut state = self.state.lock();
        if state.gate != Gate::Ended {
            state.gate = gate;
        }
        if gate == Gate::Open {
            return VecDeque::new();
        }
        state.bytes = 0;
        std::mem::take(&mut state.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::metrics::Dropped;
    use crate::p2p::gossip::waiting::{AGE, Waiting};

    struct Fixture {
        metrics: Arc<Metrics>,
        waiting: Waiting,
    }

    impl Fixture {
        fn new(kib: usize) -> Self {
            let metrics = Metrics::new();
            Self { waiting: Waiting::new(kib, &metrics.p2p.gossip_waiting_bytes), metrics }
        }

        fn queue(&self) -> Queue {
            Queue::new(self.metrics.clone())
        }

        fn parcel(&self, bytes: usize, now: Instant) -> Arc<Parcel> {
            self.waiting.parcel(vec![0; bytes].into(), now).unwrap()
        }

        fn dropped(&self, reason: &'static str) -> u64 {
            self.metrics.dropped.get_or_create(&Dropped { queue: QUEUE, reason }).get()
        }

        fn waits(&self) -> i64 {
            self.metrics.p2p.gossip_waiting_bytes.get()
        }
    }

    #[test]
    fn a_queue_is_bounded_in_number_and_in_bytes() {
        let (fixture, now) = (Fixture::new(99), Instant::now());
        for (bytes, fit) in [(1, MOST.0), (64 << 10, 16)] {
            let (queue, parcel) = (fixture.queue(), fixture.parcel(bytes, now));
            let taken = (0..MOST.0 + 10).filter(|_| queue.push(&parcel).is_ok()).count();
            assert_eq!(taken, fit);
            assert_eq!((queue.has_room(bytes), queue.push(&parcel)), (Err("full"), Err("full")));
            assert!(queue.pop(now).is_some());
            assert_eq!((queue.has_room(bytes), queue.push(&parcel)), (Ok(()), Ok(())));
        }
    }

    #[test]
    fn what_is_in_many_queues_is_charged_once_and_given_back_by_the_last() {
        let (fixture, now) = (Fixture::new(1), Instant::now());
        let queues = [(); 3].map(|()| fixture.queue());
        let parcel = fixture.parcel(7, now);
        assert!(queues.iter().all(|queue| queue.push(&parcel).is_ok()));
        drop(parcel);
        assert_eq!(queues[0].pop(now).map(|(_, framed)| framed.len()), Some(7));
        queues[1].shut("slow");
        assert_eq!((fixture.waits(), fixture.dropped("slow")), (7, 1));
        queues[2].end();
        assert_eq!(fixture.waits(), 0);
    }

    #[test]
    fn what_is_old_is_sent_to_nobody_and_leaves_its_place() {
        let (fixture, now) = (Fixture::new(2048), Instant::now());
        let (queue, later) = (fixture.queue(), now + AGE);
        let (old, new) = (fixture.parcel(1000 << 10, now), fixture.parcel(1000 << 10, later));
        assert_eq!((queue.push(&old), queue.push(&new)), (Ok(()), Ok(())), "making the new one gave up the old one");
        assert_eq!(fixture.dropped("old"), 1);
        assert_eq!(queue.pop(later).map(|(parcel, _)| Arc::ptr_eq(&parcel, &new)), Some(true));
        queue.push(&new).unwrap();
        assert!(queue.pop(later + AGE).is_none(), "nothing came meanwhile, and it is old all the same");
        assert_eq!((fixture.dropped("old"), fixture.waits()), (2, 0));
    }

    #[test]
    fn who_does_not_read_does_not_hold_the_memory_of_all() {
        let (fixture, now) = (Fixture::new(2), Instant::now());
        let (deaf, reader) = (fixture.queue(), fixture.queue());
        for _ in 0..10 {
            let parcel = fixture.parcel(1 << 10, now);
            assert_eq!((deaf.push(&parcel), reader.push(&parcel)), (Ok(()), Ok(())));
            drop(parcel);
            assert!(reader.pop(now).is_some());
            assert!(fixture.waits() <= 2 << 10);
        }
        assert_eq!((fixture.dropped("memory"), std::iter::from_fn(|| deaf.pop(now)).count()), (8, 2));
    }

    #[tokio::test]
    async fn a_queue_that_is_shut_takes_nothing_and_one_that_has_ended_stays_so() {
        let fixture = Fixture::new(9);
        let (queue, parcel) = (fixture.queue(), fixture.parcel(1, Instant::now()));
        queue.shut("slow");
        assert_eq!((queue.has_room(1), queue.push(&parcel)), (Err("shut"), Err("shut")));
        queue.open();
        assert_eq!(queue.push(&parcel), Ok(()));
        assert!(queue.next().await.is_some());
        queue.end();
        queue.open();
        assert_eq!(queue.push(&parcel), Err("shut"));
        assert!(queue.next().await.is_none() && queue.has_ended());
    }
}
