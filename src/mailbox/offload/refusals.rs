//! What a peer refused lately, and which took nothing at all: not offered to it again for a while.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::cluster::regions::PeerName;
use crate::domain::mailbox::BlobId;

/// How long a blob that a peer refused is not offered to it.
const REST: Duration = Duration::from_secs(600);

/// Most refusals that are remembered; beyond, all are forgotten.
const MAX: usize = 1 << 16;

/// How long nothing is offered to a peer that takes nothing.
const SHUT: Duration = Duration::from_secs(10);

/// What was refused by whom, and when.
#[derive(Debug, Default)]
pub struct Refusals {
    blobs: HashMap<(PeerName, BlobId), Instant>,
    shut: HashMap<PeerName, Instant>,
}

impl Refusals {
    /// A peer has refused a blob.
    pub fn note(&mut self, peer: &PeerName, id: BlobId, now: Instant) {
        if self.blobs.len() >= MAX {
            self.blobs.retain(|_, since| now.duration_since(*since) < REST);
        }
        if self.blobs.len() >= MAX {
            self.blobs.clear();
        }
        self.blobs.insert((peer.clone(), id), now);
    }

    /// A peer takes nothing.
    pub fn shut(&mut self, peer: &PeerName, now: Instant) {
        self.shut.insert(peer.clone(), now);
    }

    /// Whether a peer has just taken nothing.
    pub fn is_shut(&self, peer: &PeerName, now: Instant) -> bool {
        self.shut.get(peer).is_some_and(|since| now.duration_since(*since) < SHUT)
    }

    /// Whether a blob is not to be offered to a peer now.
    pub fn has(&self, peer: &PeerName, id: BlobId, now: Instant) -> bool {
        self.blobs.get(&(peer.clone(), id)).is_some_and(|since| now.duration_since(*since) < REST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::mailbox::{MessageKey, Stamp};

    #[test]
    fn what_one_peer_refused_is_offered_to_others_and_to_it_later() {
        let (a, b, now) = (PeerName("a".into()), PeerName("b".into()), Instant::now());
        let id = BlobId::new(Stamp::new(1).unwrap(), MessageKey::of("s", "r", "m"));
        let mut refusals = Refusals::default();
        refusals.note(&a, id, now);
        assert!(refusals.has(&a, id, now) && !refusals.has(&b, id, now));
        assert!(!refusals.has(&a, id, now + REST));
        refusals.shut(&a, now);
        assert!(refusals.is_shut(&a, now) && !refusals.is_shut(&b, now) && !refusals.is_shut(&a, now + SHUT));
    }
}
