//! Offers whose answers are awaited, and by that how fast each peer is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;

use super::notes::Note;
use crate::cluster::regions::PeerName;

/// A peer that has not answered for a batch for so long is slow: what is left is offered to others meanwhile.
const SLOW: Duration = Duration::from_secs(3);

/// The offers whose answers are awaited: by where the note is kept, whose they are, and since when.
#[derive(Debug, Default)]
pub struct Awaited(Mutex<HashMap<Bytes, (PeerName, Instant)>>);

/// How many answers a peer owes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// So few that it may be offered more.
    Free,
    /// As many as it may.
    Busy,
    /// One for so long that nobody waits for it.
    Slow,
}

/// The answers to an offer are awaited. If that is broken off, its note is settled like any other.
#[derive(Debug)]
pub struct Awaiting {
    of: Arc<Awaited>,
    key: Bytes,
}

impl Awaited {
    /// The answers to an offer are awaited from now on; `None` if somebody awaits them already.
    pub fn begin(self: &Arc<Self>, note: &Note, now: Instant) -> Option<Awaiting> {
        let mut awaited = self.0.lock();
        if awaited.contains_key(&note.key) {
            return None;
        }
        awaited.insert(note.key.clone(), (note.peer.clone(), now));
        Some(Awaiting { of: self.clone(), key: note.key.clone() })
    }

    /// Whether somebody awaits the answers to an offer.
    pub fn has(&self, note: &Note) -> bool {
        self.0.lock().contains_key(&note.key)
    }

    /// How many answers a peer owes, which may owe so many.
    pub fn pace(&self, peer: &PeerName, most: usize, now: Instant) -> Pace {
        let awaited = self.0.lock();
        let of_peer = awaited.values().filter(|(of, _)| of == peer);
        if of_peer.clone().any(|(_, since)| now.duration_since(*since) >= SLOW) {
            return Pace::Slow;
        }
        if of_peer.count() >= most { Pace::Busy } else { Pace::Free }
    }

    /// When the next peer becomes slow; `None` if no offer is awaited that has not been for long.
    pub fn next_slow(&self, now: Instant) -> Option<Instant> {
        self.0.lock().values().map(|(_, since)| *since + SLOW).filter(|at| *at > now).min()
    }
}

impl Drop for Awaiting {
    fn drop(&mut self) {
        self.of.0.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_owes_so_many_answers_and_is_left_alone_while_it_is_slow() {
        let (awaited, now) = (Arc::new(Awaited::default()), Instant::now());
        let (a, b) = (PeerName("a".into()), PeerName("b".into()));
        let note = || Note::new(a.clone(), Vec::new());
        assert_eq!((awaited.pace(&a, 2, now), awaited.next_slow(now)), (Pace::Free, None));
        let first = awaited.begin(&note(), now).unwrap();
        assert_eq!((awaited.pace(&a, 2, now), awaited.pace(&a, 1, now)), (Pace::Free, Pace::Busy));
        let later = now + SLOW / 2;
        let second = awaited.begin(&note(), later).unwrap();
        assert_eq!((awaited.pace(&a, 2, later), awaited.pace(&b, 2, later)), (Pace::Busy, Pace::Free));
        assert_eq!(awaited.next_slow(later), Some(now + SLOW));
        assert_eq!(awaited.pace(&a, 2, now + SLOW), Pace::Slow);
        assert_eq!(awaited.next_slow(now + SLOW), Some(later + SLOW));
        drop(first);
        assert_eq!(awaited.pace(&a, 2, now + SLOW), Pace::Free);
        drop(second);
        assert_eq!(awaited.next_slow(now), None);
    }

    #[test]
    fn of_one_offer_one_awaits_the_answers() {
        let (awaited, now) = (Arc::new(Awaited::default()), Instant::now());
        let note = Note::new(PeerName("a".into()), Vec::new());
        let awaiting = awaited.begin(&note, now).unwrap();
        assert!(awaited.begin(&note, now).is_none() && awaited.has(&note));
        drop(awaiting);
        assert!(awaited.begin(&note, now).is_some());
    }
}
