//! Which messages have come already.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::wire::p2p::pubsub::Published;

/// How long a message is known at least, unless there are too many.
pub const KNOWN: Duration = Duration::from_secs(120);

/// Messages that are known in one such time; of more, the oldest are forgotten sooner.
const MOST: usize = 1 << 16;

/// The messages of this time and of the one before it: a message is the same if its source and its number are.
#[derive(Debug)]
pub struct Seen {
    known: Mutex<Known>,
    most: usize,
}

#[derive(Debug)]
struct Known {
    now: HashSet<[u8; 16]>,
    before: HashSet<[u8; 16]>,
    since: Instant,
}

impl Seen {
    pub fn new() -> Self {
        Self::at_most(MOST)
    }

    fn at_most(most: usize) -> Self {
        let (now, before) = (HashSet::new(), HashSet::new());
        Self { known: Mutex::new(Known { now, before, since: Instant::now() }), most }
    }

    /// Whether it has come before.
    pub fn has(&self, message: &Published) -> bool {
        let (key, known) = (key(message), self.known.lock());
        known.now.contains(&key) || known.before.contains(&key)
    }

    /// It has come, at `now`, and is what it says to be; false if it had before.
    pub fn note(&self, message: &Published, now: Instant) -> bool {
        let (key, mut known) = (key(message), self.known.lock());
        if known.now.len() >= self.most || now.saturating_duration_since(known.since) >= KNOWN {
            known.before = std::mem::take(&mut known.now);
            known.since = now;
        }
        !known.before.contains(&key) && known.now.insert(key)
    }

    /// Forgets what is old, though nothing new comes.
    pub fn sweep(&self, now: Instant) {
        let mut known = self.known.lock();
        if now.saturating_duration_since(known.since) >= KNOWN {
            known.before = std::mem::take(&mut known.now);
            known.since = now;
        }
    }
}

fn key(message: &Published) -> [u8; 16] {
    let digest: [u8; 32] = Sha256::new().chain_update(message.number).chain_update(&message.source).finalize().into();
    std::array::from_fn(|at| digest[at])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::p2p::gossip::proof::tests::said;

    #[test]
    fn a_message_is_known_for_its_time_and_then_forgotten() {
        let (seen, begun, message) = (Seen::new(), Instant::now(), said(1, "x"));
        let at = |seconds| begun + Duration::from_secs(seconds);
        assert!(!seen.has(&message) && seen.note(&message, at(0)) && !seen.note(&message, at(119)));
        assert!(seen.note(&said(2, "x"), at(121)), "another one");
        assert!(seen.has(&message) && !seen.note(&message, at(122)));
        seen.sweep(at(242));
        assert!(!seen.has(&message) && seen.note(&message, at(243)));
    }

    #[test]
    fn only_so_many_are_known() {
        let (seen, now) = (Seen::at_most(2), Instant::now());
        for number in 0..10 {
            assert!(seen.note(&said(number, "x"), now));
            let known = seen.known.lock();
            assert!(known.now.len() + known.before.len() <= 4);
        }
        assert!(seen.has(&said(9, "x")) && !seen.has(&said(0, "x")));
    }
}
