//! Which peers have said lately that they do not have somebody: requests for whom nobody has are many where clients
//! retry, and must not all be carried to every other cluster.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use smallvec::SmallVec;

use super::regions::PeerName;
use crate::domain::clock::Millis;

/// How long a peer's word counts that it does not have somebody, or its silence.
pub const MEMORY: Duration = Duration::from_secs(2);

/// Most of whom that is remembered: whoever is asked for besides is asked for each time.
const MAX_ABSENT: usize = 100_000;

/// Until when which peers are not to be asked for whom; `K` is how one service names those.
#[derive(Debug)]
pub struct Absences<K> {
    absent: HashMap<K, SmallVec<[(PeerName, Millis); 1]>>,
    /// When those that are over were thrown away last.
    tidied: Millis,
}

impl<K> Default for Absences<K> {
    fn default() -> Self {
        Self { absent: HashMap::new(), tidied: Millis::default() }
    }
}

impl<K: Clone + Eq + Hash> Absences<K> {
    /// The peer does not have `whom`; whether that could be remembered.
    pub fn note(&mut self, whom: &K, peer: &PeerName, now: Millis) -> bool {
        self.tidy(now);
        if self.absent.len() >= MAX_ABSENT && !self.absent.contains_key(whom) {
            return false;
        }
        let peers = self.absent.entry(whom.clone()).or_default();
        peers.retain(|(known, _)| known != peer);
        peers.push((peer.clone(), now.plus(MEMORY)));
        true
    }

    /// Whether the peer is known not to have `whom`.
    #[must_use]
    pub fn knows(&self, whom: &K, peer: &PeerName, now: Millis) -> bool {
        let peers = self.absent.get(whom).map(SmallVec::as_slice).unwrap_or_default();
        peers.iter().any(|(known, until)| known == peer && *until > now)
    }

    /// Nothing is known of `whom` any more.
    pub fn forget(&mut self, whom: &K) {
        self.absent.remove(whom);
    }

    /// Nothing is known of `whom` at that peer any more.
    pub fn forget_at(&mut self, whom: &K, peer: &PeerName) {
        if let Some(peers) = self.absent.get_mut(whom) {
            peers.retain(|(known, _)| known != peer);
        }
    }

    /// The peer may be another by now.
    pub fn forget_peer(&mut self, peer: &PeerName) {
        for peers in self.absent.values_mut() {
            peers.retain(|(known, _)| known != peer);
        }
    }

    fn tidy(&mut self, now: Millis) {
        if now >= self.tidied.plus(MEMORY) {
            self.tidied = now;
            self.absent.retain(|_, peers| peers.iter().any(|(_, until)| *until > now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::VaultId;

    const NOW: Millis = Millis(1_767_323_046_000);

    #[test]
    fn an_absence_is_remembered_of_one_peer_for_a_while_and_until_it_is_void() {
        let (mut absences, vault) = (Absences::default(), VaultId::from("v"));
        let [eu, us] = ["eu", "us"].map(|name| PeerName(name.into()));
        let later = NOW.plus(MEMORY);
        assert!(absences.note(&vault, &eu, NOW));
        assert!(absences.knows(&vault, &eu, NOW) && !absences.knows(&vault, &us, NOW));
        assert!(!absences.knows(&vault, &eu, later));
        absences.note(&vault, &us, NOW);
        absences.forget_at(&vault, &us);
        assert!(absences.knows(&vault, &eu, NOW) && !absences.knows(&vault, &us, NOW));
        absences.forget_peer(&eu);
        assert!(!absences.knows(&vault, &eu, NOW));
        absences.note(&vault, &eu, NOW);
        absences.forget(&vault);
        assert!(!absences.knows(&vault, &eu, NOW));
    }

    #[test]
    fn what_is_over_makes_room() {
        let (mut absences, peer) = (Absences::default(), PeerName("eu".into()));
        let note = |absences: &mut Absences<VaultId>, n: usize, now| {
            absences.note(&VaultId::from(n.to_string().as_str()), &peer, now)
        };
        assert!((0..MAX_ABSENT).all(|n| note(&mut absences, n, NOW)));
        assert!(!note(&mut absences, MAX_ABSENT, NOW), "no more than that");
        assert!(note(&mut absences, 0, NOW), "those that are known are renewed");
        assert!(note(&mut absences, MAX_ABSENT, NOW.plus(MEMORY)));
        assert_eq!(absences.absent.len(), 1);
    }
}
