//! How a vault proves that it owns its name: registration (section 5.1) and the proof in HTTP bodies
//! (sections 9 and 12).
//!
//! Everything that needs no shared state is checked here, in the order and with the answers of the original,
//! but for one point: whether the nonce was used before is left to the caller, *after* the signature, so that
//! a stranger who cannot sign cannot use up a nonce. Callers compare [`Verified::nonce`], the decoded bytes:
//! the signature covers those, and their base64 has many spellings.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::base64::{self, Base64Error};
use super::fields::Fields;
use super::time;
use crate::domain::clock::Millis;
use crate::domain::ids::VaultId;
use crate::domain::limits::{MAX_ID_BYTES, MAX_NONCE_BYTES, MIN_NONCE_BYTES, SIGNED_TIME_SKEW};
use crate::security::ed25519::{PublicKey, SigningKey};

/// Longest `public_key` text, in bytes: the relay keeps it unread; an X25519 key has 44.
pub const MAX_PUBLIC_KEY_BYTES: usize = 1024;

/// Why a registration is refused. Displays as the message that the client gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RegistrationError {
    /// The payload is no JSON object.
    #[error("Invalid message format")]
    Malformed,
    /// A name or key is not there, empty, or no text.
    #[error("Missing vault_id or public_key")]
    MissingIdentity,
    /// The name is longer than [`MAX_ID_BYTES`].
    #[error("vault_id too long (max 256 bytes)")]
    VaultIdTooLong,
    /// The HPKE key's text is longer than [`MAX_PUBLIC_KEY_BYTES`].
    #[error("public_key too long (max 1024 bytes)")]
    PublicKeyTooLong,
    /// A field of the signature is not there, empty, or no text.
    #[error("Missing authentication fields (signing_public_key, timestamp, nonce, signature)")]
    MissingAuthentication,
    /// The timestamp is no date.
    #[error("Invalid timestamp format")]
    InvalidTimestamp,
    /// The timestamp is further than [`SIGNED_TIME_SKEW`] from our time.
    #[error("Timestamp too far from server time")]
    TimestampTooFar,
    /// The nonce is shorter than [`MIN_NONCE_BYTES`], or no base64.
    #[error("Nonce must be at least 32 bytes")]
    NonceTooShort,
    /// The nonce is longer than [`MAX_NONCE_BYTES`].
    #[error("Nonce must be at most 256 bytes")]
    NonceTooLong,
    /// The signing key is no base64 of 32 bytes.
    #[error("Invalid signing public key size")]
    InvalidKeySize,
    /// The signature is no base64 of 64 bytes.
    #[error("Invalid signature size")]
    InvalidSignatureSize,
    /// The key did not sign this.
    #[error("Invalid signature")]
    InvalidSignature,
    /// A pairing token was sent; as nothing issues any, none is valid (section 5.3).
    #[error("Invalid pairing token")]
    InvalidPairingToken,
    /// For callers: the nonce came before.
    #[error("Nonce already used (replay detected)")]
    NonceReused,
    /// For callers: the name belongs to another key.
    #[error("vault_id is already registered to a different key")]
    KeyMismatch,
}

impl RegistrationError {
    /// The protocol's code for it (section 15a).
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed | Self::MissingIdentity | Self::VaultIdTooLong | Self::PublicKeyTooLong => {
                "RELAY_INVALID_ENVELOPE"
            }
            _ => "RELAY_UNAUTHORIZED",
        }
    }
}

/// What a client gets whose proof fails in whatever way: HTTP 401 with code `RELAY_UNAUTHORIZED`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("A signed proof of vault ownership is required")]
pub struct ProofRequired;

/// What was signed, and by whom; true if the caller finds the nonce fresh and the key to be the vault's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The vault that the signer speaks for.
    pub vault_id: VaultId,
    /// The vault's HPKE key as sent; neither signed nor checked. Empty in a proof that comes without.
    pub public_key: String,
    /// The key that signed.
    pub signing_key: PublicKey,
    /// The time that was signed, within [`SIGNED_TIME_SKEW`] of now.
    pub signed_at: Millis,
    /// The nonce, decoded.
    pub nonce: Vec<u8>,
}

/// A registration whose fields are all there; nothing about them is proven yet.
#[derive(Debug, Clone)]
pub struct Registration<'a> {
    vault_id: Cow<'a, str>,
    public_key: Cow<'a, str>,
    authentication: Authentication<'a>,
    has_pairing_token: bool,
}

impl<'a> Registration<'a> {
    /// Reads the payload of a `register` frame. Unknown members are ignored, those of a wrong type missing.
    ///
    /// # Errors
    /// [`RegistrationError`] for what is missing or too long.
    pub fn parse(payload: &'a [u8]) -> Result<Self, RegistrationError> {
        let fields = Fields::parse(payload).ok_or(RegistrationError::Malformed)?;
        let (Some(vault_id), Some(public_key)) = (fields.text("vault_id"), fields.text("public_key")) else {
            return Err(RegistrationError::MissingIdentity);
        };
        if vault_id.len() > MAX_ID_BYTES {
            return Err(RegistrationError::VaultIdTooLong);
        }
        if public_key.len() > MAX_PUBLIC_KEY_BYTES {
            return Err(RegistrationError::PublicKeyTooLong);
        }
        let authentication = Authentication::of(&fields).ok_or(RegistrationError::MissingAuthentication)?;
        let has_pairing_token = fields.text("pairing_token").is_some();
        Ok(Self { vault_id, public_key, authentication, has_pairing_token })
    }

    /// Checks the time, the sizes and the signature.
    ///
    /// # Errors
    /// [`RegistrationError`] for the first check that fails.
    pub fn verify(&self, now: Millis) -> Result<Verified, RegistrationError> {
        let verified = self.authentication.verify(&self.vault_id, &self.public_key, now)?;
        if self.has_pairing_token { Err(RegistrationError::InvalidPairingToken) } else { Ok(verified) }
    }

    /// The client's side: a payload for [`Registration::parse`], and a body for [`verify_proof`].
    #[must_use]
    pub fn sign(vault_id: &str, public_key: &str, key: &SigningKey, timestamp: &str, nonce: &[u8]) -> Value {
        json!({
            "vault_id": vault_id,
            "public_key": public_key,
            "signing_public_key": base64::encode(&key.public_key().0),
            "timestamp": timestamp,
            "nonce": base64::encode(nonce),
            "signature": base64::encode(&key.sign(&signed_bytes(vault_id, timestamp, nonce))),
        })
    }
}

/// Checks the proof of vault ownership in an HTTP body. `vault_id` is the one in the request's path; where the
/// path has none, the body's counts.
///
/// # Errors
/// [`ProofRequired`] if any part is missing or false.
pub fn verify_proof(body: &[u8], vault_id: Option<&str>, now: Millis) -> Result<Verified, ProofRequired> {
    let fields = Fields::parse(body).ok_or(ProofRequired)?;
    let vault_id = vault_id.map(Cow::Borrowed).or_else(|| fields.text("vault_id")).ok_or(ProofRequired)?;
    let public_key = fields.text("public_key").unwrap_or_default();
    if vault_id.is_empty() || vault_id.len() > MAX_ID_BYTES || public_key.len() > MAX_PUBLIC_KEY_BYTES {
        return Err(ProofRequired);
    }
    let authentication = Authentication::of(&fields).ok_or(ProofRequired)?;
    authentication.verify(&vault_id, &public_key, now).map_err(|_| ProofRequired)
}

/// The four fields that make a signature.
#[derive(Debug, Clone)]
struct Authentication<'a> {
    signing_public_key: Cow<'a, str>,
    timestamp: Cow<'a, str>,
    nonce: Cow<'a, str>,
    signature: Cow<'a, str>,
}

impl<'a> Authentication<'a> {
    fn of(fields: &Fields<'a>) -> Option<Self> {
        Some(Self {
            signing_public_key: fields.text("signing_public_key")?,
            timestamp: fields.text("timestamp")?,
            nonce: fields.text("nonce")?,
            signature: fields.text("signature")?,
        })
    }

    fn verify(&self, vault_id: &str, public_key: &str, now: Millis) -> Result<Verified, RegistrationError> {
        let signed_at = time::parse(&self.timestamp).ok_or(RegistrationError::InvalidTimestamp)?;
        if signed_at.since(now).max(now.since(signed_at)) > SIGNED_TIME_SKEW {
            return Err(RegistrationError::TimestampTooFar);
        }
        let nonce = base64::decode(&self.nonce, MAX_NONCE_BYTES).map_err(|error| match error {
            Base64Error::WrongLength => RegistrationError::NonceTooLong,
            Base64Error::Malformed => RegistrationError::NonceTooShort,
        })?;
        if nonce.len() < MIN_NONCE_BYTES {
            return Err(RegistrationError::NonceTooShort);
        }
        let key = base64::decode_array(&self.signing_public_key).map_err(|_| RegistrationError::InvalidKeySize)?;
        let signature = base64::decode_array(&self.signature).map_err(|_| RegistrationError::InvalidSignatureSize)?;
        let signing_key = PublicKey(key);
        if !signing_key.verify(&signed_bytes(vault_id, &self.timestamp, &nonce), &signature) {
            return Err(RegistrationError::InvalidSignature);
        }
        Ok(Verified { vault_id: vault_id.into(), public_key: public_key.to_owned(), signing_key, signed_at, nonce })
    }
}

/// Name, time exactly as sent, and raw nonce, with nothing between them.
fn signed_bytes(vault_id: &str, timestamp: &str, nonce: &[u8]) -> Vec<u8> {
    [vault_id.as_bytes(), timestamp.as_bytes(), nonce].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Millis = Millis(1_767_323_045_678);

    /// The vector of section 5.1.
    fn vector() -> Value {
        json!({
            "vault_id": "vault_demo01",
            "public_key": "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=",
            "signing_public_key": "6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw=",
            "timestamp": "2026-01-02T03:04:05.678Z",
            "nonce": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
            "signature":
                "YCCOfElLQcd3EM9F8EsFmwrYfQvg0kAcgSM7C1kYfmx9VQ7LqyncvZHGdcor2ds9XT9banobm9Ze6jIyKThwAQ==",
        })
    }

    fn vector_with(field: &str, value: impl Into<Value>) -> Value {
        let mut payload = vector();
        payload[field] = value.into();
        payload
    }

    fn register_at(payload: &Value, now: Millis) -> Result<Verified, RegistrationError> {
        Registration::parse(payload.to_string().as_bytes())?.verify(now)
    }

    fn register(payload: &Value) -> Result<Verified, RegistrationError> {
        register_at(payload, NOW)
    }

    fn key() -> SigningKey {
        SigningKey::from_seed(&[7; 32]).unwrap()
    }

    #[test]
    fn the_vector_is_made_and_verified() {
        let nonce: Vec<u8> = (0..32).collect();
        let public_key = "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=";
        let made = Registration::sign("vault_demo01", public_key, &key(), "2026-01-02T03:04:05.678Z", &nonce);
        assert_eq!(made, vector());
        let expected = Verified {
            vault_id: "vault_demo01".into(),
            public_key: public_key.into(),
            signing_key: key().public_key(),
            signed_at: NOW,
            nonce,
        };
        assert_eq!(register(&made), Ok(expected.clone()));
        assert_eq!(verify_proof(made.to_string().as_bytes(), None, NOW), Ok(expected));
    }

    #[test]
    fn a_missing_or_wrongly_typed_field_is_answered_by_its_group() {
        for absent in [Value::Null, json!(""), json!(7), json!(["x"])] {
            for field in ["vault_id", "public_key"] {
                assert_eq!(register(&vector_with(field, absent.clone())), Err(RegistrationError::MissingIdentity));
            }
            for field in ["signing_public_key", "timestamp", "nonce", "signature"] {
                assert_eq!(
                    register(&vector_with(field, absent.clone())),
                    Err(RegistrationError::MissingAuthentication)
                );
            }
        }
        assert_eq!(register(&json!({})), Err(RegistrationError::MissingIdentity));
        assert_eq!(register(&json!(null)), Err(RegistrationError::Malformed));
    }

    #[test]
    fn each_check_has_its_own_answer() {
        use RegistrationError as E;
        for (field, value, expected) in [
            ("vault_id", "v".repeat(MAX_ID_BYTES + 1), E::VaultIdTooLong),
            ("public_key", "k".repeat(MAX_PUBLIC_KEY_BYTES + 1), E::PublicKeyTooLong),
            ("timestamp", "yesterday".into(), E::InvalidTimestamp),
            ("timestamp", "2025-01-02T03:04:05.678Z".into(), E::TimestampTooFar),
            ("nonce", base64::encode(&[0; MIN_NONCE_BYTES - 1]), E::NonceTooShort),
            ("nonce", "!".repeat(64), E::NonceTooShort),
            ("nonce", base64::encode(&[0; MAX_NONCE_BYTES + 1]), E::NonceTooLong),
            ("signing_public_key", base64::encode(&[0; 31]), E::InvalidKeySize),
            ("signature", base64::encode(&[0; 65]), E::InvalidSignatureSize),
            ("signature", base64::encode(&[0; 64]), E::InvalidSignature),
            ("vault_id", "vault_demo02".into(), E::InvalidSignature),
            ("timestamp", "2026-01-02T03:04:05.679Z".into(), E::InvalidSignature),
            ("nonce", base64::encode(&[0; 32]), E::InvalidSignature),
            ("pairing_token", "dcp_pair_x".into(), E::InvalidPairingToken),
        ] {
            assert_eq!(register(&vector_with(field, value.as_str())), Err(expected), "{field} {value:.40}");
        }
    }

    #[test]
    fn messages_and_codes_are_those_of_the_protocol() {
        let envelope = RegistrationError::MissingIdentity;
        assert_eq!(
            (envelope.code(), envelope.to_string().as_str()),
            ("RELAY_INVALID_ENVELOPE", "Missing vault_id or public_key")
        );
        let replay = RegistrationError::NonceReused;
        assert_eq!(
            (replay.code(), replay.to_string().as_str()),
            ("RELAY_UNAUTHORIZED", "Nonce already used (replay detected)")
        );
        assert!(RegistrationError::VaultIdTooLong.to_string().contains(&MAX_ID_BYTES.to_string()));
        assert!(RegistrationError::PublicKeyTooLong.to_string().contains(&MAX_PUBLIC_KEY_BYTES.to_string()));
        assert!(RegistrationError::NonceTooShort.to_string().contains(&MIN_NONCE_BYTES.to_string()));
        assert!(RegistrationError::NonceTooLong.to_string().contains(&MAX_NONCE_BYTES.to_string()));
    }

    #[test]
    fn the_skew_counts_either_way() {
        let skew = SIGNED_TIME_SKEW.as_millis() as u64;
        for (now, fits) in
            [(NOW.0 - skew, true), (NOW.0 + skew, true), (NOW.0 - skew - 1, false), (NOW.0 + skew + 1, false)]
        {
            assert_eq!(register_at(&vector(), Millis(now)).is_ok(), fits, "{now}");
        }
    }

    #[test]
    fn a_nonce_in_another_spelling_is_the_same_nonce() {
        let plain = register(&vector()).unwrap().nonce;
        let bare = register(&vector_with("nonce", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8")).unwrap().nonce;
        assert_eq!(plain, bare);
    }

    #[test]
    fn a_proof_needs_no_hpke_key_and_the_path_names_the_vault() {
        let mut body = vector();
        body.as_object_mut().unwrap().remove("public_key");
        let proof = |body: &Value, path| verify_proof(body.to_string().as_bytes(), path, NOW);
        assert_eq!(proof(&body, None).unwrap().public_key, "");
        assert_eq!(proof(&body, Some("vault_other")), Err(ProofRequired));
        body.as_object_mut().unwrap().remove("vault_id");
        assert_eq!(proof(&body, None), Err(ProofRequired));
        assert_eq!(proof(&body, Some("vault_demo01")).unwrap().vault_id.as_str(), "vault_demo01");
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_in_peace(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Registration::parse(&bytes).and_then(|r| r.verify(NOW)).is_err());
            prop_assert!(verify_proof(&bytes, Some("vault"), NOW).is_err());
        }

        #[test]
        fn any_texts_are_refused_in_peace(time in "[0-9TZ:-]{0,30}", nonce in "[A-Za-z_=-]{0,90}", key in "[a-z=]{43,44}") {
            let mut payload = vector_with("timestamp", time);
            payload["nonce"] = nonce.into();
            payload["signing_public_key"] = key.into();
            prop_assert!(register(&payload).is_err());
        }
    }
}
