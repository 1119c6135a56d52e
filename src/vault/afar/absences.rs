//! Which peers have said lately that they do not have a vault: requests for vaults that nobody has are many where
//! clients retry, and must not all be carried to every other cluster.

use std::collections::HashMap;
use std::time::Duration;

use smallvec::SmallVec;

use crate::cluster::regions::PeerName;
use crate::domain::clock::Millis;
use crate::domain::ids::VaultId;

/// How long a peer's word counts that it does not have a vault, or its silence.
pub const MEMORY: Duration = Duration::from_secs(2);

/// Most vaults of which that is remembered: those that are asked for besides are asked for each time.
const MAX_VAULTS: usize = 100_000;

/// Until when which peers are not to be asked for which vaults.
#[derive(Debug, Default)]
pub struct Absences {
    vaults: HashMap<VaultId, SmallVec<[(PeerName, Millis); 1]>>,
    /// When those that are over were thrown away last.
    tidied: Millis,
}

impl Absences {
    /// The peer does not have the vault; whether that could be remembered.
    pub fn note(&mut self, vault: &VaultId, peer: &PeerName, now: Millis) -> bool {
        self.tidy(now);
        if self.vaults.len() >= MAX_VAULTS && !self.vaults.contains_key(vault) {
            return false;
        }
        let peers = self.vaults.entry(vault.clone()).or_default();
        peers.retain(|(known, _)| known != peer);
        peers.push((peer.clone(), now.plus(MEMORY)));
        true
    }

    /// Whether the peer is known not to have the vault.
    #[must_use]
    pub fn knows(&self, vault: &VaultId, peer: &PeerName, now: Millis) -> bool {
        let peers = self.vaults.get(vault).map(SmallVec::as_slice).unwrap_or_default();
        peers.iter().any(|(known, until)| known == peer && *until > now)
    }

    /// Nothing is known of the vault any more.
    pub fn forget(&mut self, vault: &VaultId) {
        self.vaults.remove(vault);
    }

    /// Nothing is known of the vault at that peer any more.
    pub fn forget_at(&mut self, vault: &VaultId, peer: &PeerName) {
        if let Some(peers) = self.vaults.get_mut(vault) {
            peers.retain(|(known, _)| known != peer);
        }
    }

    /// The peer may be another by now.
    pub fn forget_peer(&mut self, peer: &PeerName) {
        for peers in self.vaults.values_mut() {
            peers.retain(|(known, _)| known != peer);
        }
    }

    fn tidy(&mut self, now: Millis) {
        if now >= self.tidied.plus(MEMORY) {
            self.tidied = now;
            self.vaults.retain(|_, peers| peers.iter().any(|(_, until)| *until > now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let note =
            |absences: &mut Absences, n: usize, now| absences.note(&VaultId::from(n.to_string().as_str()), &peer, now);
        assert!((0..MAX_VAULTS).all(|n| note(&mut absences, n, NOW)));
        assert!(!note(&mut absences, MAX_VAULTS, NOW), "no more than that");
        assert!(note(&mut absences, 0, NOW), "those that are known are renewed");
        assert!(note(&mut absences, MAX_VAULTS, NOW.plus(MEMORY)));
        assert_eq!(absences.vaults.len(), 1);
    }
}
