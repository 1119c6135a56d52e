//! Pairing: how an agent and a vault that have not met agree to talk (sections 11 and 12), and how a vault that
//! sleeps on a phone is woken.
//!
//! Everything here lives in the cluster's shared records, so a claim taken in by one node is pushed to, decided
//! on and polled at any other, and survives restarts. What is kept is bounded per vault, as well as the cluster
//! can see it, and per node against strangers with many names.
//!
//! # What the wire cannot promise
//!
//! - The **verification phrase** that a vault gets is computed by the relay, the party it should guard against.
//! - An **invite registration** proves nothing: whoever knows a vault that is connected may register for it.
//!   The first vault that an invite was registered for keeps it, so an invite cannot be redirected.
//! - A **claim** is signed by the key in it and by nobody else. Those that come with a registered invite and
//!   those that only name a vault wait in separate queues: a stranger who knows a vault's name cannot crowd out
//!   an agent with an invite.
//! - **Phone pairing**: whoever sees an invite can approve it in the name of any vault, whoever knows an id can
//!   deny it, and the later decision replaces the earlier one. Only the invite's own signature is checked, here
//!   and on every approval; and an id stays with the agent's key that it was first seen with.

mod claims;
mod facts;
mod invites;
mod ledger;
mod phones;
mod push;
mod push_tokens;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;
use serde_json::json;

use crate::domain::clock::Millis;
use crate::domain::ids::VaultId;
use crate::domain::limits::MAX_ID_BYTES;
use crate::store::StoreError;
use crate::wire::dcp::stored_claim::{CLAIM_KEPT, CLAIM_PENDING};

pub use claims::{MAX_NAMED_CLAIMS, MAX_WAITING_CLAIMS, PairingAck, ResolveError};
pub use facts::{ClusterFacts, Facts};
pub use invites::{INVITE_KEPT, MAX_VAULT_INVITES};
pub use ledger::Counts;
use ledger::{Ledger, UnderWay};
pub use phones::{MAX_PHONE_PAIRINGS, MAX_UNKNOWN_DENIALS, UNKNOWN_DENIAL_KEPT};
pub use push::{PUSH_QUEUE, PUSH_TIMEOUT, Push, PushService};
pub use push_tokens::{MAX_PUSH_TOKENS, PUSH_TOKEN_KEPT};

/// How long a claim or a phone pairing is kept that nobody decides.
const KEPT: Duration = Duration::from_secs(CLAIM_PENDING.as_secs() + CLAIM_KEPT.as_secs());

/// An answer over HTTP; its body is JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairingResponse {
    /// The status code.
    pub status: u16,
    /// The body. Text rather than a value: what a client signed leaves as it was spelled.
    pub body: Bytes,
}

impl PairingResponse {
    fn ok(body: &impl Serialize) -> Self {
        Self::with(200, body)
    }

    fn with(status: u16, body: &impl Serialize) -> Self {
        match serde_json::to_vec(body) {
            Ok(body) => Self { status, body: body.into() },
            Err(error) => PairingError::from(error).into(),
        }
    }

    /// A refusal of the routes that say `success`.
    fn refused(status: u16, error: &str) -> Self {
        Self::with(status, &json!({"success": false, "error": error}))
    }

    /// A refusal of the routes that do not.
    fn error(status: u16, error: &str) -> Self {
        Self::with(status, &json!({"error": error}))
    }
}

impl From<PairingError> for PairingResponse {
    fn from(error: PairingError) -> Self {
        tracing::error!(%error, "pairing failed");
        Self {
            status: 503,
            body: Bytes::from_static(br#"{"success":false,"error":"Pairing is unavailable; try again"}"#),
        }
    }
}

/// What stands in the way of the relay's own work.
#[derive(Debug, thiserror::Error)]
pub enum PairingError {
    /// This node's store failed.
    #[error("the store failed: {0}; see to the store, clients try again by themselves")]
    Store(#[from] StoreError),
    /// A record cannot be read or written, as after a change of its form.
    #[error("a record of pairing is malformed: {0}; it goes by itself when it expires")]
    Malformed(#[from] serde_json::Error),
}

/// What pairing needs to know of vaults.
#[async_trait]
pub trait VaultLookup: Send + Sync {
    /// Whether the vault has a live registered socket anywhere in the cluster.
    async fn is_connected(&self, vault: &VaultId) -> bool;

    /// Sends a `pairing_claim` frame with that payload to the vault, wherever it is connected. Must not block;
    /// may fail, as the claim is sent again when the vault registers.
    fn notify(&self, vault: &VaultId, payload: Bytes);
}

/// Figures of pairing on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PairingStats {
    /// Claims of remote agents.
    pub claims: Counts,
    /// Pairings with vaults on phones.
    pub phones: Counts,
    /// Push tokens that were new to their vault, registered by way of this node since it started.
    pub push_tokens: u64,
}

/// A node's part in pairing; clones share it.
#[derive(Clone)]
pub struct Pairing {
    inner: Arc<Inner>,
}

struct Inner {
    facts: Arc<dyn Facts>,
    vaults: Arc<dyn VaultLookup>,
    under_way: UnderWay,
    invited_claims: Ledger,
    named_claims: Ledger,
    unknown_claims: Ledger,
    phones: Ledger,
    unknown_denials: Ledger,
    push_tokens: AtomicU64,
}

impl Inner {
    fn claim_ledgers(&self) -> [&Ledger; 3] {
        [&self.invited_claims, &self.named_claims, &self.unknown_claims]
    }
}

impl Pairing {
    /// Kept in `facts`, for the vaults of `vaults`.
    #[must_use]
    pub fn new(facts: Arc<dyn Facts>, vaults: Arc<dyn VaultLookup>) -> Self {
        let inner = Inner {
            facts,
            vaults,
            under_way: UnderWay::default(),
            invited_claims: Ledger::new(claims::MAX_INVITED_CLAIMS, KEPT),
            named_claims: Ledger::new(MAX_NAMED_CLAIMS, KEPT),
            unknown_claims: Ledger::new(claims::MAX_UNKNOWN_CLAIMS, KEPT),
            phones: Ledger::new(MAX_PHONE_PAIRINGS, KEPT),
            unknown_denials: Ledger::new(MAX_UNKNOWN_DENIALS, UNKNOWN_DENIAL_KEPT),
            push_tokens: AtomicU64::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The figures now.
    #[must_use]
    pub fn stats(&self, now: Millis) -> PairingStats {
        let inner = &self.inner;
        PairingStats {
            claims: inner.claim_ledgers().iter().map(|ledger| ledger.counts(now)).sum(),
            phones: inner.phones.counts(now),
            push_tokens: inner.push_tokens.load(Ordering::Relaxed),
        }
    }

    fn facts(&self) -> &dyn Facts {
        &*self.inner.facts
    }
}

/// Whether `id` can be that of a record.
fn is_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= MAX_ID_BYTES
}

#[cfg(test)]
mod fixture {
    //! A pairing service over records in memory, and vaults that write down what they are told.

    use parking_lot::Mutex;
    use serde_json::{Map, Value};

    use super::facts::fake::MemoryFacts;
    use super::*;
    use crate::security::ed25519::SigningKey;
    use crate::wire::dcp::claim::Claim;

    /// When everything begins.
    pub(super) const NOW: Millis = Millis(1_767_323_045_700);

    #[derive(Default)]
    pub(super) struct Vaults {
        pub(super) connected: Mutex<Vec<VaultId>>,
        pub(super) told: Mutex<Vec<(String, Value)>>,
    }

    #[async_trait]
    impl VaultLookup for Vaults {
        async fn is_connected(&self, vault: &VaultId) -> bool {
            self.connected.lock().contains(vault)
        }

        fn notify(&self, vault: &VaultId, payload: Bytes) {
            self.told.lock().push((vault.to_string(), serde_json::from_slice(&payload).unwrap()));
        }
    }

    /// Several nodes: services that share records.
    pub(super) struct Fixture {
        pub(super) facts: Arc<MemoryFacts>,
        pub(super) vaults: Arc<Vaults>,
        pub(super) pairing: Pairing,
    }

    impl Fixture {
        /// One node; `vault_demo01` is connected.
        pub(super) fn new() -> Self {
            let facts = Arc::new(MemoryFacts::default());
            let vaults = Arc::new(Vaults::default());
            vaults.connected.lock().push("vault_demo01".into());
            let pairing = Pairing::new(facts.clone(), vaults.clone());
            Self { facts, vaults, pairing }
        }

        /// Another node of the same cluster, or the same one after a restart.
        pub(super) fn another(&self) -> Pairing {
            Pairing::new(self.facts.clone(), self.vaults.clone())
        }
    }

    /// Status and body of an answer.
    pub(super) fn parts(response: &PairingResponse) -> (u16, Value) {
        (response.status, serde_json::from_slice(&response.body).unwrap())
    }

    pub(super) fn key() -> SigningKey {
        SigningKey::from_seed(&[7; 32]).unwrap()
    }

    /// The claim of the worked example, with the vault it names.
    pub(super) fn claim(invite_id: &str, vault_id: Option<&str>) -> Vec<u8> {
        let mut claim: Map<String, Value> = Map::new();
        claim.insert("invite_id".into(), invite_id.into());
        if let Some(vault_id) = vault_id {
            claim.insert("vault_id".into(), vault_id.into());
        }
        claim.insert("agent_hostname".into(), "vps-01".into());
        claim.insert("agent_version".into(), "3.1.1".into());
        claim.insert("timestamp".into(), 1_767_323_045_678_u64.into());
        claim.insert("nonce".into(), "7c1c2b1e-7a5e-4a55-9a43-0d6c0c9d4f11".into());
        Claim::sign(claim, &key()).unwrap().to_string().into_bytes()
    }
}
