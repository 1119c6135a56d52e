//! The first message of a connection (sections 3.1, 3.2 and 4.1): whose mailbox it serves.

use std::borrow::Cow;

use super::proof::{Proof, ProofError};
use crate::domain::clock::Millis;

/// Length of an id: hex of 32 bytes.
pub const ID_BYTES: usize = 64;

/// What a client says of itself. Nothing of it is checked yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Handshake<'a> {
    /// The client's name: hex of its Ed25519 key.
    pub client_id: Cow<'a, str>,
    /// The device, if it wants the messages to it.
    pub device_id: Option<Cow<'a, str>>,
    /// The mailbox, if it is not named like the client.
    pub routing_token: Option<Cow<'a, str>>,
    /// Whether senders are told nothing of what this client receives.
    pub suppress_presence: bool,
    /// Whether this client fetches what lies at other relays itself. An extension: shipped clients do not say so.
    pub accept_hints: bool,
    /// Hex of 32 bytes; belongs to the proof.
    pub identity_public_key: Option<Cow<'a, str>>,
    /// Hex of 32 bytes; belongs to the proof.
    pub nonce: Option<Cow<'a, str>>,
    /// Hex of 64 bytes; belongs to the proof.
    pub signature: Option<Cow<'a, str>>,
    /// Seconds since 1970; belongs to the proof.
    pub timestamp: Option<u64>,
}

/// Why a handshake ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// An id is no [`is_id`].
    #[error("{0} must be 64 hex digits")]
    Id(&'static str),
    /// All members of a proof are there, and they prove nothing.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

impl<'a> Handshake<'a> {
    /// The plain handshake of a shipped client.
    #[must_use]
    pub fn plain(client_id: &'a str, device_id: Option<&'a str>) -> Self {
        Self { client_id: client_id.into(), device_id: device_id.map(Cow::Borrowed), ..Self::default() }
    }

    /// The client's side: with a proof added.
    #[must_use]
    pub fn with_proof(self, proof: &Proof) -> Self {
        Self {
            identity_public_key: Some(hex::encode(proof.key.0).into()),
            nonce: Some(hex::encode(proof.nonce).into()),
            signature: Some(hex::encode(proof.signature).into()),
            timestamp: Some(proof.timestamp),
            ..self
        }
    }

    /// The name of its mailbox. Upper- and lower-case digits make different ones.
    #[must_use]
    pub fn routing_id(&self) -> &str {
        self.routing_token.as_deref().unwrap_or(&self.client_id)
    }

    /// Checks the ids, and the proof if all four of its members are there: a handshake without one of them is
    /// good and proves nothing. Whether the proof's nonce was used before is left to the caller.
    ///
    /// # Errors
    /// [`HandshakeError`] for the first check that fails.
    pub fn check(&self, now: Millis) -> Result<Option<Proof>, HandshakeError> {
        let ids = [
            ("client_id", Some(&self.client_id)),
            ("device_id", self.device_id.as_ref()),
            ("routing_token", self.routing_token.as_ref()),
        ];
        if let Some((name, _)) = ids.into_iter().find(|(_, id)| id.is_some_and(|id| !is_id(id))) {
            return Err(HandshakeError::Id(name));
        }
        let Some(proof) = Proof::of(self)? else { return Ok(None) };
        proof.verify(&self.client_id, now)?;
        Ok(Some(proof))
    }
}

/// Whether `text` is 64 hex digits, of either case.
#[must_use]
pub fn is_id(text: &str) -> bool {
    text.len() == ID_BYTES && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security::ed25519::SigningKey;

    const NOW: Millis = Millis(1_771_000_000_999);

    fn key() -> SigningKey {
        SigningKey::from_seed(&[7; 32]).unwrap()
    }

    #[test]
    fn ids_are_64_hex_digits_of_either_case() {
        let (good, upper) = ("0a".repeat(32), "0A".repeat(32));
        let with = |client: &str, device: Option<&str>, token: Option<&str>| {
            let token = token.map(|token| token.to_owned().into());
            Handshake { routing_token: token, ..Handshake::plain(client, device) }.check(NOW)
        };
        assert_eq!(with(&good, None, None), Ok(None));
        assert_eq!(with(&upper, Some(&good), Some(&upper)), Ok(None));
        for bad in ["", &good[1..], &"0a".repeat(33), &"0g".repeat(32), &"\u{e4}".repeat(32)] {
            assert_eq!(with(bad, None, None), Err(HandshakeError::Id("client_id")), "{bad}");
            assert_eq!(with(&good, Some(bad), None), Err(HandshakeError::Id("device_id")), "{bad}");
            assert_eq!(with(&good, None, Some(bad)), Err(HandshakeError::Id("routing_token")), "{bad}");
        }
    }

    #[test]
    fn the_token_names_the_mailbox_as_it_is_spelled() {
        let handshake = Handshake::plain("AB", None);
        assert_eq!(handshake.routing_id(), "AB");
        assert_eq!(Handshake { routing_token: Some("cD".into()), ..handshake }.routing_id(), "cD");
    }

    #[test]
    fn a_proof_counts_only_if_all_of_it_is_there() {
        let client_id = hex::encode(key().public_key().0);
        let proof = Proof::sign(&key(), [1; 32], 1_771_000_000);
        let good = Handshake::plain(&client_id, None).with_proof(&proof);
        assert_eq!(good.check(NOW), Ok(Some(proof)));

        let wrong = Handshake { signature: Some("00".repeat(64).into()), ..good };
        assert_eq!(wrong.check(NOW), Err(HandshakeError::Proof(ProofError::Signature)));
        for partial in [
            Handshake { identity_public_key: None, ..wrong.clone() },
            Handshake { nonce: None, ..wrong.clone() },
            Handshake { signature: None, ..wrong.clone() },
            Handshake { timestamp: None, ..wrong.clone() },
        ] {
            assert_eq!(partial.check(NOW), Ok(None));
        }
    }
}
