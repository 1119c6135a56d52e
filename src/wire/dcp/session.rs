//! Session mode's frames: flat objects whose members stand beside `type`.
//!
//! They are the plain flow that clients without signatures speak: a vault registers, an agent pairs with it by a
//! token, and opaque messages pass both ways. What the relay writes here holds nothing but texts, except for the
//! payload of a message, which leaves as it came.

use std::borrow::Cow;
use std::fmt;

use serde_json::value::RawValue;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::fields::{self, Fields};
use super::{frame, time};
use crate::domain::clock::Millis;

/// Longest token of a pair, in bytes.
pub const MAX_TOKEN_BYTES: usize = 4096;

/// Longest reason that a vault's refusal passes on, in characters.
const MAX_REASON_CHARS: usize = 256;

/// The name of one session: 128 random bits, from which nothing can be derived.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(pub [u8; 16]);

impl SessionId {
    /// From its 32 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        hex::FromHex::from_hex(text).ok().map(Self)
    }

    /// From a member of a frame.
    #[must_use]
    pub fn read(member: &RawValue) -> Option<Self> {
        Self::parse(&fields::text(member)?)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Says nothing: whoever reads a log must not learn it.
impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(…)")
    }
}

/// An agent's `pair`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair<'a> {
    /// The vault it is for.
    pub vault_id: Cow<'a, str>,
    /// What the vault judges it by; the relay does not.
    pub token: Cow<'a, str>,
}

/// Why a `pair` is no such frame. `Display` is the message of the error frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PairError {
    /// A member is absent, empty, or no text.
    #[error("Missing vault_id or token")]
    Missing,
    /// The token is too long.
    #[error("token too long (max {MAX_TOKEN_BYTES} bytes)")]
    TokenTooLong,
}

impl<'a> Pair<'a> {
    /// Reads the frame.
    ///
    /// # Errors
    /// [`PairError`].
    pub fn parse(frame: &'a [u8]) -> Result<Self, PairError> {
        let fields = Fields::parse(frame).ok_or(PairError::Missing)?;
        let (Some(vault_id), Some(token)) = (fields.text("vault_id"), fields.text("token")) else {
            return Err(PairError::Missing);
        };
        if token.len() > MAX_TOKEN_BYTES {
            return Err(PairError::TokenTooLong);
        }
        Ok(Self { vault_id, token })
    }
}

/// The `reason` of a vault's `pair_refuse`, cut to 256 characters.
#[must_use]
pub fn refusal_reason(frame: &[u8]) -> Option<String> {
    let reason = Fields::parse(frame)?.text("reason")?;
    Some(reason.chars().take(MAX_REASON_CHARS).collect())
}

/// To a vault: it is registered.
#[must_use]
pub fn registered(vault_id: &str) -> Utf8Bytes {
    flat(&[("type", "registered"), ("vault_id", vault_id)])
}

/// To a vault: an agent wants to pair.
#[must_use]
pub fn pair(session: &SessionId, vault_id: &str, token: &str) -> Utf8Bytes {
    flat(&[("type", "pair"), ("session_id", &session.to_string()), ("vault_id", vault_id), ("token", token)])
}

/// To an agent: the vault has accepted.
#[must_use]
pub fn paired(session: &SessionId, vault_id: &str) -> Utf8Bytes {
    flat(&[("type", "paired"), ("session_id", &session.to_string()), ("vault_id", vault_id)])
}

/// To either side: what the other one said. `payload` is JSON text.
#[must_use]
pub fn message(session: &SessionId, payload: &str) -> Utf8Bytes {
    const FIXED: usize = r#"{"type":"message","session_id":"","payload":}"#.len() + 32;
    let mut text = String::with_capacity(FIXED + payload.len());
    text.push_str(r#"{"type":"message","session_id":""#);
    text.push_str(&session.to_string());
    text.push_str(r#"","payload":"#);
    text.push_str(payload);
    text.push('}');
    text.into()
}

/// To either side: the session is over.
#[must_use]
pub fn closed(session: &SessionId, reason: &str) -> Utf8Bytes {
    flat(&[("type", "closed"), ("session_id", &session.to_string()), ("reason", reason)])
}

/// The answer to a heartbeat or a ping.
#[must_use]
pub fn heartbeat(now: Millis) -> Utf8Bytes {
    flat(&[("type", "heartbeat"), ("timestamp", &time::format(now))])
}

/// An error, and the member that says what it is about, if it is about anything.
#[must_use]
pub fn error(code: &str, message: &str, about: Option<(&str, &str)>) -> Utf8Bytes {
    let mut members = vec![("type", "error"), ("code", code), ("message", message)];
    members.extend(about);
    flat(&members)
}

fn flat(members: &[(&str, &str)]) -> Utf8Bytes {
    frame::object(members).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: SessionId = SessionId([0xab; 16]);

    #[test]
    fn frames_are_flat() {
        let id = "ab".repeat(16);
        assert_eq!(registered("v\"1"), r#"{"type":"registered","vault_id":"v\"1"}"#);
        assert_eq!(pair(&ID, "v", "t"), format!(r#"{{"type":"pair","session_id":"{id}","vault_id":"v","token":"t"}}"#));
        assert_eq!(message(&ID, "[1.0]"), format!(r#"{{"type":"message","session_id":"{id}","payload":[1.0]}}"#));
        assert_eq!(closed(&ID, "over"), format!(r#"{{"type":"closed","session_id":"{id}","reason":"over"}}"#));
        assert_eq!(
            error("RELAY_TIMEOUT", "too late", Some(("vault_id", "v"))),
            r#"{"type":"error","code":"RELAY_TIMEOUT","message":"too late","vault_id":"v"}"#
        );
        assert_eq!(heartbeat(Millis(0)), r#"{"type":"heartbeat","timestamp":"1970-01-01T00:00:00.000Z"}"#);
    }

    #[test]
    fn a_pair_names_a_vault_and_has_a_token_of_bounded_length() {
        let parse = |text: &str| Pair::parse(text.as_bytes()).map(|pair| pair.vault_id.into_owned());
        assert_eq!(parse(r#"{"type":"pair","vault_id":"v","token":"t"}"#), Ok("v".into()));
        for bad in ["{}", r#"{"vault_id":"v"}"#, r#"{"vault_id":"","token":"t"}"#, r#"{"vault_id":1,"token":"t"}"#, ""]
        {
            assert_eq!(parse(bad), Err(PairError::Missing), "{bad}");
        }
        let with_token = |bytes| format!(r#"{{"vault_id":"v","token":"{}"}}"#, "x".repeat(bytes));
        assert_eq!(parse(&with_token(MAX_TOKEN_BYTES)), Ok("v".into()));
        assert_eq!(parse(&with_token(MAX_TOKEN_BYTES + 1)), Err(PairError::TokenTooLong));
    }

    #[test]
    fn a_session_id_is_32_digits_and_keeps_to_itself() {
        assert_eq!(SessionId::parse(&ID.to_string()), Some(ID));
        assert_eq!(format!("{ID:?}"), "SessionId(…)");
        for bad in ["", "ab", &"ab".repeat(17), &"xy".repeat(16)] {
            assert_eq!(SessionId::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(pair) = Pair::parse(&bytes) {
                prop_assert!(!pair.vault_id.is_empty() && pair.token.len() <= MAX_TOKEN_BYTES);
            }
            prop_assert!(refusal_reason(&bytes).is_none_or(|reason| reason.chars().count() <= MAX_REASON_CHARS));
        }

        #[test]
        fn what_is_written_can_be_read(vault in ".{1,20}", token in ".{1,200}", reason in ".{1,300}") {
            let frame = pair(&ID, &vault, &token);
            let read = Pair::parse(frame.as_bytes()).unwrap();
            prop_assert_eq!((&*read.vault_id, &*read.token), (vault.as_str(), token.as_str()));
            let frame = closed(&ID, &reason);
            let cut: String = reason.chars().take(MAX_REASON_CHARS).collect();
            prop_assert_eq!(refusal_reason(frame.as_bytes()), Some(cut));
        }
    }
}
