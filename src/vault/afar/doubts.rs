//! Which peers have taken requests and not answered them. A vault may be slow, and its owner away, so that is no proof
//! of anything: a peer in doubt is asked like any other, and gets a request if nobody else says that it has the vault.

use std::collections::HashMap;
use std::time::Duration;

use crate::cluster::regions::PeerName;
use crate::domain::clock::Millis;

/// How long a peer is in doubt after its first lapse. Each one after that doubles it, up to an hour or so.
const FIRST: Duration = Duration::from_secs(30);
const MOST_LAPSES: u32 = 8;

/// How long after a doubt is over its lapses are forgotten.
const MEMORY: Duration = Duration::from_secs(3600);

/// Peers that are in doubt, or were lately.
#[derive(Debug, Default)]
pub struct Doubts {
    peers: HashMap<PeerName, Doubt>,
}

#[derive(Debug)]
struct Doubt {
    lapses: u32,
    until: Millis,
}

impl Doubts {
    /// The peer has not answered a request.
    pub fn lapses(&mut self, peer: &PeerName, now: Millis) {
        self.peers.retain(|_, doubt| doubt.until.plus(MEMORY) > now);
        let doubt = self.peers.entry(peer.clone()).or_insert(Doubt { lapses: 0, until: now });
        doubt.lapses = MOST_LAPSES.min(doubt.lapses + 1);
        doubt.until = now.plus(FIRST * (1 << (doubt.lapses - 1)));
    }

    /// The peer has answered a request: half of its lapses are forgiven.
    pub fn answers(&mut self, peer: &PeerName) {
        if let Some(doubt) = self.peers.get_mut(peer) {
            doubt.lapses /= 2;
            if doubt.lapses == 0 {
                self.peers.remove(peer);
            }
        }
    }

    /// Whether the peer is in doubt.
    #[must_use]
    pub fn about(&self, peer: &PeerName, now: Millis) -> bool {
        self.peers.get(peer).is_some_and(|doubt| doubt.until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_767_323_046_000);

    #[test]
    fn doubt_grows_with_each_lapse_and_ends() {
        let (mut doubts, [eu, us]) = (Doubts::default(), ["eu", "us"].map(|name| PeerName(name.into())));
        let mut now = NOW;
        for lapses in 0..MOST_LAPSES + 3 {
            doubts.lapses(&eu, now);
            let time = FIRST * (1 << lapses.min(MOST_LAPSES - 1));
            assert!(doubts.about(&eu, now) && !doubts.about(&us, now));
            assert!(!doubts.about(&eu, now.plus(time)) && doubts.about(&eu, Millis(now.plus(time).0 - 1)), "{lapses}");
            now = now.plus(time);
        }
        doubts.lapses(&us, now.plus(MEMORY));
        assert_eq!(doubts.peers.len(), 1, "what is long over is forgotten");
    }

    #[test]
    fn answers_forgive_half() {
        let (mut doubts, eu) = (Doubts::default(), PeerName("eu".into()));
        (0..4).for_each(|_| doubts.lapses(&eu, NOW));
        doubts.answers(&eu);
        doubts.lapses(&eu, NOW);
        assert!(!doubts.about(&eu, NOW.plus(FIRST * 4)), "two lapses, and one more");
        (0..2).for_each(|_| doubts.answers(&eu));
        assert!(!doubts.about(&eu, NOW));
    }
}
