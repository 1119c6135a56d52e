//! Ed25519 signatures (RFC 8032, no prehash).

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

/// Length of a public key, in bytes.
pub const PUBLIC_KEY_BYTES: usize = 32;

/// Length of a signature, in bytes.
pub const SIGNATURE_BYTES: usize = 64;

/// The public half of a key pair, in its raw form. Any 32 bytes: a value that is no curve point verifies nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey(pub [u8; PUBLIC_KEY_BYTES]);

impl PublicKey {
    /// Whether the holder of the secret half signed `message`.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ed25519:")?;
        self.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The cryptography library could not make a key pair from a seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no Ed25519 key pair could be made from the seed; use 32 bytes from a good source of randomness")]
pub struct SeedRejected;

/// A key pair, for whoever plays the client: tools, benches and tests. The relay itself signs nothing.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl SigningKey {
    /// The key pair that RFC 8032 derives from `seed`.
    ///
    /// # Errors
    /// [`SeedRejected`] if the cryptography library refuses it.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, SeedRejected> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| SeedRejected)?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| SeedRejected)?;
        Ok(Self { pair, public: PublicKey(public) })
    }

    /// The half that may be shown.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.public
    }

    /// The signature of `message`; the same message always has the same one.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let mut signature = [0; SIGNATURE_BYTES];
        for (to, from) in signature.iter_mut().zip(self.pair.sign(message).as_ref()) {
            *to = *from;
        }
        signature
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({:?})", self.public)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, section 7.1, test 2.
    const SEED: &str = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
    const PUBLIC: &str = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
    const SIGNATURE: &str = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";

    fn bytes<const N: usize>(hex_text: &str) -> [u8; N] {
        hex::decode(hex_text).unwrap().try_into().unwrap()
    }

    #[test]
    fn the_vector_of_the_rfc_holds_both_ways() {
        let key = SigningKey::from_seed(&bytes(SEED)).unwrap();
        assert_eq!(key.public_key(), PublicKey(bytes(PUBLIC)));
        assert_eq!(key.sign(&[0x72]), bytes(SIGNATURE));
        assert!(key.public_key().verify(&[0x72], &bytes(SIGNATURE)));
    }

    #[test]
    fn another_message_key_or_signature_does_not_verify() {
        let key = SigningKey::from_seed(&[7; 32]).unwrap();
        let signature = key.sign(b"message");
        let mut bent = signature;
        bent[0] ^= 1;
        assert!(!key.public_key().verify(b"massage", &signature));
        assert!(!key.public_key().verify(b"message", &bent));
        assert!(!PublicKey([0xff; 32]).verify(b"message", &signature));
    }

    #[test]
    fn debug_shows_a_short_fingerprint() {
        let key = SigningKey::from_seed(&bytes(SEED)).unwrap();
        assert_eq!(format!("{:?}", key.public_key()), "ed25519:3d4017c3");
        assert_eq!(format!("{key:?}"), "SigningKey(ed25519:3d4017c3)");
    }
}
