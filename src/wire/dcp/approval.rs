//! Pairing with a vault on a phone: what the phone answers to an invite (section 12).

use serde_json::value::RawValue;

use super::fields::{self, Fields};
use super::invite::{Invite, InviteError, MAX_PAIRING_BYTES, list};
use crate::domain::clock::Millis;
use crate::domain::ids::VaultId;
use crate::domain::limits::MAX_ID_BYTES;

/// Longest reason for a denial that is passed on, in bytes.
pub const MAX_REASON_BYTES: usize = 1024;

/// Why an approval is refused. Displays as the `error` of the HTTP 400 body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApprovalError {
    /// The invite in it is refused.
    #[error(transparent)]
    Invite(#[from] InviteError),
    /// The body is no JSON object.
    #[error("Missing approval body")]
    MissingApproval,
    /// The invite is not the one in the path.
    #[error("Invite ID mismatch")]
    InviteIdMismatch,
    /// The approval does not say who is paired with whom, or with names of more than [`MAX_ID_BYTES`].
    #[error("Missing vault_id or agent_id")]
    MissingIds,
    /// The agent is not the one that asked.
    #[error("Agent ID mismatch")]
    AgentIdMismatch,
    /// The approval lacks a key of the vault.
    #[error("Missing vault relay public keys")]
    MissingVaultKeys,
    /// `approved_scopes` is no list.
    #[error("approved_scopes must be an array")]
    ScopesNotAnArray,
    /// `approved_budget` is no object with a number `daily`.
    #[error("approved_budget is required")]
    MissingBudget,
    /// More was approved than was asked for.
    #[error("Approved scope was not requested: {0}")]
    ScopeNotRequested(String),
}

/// What the phone approved: an invite, and how the agent reaches the vault.
#[derive(Debug, Clone)]
pub struct Approval {
    /// The invite, checked again.
    pub invite: Invite,
    /// The vault on the phone.
    pub vault_id: VaultId,
    /// The agent's name, the one it asked for.
    pub agent_id: String,
    /// The vault's HPKE key as sent.
    pub vault_hpke_public_key: String,
    /// The vault's signing key as sent.
    pub vault_signing_public_key: String,
    /// What the agent may do; each was asked for.
    pub approved_scopes: Vec<String>,
    /// What the agent may spend, as sent; `daily` is a number.
    pub approved_budget: Box<RawValue>,
}

impl Approval {
    /// Reads and checks the body of POST `/v1/mobile/pairings/{invite_id}/approve`. Only the invite is signed:
    /// that the phone speaks for `vault_id` is not proven by it.
    ///
    /// # Errors
    /// [`ApprovalError`] for the first check that fails.
    pub fn verify(body: &[u8], invite_id: &str, now: Millis) -> Result<Self, ApprovalError> {
        if body.len() > MAX_PAIRING_BYTES {
            return Err(InviteError::TooLarge.into());
        }
        let fields = Fields::parse(body).ok_or(ApprovalError::MissingApproval)?;
        let invite = Invite::within(&fields, now)?;
        if invite.invite_id != invite_id {
            return Err(ApprovalError::InviteIdMismatch);
        }
        let id = |name| fields.text(name).filter(|id| id.len() <= MAX_ID_BYTES).ok_or(ApprovalError::MissingIds);
        let (vault_id, agent_id) = (id("vault_id")?, id("agent_id")?);
        if agent_id != invite.requested_agent_id {
            return Err(ApprovalError::AgentIdMismatch);
        }
        let key = |name| fields.text(name).map(String::from).ok_or(ApprovalError::MissingVaultKeys);
        let vault_hpke_public_key = key("vault_hpke_public_key")?;
        let vault_signing_public_key = key("vault_signing_public_key")?;
        let scopes = fields.raw("approved_scopes").and_then(list).ok_or(ApprovalError::ScopesNotAnArray)?;
        let approved_budget = budget(&fields).ok_or(ApprovalError::MissingBudget)?;
        let approved_scopes = approved_scopes(&scopes, &invite)?;
        Ok(Self {
            vault_id: VaultId::from(&*vault_id),
            agent_id: agent_id.into_owned(),
            vault_hpke_public_key,
            vault_signing_public_key,
            approved_scopes,
            approved_budget: approved_budget.to_owned(),
            invite,
        })
    }
}

/// The reason in the body of POST `/v1/mobile/pairings/{invite_id}/deny`; `None` if there is none, or one
/// longer than [`MAX_REASON_BYTES`]. Any body denies.
#[must_use]
pub fn denied_reason(body: &[u8]) -> Option<String> {
    let reason = Fields::parse(body)?.text("denied_reason")?.into_owned();
    Some(reason).filter(|reason| reason.len() <= MAX_REASON_BYTES)
}

/// The scopes approved, if each was asked for.
fn approved_scopes(scopes: &[&RawValue], invite: &Invite) -> Result<Vec<String>, ApprovalError> {
    let approved = |scope: &&RawValue| match fields::text(scope) {
        Some(text) if invite.requested_scopes.iter().any(|asked| *asked == text) => Ok(text.into_owned()),
        Some(text) => Err(ApprovalError::ScopeNotRequested(text.into_owned())),
        None => Err(ApprovalError::ScopeNotRequested(scope.get().to_owned())),
    };
    scopes.iter().map(approved).collect()
}

fn budget<'a>(fields: &Fields<'a>) -> Option<&'a RawValue> {
    fields.object("approved_budget")?.number("daily")?;
    fields.raw("approved_budget")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security::ed25519::SigningKey;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const NOW: Millis = Millis(1_767_323_045_678);

    fn invite(id: &str) -> Value {
        let Value::Object(invite) = json!({
            "type": "dcp_agent_pairing",
            "version": "1.0",
            "invite_id": id,
            "requested_agent_id": "agent_demo",
            "requested_scopes": ["sign:solana", "read:address"],
            "expires_at": "2026-01-02T03:14:05.678Z",
        }) else {
            panic!("not an object")
        };
        Invite::sign(invite, &SigningKey::from_seed(&[7; 32]).unwrap()).unwrap()
    }

    fn with(mut value: Value, field: &str, new: impl Into<Value>) -> Value {
        value[field] = new.into();
        value
    }

    fn without(mut value: Value, field: &str) -> Value {
        value.as_object_mut().unwrap().remove(field);
        value
    }

    fn approval() -> Value {
        json!({
            "invite": invite("mob_0123456789abcdef"),
            "vault_id": "vault_demo01",
            "agent_id": "agent_demo",
            "vault_hpke_public_key": "hpke",
            "vault_signing_public_key": "ed25519",
            "approved_scopes": ["read:address"],
            "approved_budget": {"daily": 0.25, "currency": "SOL"},
        })
    }

    fn approve(body: &Value) -> Result<Approval, String> {
        let body = body.to_string();
        Approval::verify(body.as_bytes(), "mob_0123456789abcdef", NOW).map_err(|error| error.to_string())
    }

    #[test]
    fn an_approval_within_what_was_asked_is_read() {
        let approved = approve(&approval()).unwrap();
        assert_eq!(approved.vault_id.as_str(), "vault_demo01");
        assert_eq!(approved.approved_scopes, ["read:address"]);
        assert_eq!(approved.approved_budget.get(), r#"{"daily":0.25,"currency":"SOL"}"#);
    }

    #[test]
    fn each_check_of_an_approval_has_its_own_answer() {
        for (body, expected) in [
            (json!(null), "Missing approval body"),
            (without(approval(), "invite"), "Missing pairing invite"),
            (with(approval(), "invite", invite("mob_other")), "Invite ID mismatch"),
            (without(approval(), "vault_id"), "Missing vault_id or agent_id"),
            (with(approval(), "agent_id", ""), "Missing vault_id or agent_id"),
            (with(approval(), "agent_id", "agent_other"), "Agent ID mismatch"),
            (without(approval(), "vault_hpke_public_key"), "Missing vault relay public keys"),
            (without(approval(), "vault_signing_public_key"), "Missing vault relay public keys"),
            (with(approval(), "approved_scopes", "all"), "approved_scopes must be an array"),
            (without(approval(), "approved_budget"), "approved_budget is required"),
            (with(approval(), "approved_budget", json!({"daily": "1"})), "approved_budget is required"),
            (with(approval(), "approved_scopes", json!(["write:all"])), "Approved scope was not requested: write:all"),
            (with(approval(), "approved_scopes", json!([7])), "Approved scope was not requested: 7"),
        ] {
            assert_eq!(approve(&body).unwrap_err(), expected, "{body}");
        }
        let large = [b' '; MAX_PAIRING_BYTES + 1];
        assert_eq!(Approval::verify(&large, "mob", NOW).unwrap_err(), InviteError::TooLarge.into());
    }

    #[test]
    fn a_denial_may_have_a_short_reason() {
        assert_eq!(denied_reason(br#"{"denied_reason":"not mine"}"#).as_deref(), Some("not mine"));
        assert_eq!(denied_reason(b"{}"), None);
        assert_eq!(
            denied_reason(json!({"denied_reason": "x".repeat(MAX_REASON_BYTES + 1)}).to_string().as_bytes()),
            None
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_in_peace(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Approval::verify(&bytes, "mob", NOW).is_err());
            prop_assert_eq!(denied_reason(&bytes), None);
        }
    }
}
