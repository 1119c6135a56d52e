//! Messages on their way: to the peers of this node, and to the other nodes.

use std::time::Instant;

use libp2p::PeerId;

use crate::cluster::proto::{PeerGossip, frame::Body};
use crate::wire::p2p::pubsub::{self, Published};

use super::Gossip;
use super::limits::Payer;
use super::queue::QUEUE;

impl Gossip {
    /// Queues a message for every peer of this node that wants its topic, but for those that have it already. A peer that
    /// is slow misses it, and costs nobody anything; nobody waits.
    pub(super) fn hand_on(&self, topic: usize, message: &Published, payer: Option<Payer>, but: &[PeerId]) {
        let metrics = &self.inner.metrics;
        let Some(wanting) = self.inner.crowd.wanting(topic).filter(|wanting| !wanting.is_empty()) else { return };
        let framed = message.framed();
        let has_room = |why: Result<(), &'static str>| why.map_err(|why| metrics.drop_one(QUEUE, why)).is_ok();
        let ready: Vec<_> = wanting
            .values()
            .filter(|speaker| !but.contains(&speaker.peer) && has_room(speaker.queue.has_room(framed.len())))
            .collect();
        if ready.is_empty() {
            return;
        }
        if let Err(why) = self.inner.rates.send(payer, framed.len(), ready.len()) {
            return metrics.drop_one(QUEUE, why);
        }
        let Some(parcel) = self.inner.waiting.parcel(framed, Instant::now()) else {
            return metrics.drop_one(QUEUE, "memory");
        };
        for speaker in ready {
            match speaker.queue.push(&parcel) {
                Ok(()) => drop(metrics.p2p.gossip_sent.inc()),
                Err(why) => metrics.drop_one(QUEUE, why),
            }
        }
    }

    /// Tells every other node of a message that a peer of this one has published, unless much waits for that node already:
    /// other things come first.
    pub(super) fn spread(&self, message: &Published) {
        let bytes = message.to_bytes();
        for other in self.inner.cluster.nodes().others() {
            let gossip = Body::PeerGossip(PeerGossip { message: bytes.clone() });
            // A link that does not take it has counted it.
            self.inner.cluster.links.send_if_room(&other.run, gossip).unwrap_or_default();
        }
    }

    /// Hands on what another node has: to peers, and to no node.
    pub(super) fn spread_here(&self, gossip: PeerGossip) -> Result<(), &'static str> {
        // Its signature was verified where it came from.
        let message = pubsub::read_message(gossip.message).map_err(|why| why.word())?;
        let topic = self.topic(&message.topic).ok_or("topic")?;
        let source = PeerId::from_bytes(&message.source).map_err(|_| "source")?;
        self.take(&message)?;
        let payer = (!self.inner.trusted.contains(&source)).then(|| Payer::signer(&source));
        self.hand_on(topic, &message, payer, &[source]);
        Ok(())
    }
}
