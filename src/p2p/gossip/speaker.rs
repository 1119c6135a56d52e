//! A peer that speaks gossipsub.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use libp2p::PeerId;
use tokio::sync::Notify;

use crate::observe::metrics::Metrics;
use crate::security::limiter::ConnectionLimiter;

use super::queue::Queue;

/// What is read of one peer in a minute: RPCs, messages and subscriptions. For more, nothing is read for a while. What a peer
/// passes on that came already by others counts here, and nowhere else.
const SAID_PER_MINUTE: NonZeroU32 = NonZeroU32::new(12_000).unwrap();

/// Messages of one peer that are refused in a minute for what it does, until it is not listened to any more: twice as many
/// as it may say by default.
const REFUSED_PER_MINUTE: NonZeroU32 = NonZeroU32::new(1_200).unwrap();

/// What is known of it, on however many connections it speaks: whether it has subscribed to each of the relay's topics, and
/// nothing of any other.
pub struct Speaker {
    /// Its peer.
    pub peer: PeerId,
    /// Its number among all.
    pub number: u64,
    /// What waits to be sent to it.
    pub queue: Queue,
    /// One of its connections has ended.
    pub moved: Notify,
    /// What it may say.
    pub said: ConnectionLimiter,
    /// What may be refused of it.
    pub refused: ConnectionLimiter,
    /// A bit for each topic.
    wants: AtomicU32,
}

impl Speaker {
    /// One that wants nothing yet.
    pub fn new(peer: PeerId, number: u64, metrics: Arc<Metrics>) -> Self {
        Self {
            peer,
            number,
            queue: Queue::new(metrics),
            moved: Notify::new(),
            said: ConnectionLimiter::new(SAID_PER_MINUTE),
            refused: ConnectionLimiter::new(REFUSED_PER_MINUTE),
            wants: AtomicU32::new(0),
        }
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
        let speaker = Speaker::new(PeerId::random(), 0, Metrics::new());
        assert!(speaker.want(0, true) && speaker.want(31, true) && !speaker.want(31, true));
        assert_eq!([0, 1, 31, 32].map(|topic| speaker.wants(topic)), [true, false, true, false]);
        assert_eq!(speaker.subscriptions(), 2);
        assert!(speaker.want(0, false) && !speaker.want(0, false) && !speaker.wants(0));
    }
}
