//! What becomes of a pairing claim: the record that is kept, pushed to the vault and polled by the agent
//! (sections 5.2, 11.3 and 11.5).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::claim::Claim;
use super::fields::Fields;
use crate::domain::clock::Millis;
use crate::domain::ids::VaultId;
use crate::domain::limits::MAX_ID_BYTES;

/// How long a claim waits for the user.
pub const CLAIM_PENDING: Duration = Duration::from_secs(600);

/// How long an ended claim is kept, for the agent to learn how it ended.
pub const CLAIM_KEPT: Duration = Duration::from_secs(3600);

/// Where a claim stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClaimStatus {
    /// The user has not decided.
    Pending,
    /// The user agreed.
    Approved,
    /// The user refused.
    Denied,
    /// The user did not decide within [`CLAIM_PENDING`].
    Expired,
}

impl ClaimStatus {
    /// The protocol's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Expired => "expired",
        }
    }
}

/// A claim as it is kept; as JSON, the payload of a `pairing_claim` frame.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoredClaim {
    /// The relay's name for it, see [`claim_id`].
    pub claim_id: String,
    /// The claim exactly as sent.
    pub claim: Box<RawValue>,
    /// The words for the user to compare.
    pub verification_phrase: String,
    /// When it came, in milliseconds since 1970.
    pub received_at: u64,
    /// Where it stands.
    pub status: ClaimStatus,
    /// The vault that is to decide, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault_id: Option<String>,
    /// The name that the vault gave the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// When it ended, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_at: Option<u64>,
}

impl StoredClaim {
    /// A claim that came just now, for `vault_id` to decide: the vault of the invite, or else the claim's own.
    #[must_use]
    pub fn new(claim_id: String, claim: Claim, vault_id: Option<VaultId>, now: Millis) -> Self {
        Self {
            claim_id,
            verification_phrase: claim.phrase(),
            received_at: now.0,
            status: ClaimStatus::Pending,
            vault_id: vault_id.or(claim.vault_id).map(|id| id.as_str().to_owned()),
            agent_id: None,
            resolved_at: None,
            claim: claim.submitted,
        }
    }

    /// Records what the vault decided; a later decision replaces an earlier one.
    pub fn resolve(&mut self, decision: &PairingResult, now: Millis) {
        self.status = decision.action.status();
        self.agent_id.clone_from(&decision.agent_id);
        self.resolved_at = Some(now.0);
    }

    /// Marks the claim expired if it has waited for [`CLAIM_PENDING`]; whether it did.
    pub fn expire(&mut self, now: Millis) -> bool {
        let due = self.status == ClaimStatus::Pending && now.since(Millis(self.received_at)) >= CLAIM_PENDING;
        if due {
            self.status = ClaimStatus::Expired;
            self.resolved_at = Some(now.0);
        }
        due
    }

    /// When the record may be forgotten.
    #[must_use]
    pub fn forget_at(&self) -> Millis {
        let ended = self.resolved_at.map_or_else(|| Millis(self.received_at).plus(CLAIM_PENDING), Millis);
        ended.plus(CLAIM_KEPT)
    }

    /// The answer to the agent that asks how its claim stands.
    #[must_use]
    pub fn answer(&self) -> ClaimAnswer<'_> {
        ClaimAnswer { status: self.status, agent_id: self.agent_id.as_deref(), vault_id: self.vault_id.as_deref() }
    }
}

/// Body of GET `/v1/pairing-claims/{claim_id}/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClaimAnswer<'a> {
    /// Where the claim stands.
    pub status: ClaimStatus,
    /// The name that the vault gave the agent; comes with `approved`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<&'a str>,
    /// The vault, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vault_id: Option<&'a str>,
}

/// What a vault can say to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PairingAction {
    /// The agent may talk to the vault.
    Approve,
    /// It may not.
    Deny,
}

impl PairingAction {
    /// What the claim becomes by it.
    #[must_use]
    pub fn status(self) -> ClaimStatus {
        match self {
            Self::Approve => ClaimStatus::Approved,
            Self::Deny => ClaimStatus::Denied,
        }
    }
}

/// A vault's decision: the payload of a `pairing_result` frame. Whether the vault may decide on this claim is
/// for the caller to check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairingResult {
    /// The claim it is about.
    pub claim_id: String,
    /// What the user said.
    pub action: PairingAction,
    /// The name that the vault gives the agent.
    pub agent_id: Option<String>,
    /// The vault that decides.
    pub vault_id: VaultId,
}

/// A decision that cannot be read. Displays as the message of the `error` frame, whose code is
/// `RELAY_INVALID_ENVELOPE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Invalid pairing_result payload")]
pub struct InvalidPairingResult;

impl PairingResult {
    /// Reads the payload of a `pairing_result` frame.
    ///
    /// # Errors
    /// [`InvalidPairingResult`] if a field is missing, unknown or longer than [`MAX_ID_BYTES`].
    pub fn parse(payload: &[u8]) -> Result<Self, InvalidPairingResult> {
        let fields = Fields::parse(payload).ok_or(InvalidPairingResult)?;
        let text = |name| match fields.text(name) {
            Some(text) if text.len() > MAX_ID_BYTES => Err(InvalidPairingResult),
            text => Ok(text),
        };
        Ok(Self {
            claim_id: text("claim_id")?.ok_or(InvalidPairingResult)?.into_owned(),
            action: match text("action")?.as_deref() {
                Some("approve") => PairingAction::Approve,
                Some("deny") => PairingAction::Deny,
                _ => return Err(InvalidPairingResult),
            },
            agent_id: text("agent_id")?.map(String::from),
            vault_id: VaultId::from(&*text("vault_id")?.ok_or(InvalidPairingResult)?),
        })
    }
}

/// The name of a claim, made of 64 random bits: `claim_` and 16 hexadecimal digits.
#[must_use]
pub fn claim_id(random: u64) -> String {
    format!("claim_{random:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security::ed25519::PublicKey;
    use proptest::prelude::*;
    use serde_json::json;

    const RECEIVED: Millis = Millis(1_767_323_045_700);

    fn stored(vault: Option<&str>) -> StoredClaim {
        let claim = Claim {
            invite_id: "inv_test123".into(),
            vault_id: Some("vault_of_claim".into()),
            agent_public_key: PublicKey([1; 32]),
            agent_version: Some("3.1.1".into()),
            submitted: serde_json::from_str(r#"{"invite_id":"inv_test123","timestamp":1.0e3}"#).unwrap(),
        };
        StoredClaim::new(claim_id(0x0f1e_2d3c_4b5a_6978), claim, vault.map(VaultId::from), RECEIVED)
    }

    fn decision(action: PairingAction) -> PairingResult {
        PairingResult {
            claim_id: claim_id(1),
            action,
            agent_id: Some("vps_1a2b3c4d".into()),
            vault_id: "vault_demo01".into(),
        }
    }

    #[test]
    fn the_record_has_the_shape_of_the_protocol_and_keeps_the_claim_verbatim() {
        let json = serde_json::to_string(&stored(Some("vault_demo01"))).unwrap();
        assert_eq!(
            json,
            concat!(
                r#"{"claim_id":"claim_0f1e2d3c4b5a6978","claim":{"invite_id":"inv_test123","timestamp":1.0e3},"#,
                r#""verification_phrase":"earn-bracket-valve-cousin","received_at":1767323045700,"#,
                r#""status":"pending","vault_id":"vault_demo01"}"#
            )
        );
        let back: StoredClaim = serde_json::from_str(&json).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), json);
        assert_eq!(stored(None).vault_id.as_deref(), Some("vault_of_claim"));
    }

    #[test]
    fn a_later_decision_replaces_an_earlier_one() {
        let mut claim = stored(Some("vault_demo01"));
        claim.resolve(&decision(PairingAction::Deny), RECEIVED.plus(Duration::from_secs(1)));
        assert_eq!(claim.status.as_str(), "denied");
        let decided = RECEIVED.plus(Duration::from_secs(2));
        claim.resolve(&decision(PairingAction::Approve), decided);
        assert_eq!(
            serde_json::to_value(claim.answer()).unwrap(),
            json!({"status": "approved", "agent_id": "vps_1a2b3c4d", "vault_id": "vault_demo01"})
        );
        assert_eq!(claim.forget_at(), decided.plus(CLAIM_KEPT));
        assert!(!claim.expire(decided.plus(CLAIM_PENDING)), "a decided claim does not expire");
    }

    #[test]
    fn a_claim_that_nobody_decides_expires_and_is_forgotten() {
        let mut claim = stored(None);
        assert!(!claim.expire(RECEIVED.plus(CLAIM_PENDING - Duration::from_millis(1))));
        let forgotten = claim.forget_at();
        assert!(claim.expire(RECEIVED.plus(CLAIM_PENDING)));
        assert_eq!(claim.status, ClaimStatus::Expired);
        assert_eq!(claim.forget_at(), forgotten);
    }

    #[test]
    fn a_decision_is_read_or_refused() {
        let payload = json!({"claim_id": claim_id(1), "action": "approve", "agent_id": "vps_1a2b3c4d", "vault_id": "vault_demo01"});
        assert_eq!(PairingResult::parse(payload.to_string().as_bytes()), Ok(decision(PairingAction::Approve)));
        for (field, value) in [
            ("claim_id", json!(null)),
            ("action", json!("maybe")),
            ("vault_id", json!("")),
            ("claim_id", json!("c".repeat(MAX_ID_BYTES + 1))),
            ("agent_id", json!("a".repeat(MAX_ID_BYTES + 1))),
        ] {
            let mut bad = payload.clone();
            bad[field] = value;
            assert_eq!(PairingResult::parse(bad.to_string().as_bytes()), Err(InvalidPairingResult), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_in_peace(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(PairingResult::parse(&bytes).is_err());
        }
    }
}
