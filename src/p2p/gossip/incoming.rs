//! Messages of other nodes. They wait in a bounded queue for a task of their own, so that whoever reads a link is not held up
//! by how many peers they are for.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::cluster::Frames;
use crate::cluster::proto::{PeerGossip, frame::Body};
use crate::cluster::view::View;
use crate::domain::ids::NodeRun;
use crate::observe::metrics::Metrics;

use super::limits::kib;

/// Messages that may wait, and what they may amount to in KiB.
const MOST: (usize, usize) = (4096, 8 << 10);

/// The name of the queue in the figures.
const QUEUE: &str = "gossip_nodes";

/// A message, and its part of what may wait.
pub type Waits = (PeerGossip, OwnedSemaphorePermit);

/// The end at which messages come in.
pub struct Incoming {
    queue: mpsc::Sender<Waits>,
    room: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

impl Incoming {
    /// The two ends of a queue.
    pub fn new(metrics: Arc<Metrics>) -> (Self, mpsc::Receiver<Waits>) {
        let (queue, waiting) = mpsc::channel(MOST.0);
        (Self { queue, room: Arc::new(Semaphore::new(MOST.1)), metrics }, waiting)
    }
}

impl Frames for Incoming {
    fn frame(&self, _from: &NodeRun, _ask: u64, body: Body) {
        let Body::PeerGossip(gossip) = body else { return };
        let room = self.room.clone().try_acquire_many_owned(kib(gossip.message.len()).get());
        let queued = room.is_ok_and(|room| self.queue.try_send((gossip, room)).is_ok());
        if !queued {
            self.metrics.drop_one(QUEUE, "full");
        }
    }

    // What was published meanwhile is not kept for later: who was not there has missed it, as in any gossip.
    fn link_up(&self, _peer: &NodeRun) {}

    fn view_changed(&self, _before: &View, _now: &View) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::Generation;
    use crate::observe::metrics::Dropped;

    #[test]
    fn what_waits_is_bounded_in_number_and_in_bytes() {
        let from = NodeRun { node: "a".parse().unwrap(), generation: Generation(1) };
        for (bytes, fit) in [(0, MOST.0), (64 << 10, MOST.1 / 64)] {
            let metrics = Metrics::new();
            let (incoming, mut waiting) = Incoming::new(metrics.clone());
            let say = || incoming.frame(&from, 0, Body::PeerGossip(PeerGossip { message: vec![0; bytes].into() }));
            (0..fit + 3).for_each(|_| say());
            let dropped = || metrics.dropped.get_or_create(&Dropped { queue: QUEUE, reason: "full" }).get();
            assert_eq!((waiting.len(), dropped()), (fit, 3));
            assert!(waiting.try_recv().is_ok());
            say();
            assert_eq!((waiting.len(), dropped()), (fit, 3));
        }
    }
}
