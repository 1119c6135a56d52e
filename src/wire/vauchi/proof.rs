//! How a client proves that it is who it says (section 3.3).
//!
//! The signature covers a nonce and a time, neither the mailbox nor the relay: whoever sees a proof could show it
//! elsewhere. So callers let each nonce count once, everywhere, for as long as its time would pass. They look
//! *after* the signature was verified, or a stranger who cannot sign could use a nonce up.

use super::handshake::Handshake;
use crate::domain::clock::Millis;
use crate::security::ed25519::{PUBLIC_KEY_BYTES, PublicKey, SIGNATURE_BYTES, SigningKey};

/// Length of a nonce, in bytes.
pub const NONCE_BYTES: usize = 32;

/// How far a proof's time may be from ours, either way, in seconds.
pub const TIME_SKEW_SECS: u64 = 60;

/// A proof whose members have the right form; good once [`Proof::verify`] says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The key that signed.
    pub key: PublicKey,
    /// What makes the proof one of its own.
    pub nonce: [u8; NONCE_BYTES],
    /// Seconds since 1970.
    pub timestamp: u64,
    /// The signature of [`Proof::signed_bytes`].
    pub signature: [u8; SIGNATURE_BYTES],
}

/// Why a proof proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// A member is not hex, or of another length.
    #[error("{0} must be hex of {1} bytes")]
    Form(&'static str, usize),
    /// The time is further than [`TIME_SKEW_SECS`] from ours.
    #[error("the handshake's time is more than {TIME_SKEW_SECS} seconds from the relay's: set the clock")]
    TooFar,
    /// The key did not sign this.
    #[error("the signature is not the key's: sign the nonce and the time as eight bytes, big-endian")]
    Signature,
    /// The key is another's.
    #[error("client_id must be the lower-case hex of identity_public_key")]
    OtherClient,
}

impl Proof {
    /// Reads the proof in a handshake; none if one of its four members is absent.
    ///
    /// # Errors
    /// [`ProofError::Form`] if all are there and one is not what it should be.
    pub fn of(handshake: &Handshake<'_>) -> Result<Option<Self>, ProofError> {
        let Handshake { identity_public_key, nonce, signature, timestamp, .. } = handshake;
        let (Some(key), Some(nonce), Some(signature), Some(timestamp)) =
            (identity_public_key, nonce, signature, *timestamp)
        else {
            return Ok(None);
        };
        let key = PublicKey(from_hex::<PUBLIC_KEY_BYTES>("identity_public_key", key)?);
        let (nonce, signature) = (from_hex("nonce", nonce)?, from_hex("signature", signature)?);
        Ok(Some(Self { key, nonce, timestamp, signature }))
    }

    /// The client's side.
    #[must_use]
    pub fn sign(key: &SigningKey, nonce: [u8; NONCE_BYTES], timestamp: u64) -> Self {
        let signature = key.sign(&signed_bytes(&nonce, timestamp));
        Self { key: key.public_key(), nonce, timestamp, signature }
    }

    /// What is signed: the nonce, then the time as eight bytes, big-endian.
    #[must_use]
    pub fn signed_bytes(&self) -> [u8; NONCE_BYTES + 8] {
        signed_bytes(&self.nonce, self.timestamp)
    }

    /// Checks the time, the signature and whose key it is.
    ///
    /// # Errors
    /// [`ProofError`] for the first check that fails.
    pub fn verify(&self, client_id: &str, now: Millis) -> Result<(), ProofError> {
        if (now.0 / 1000).abs_diff(self.timestamp) > TIME_SKEW_SECS {
            return Err(ProofError::TooFar);
        }
        if !self.key.verify(&self.signed_bytes(), &self.signature) {
            return Err(ProofError::Signature);
        }
        if hex::encode(self.key.0) == client_id { Ok(()) } else { Err(ProofError::OtherClient) }
    }
}

fn signed_bytes(nonce: &[u8; NONCE_BYTES], timestamp: u64) -> [u8; NONCE_BYTES + 8] {
    let mut bytes = [0; NONCE_BYTES + 8];
    let (head, tail) = bytes.split_at_mut(NONCE_BYTES);
    head.copy_from_slice(nonce);
    tail.copy_from_slice(&timestamp.to_be_bytes());
    bytes
}

fn from_hex<const N: usize>(name: &'static str, text: &str) -> Result<[u8; N], ProofError> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| ProofError::Form(name, N))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_771_000_000;
    const NOW: Millis = Millis(SECOND * 1000 + 999);

    fn key() -> SigningKey {
        SigningKey::from_seed(&[7; 32]).unwrap()
    }

    fn client_id() -> String {
        hex::encode(key().public_key().0)
    }

    #[test]
    fn the_nonce_and_the_big_endian_time_are_signed() {
        let proof = Proof::sign(&key(), [0xab; 32], 0x0102_0304_0506_0708);
        let expected = [&[0xab; 32][..], &[1, 2, 3, 4, 5, 6, 7, 8]].concat();
        assert_eq!(proof.signed_bytes()[..], expected);
        assert!(key().public_key().verify(&expected, &proof.signature));
    }

    #[test]
    fn the_time_may_be_a_minute_off_in_whole_seconds() {
        for (timestamp, expected) in [
            (SECOND - 61, Err(ProofError::TooFar)),
            (SECOND - 60, Ok(())),
            (SECOND, Ok(())),
            (SECOND + 60, Ok(())),
            (SECOND + 61, Err(ProofError::TooFar)),
            (0, Err(ProofError::TooFar)),
            (u64::MAX, Err(ProofError::TooFar)),
        ] {
            assert_eq!(Proof::sign(&key(), [1; 32], timestamp).verify(&client_id(), NOW), expected, "{timestamp}");
        }
    }

    #[test]
    fn only_what_the_clients_own_key_signed_is_good() {
        let good = Proof::sign(&key(), [1; 32], SECOND);
        assert_eq!(good.verify(&client_id(), NOW), Ok(()));
        let other = SigningKey::from_seed(&[8; 32]).unwrap();
        for (bent, expected) in [
            (Proof { nonce: [2; 32], ..good.clone() }, ProofError::Signature),
            (Proof { timestamp: SECOND + 1, ..good.clone() }, ProofError::Signature),
            (Proof { signature: [0; 64], ..good.clone() }, ProofError::Signature),
            (Proof { key: other.public_key(), ..good.clone() }, ProofError::Signature),
            (Proof::sign(&other, [1; 32], SECOND), ProofError::OtherClient),
        ] {
            assert_eq!(bent.verify(&client_id(), NOW), Err(expected), "{bent:?}");
        }
        assert_eq!(good.verify(&client_id().to_uppercase(), NOW), Err(ProofError::OtherClient));
    }

    #[test]
    fn members_are_hex_of_their_length() {
        let proof = Proof::sign(&key(), [0xab; 32], SECOND);
        let good = Handshake::default().with_proof(&proof);
        let upper = Handshake { nonce: Some("AB".repeat(32).into()), ..good.clone() };
        assert_eq!(Proof::of(&upper), Ok(Some(proof)));
        for bad in ["", "ab", "zz", &"ab".repeat(33), &"zz".repeat(32), &"zz".repeat(64)] {
            let bad = || Some(bad.into());
            let of = |handshake: Handshake<'_>| Proof::of(&handshake);
            let form = |name, bytes| Err(ProofError::Form(name, bytes));
            let bent = Handshake { identity_public_key: bad(), ..good.clone() };
            assert_eq!(of(bent), form("identity_public_key", 32));
            assert_eq!(of(Handshake { nonce: bad(), ..good.clone() }), form("nonce", 32));
            assert_eq!(of(Handshake { signature: bad(), ..good.clone() }), form("signature", 64));
        }
    }
}
