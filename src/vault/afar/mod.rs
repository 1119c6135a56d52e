//! Other clusters, as the vault service speaks to them.
//!
//! | file | holds |
//! |---|---|
//! | `look` | asking the peers for a vault, and saying whether this cluster has it |
//! | `absences` | which peers have said lately that they have not |
//! | `doubts` | which peers take requests and do not answer them |
//! | `callers` | what callers have under way here, which is bounded |
//! | `words` | what peers and callers say, and what they are told |

mod absences;
mod callers;
mod doubts;
mod look;
mod words;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::cluster::regions::PeerName;
use crate::domain::ids::VaultId;
use crate::observe::log_gate::LogGate;

use super::service::VaultService;

use absences::Absences;
use callers::Callers;
use doubts::Doubts;

/// What a node remembers of other clusters for its vaults.
pub(super) struct Afar {
    absences: Mutex<Absences>,
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
}

impl VaultService {
    /// The vault has a session in this cluster: that no other has it means nothing any more, and callers that asked
    /// for it in vain are told.
    pub(super) fn has_come(&self, vault: &VaultId) {
        self.inner.afar.absences.lock().forget(vault);
        self.tell_askers(vault);
    }
}
