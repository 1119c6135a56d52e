//! Other clusters, as the vault service speaks to them.
//!
//! | file | holds |
//! |---|---|
//! | `look` | asking the peers for a vault, and saying whether this cluster has it |
//! | `doubts` | which peers take requests and do not answer them |
//! | `callers` | what callers have under way here, which is bounded |
//! | `words` | what peers and callers say, and what they are told |

mod callers;
mod doubts;
mod look;
mod words;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::cluster::absences::Absences;
use crate::cluster::regions::PeerName;
use crate::domain::ids::VaultId;
use crate::observe::log_gate::LogGate;

use super::service::VaultService;

use callers::Callers;
use doubts::Doubts;

/// Most questions to one peer at a time: half of what it lets one party ask.
const MAX_QUESTIONS: usize = 128;

/// What a node remembers of other clusters for its vaults.
pub(super) struct Afar {
    absences: Mutex<Absences<VaultId>>,
    /// Bounds the questions to each peer.
    questions: Mutex<HashMap<PeerName, Arc<Semaphore>>>,
    callers: Mutex<Callers>,
    doubts: Mutex<Doubts>,
    log: Mutex<LogGate>,
}

impl Afar {
    /// Nothing yet; requests of all callers together may use `bytes`.
    pub fn new(bytes: usize) -> Self {
        Self {
            absences: Mutex::default(),
            questions: Mutex::default(),
            callers: Mutex::new(Callers::new(bytes)),
            doubts: Mutex::default(),
            log: Mutex::new(LogGate::once_a_minute()),
        }
    }

    /// Keeps nothing for those who are no peers any more; a question that was under way to one meanwhile is forgotten the
    /// next time.
    fn keep(&self, is_peer: impl Fn(&PeerName) -> bool) {
        self.questions.lock().retain(|peer, _| is_peer(peer));
    }

    /// What bounds the questions to a peer.
    fn questions_to(&self, peer: &PeerName) -> Arc<Semaphore> {
        let mut questions = self.questions.lock();
        questions.entry(peer.clone()).or_insert_with(|| Arc::new(Semaphore::new(MAX_QUESTIONS))).clone()
    }
}

impl VaultService {
    /// The vault has a session in this cluster: that no other has it means nothing any more, and callers that asked
    /// for it in vain are told.
    pub(super) fn has_come(&self, vault: &VaultId) {
        self.inner.afar.absences.lock().forget(vault);
        self.tell_askers(vault);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_for_a_peer_that_is_none_any_more() {
        let (afar, peers) = (Afar::new(0), ["http://eu:1", "http://us:1"].map(|url| PeerName(url.into())));
        let kept = peers.each_ref().map(|peer| afar.questions_to(peer));
        afar.keep(|peer| *peer == peers[0]);
        assert_eq!(afar.questions.lock().len(), 1);
        assert!(Arc::ptr_eq(&kept[0], &afar.questions_to(&peers[0])));
    }
}
