//! A vault's name and key, and the proof that it sends to register (DCP relay protocol, section 5.1).

use std::fmt;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::error::ClientError;
use crate::domain::limits::MIN_NONCE_BYTES;

/// Bytes of an Ed25519 seed.
pub const SEED_BYTES: usize = 32;

/// A vault that can prove who it is.
pub struct VaultIdentity {
    vault_id: String,
    key: Ed25519KeyPair,
}

impl fmt::Debug for VaultIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultIdentity").field("vault_id", &self.vault_id).finish_non_exhaustive()
    }
}

impl VaultIdentity {
    /// The vault `vault_id` with the key that `seed` makes.
    ///
    /// # Errors
    /// [`ClientError::Key`] if the library refuses the seed.
    pub fn new(vault_id: impl Into<String>, seed: &[u8; SEED_BYTES]) -> Result<Self, ClientError> {
        let key = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| ClientError::Key)?;
        Ok(Self { vault_id: vault_id.into(), key })
    }

    /// A vault with a fresh key.
    ///
    /// # Errors
    /// [`ClientError::Key`] if the library refuses the seed.
    pub fn random(vault_id: impl Into<String>) -> Result<Self, ClientError> {
        Self::new(vault_id, &rand::random())
    }

    /// The name that agents address.
    #[must_use]
    pub fn vault_id(&self) -> &str {
        &self.vault_id
    }

    /// The `register` frame that proves this identity at `timestamp` (ISO 8601) with a nonce not used before.
    ///
    /// The HPKE key of a real vault is not needed by a relay, so the signing key stands in its place.
    #[must_use]
    pub fn register_frame(&self, timestamp: &str, nonce: &[u8; MIN_NONCE_BYTES]) -> String {
        let signed = [self.vault_id.as_bytes(), timestamp.as_bytes(), nonce].concat();
        let signature = STANDARD.encode(self.key.sign(&signed));
        let key = STANDARD.encode(self.key.public_key());
        let nonce = STANDARD.encode(nonce);
        let id = &self.vault_id;
        format!(
            r#"{{"type":"register","payload":{{"vault_id":"{id}","public_key":"{key}","signing_public_key":"{key}","timestamp":"{timestamp}","nonce":"{nonce}","signature":"{signature}"}},"timestamp":"{timestamp}"}}"#
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_is_that_of_the_published_vector() {
        let vault = VaultIdentity::new("vault_demo01", &[7; SEED_BYTES]).unwrap();
        let nonce = std::array::from_fn(|i| u8::try_from(i).unwrap());
        let frame: serde_json::Value =
            serde_json::from_str(&vault.register_frame("2026-01-02T03:04:05.678Z", &nonce)).unwrap();
        let payload = &frame["payload"];
        assert_eq!(payload["signing_public_key"], "6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw=");
        assert_eq!(payload["nonce"], "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
        assert_eq!(
            payload["signature"],
            "YCCOfElLQcd3EM9F8EsFmwrYfQvg0kAcgSM7C1kYfmx9VQ7LqyncvZHGdcor2ds9XT9banobm9Ze6jIyKThwAQ=="
        );
    }

    #[test]
    fn the_key_is_never_printed() {
        let vault = VaultIdentity::new("v", &[7; SEED_BYTES]).unwrap();
        assert_eq!(format!("{vault:?}"), r#"VaultIdentity { vault_id: "v", .. }"#);
    }
}
