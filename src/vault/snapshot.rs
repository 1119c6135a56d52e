//! The figures that the original relay shows (sheet section 13), of this node.

use crate::runtime::time;

use super::pairing::Counts;
use super::service::VaultService;

/// How many pairings there are, and what became of them.
#[derive(Debug, Clone, Copy)]
pub struct Decided {
    /// All of them.
    pub total: i64,
    /// Not decided yet.
    pub pending: i64,
    /// Approved.
    pub approved: i64,
    /// Denied.
    pub denied: i64,
}

impl From<Counts> for Decided {
    fn from(counts: Counts) -> Self {
        let Counts { total, pending, approved, denied } = counts;
        let [total, pending, approved, denied] = [total, pending, approved, denied].map(|n| n as i64);
        Self { total, pending, approved, denied }
    }
}

/// Figures at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Snapshot {
    /// Requests and kept answers in memory.
    pub records: i64,
    /// Requests that no vault has been sent yet.
    pub undelivered: i64,
    /// Requests that wait for an answer.
    pub pending: i64,
    /// Vaults with a socket here.
    pub vaults: i64,
    /// Vaults of which anything is known here.
    pub tracked_vaults: i64,
    /// Registered sockets of vaults.
    pub vault_sockets: i64,
    /// Sockets of agents.
    pub agent_sockets: i64,
    /// Requests a vault takes in a minute.
    pub rate: u32,
    /// Requests accepted and answers handed over since start.
    pub total_messages: u64,
    /// Errors told to clients since start.
    pub errors: u64,
    /// Requests refused by a limit since start.
    pub rate_limits_hit: u64,
    /// Claims of remote agents.
    pub claims: Decided,
    /// Pairings with phones.
    pub phones: Decided,
    /// Push tokens registered.
    pub push_tokens: i64,
}

impl VaultService {
    /// The figures now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let figures = &self.inner.metrics.vault;
        let pairing = self.inner.pairing.stats(time::now());
        Snapshot {
            records: figures.records.get(),
            undelivered: figures.undelivered.get(),
            pending: figures.pending.get(),
            vaults: figures.vaults.get(),
            tracked_vaults: self.tracked_vaults() as i64,
            vault_sockets: figures.sockets.get(),
            agent_sockets: figures.agent_sockets.get(),
            rate: self.inner.settings.rate.get(),
            total_messages: figures.accepted.get() + figures.answered.get(),
            errors: figures.errors_told.get(),
            rate_limits_hit: figures.limits_hit.get(),
            claims: pairing.claims.into(),
            phones: pairing.phones.into(),
            push_tokens: pairing.push_tokens as i64,
        }
    }
}
