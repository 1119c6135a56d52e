//! Messages on their way: to the peers of this node, and to the other nodes.

use std::sync::Arc;

use libp2p::PeerId;

use crate::cluster::Frames;
use crate::cluster::proto::{PeerGossip, frame::Body};
use crate::cluster::view::View;
use crate::domain::ids::NodeRun;
use crate::wire::p2p::pubsub::{self, Published};

use super::Gossip;
use super::limits::kib;
use super::queue::Parcel;

/// The name of the queues in the figures.
const QUEUE: &str = "gossip";

impl Gossip {
    /// Queues a message for every peer of this node that wants its topic, but for those that have it already. A peer that
    /// is slow misses it; nobody waits.
    pub(super) fn hand_on(&self, topic: usize, message: &Published, but: &[PeerId]) {
        let metrics = &self.inner.metrics;
        let speakers = self.inner.speakers.read();
        let wanting = || speakers.values().filter(|speaker| speaker.wants(topic) && !but.contains(&speaker.peer));
        let peers = wanting().count();
        if peers == 0 {
            return;
        }
        let framed = message.framed();
        if !self.inner.rates.send(framed.len(), peers) {
            return metrics.drop_one(QUEUE, "send_rate");
        }
        let Ok(room) = self.inner.room.clone().try_acquire_many_owned(kib(framed.len()).get()) else {
            return metrics.drop_one(QUEUE, "memory");
        };
        let parcel = Arc::new(Parcel::new(framed, room, &metrics.p2p.gossip_waiting_bytes));
        for speaker in wanting() {
            match speaker.queue.push(&parcel) {
                Ok(()) => drop(metrics.p2p.gossip_sent.inc()),
                Err(why) => metrics.drop_one(QUEUE, why),
            }
        }
    }

    /// Tells every other node of a message that a peer of this one has published.
    pub(super) fn spread(&self, message: &Published) {
        let bytes = message.to_bytes();
        for other in self.inner.cluster.nodes().others() {
            let gossip = Body::PeerGossip(PeerGossip { message: bytes.clone() });
            // A link that does not take it has counted it.
            self.inner.cluster.links.send(&other.run, gossip).unwrap_or_default();
        }
    }

    /// Hands on what another node has: to peers, and to no node.
    fn spread_here(&self, gossip: PeerGossip) -> Result<(), &'static str> {
        // Its signature was verified where it came from.
        let message = pubsub::read_message(gossip.message).map_err(|why| why.word())?;
        let topic = self.topic(&message.topic).ok_or("topic")?;
        let source = PeerId::from_bytes(&message.source).map_err(|_| "source")?;
        self.take(&message)?;
        self.hand_on(topic, &message, &[source]);
        Ok(())
    }
}

impl Frames for Gossip {
    fn frame(&self, _from: &NodeRun, _ask: u64, body: Body) {
        if let Body::PeerGossip(gossip) = body
            && let Err(why) = self.spread_here(gossip)
        {
            self.inner.metrics.p2p.refuse_gossip(why);
        }
    }

    // What was published meanwhile is not kept for later: who was not there has missed it, as in any gossip.
    fn link_up(&self, _peer: &NodeRun) {}

    fn view_changed(&self, _before: &View, _now: &View) {}
}
