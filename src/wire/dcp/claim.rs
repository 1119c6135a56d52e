//! The claim by which a remote agent asks to be paired with a vault (section 11.2).

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use super::base64;
use super::canonical::{CanonicalError, canonical_object};
use super::fields::Fields;
use super::phrase::phrase;
use crate::domain::clock::Millis;
use crate::domain::ids::VaultId;
use crate::domain::limits::{MAX_ID_BYTES, SIGNED_TIME_SKEW};
use crate::security::ed25519::{PublicKey, SigningKey};

/// Longest claim, in bytes of JSON: anybody can send one, and it is kept for over an hour. Real ones have 500.
pub const MAX_CLAIM_BYTES: usize = 16 * 1024;

/// The members that are signed, besides `vault_id`.
const SIGNED: [&str; 6] = ["invite_id", "agent_public_key", "agent_hostname", "agent_version", "timestamp", "nonce"];

/// Why a claim is refused. Displays as the `error` of the HTTP 400 body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// The body is no JSON object, or a field is not there, empty, or no text.
    #[error("Missing required fields (invite_id, agent_public_key, signature)")]
    MissingFields,
    /// The body is longer than [`MAX_CLAIM_BYTES`].
    #[error("Claim too large (max 16384 bytes)")]
    TooLarge,
    /// A name is longer than [`MAX_ID_BYTES`].
    #[error("invite_id or vault_id too long (max 256 bytes)")]
    IdTooLong,
    /// The time is further than [`SIGNED_TIME_SKEW`] from ours, or no number.
    #[error("Claim timestamp too old or in the future")]
    TimestampTooFar,
    /// The key did not sign this, or the signature has not 64 bytes.
    #[error("Invalid signature - claim not signed by the provided public key")]
    InvalidSignature,
    /// The key is no base64 of 32 bytes.
    #[error("Failed to verify signature: agent_public_key must be 32 bytes of base64")]
    InvalidKey,
    /// What was signed cannot be rebuilt.
    #[error("Failed to verify signature: {0}")]
    Unsignable(#[from] CanonicalError),
}

/// A claim that the key in it signed. That the key belongs to a friend is for the user to say.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The invite that the agent was given.
    pub invite_id: String,
    /// The vault that it names; agents before 2.0.1 name none.
    pub vault_id: Option<VaultId>,
    /// The agent's key.
    pub agent_public_key: PublicKey,
    /// The agent's version, if it tells.
    pub agent_version: Option<String>,
    /// The claim exactly as sent, unknown members included.
    pub submitted: Box<RawValue>,
}

impl Claim {
    /// Reads and checks the body of POST `/v1/pairing-claims`.
    ///
    /// # Errors
    /// [`ClaimError`] for the first check that fails.
    pub fn verify(body: &[u8], now: Millis) -> Result<Self, ClaimError> {
        if body.len() > MAX_CLAIM_BYTES {
            return Err(ClaimError::TooLarge);
        }
        let fields = Fields::parse(body).ok_or(ClaimError::MissingFields)?;
        let required = |name| fields.text(name).ok_or(ClaimError::MissingFields);
        let invite_id = required("invite_id")?;
        let key = required("agent_public_key")?;
        let signature = required("signature")?;
        let vault_id = fields.text("vault_id");
        if invite_id.len() > MAX_ID_BYTES || vault_id.as_ref().is_some_and(|id| id.len() > MAX_ID_BYTES) {
            return Err(ClaimError::IdTooLong);
        }
        check_time(&fields, now)?;
        let agent_public_key = PublicKey(base64::decode_array(&key).map_err(|_| ClaimError::InvalidKey)?);
        let signature = base64::decode_array(&signature).map_err(|_| ClaimError::InvalidSignature)?;
        if !agent_public_key.verify(signed_text(&fields)?.as_bytes(), &signature) {
            return Err(ClaimError::InvalidSignature);
        }
        Ok(Self {
            invite_id: invite_id.into_owned(),
            vault_id: vault_id.map(|id| VaultId::from(&*id)),
            agent_public_key,
            agent_version: fields.text("agent_version").map(String::from),
            submitted: serde_json::from_slice(body).map_err(|_| ClaimError::MissingFields)?,
        })
    }

    /// The words that the agent shows its user.
    #[must_use]
    pub fn phrase(&self) -> String {
        phrase(self.agent_version.as_deref(), &self.agent_public_key, &self.invite_id)
    }

    /// The client's side: completes `claim`, which has everything but key and signature, to a body for
    /// [`Claim::verify`].
    ///
    /// # Errors
    /// [`CanonicalError`] if a member to be signed is nested too deeply.
    pub fn sign(mut claim: Map<String, Value>, key: &SigningKey) -> Result<Value, CanonicalError> {
        claim.insert("agent_public_key".into(), base64::encode(&key.public_key().0).into());
        let raw = to_raw_value(&claim).map_err(|_| CanonicalError::NotText)?;
        let fields = Fields::parse(raw.get().as_bytes()).ok_or(CanonicalError::NotText)?;
        let signature = key.sign(signed_text(&fields)?.as_bytes());
        claim.insert("signature".into(), base64::encode(&signature).into());
        Ok(Value::Object(claim))
    }
}

fn check_time(fields: &Fields<'_>, now: Millis) -> Result<(), ClaimError> {
    let claimed = fields.number("timestamp").ok_or(ClaimError::TimestampTooFar)?;
    let skew = (now.0 as f64 - claimed).abs();
    if skew > SIGNED_TIME_SKEW.as_millis() as f64 { Err(ClaimError::TimestampTooFar) } else { Ok(()) }
}

/// The signed members that are there; `vault_id` only if it names something.
fn signed_text(fields: &Fields<'_>) -> Result<String, CanonicalError> {
    let vault_id = fields.text("vault_id").and(fields.raw("vault_id")).map(|value| ("vault_id", value));
    let others = SIGNED.into_iter().filter_map(|name| Some((name, fields.raw(name)?)));
    canonical_object(others.chain(vault_id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const NOW: Millis = Millis(1_767_323_045_700);

    /// The vectors of section 11.2.
    const WITHOUT_VAULT: &str =
        "ip61s1mYjMjtKexwko8WWoEQh9iT7uuQU6YCx8hxmGCTVD8wy1+ftWy47hQjeUkempqjQHxWTXENgaXX3b9HCQ==";
    const WITH_VAULT: &str = "cZ0Hd9fT8v/FdfWEGJtoK8+9Y1JG7y3WIFBDVO4NK3mk4VzuE8+dCqK/uFecU9A3zXMaUl7n2zqqj4q4zkLXAg==";

    fn unsigned() -> Value {
        json!({
            "invite_id": "inv_0123456789abcdef",
            "agent_hostname": "vps-01",
            "agent_version": "3.1.1",
            "timestamp": 1_767_323_045_678_u64,
            "nonce": "7c1c2b1e-7a5e-4a55-9a43-0d6c0c9d4f11",
        })
    }

    fn with(mut claim: Value, field: &str, value: impl Into<Value>) -> Value {
        claim[field] = value.into();
        claim
    }

    fn sign(claim: Value) -> Value {
        let Value::Object(claim) = claim else { panic!("{claim}") };
        Claim::sign(claim, &SigningKey::from_seed(&[7; 32]).unwrap()).unwrap()
    }

    fn verify(claim: &Value) -> Result<Claim, ClaimError> {
        Claim::verify(claim.to_string().as_bytes(), NOW)
    }

    #[test]
    fn the_vectors_hold_with_and_without_a_vault() {
        let old = sign(unsigned());
        assert_eq!(old["signature"], WITHOUT_VAULT);
        assert_eq!(verify(&old).unwrap().vault_id, None);
        let new = sign(with(unsigned(), "vault_id", "vault_demo01"));
        assert_eq!(new["signature"], WITH_VAULT);
        let claim = verify(&new).unwrap();
        assert_eq!(claim.vault_id, Some("vault_demo01".into()));
        assert_eq!(claim.phrase(), "dignity-tiny-spend-soda");
        assert_eq!(claim.submitted.get(), new.to_string());
    }

    #[test]
    fn an_empty_vault_and_unknown_members_are_not_signed() {
        let claim = with(with(sign(unsigned()), "vault_id", ""), "extra", json!({"kept": 1}));
        assert_eq!(claim["signature"], WITHOUT_VAULT);
        assert!(verify(&claim).unwrap().submitted.get().contains("extra"));
    }

    #[test]
    fn numbers_and_text_are_signed_as_javascript_spells_them() {
        let spelled =
            sign(unsigned()).to_string().replace("1767323045678", "1.767323045678E12").replace("vps", "\\u0076ps");
        assert!(Claim::verify(spelled.as_bytes(), NOW).is_ok());
    }

    #[test]
    fn each_check_has_its_own_answer() {
        let signed = || sign(with(unsigned(), "vault_id", "vault_demo01"));
        let early = NOW.0 - SIGNED_TIME_SKEW.as_millis() as u64 - 1;
        let missing = "Missing required fields (invite_id, agent_public_key, signature)";
        let time = "Claim timestamp too old or in the future";
        let signature = "Invalid signature - claim not signed by the provided public key";
        for (claim, expected) in [
            (json!(null), missing),
            (with(signed(), "invite_id", Value::Null), missing),
            (with(signed(), "agent_public_key", ""), missing),
            (with(signed(), "signature", 7), missing),
            (with(signed(), "padding", "x".repeat(MAX_CLAIM_BYTES)), "Claim too large (max 16384 bytes)"),
            (with(signed(), "vault_id", "x".repeat(257)), "invite_id or vault_id too long (max 256 bytes)"),
            (with(signed(), "timestamp", early), time),
            (with(signed(), "timestamp", "1767323045678"), time),
            (with(signed(), "timestamp", 1_767_323_045_679_u64), signature),
            (with(signed(), "vault_id", "vault_demo02"), signature),
            (with(signed(), "agent_hostname", Value::Null), signature),
            (with(signed(), "signature", "AAAA"), signature),
            (
                with(signed(), "agent_public_key", "AAAA"),
                "Failed to verify signature: agent_public_key must be 32 bytes of base64",
            ),
            (
                with(signed(), "nonce", (0..20).fold(json!(0), |inner, _| json!([inner]))),
                "Failed to verify signature: nested too deeply (max 16 levels)",
            ),
        ] {
            assert_eq!(verify(&claim).unwrap_err().to_string(), expected, "{:.200}", claim.to_string());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_in_peace(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Claim::verify(&bytes, NOW).is_err());
        }

        #[test]
        fn what_is_signed_verifies_whatever_it_says(host in "\\PC*", version in ".*", nonce in any::<f64>()) {
            let claim = with(with(unsigned(), "agent_hostname", host), "agent_version", version);
            let verified = verify(&sign(with(claim, "nonce", nonce)));
            prop_assert!(verified.is_ok(), "{:?}", verified);
        }
    }
}
