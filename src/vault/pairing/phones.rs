//! Pairing with a vault on a phone (section 12): an agent leaves an invite, the phone approves or denies it, the
//! agent polls. What this cannot promise is written in [`super`].

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use super::facts::{self, Place};
use super::{KEPT, Pairing, PairingError, PairingResponse, is_id};
use crate::domain::clock::Millis;
use crate::security::ed25519::PublicKey;
use crate::wire::dcp::approval::{Approval, ApprovalError, denied_reason};
use crate::wire::dcp::invite::Invite;
use crate::wire::dcp::stored_claim::{CLAIM_KEPT, CLAIM_PENDING, ClaimStatus};

/// Most phone pairings that one node takes in within 70 minutes. 2,000 of 33 KiB at most are 65 MiB; real ones
/// have 2 KiB.
pub const MAX_PHONE_PAIRINGS: usize = 2_000;

/// Most denials of ids that nobody knows, which one node keeps at a time.
pub const MAX_UNKNOWN_DENIALS: usize = 1_000;

/// How long such a denial is kept: for as long as the invite can be left afterwards.
pub const UNKNOWN_DENIAL_KEPT: Duration = CLAIM_PENDING;

const PHONE: &str = "phone_pairing";

/// A phone pairing as it is kept.
#[derive(Serialize, Deserialize)]
struct PhonePairing {
    /// The invite exactly as sent, and the key that signed it; `None` for an id that was only denied.
    invite: Option<(Box<RawValue>, [u8; 32])>,
    status: ClaimStatus,
    /// When it was first heard of, in milliseconds since 1970.
    since: u64,
    /// When it was last decided, in milliseconds since 1970.
    decided: Option<u64>,
    approved: Option<Approved>,
    denied_reason: Option<String>,
}

/// What the agent learns from an approval.
#[derive(Serialize, Deserialize)]
struct Approved {
    agent_id: String,
    vault_id: String,
    vault_hpke_public_key: String,
    vault_signing_public_key: String,
    approved_scopes: Vec<String>,
    approved_budget: Box<RawValue>,
}

/// The answer to the agent that polls.
#[derive(Serialize)]
struct StatusAnswer<'a> {
    status: ClaimStatus,
    invite_id: &'a str,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    approved: Option<&'a Approved>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

/// The answer to the phone that fetches an invite.
#[derive(Serialize)]
struct InviteAnswer<'a> {
    invite_id: &'a str,
    invite: Box<RawValue>,
    status: ClaimStatus,
}

impl PhonePairing {
    fn new(now: Millis) -> Self {
        Self {
            invite: None,
            status: ClaimStatus::Pending,
            since: now.0,
            decided: None,
            approved: None,
            denied_reason: None,
        }
    }

    fn has_key(&self, key: &PublicKey) -> bool {
        self.invite.as_ref().is_none_or(|(_, known)| *known == key.0)
    }

    fn take(&mut self, invite: Invite) {
        self.invite = Some((invite.submitted, invite.agent_public_key.0));
    }

    fn decide(&mut self, status: ClaimStatus, now: Millis) {
        self.status = status;
        self.decided = Some(now.0);
        (self.approved, self.denied_reason) = (None, None);
    }

    /// Where it stands now.
    fn expire(&mut self, now: Millis) {
        if self.status == ClaimStatus::Pending && now.since(Millis(self.since)) >= CLAIM_PENDING {
            self.status = ClaimStatus::Expired;
        }
    }

    fn forget_at(&self) -> Millis {
        match (self.decided, &self.invite) {
            (Some(decided), None) => Millis(decided).plus(UNKNOWN_DENIAL_KEPT),
            (Some(decided), Some(_)) => Millis(decided).plus(CLAIM_KEPT),
            (None, _) => Millis(self.since).plus(KEPT),
        }
    }
}

/// A pairing, and the version it was read in; 0 for one that is not stored.
type Versioned = (PhonePairing, u64);

impl Pairing {
    /// POST `/v1/mobile/pairings`. An invite that is known stays as it stands.
    pub async fn register_phone_pairing(&self, body: &[u8], now: Millis) -> PairingResponse {
        self.try_register_phone_pairing(body, now).await.unwrap_or_else(|refused| refused)
    }

    /// GET `/v1/mobile/pairings/{invite_id}/invite`.
    pub async fn phone_invite(&self, invite_id: &str, now: Millis) -> PairingResponse {
        let pairing = match self.phone_pairing(invite_id, now).await {
            Ok(found) => found.map(|(pairing, _)| pairing).filter(|pairing| pairing.status != ClaimStatus::Expired),
            Err(error) => return error.into(),
        };
        let Some((status, Some((invite, _)))) = pairing.map(|pairing| (pairing.status, pairing.invite)) else {
            return PairingResponse::refused(404, "Pairing invite not found");
        };
        PairingResponse::ok(&InviteAnswer { invite_id, invite, status })
    }

    /// POST `/v1/mobile/pairings/{invite_id}/approve`. Also for an id that nobody knows: the body has the invite.
    pub async fn approve_phone_pairing(&self, invite_id: &str, body: &[u8], now: Millis) -> PairingResponse {
        self.try_approve_phone_pairing(invite_id, body, now).await.unwrap_or_else(|refused| refused)
    }

    /// POST `/v1/mobile/pairings/{invite_id}/deny`. Also for an id that nobody knows, within bounds.
    pub async fn deny_phone_pairing(&self, invite_id: &str, body: &[u8], now: Millis) -> PairingResponse {
        self.try_deny_phone_pairing(invite_id, body, now).await.unwrap_or_else(|refused| refused)
    }

    /// GET `/v1/mobile/pairings/{invite_id}/status`. An id that nobody knows is pending.
    pub async fn phone_pairing_status(&self, invite_id: &str, now: Millis) -> PairingResponse {
        match self.phone_pairing(invite_id, now).await {
            Ok(Some((pairing, _))) => {
                self.inner.phones.note(invite_id, pairing.status, now);
                let (approved, error) = (pairing.approved.as_ref(), pairing.denied_reason.as_deref());
                PairingResponse::ok(&StatusAnswer { status: pairing.status, invite_id, approved, error })
            }
            Ok(None) => {
                let status = ClaimStatus::Pending;
                PairingResponse::ok(&StatusAnswer { status, invite_id, approved: None, error: None })
            }
            Err(error) => error.into(),
        }
    }

    async fn try_register_phone_pairing(&self, body: &[u8], now: Millis) -> Result<PairingResponse, PairingResponse> {
        let invite = Invite::verify(body, now).map_err(|error| PairingResponse::refused(400, &error.to_string()))?;
        let id = invite.invite_id.clone();
        let (mut pairing, seen) = self.phone_pairing_for(&invite, now).await?;
        if pairing.invite.is_none() {
            pairing.take(invite);
            self.keep_phone_pairing(&id, &pairing, seen, now).await?;
        }
        Ok(PairingResponse::ok(&json!({"success": true, "invite_id": id, "status": pairing.status})))
    }

    async fn try_approve_phone_pairing(
        &self,
        invite_id: &str,
        body: &[u8],
        now: Millis,
    ) -> Result<PairingResponse, PairingResponse> {
        let approval = Approval::verify(body, invite_id, now)
            .map_err(|error| PairingResponse::refused(400, &error.to_string()))?;
        let (mut pairing, seen) = self.phone_pairing_for(&approval.invite, now).await?;
        let answer = json!({
            "success": true,
            "invite_id": invite_id,
            "status": ClaimStatus::Approved,
            "agent_id": approval.agent_id,
            "vault_id": approval.vault_id.as_str(),
            "vault_hpke_public_key": approval.vault_hpke_public_key,
            "vault_signing_public_key": approval.vault_signing_public_key,
        });
        pairing.decide(ClaimStatus::Approved, now);
        pairing.take(approval.invite);
        pairing.approved = Some(Approved {
            agent_id: approval.agent_id,
            vault_id: approval.vault_id.to_string(),
            vault_hpke_public_key: approval.vault_hpke_public_key,
            vault_signing_public_key: approval.vault_signing_public_key,
            approved_scopes: approval.approved_scopes,
            approved_budget: approval.approved_budget,
        });
        self.keep_phone_pairing(invite_id, &pairing, seen, now).await?;
        Ok(PairingResponse::ok(&answer))
    }

    async fn try_deny_phone_pairing(
        &self,
        invite_id: &str,
        body: &[u8],
        now: Millis,
    ) -> Result<PairingResponse, PairingResponse> {
        if !is_id(invite_id) {
            return Err(PairingResponse::refused(400, "invite_id too long (max 256 bytes)"));
        }
        let known = self.phone_pairing(invite_id, now).await?;
        let (mut pairing, seen) = known.unwrap_or_else(|| (PhonePairing::new(now), 0));
        pairing.decide(ClaimStatus::Denied, now);
        pairing.denied_reason = denied_reason(body);
        let is_unknown = pairing.invite.is_none();
        let ledger = if is_unknown { &self.inner.unknown_denials } else { &self.inner.phones };
        if !ledger.enter(invite_id, pairing.status, now) {
            return Err(PairingResponse::refused(429, "Too many denials; try again later"));
        }
        self.keep_phone_pairing(invite_id, &pairing, seen, now).await?;
        Ok(PairingResponse::ok(&json!({"success": true, "invite_id": invite_id, "status": pairing.status})))
    }

    /// The pairing that an invite belongs to: the one that is known, if the same key signed it, or else a new one;
    /// if this node has room for one more decision or invite.
    async fn phone_pairing_for(&self, invite: &Invite, now: Millis) -> Result<Versioned, PairingResponse> {
        let known = self.phone_pairing(&invite.invite_id, now).await?;
        let (pairing, seen) = known.unwrap_or_else(|| (PhonePairing::new(now), 0));
        if !pairing.has_key(&invite.agent_public_key) {
            return Err(PairingResponse::refused(400, &ApprovalError::InviteIdMismatch.to_string()));
        }
        if !self.inner.phones.enter(&invite.invite_id, pairing.status, now) {
            return Err(PairingResponse::refused(429, "Too many phone pairings; try again later"));
        }
        Ok((pairing, seen))
    }

    async fn phone_pairing(&self, invite_id: &str, now: Millis) -> Result<Option<Versioned>, PairingError> {
        let found = facts::read::<PhonePairing>(self.facts(), PHONE, invite_id, now).await?;
        Ok(found.map(|mut found| {
            found.value.expire(now);
            (found.value, found.version)
        }))
    }

    async fn keep_phone_pairing(
        &self,
        invite_id: &str,
        pairing: &PhonePairing,
        seen: u64,
        now: Millis,
    ) -> Result<(), PairingError> {
        let place = Place { kind: PHONE, id: invite_id, tag: "", seen, expires: pairing.forget_at() };
        facts::write(self.facts(), place, pairing).await?;
        self.inner.phones.note(invite_id, pairing.status, now);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
