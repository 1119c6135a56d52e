//! A connection whose peer speaks gossipsub.

use std::sync::atomic::{AtomicU32, Ordering};

use libp2p::PeerId;

use super::queue::Queue;

/// What is known of it: whether it has subscribed to each of the relay's topics, and nothing of any other.
#[derive(Debug)]
pub struct Speaker {
    /// Its peer.
    pub peer: PeerId,
    /// What waits to be sent to it.
    pub queue: Queue,
    /// A bit for each topic.
    wants: AtomicU32,
}

impl Speaker {
    /// One that wants nothing yet.
    pub fn new(peer: PeerId) -> Self {
        Self { peer, queue: Queue::default(), wants: AtomicU32::new(0) }
    }

    /// Whether it has subscribed to the topic of that number.
    pub fn wants(&self, topic: usize) -> bool {
        self.wants.load(Ordering::Relaxed) & bit(topic) != 0
    }

    /// It subscribes to that topic, or does not want it any more; whether that is new.
    pub fn want(&self, topic: usize, wanted: bool) -> bool {
        let bit = bit(topic);
        let before = if wanted {
            self.wants.fetch_or(bit, Ordering::Relaxed)
        } else {
            self.wants.fetch_and(!bit, Ordering::Relaxed)
        };
        (before & bit != 0) != wanted
    }

    /// To how many topics it has subscribed.
    pub fn subscriptions(&self) -> u32 {
        self.wants.load(Ordering::Relaxed).count_ones()
    }
}

fn bit(topic: usize) -> u32 {
    u32::try_from(topic).ok().and_then(|topic| 1_u32.checked_shl(topic)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_topic_is_wanted_by_itself() {
        let speaker = Speaker::new(PeerId::random());
        assert!(speaker.want(0, true) && speaker.want(31, true) && !speaker.want(31, true));
        assert_eq!([0, 1, 31, 32].map(|topic| speaker.wants(topic)), [true, false, true, false]);
        assert_eq!(speaker.subscriptions(), 2);
        assert!(speaker.want(0, false) && !speaker.want(0, false) && !speaker.wants(0));
    }
}
