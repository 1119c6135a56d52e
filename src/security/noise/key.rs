//! The relay's static key: what clients know it by.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use snow::params::DHChoice;
use snow::resolvers::{CryptoResolver, DefaultResolver};

use super::KEY_BYTES;

/// Length of a key pair as it is kept: the private half, then the public one.
pub const PAIR_BYTES: usize = 2 * KEY_BYTES;

/// Why bytes are no key pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not [`PAIR_BYTES`].
    #[error("has {0} bytes, not the 64 of an X25519 key pair")]
    Length(usize),
    /// The second half is not the public key of the first.
    #[error("is damaged: its second half is not the public key that belongs to its first")]
    Mismatch,
    /// The cryptographic library knows no X25519.
    #[error("cannot be used: X25519 is missing from this build; report this as a bug")]
    Unsupported,
}

/// An X25519 key pair. Prints its public half only.
#[derive(Clone, PartialEq, Eq)]
pub struct StaticKey {
    private: [u8; KEY_BYTES],
    public: [u8; KEY_BYTES],
}

impl StaticKey {
    /// The pair with this private half: any 32 bytes.
    ///
    /// # Errors
    /// [`KeyError::Unsupported`].
    pub fn from_private(private: [u8; KEY_BYTES]) -> Result<Self, KeyError> {
        let mut pair = DefaultResolver.resolve_dh(&DHChoice::Curve25519).ok_or(KeyError::Unsupported)?;
        pair.set(&private);
        let public = pair.pubkey().try_into().map_err(|_| KeyError::Unsupported)?;
        Ok(Self { private, public })
    }

    /// Reads the [`PAIR_BYTES`] of [`StaticKey::to_bytes`].
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        let Some((private, public)) = bytes.split_first_chunk().filter(|_| bytes.len() == PAIR_BYTES) else {
            return Err(KeyError::Length(bytes.len()));
        };
        let key = Self::from_private(*private)?;
        if key.public == *public { Ok(key) } else { Err(KeyError::Mismatch) }
    }

    /// Reads the same bytes in base64url without padding.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::from_bytes(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
    }

    /// The private half, then the public one.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; PAIR_BYTES] {
        let mut bytes = [0; PAIR_BYTES];
        for (to, from) in bytes.iter_mut().zip(self.private.iter().chain(&self.public)) {
            *to = *from;
        }
        bytes
    }

    /// What clients are given.
    #[must_use]
    pub fn public(&self) -> &[u8; KEY_BYTES] {
        &self.public
    }

    /// The same as text: 43 characters of base64url, no padding.
    #[must_use]
    pub fn public_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.public)
    }

    pub(super) fn private(&self) -> &[u8; KEY_BYTES] {
        &self.private
    }
}

impl fmt::Debug for StaticKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StaticKey({})", self.public_text())
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::agreement::{PrivateKey, X25519};

    use super::*;

    fn key(seed: u8) -> StaticKey {
        StaticKey::from_private([seed; KEY_BYTES]).unwrap()
    }

    #[test]
    fn the_public_half_is_what_another_library_computes() {
        for seed in [0, 1, 7, 0x80, 0xff] {
            let other = PrivateKey::from_private_key(&X25519, &[seed; KEY_BYTES]).unwrap();
            assert_eq!(key(seed).public()[..], *other.compute_public_key().unwrap().as_ref(), "{seed}");
        }
    }

    #[test]
    fn a_pair_is_read_as_it_was_written() {
        let key = key(7);
        assert_eq!(StaticKey::from_bytes(&key.to_bytes()), Ok(key.clone()));
        let text = URL_SAFE_NO_PAD.encode(key.to_bytes());
        assert_eq!((text.len(), StaticKey::parse(&text)), (86, Some(key.clone())));
        assert_eq!(key.public_text().len(), 43);
    }

    #[test]
    fn what_is_no_pair_is_refused() {
        let good = key(7).to_bytes();
        for length in [0, 32, 63, 65] {
            let bytes: Vec<u8> = good.iter().copied().cycle().take(length).collect();
            assert_eq!(StaticKey::from_bytes(&bytes), Err(KeyError::Length(length)));
        }
        for at in [0, 31, 32, 63] {
            let mut bent = good;
            // The lowest three bits of a private key do not count.
            bent[at] ^= 8;
            assert_eq!(StaticKey::from_bytes(&bent), Err(KeyError::Mismatch), "{at}");
            assert_eq!(StaticKey::parse(&URL_SAFE_NO_PAD.encode(bent)), None, "{at}");
        }
        let text = URL_SAFE_NO_PAD.encode(good);
        for bad in ["", &text[1..], &format!("{text}=="), &text.replacen('B', "+", 1), &"\u{e4}".repeat(43)] {
            assert_eq!(StaticKey::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_private_half_is_not_printed() {
        let key = key(7);
        assert_eq!(format!("{key:?}"), format!("StaticKey({})", key.public_text()));
    }
}
