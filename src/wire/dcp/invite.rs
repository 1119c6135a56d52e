//! Pairing with a vault on a phone: the invite that an agent signs (section 12).

use std::borrow::Cow;

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use super::base64;
use super::canonical::{CanonicalError, canonical_object};
use super::fields::{self, Fields};
use super::time;
use crate::domain::clock::Millis;
use crate::domain::limits::MAX_ID_BYTES;
use crate::security::ed25519::{PublicKey, SigningKey};

/// Longest body with an invite or an approval, in bytes: anybody can send one, and it is kept for over an hour.
pub const MAX_PAIRING_BYTES: usize = 32 * 1024;

/// Most scopes that an invite may ask for.
pub const MAX_SCOPES: usize = 256;

/// Why an invite is refused. Displays as the `error` of the HTTP 400 body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InviteError {
    /// The body has no object `invite`.
    #[error("Missing pairing invite")]
    Missing,
    /// Not an invite of type `dcp_agent_pairing`, version `1.0`, with the names it must have.
    #[error("Unsupported mobile pairing invite")]
    Unsupported,
    /// There is no signature.
    #[error("Invite signature is required")]
    MissingSignature,
    /// `expires_at` is no date.
    #[error("Invalid invite expiry")]
    InvalidExpiry,
    /// `expires_at` has passed.
    #[error("Invite expired")]
    Expired,
    /// The key in the invite did not sign it.
    #[error("Invalid invite signature")]
    InvalidSignature,
    /// The key is no base64 of 32 bytes.
    #[error("Failed to verify invite signature: agent_public_key must be 32 bytes of base64")]
    InvalidKey,
    /// What was signed cannot be rebuilt.
    #[error("Failed to verify invite signature: {0}")]
    Unsignable(#[from] CanonicalError),
    /// The body is longer than [`MAX_PAIRING_BYTES`].
    #[error("Pairing body too large (max 32768 bytes)")]
    TooLarge,
}

/// An invite that the key in it signed.
#[derive(Debug, Clone)]
pub struct Invite {
    /// The agent's name for it: `mob_` and 16 hexadecimal digits in shipped agents.
    pub invite_id: String,
    /// The name that the agent wants.
    pub requested_agent_id: String,
    /// The agent's key.
    pub agent_public_key: PublicKey,
    /// What the agent asks to be allowed.
    pub requested_scopes: Vec<String>,
    /// When it ends, in the agent's words.
    pub expires_at: Millis,
    /// The invite exactly as sent, unknown members included.
    pub submitted: Box<RawValue>,
}

impl Invite {
    /// Reads and checks the body of POST `/v1/mobile/pairings`: `{"invite": …}`.
    ///
    /// # Errors
    /// [`InviteError`] for the first check that fails.
    pub fn verify(body: &[u8], now: Millis) -> Result<Self, InviteError> {
        if body.len() > MAX_PAIRING_BYTES {
            return Err(InviteError::TooLarge);
        }
        Self::within(&Fields::parse(body).ok_or(InviteError::Missing)?, now)
    }

    /// Checks the member `invite` of a body.
    pub(super) fn within(body: &Fields<'_>, now: Millis) -> Result<Self, InviteError> {
        let (Some(submitted), Some(invite)) = (body.raw("invite"), body.object("invite")) else {
            return Err(InviteError::Missing);
        };
        let id = |name| invite.text(name).filter(|id| id.len() <= MAX_ID_BYTES).ok_or(InviteError::Unsupported);
        let is = |name, expected: &str| invite.text(name).as_deref() == Some(expected);
        if !is("type", "dcp_agent_pairing") || !is("version", "1.0") {
            return Err(InviteError::Unsupported);
        }
        let (invite_id, requested_agent_id) = (id("invite_id")?, id("requested_agent_id")?);
        let requested_scopes = requested_scopes(&invite).ok_or(InviteError::Unsupported)?;
        let signature = invite.text("signature").ok_or(InviteError::MissingSignature)?;
        let expires_at = invite.text("expires_at").and_then(|text| time::parse(&text));
        let expires_at = expires_at.ok_or(InviteError::InvalidExpiry)?;
        if expires_at <= now {
            return Err(InviteError::Expired);
        }
        let agent_public_key = check_signature(&invite, &signature)?;
        Ok(Self {
            invite_id: invite_id.into_owned(),
            requested_agent_id: requested_agent_id.into_owned(),
            agent_public_key,
            requested_scopes,
            expires_at,
            submitted: submitted.to_owned(),
        })
    }

    /// The client's side: completes `invite`, which has everything but key and signature, to an object for
    /// the member `invite` of a body.
    ///
    /// # Errors
    /// [`CanonicalError`] if a member is nested too deeply.
    pub fn sign(mut invite: Map<String, Value>, key: &SigningKey) -> Result<Value, CanonicalError> {
        invite.insert("agent_public_key".into(), base64::encode(&key.public_key().0).into());
        let raw = to_raw_value(&invite).map_err(|_| CanonicalError::NotText)?;
        let fields = Fields::parse(raw.get().as_bytes()).ok_or(CanonicalError::NotText)?;
        let signature = key.sign(signed_text(&fields)?.as_bytes());
        invite.insert("signature".into(), base64::encode(&signature).into());
        Ok(Value::Object(invite))
    }
}

fn check_signature(invite: &Fields<'_>, signature: &str) -> Result<PublicKey, InviteError> {
    let key = invite.text("agent_public_key").and_then(|key| base64::decode_array(&key).ok());
    let key = PublicKey(key.ok_or(InviteError::InvalidKey)?);
    let signature = base64::decode_array(signature).map_err(|_| InviteError::InvalidSignature)?;
    let signed = signed_text(invite)?;
    if key.verify(signed.as_bytes(), &signature) { Ok(key) } else { Err(InviteError::InvalidSignature) }
}

/// Everything but the signature.
fn signed_text(invite: &Fields<'_>) -> Result<String, CanonicalError> {
    canonical_object(invite.iter().filter(|(name, _)| *name != "signature"))
}

/// The scopes asked for; none if the invite does not say. `None` if they are no list of texts.
fn requested_scopes(invite: &Fields<'_>) -> Option<Vec<String>> {
    let Some(value) = invite.raw("requested_scopes") else { return Some(Vec::new()) };
    let scopes = list(value)?;
    scopes.iter().map(|scope| fields::text(scope).map(Cow::into_owned)).collect()
}

/// The items of a list of at most [`MAX_SCOPES`].
pub(super) fn list(value: &RawValue) -> Option<Vec<&RawValue>> {
    let items: Vec<&RawValue> = serde_json::from_str(value.get()).ok()?;
    Some(items).filter(|items| items.len() <= MAX_SCOPES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const NOW: Millis = Millis(1_767_323_045_678);

    fn unsigned() -> Value {
        json!({
            "type": "dcp_agent_pairing",
            "version": "1.0",
            "relay_url": "wss://relay.example",
            "invite_id": "mob_0123456789abcdef",
            "requested_agent_id": "agent_demo",
            "agent_name": "Demo",
            "requested_scopes": ["sign:solana", "read:address"],
            "requested_budget": {"daily": 0.5, "currency": "SOL", "approval_threshold": 1e-7},
            "expires_at": "2026-01-02T03:14:05.678Z",
        })
    }

    fn with(mut value: Value, field: &str, new: impl Into<Value>) -> Value {
        value[field] = new.into();
        value
    }

    fn without(mut value: Value, field: &str) -> Value {
        value.as_object_mut().unwrap().remove(field);
        value
    }

    fn sign(invite: Value) -> Value {
        let Value::Object(invite) = invite else { panic!("{invite}") };
        Invite::sign(invite, &SigningKey::from_seed(&[7; 32]).unwrap()).unwrap()
    }

    fn verify(invite: &Value) -> Result<Invite, String> {
        Invite::verify(json!({ "invite": invite }).to_string().as_bytes(), NOW).map_err(|error| error.to_string())
    }

    #[test]
    fn a_signed_invite_is_read() {
        let signed = sign(unsigned());
        let invite = verify(&signed).unwrap();
        assert_eq!(invite.invite_id, "mob_0123456789abcdef");
        assert_eq!(invite.requested_scopes, ["sign:solana", "read:address"]);
        assert_eq!(invite.expires_at, NOW.plus(std::time::Duration::from_secs(600)));
        assert_eq!(invite.submitted.get(), signed.to_string());
    }

    #[test]
    fn numbers_may_be_spelled_otherwise_than_they_were_signed() {
        let spelled =
            json!({ "invite": sign(unsigned()) }).to_string().replace("1e-7", "0.0000001").replace("0.5", "5e-1");
        assert!(Invite::verify(spelled.as_bytes(), NOW).is_ok());
    }

    #[test]
    fn each_check_of_an_invite_has_its_own_answer() {
        for (invite, expected) in [
            (json!(null), "Missing pairing invite"),
            (json!("invite"), "Missing pairing invite"),
            (with(sign(unsigned()), "type", "other"), "Unsupported mobile pairing invite"),
            (with(sign(unsigned()), "version", 1.0), "Unsupported mobile pairing invite"),
            (with(sign(unsigned()), "invite_id", "x".repeat(257)), "Unsupported mobile pairing invite"),
            (with(sign(unsigned()), "requested_scopes", "all"), "Unsupported mobile pairing invite"),
            (unsigned(), "Invite signature is required"),
            (with(sign(unsigned()), "expires_at", "soon"), "Invalid invite expiry"),
            (with(sign(unsigned()), "expires_at", "2026-01-02T03:04:05.678Z"), "Invite expired"),
            (with(sign(unsigned()), "agent_name", "Other"), "Invalid invite signature"),
            (with(sign(unsigned()), "signature", "AAAA"), "Invalid invite signature"),
            (
                without(sign(unsigned()), "agent_public_key"),
                "Failed to verify invite signature: agent_public_key must be 32 bytes of base64",
            ),
            (
                with(sign(unsigned()), "extra", (0..20).fold(json!(0), |inner, _| json!([inner]))),
                "Failed to verify invite signature: nested too deeply (max 16 levels)",
            ),
        ] {
            assert_eq!(verify(&invite).unwrap_err(), expected, "{invite}");
        }
        assert_eq!(Invite::verify(b"null", NOW).unwrap_err(), InviteError::Missing);
        assert_eq!(Invite::verify(&[b' '; MAX_PAIRING_BYTES + 1], NOW).unwrap_err(), InviteError::TooLarge);
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_in_peace(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Invite::verify(&bytes, NOW).is_err());
        }
    }
}
