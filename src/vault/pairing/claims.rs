//! Claims of remote agents (section 11): taken in, pushed to their vault, decided by it, polled by the agent.
//!
//! A claim is one record, found by its id. Beside it, while it waits, stands a small one that is listed by the
//! vault and the claim's queue, so that a vault which registers finds what waits for it however many have ended.

use bytes::Bytes;
use futures::future::try_join_all;
use serde::Serialize;
use serde_json::json;

use super::facts::{self, Found, Place};
use super::ledger::Ledger;
use super::{Pairing, PairingError, PairingResponse};
use crate::cluster::shared::MAX_TAGGED;
use crate::domain::clock::Millis;
use crate::domain::ids::VaultId;
use crate::wire::dcp::claim::Claim;
use crate::wire::dcp::stored_claim::{CLAIM_PENDING, ClaimStatus, PairingResult, StoredClaim, claim_id};

/// Most claims that wait for one vault in one queue: those with a registered invite, or those without.
pub const MAX_WAITING_CLAIMS: usize = 20;

/// Most claims without a registered invite that one node takes in within 70 minutes. 4,000 claims of 17 KiB at
/// most are 66 MiB; real ones have half a KiB.
pub const MAX_NAMED_CLAIMS: usize = 4_000;

/// Most claims with a registered invite; as [`MAX_NAMED_CLAIMS`].
pub(super) const MAX_INVITED_CLAIMS: usize = 4_000;

/// Most claims that one node takes in within 70 minutes that nobody will ever decide.
pub(super) const MAX_UNKNOWN_CLAIMS: usize = 200;

const CLAIM: &str = "pairing_claim";

/// Whether a claim still waits; listed by queue.
const WAITING: &str = "pairing_waiting";

/// The payload of the `ack` frame that answers a `pairing_result`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PairingAck {
    /// The claim.
    pub claim_id: String,
    /// `approved`, `denied`, or `not_found`.
    pub status: &'static str,
}

/// Why a decision on a claim is refused. Displays as the message of the `error` frame.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The socket does not stand for the vault that the frame names.
    #[error("pairing_result vault_id mismatch")]
    VaultMismatch,
    /// The claim waits for another vault, or for none.
    #[error("claim does not belong to this vault")]
    NotOwner,
    /// The decision could not be kept.
    #[error("Pairing is unavailable; try again")]
    Unavailable(#[source] PairingError),
}

impl ResolveError {
    /// The protocol's code for it (section 15a).
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::VaultMismatch | Self::NotOwner => "RELAY_UNAUTHORIZED",
            Self::Unavailable(_) => "RELAY_UNAVAILABLE",
        }
    }
}

impl From<PairingError> for ResolveError {
    fn from(error: PairingError) -> Self {
        Self::Unavailable(error)
    }
}

/// Where a claim waits.
enum Queue<'a> {
    /// Its invite was registered for this vault.
    Invited(&'a VaultId),
    /// It names this vault.
    Named(&'a VaultId),
    /// Nowhere: it names none.
    Unknown,
}

impl Queue<'_> {
    /// Its tag in the records, if it is listed.
    fn tag(&self) -> Option<String> {
        match self {
            Self::Invited(vault) => Some(format!("invited/{vault}")),
            Self::Named(vault) => Some(format!("named/{vault}")),
            Self::Unknown => None,
        }
    }
}

impl Pairing {
    /// POST `/v1/pairing-claims`.
    pub async fn submit_claim(&self, body: &[u8], now: Millis) -> PairingResponse {
        self.try_submit_claim(body, now).await.unwrap_or_else(|refused| refused)
    }

    /// GET `/v1/pairing-claims/{claim_id}/status`.
    pub async fn claim_status(&self, claim_id: &str, now: Millis) -> PairingResponse {
        match self.claim(claim_id, now).await {
            Ok(Some(found)) => {
                self.note_claim(&found.value, now);
                PairingResponse::ok(&found.value.answer())
            }
            Ok(None) => {
                let body = json!({"status": "not_found", "error": "Claim not found or expired"});
                PairingResponse::with(404, &body)
            }
            Err(error) => error.into(),
        }
    }

    /// The claims that wait for a vault, oldest first: payloads of `pairing_claim` frames, for its registration.
    ///
    /// # Errors
    /// [`PairingError`].
    pub async fn pending_claims(&self, vault: &VaultId, now: Millis) -> Result<Vec<Bytes>, PairingError> {
        let mut ids = Vec::new();
        for tag in [Queue::Invited(vault), Queue::Named(vault)].iter().filter_map(Queue::tag) {
            ids.extend(self.waiting(&tag, now).await?.into_iter().filter(|(_, waits)| *waits).map(|(id, _)| id));
        }
        let found = try_join_all(ids.iter().map(|id| self.claim(id, now))).await?;
        let mut claims: Vec<_> = found.into_iter().flatten().map(|found| found.value).collect();
        claims.retain(|claim| claim.status == ClaimStatus::Pending);
        claims.sort_by(|a, b| (a.received_at, &a.claim_id).cmp(&(b.received_at, &b.claim_id)));
        claims.iter().map(payload).collect()
    }

    /// A `pairing_result` frame from a socket that stands for `socket_vault`, if it has registered.
    ///
    /// # Errors
    /// [`ResolveError`]; the claim stands as before.
    pub async fn resolve_claim(
        &self,
        socket_vault: Option<&VaultId>,
        decision: &PairingResult,
        now: Millis,
    ) -> Result<PairingAck, ResolveError> {
        if socket_vault != Some(&decision.vault_id) {
            return Err(ResolveError::VaultMismatch);
        }
        let claim_id = decision.claim_id.clone();
        let Some(mut found) = self.claim(&claim_id, now).await? else {
            return Ok(PairingAck { claim_id, status: "not_found" });
        };
        if found.value.vault_id.as_deref() != Some(decision.vault_id.as_str()) {
            return Err(ResolveError::NotOwner);
        }
        found.value.resolve(decision, now);
        self.keep_claim(&found.value, found.version).await?;
        self.stop_waiting(&claim_id, now).await?;
        if !self.note_claim(&found.value, now) {
            self.inner.named_claims.enter(&claim_id, found.value.status, now);
        }
        Ok(PairingAck { claim_id, status: found.value.status.as_str() })
    }

    async fn try_submit_claim(&self, body: &[u8], now: Millis) -> Result<PairingResponse, PairingResponse> {
        let claim = Claim::verify(body, now).map_err(|error| PairingResponse::refused(400, &error.to_string()))?;
        let invited = self.vault_of_invite(&claim.invite_id, now).await?;
        let named = claim.vault_id.clone();
        let queue = match (&invited, &named) {
            (Some(vault), _) => Queue::Invited(vault),
            (None, Some(vault)) => Queue::Named(vault),
            (None, None) => Queue::Unknown,
        };
        let stored = StoredClaim::new(claim_id(rand::random()), claim, invited.clone(), now);
        self.enqueue(&queue, &stored, now).await?;
        if let Queue::Invited(vault) | Queue::Named(vault) = queue {
            self.inner.vaults.notify(vault, payload(&stored)?);
        }
        let body = json!({
            "success": true,
            "claim_id": stored.claim_id,
            "verification_phrase": stored.verification_phrase,
        });
        Ok(PairingResponse::with(201, &body))
    }

    /// Stores a new claim, if there is room for it.
    async fn enqueue(&self, queue: &Queue<'_>, claim: &StoredClaim, now: Millis) -> Result<(), PairingResponse> {
        let Some(tag) = queue.tag() else {
            admit(&self.inner.unknown_claims, claim, now)?;
            return Ok(self.keep_claim(claim, 0).await?);
        };
        let entered = self.inner.under_way.enter(&tag);
        let listed = self.waiting(&tag, now).await?;
        let waiting = listed.iter().filter(|(_, waits)| *waits).count() + entered.others;
        // A list that is cut short may hide some that wait.
        if waiting >= MAX_WAITING_CLAIMS || listed.len() >= MAX_TAGGED {
            return Err(PairingResponse::refused(429, "Too many pending claims for this vault; try again later"));
        }
        let is_invited = matches!(queue, Queue::Invited(_));
        admit(if is_invited { &self.inner.invited_claims } else { &self.inner.named_claims }, claim, now)?;
        self.keep_claim(claim, 0).await?;
        let expires = now.plus(CLAIM_PENDING);
        let place = Place { kind: WAITING, id: &claim.claim_id, tag: &tag, seen: 0, expires };
        Ok(facts::write(self.facts(), place, &true).await?)
    }

    /// The claim of that id, as it stands now.
    async fn claim(&self, claim_id: &str, now: Millis) -> Result<Option<Found<StoredClaim>>, PairingError> {
        let mut found = facts::read::<StoredClaim>(self.facts(), CLAIM, claim_id, now).await?;
        if let Some(found) = &mut found {
            found.value.expire(now);
        }
        Ok(found)
    }

    async fn keep_claim(&self, claim: &StoredClaim, seen: u64) -> Result<(), PairingError> {
        let place = Place { kind: CLAIM, id: &claim.claim_id, tag: "", seen, expires: claim.forget_at() };
        facts::write(self.facts(), place, claim).await
    }

    /// The ids in a queue, and whether each still waits.
    async fn waiting(&self, tag: &str, now: Millis) -> Result<Vec<(String, bool)>, PairingError> {
        facts::tagged(self.facts(), WAITING, tag, now).await
    }

    /// Takes a claim off its queue, if it is on one.
    async fn stop_waiting(&self, claim_id: &str, now: Millis) -> Result<(), PairingError> {
        let Some(found) = facts::read::<bool>(self.facts(), WAITING, claim_id, now).await? else { return Ok(()) };
        let Found { tag, version, expires, .. } = found;
        let place = Place { kind: WAITING, id: claim_id, tag: &tag, seen: version, expires };
        facts::write(self.facts(), place, &false).await
    }

    /// Keeps the figures of claims that this node knows; false if it does not know this one.
    fn note_claim(&self, claim: &StoredClaim, now: Millis) -> bool {
        self.inner.claim_ledgers().iter().any(|ledger| ledger.note(&claim.claim_id, claim.status, now))
    }
}

fn admit(ledger: &Ledger, claim: &StoredClaim, now: Millis) -> Result<(), PairingResponse> {
    if ledger.enter(&claim.claim_id, claim.status, now) {
        Ok(())
    } else {
        Err(PairingResponse::refused(429, "Too many pairing claims; try again later"))
    }
}

fn payload(claim: &StoredClaim) -> Result<Bytes, PairingError> {
    Ok(serde_json::to_vec(claim)?.into())
}

#[cfg(test)]
mod tests;
