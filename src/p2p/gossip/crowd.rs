//! Who speaks gossipsub, and who wants what.
//!
//! A peer is one, on however many connections: stock peers subscribe on the first of them, and mean the others too. So what it
//! wants is kept until the last has ended, and it is told by one of them.

use std::collections::HashMap;
use std::sync::Arc;

use libp2p::PeerId;
use parking_lot::{MappedRwLockReadGuard, RwLock, RwLockReadGuard};

use crate::observe::metrics::Metrics;
use crate::p2p::peers::Peers;
use crate::p2p::streams::Connection;

use super::speaker::Speaker;

/// Speakers by their numbers.
pub type Wanting = HashMap<u64, Arc<Speaker>>;

/// All who have opened a stream for gossip.
pub struct Crowd {
    state: RwLock<State>,
    peers: Arc<Peers>,
    metrics: Arc<Metrics>,
}

struct State {
    speakers: HashMap<PeerId, Known>,
    /// Who has subscribed to each topic.
    topics: Vec<Wanting>,
    next: u64,
}

struct Known {
    speaker: Arc<Speaker>,
    /// The connections on which it has opened streams.
    on: Vec<Arc<Connection>>,
}

impl Crowd {
    /// Nobody yet; of so many topics. The connections of a peer are those in `peers`.
    pub fn new(topics: usize, peers: Arc<Peers>, metrics: Arc<Metrics>) -> Self {
        let topics = std::iter::repeat_with(Wanting::new).take(topics).collect();
        Self { state: RwLock::new(State { speakers: HashMap::new(), topics, next: 0 }), peers, metrics }
    }

    /// A peer speaks on that connection: its speaker, and whether it is new; none if the connection has ended.
    pub fn enter(&self, connection: &Arc<Connection>) -> Option<(Arc<Speaker>, bool)> {
        let mut state = self.state.write();
        // Looked at under the lock: what ends a connection comes here to leave after it was closed.
        if connection.is_closed() {
            return None;
        }
        if let Some(known) = state.speakers.get_mut(&connection.peer) {
            if known.on.iter().all(|on| on.id != connection.id) {
                known.on.push(connection.clone());
            }
            return Some((known.speaker.clone(), false));
        }
        let speaker = Arc::new(Speaker::new(connection.peer, state.next, self.metrics.clone()));
        state.next += 1;
        state.speakers.insert(connection.peer, Known { speaker: speaker.clone(), on: vec![connection.clone()] });
        self.metrics.p2p.gossip_peers.inc();
        Some((speaker, true))
    }

    /// A connection has ended, of any peer. With the last one, its speaker has.
    pub fn leave(&self, connection: &Connection) {
        if !self.state.read().speakers.contains_key(&connection.peer) {
            return;
        }
        let mut state = self.state.write();
        let Some(known) = state.speakers.get_mut(&connection.peer) else { return };
        known.on.retain(|on| on.id != connection.id);
        if !known.on.is_empty() || self.other(&connection.peer).is_some() {
            return known.speaker.moved.notify_one();
        }
        let Some(Known { speaker, .. }) = state.speakers.remove(&connection.peer) else { return };
        state.topics.iter_mut().filter(|_| speaker.subscriptions() > 0).for_each(|wanting| {
            wanting.remove(&speaker.number);
        });
        drop(state);
        speaker.queue.end();
        speaker.moved.notify_one();
        let p2p = &self.metrics.p2p;
        p2p.gossip_peers.dec();
        p2p.gossip_subscriptions.dec_by(i64::from(speaker.subscriptions()));
    }

    /// A speaker subscribes to that topic, or does not want it any more. Who has left wants nothing.
    pub fn want(&self, speaker: &Arc<Speaker>, topic: usize, wanted: bool) {
        if speaker.wants(topic) == wanted {
            return;
        }
        let mut state = self.state.write();
        if !state.speakers.get(&speaker.peer).is_some_and(|known| Arc::ptr_eq(&known.speaker, speaker)) {
            return;
        }
        let Some(wanting) = state.topics.get_mut(topic) else { return };
        if !speaker.want(topic, wanted) {
            return;
        }
        if wanted {
            wanting.insert(speaker.number, speaker.clone());
        } else {
            wanting.remove(&speaker.number);
        }
        self.metrics.p2p.gossip_subscriptions.inc_by(if wanted { 1 } else { -1 });
    }

    /// Who wants that topic; as long as this is held, nobody comes or goes.
    pub fn wanting(&self, topic: usize) -> Option<MappedRwLockReadGuard<'_, Wanting>> {
        RwLockReadGuard::try_map(self.state.read(), |state| state.topics.get(topic)).ok()
    }

    /// A connection by which a peer may be told things: one on which it speaks, or else any other.
    pub fn way(&self, peer: &PeerId) -> Option<Arc<Connection>> {
        let state = self.state.read();
        let on = state.speakers.get(peer).and_then(|known| known.on.iter().find(|on| !on.is_closed()));
        on.cloned().or_else(|| self.other(peer))
    }

    /// Connections over circuits, and those that this relay has made, are for other things.
    fn other(&self, peer: &PeerId) -> Option<Arc<Connection>> {
        let good = |other: &Arc<Connection>| !other.relayed && other.address.is_some() && !other.is_closed();
        self.peers.of_peer(peer).into_iter().find(good)
    }
}

#[cfg(test)]
mod tests {
    use libp2p::swarm::ConnectionId;

    use super::*;
    use crate::domain::clock::Millis;

    struct Fixture {
        peers: Arc<Peers>,
        metrics: Arc<Metrics>,
        crowd: Crowd,
    }

    impl Fixture {
        fn new() -> Self {
            let (peers, metrics) = (Arc::<Peers>::default(), Metrics::new());
            Self { crowd: Crowd::new(2, peers.clone(), metrics.clone()), peers, metrics }
        }

        fn open(&self, peer: PeerId, id: usize) -> Arc<Connection> {
            let at = "/ip4/192.0.2.1/tcp/1".parse().unwrap();
            let connection = Arc::new(Connection::incoming(peer, ConnectionId::new_unchecked(id), &at));
            self.peers.enter(&connection, Millis(0));
            connection
        }

        fn close(&self, connection: &Connection) {
            self.peers.leave(connection);
            self.crowd.leave(connection);
        }

        fn figures(&self) -> (i64, i64) {
            (self.metrics.p2p.gossip_peers.get(), self.metrics.p2p.gossip_subscriptions.get())
        }

        fn wanting(&self) -> usize {
            self.crowd.wanting(1).unwrap().len()
        }
    }

    #[test]
    fn a_peer_is_told_once_and_by_another_connection_when_one_ends() {
        let (fixture, peer) = (Fixture::new(), PeerId::random());
        let [first, second, third] = [1, 2, 3].map(|id| fixture.open(peer, id));
        let (speaker, new) = fixture.crowd.enter(&first).unwrap();
        fixture.crowd.want(&speaker, 1, true);
        let (same, again) = fixture.crowd.enter(&second).unwrap();
        fixture.crowd.want(&same, 1, true);
        assert!(new && !again && Arc::ptr_eq(&speaker, &same));
        assert_eq!((fixture.figures(), fixture.wanting()), ((1, 1), 1));
        for (ends, next) in [(&first, Some(2)), (&second, Some(3)), (&third, None)] {
            fixture.close(ends);
            let way = fixture.crowd.way(&peer).map(|way| way.id);
            assert_eq!(way, next.map(ConnectionId::new_unchecked), "the third has said nothing");
            assert_eq!(speaker.queue.has_ended(), next.is_none());
        }
        assert_eq!((fixture.figures(), fixture.wanting()), ((0, 0), 0));
    }

    #[test]
    fn what_is_read_after_a_peer_has_left_changes_nothing() {
        let (fixture, peer) = (Fixture::new(), PeerId::random());
        let connection = fixture.open(peer, 1);
        let (left, _) = fixture.crowd.enter(&connection).unwrap();
        fixture.crowd.want(&left, 0, true);
        fixture.close(&connection);
        fixture.crowd.want(&left, 1, true);
        assert_eq!((fixture.figures(), fixture.wanting()), ((0, 0), 0));
        // Nor is it taken for what it says when it has come again.
        let (back, new) = fixture.crowd.enter(&fixture.open(peer, 2)).unwrap();
        fixture.crowd.want(&left, 1, true);
        assert!(new && !back.wants(1));
        assert_eq!((fixture.figures(), fixture.wanting()), ((1, 0), 0));
    }
}
