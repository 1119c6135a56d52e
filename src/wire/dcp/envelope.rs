//! The envelope of a request (sheet section 7): checked in the sheet's order, forwarded as it came.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use sha2::{Digest, Sha256};

use super::time;
use crate::domain::clock::Millis;
use crate::domain::limits::{MAX_ID_BYTES, REQUEST_TTL, REQUEST_TTL_MARGIN};

/// What the relay reads of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The vault it is for.
    pub vault_id: Cow<'a, str>,
    /// The agent's name for it.
    pub request_id: Cow<'a, str>,
    /// Until when it may be answered; never more than [`REQUEST_TTL`] after its arrival.
    pub expires: Millis,
}

/// Why an envelope is refused. `Display` is the message of the error frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// A member is absent, or falsy as JavaScript has it.
    #[error("Missing {0}")]
    Missing(&'static str),
    /// A member is no text.
    #[error("Invalid {0}")]
    NotText(&'static str),
    /// An id is longer than [`MAX_ID_BYTES`].
    #[error("{0} too long (max {MAX_ID_BYTES} bytes)")]
    TooLong(&'static str),
    /// Not one of the four actions.
    #[error("Invalid action_type: {0}")]
    Action(String),
    /// No date.
    #[error("Invalid expires_at format")]
    ExpiresFormat,
    /// Too late.
    #[error("Message has expired")]
    Expired,
    /// Too far ahead: by how many milliseconds it lives.
    #[error("TTL too long (max 5 minutes)")]
    TtlTooLong(u64),
}

impl EnvelopeError {
    /// The error code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Expired => "RELAY_MESSAGE_EXPIRED",
            _ => "RELAY_INVALID_ENVELOPE",
        }
    }
}

/// An envelope before its checks: only the request id is needed to refuse it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Unchecked<'a> {
    version: Member<'a>,
    #[serde(borrow)]
    vault_id: Member<'a>,
    #[serde(borrow)]
    request_id: Member<'a>,
    #[serde(borrow)]
    action_type: Member<'a>,
    encrypted_payload: Member<'a>,
    #[serde(borrow)]
    expires_at: Member<'a>,
}

impl<'a> Unchecked<'a> {
    /// Reads an envelope; nothing if it is no JSON object.
    #[must_use]
    pub fn parse(json: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    /// The request id, if there is one that can be sent back.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        match &self.request_id {
            Member::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The checks of section 7, in its order; ids have a bound, and clocks of agents a margin.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn check(self, now: Millis) -> Result<Envelope<'a>, EnvelopeError> {
        if matches!(self.version, Member::Falsy) {
            return Err(EnvelopeError::Missing("version"));
        }
        let vault_id = id("vault_id", self.vault_id)?;
        let request_id = id("request_id", self.request_id)?;
        match self.action_type {
            Member::Falsy => return Err(EnvelopeError::Missing("action_type")),
            Member::Text(action) if matches!(&*action, "sign" | "read" | "write" | "budget") => {}
            Member::Text(action) => return Err(EnvelopeError::Action(shorten(&action))),
            Member::Other => return Err(EnvelopeError::NotText("action_type")),
        }
        match self.encrypted_payload {
            Member::Falsy => return Err(EnvelopeError::Missing("encrypted_payload")),
            Member::Other => return Err(EnvelopeError::NotText("encrypted_payload")),
            Member::Text(_) => {}
        }
        let expires = match self.expires_at {
            Member::Falsy => return Err(EnvelopeError::Missing("expires_at")),
            Member::Other => return Err(EnvelopeError::ExpiresFormat),
            Member::Text(text) => time::parse(&text).ok_or(EnvelopeError::ExpiresFormat)?,
        };
        if expires <= now {
            return Err(EnvelopeError::Expired);
        }
        if expires > now.plus(REQUEST_TTL + REQUEST_TTL_MARGIN) {
            return Err(EnvelopeError::TtlTooLong(expires.0 - now.0));
        }
        Ok(Envelope { vault_id, request_id, expires: expires.min(now.plus(REQUEST_TTL)) })
    }
}

fn id<'a>(name: &'static str, member: Member<'a>) -> Result<Cow<'a, str>, EnvelopeError> {
    match member {
        Member::Falsy => Err(EnvelopeError::Missing(name)),
        Member::Other => Err(EnvelopeError::NotText(name)),
        Member::Text(text) if text.len() > MAX_ID_BYTES => Err(EnvelopeError::TooLong(name)),
        Member::Text(text) => Ok(text),
    }
}

/// A text short enough to be sent back.
fn shorten(text: &str) -> String {
    text.chars().take(64).collect()
}

/// A member of the envelope, as JavaScript's truth has it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
enum Member<'a> {
    /// Absent, null, false, zero or the empty text.
    #[default]
    Falsy,
    /// A text.
    Text(Cow<'a, str>),
    /// Anything else.
    Other,
}

impl<'de: 'a, 'a> Deserialize<'de> for Member<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyMember;

        impl<'de> Visitor<'de> for AnyMember {
            type Value = Member<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any JSON value")
            }

            fn visit_unit<E>(self) -> Result<Member<'de>, E> {
                Ok(Member::Falsy)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Member<'de>, E> {
                Ok(if value { Member::Other } else { Member::Falsy })
            }

            fn visit_u64<E>(self, value: u64) -> Result<Member<'de>, E> {
                Ok(if value == 0 { Member::Falsy } else { Member::Other })
            }

            fn visit_i64<E>(self, _: i64) -> Result<Member<'de>, E> {
                Ok(Member::Other)
            }

            fn visit_f64<E>(self, value: f64) -> Result<Member<'de>, E> {
                Ok(if value == 0.0 { Member::Falsy } else { Member::Other })
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Member<'de>, E> {
                Ok(if text.is_empty() { Member::Falsy } else { Member::Text(Cow::Borrowed(text)) })
            }

            fn visit_str<E>(self, text: &str) -> Result<Member<'de>, E> {
                Ok(if text.is_empty() { Member::Falsy } else { Member::Text(Cow::Owned(text.to_owned())) })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Member<'de>, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Member::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Member<'de>, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Member::Other)
            }
        }

        deserializer.deserialize_any(AnyMember)
    }
}

/// What identifies a request and its repeats: who sent it, and the whole of it, white space between its parts
/// aside. 16 bytes of SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordId(pub [u8; 16]);

impl RecordId {
    /// The id of the request `json` when it comes from `address`.
    #[must_use]
    pub fn of(json: &str, address: IpAddr) -> Self {
        let mut hash = Sha256::new();
        match address {
            IpAddr::V4(v4) => hash.update(v4.octets()),
            IpAddr::V6(v6) => hash.update(v6.octets()),
        }
        compact(json.as_bytes(), |part| hash.update(part));
        let digest = hash.finalize();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        Self(id)
    }
}

/// Hands on JSON text without the white space between its parts.
fn compact(json: &[u8], mut sink: impl FnMut(&[u8])) {
    let (mut start, mut in_string, mut escaped) = (0, false, false);
    for (at, byte) in json.iter().enumerate() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
        } else if matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
            sink(&json[start..at]);
            start = at + 1;
        } else if *byte == b'"' {
            in_string = true;
        }
    }
    sink(&json[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Millis = Millis(1_767_323_046_000);

    fn envelope(edit: impl FnOnce(&mut serde_json::Map<String, serde_json::Value>)) -> String {
        let mut value = serde_json::json!({
            "version": "1", "vault_id": "vault_demo01", "request_id": "req_b1", "action_type": "sign",
            "encrypted_payload": "q83v", "expires_at": time::format(NOW.plus(REQUEST_TTL)),
        });
        edit(value.as_object_mut().unwrap());
        value.to_string()
    }

    fn check(json: &str) -> Result<(String, String), (&'static str, String)> {
        let checked = Unchecked::parse(json.as_bytes()).unwrap().check(NOW);
        checked.map(|e| (e.vault_id.into(), e.request_id.into())).map_err(|e| (e.code(), e.to_string()))
    }

    #[test]
    fn a_shipped_agents_envelope_passes_even_when_its_clock_is_ahead() {
        assert_eq!(check(&envelope(|_| {})), Ok(("vault_demo01".into(), "req_b1".into())));
        let ahead = time::format(NOW.plus(REQUEST_TTL + REQUEST_TTL_MARGIN));
        let json = envelope(|e| drop(e.insert("expires_at".into(), ahead.into())));
        let checked = Unchecked::parse(json.as_bytes()).unwrap().check(NOW).unwrap();
        assert_eq!(checked.expires, NOW.plus(REQUEST_TTL));
    }

    #[test]
    fn each_check_has_its_answer() {
        for name in ["version", "vault_id", "request_id", "action_type", "encrypted_payload", "expires_at"] {
            for falsy in [serde_json::json!(null), "".into(), 0.into(), false.into()] {
                let json = envelope(|e| drop(e.insert(name.into(), falsy)));
                assert_eq!(check(&json), Err(("RELAY_INVALID_ENVELOPE", format!("Missing {name}"))));
            }
        }
        let with = |name: &str, value: serde_json::Value| check(&envelope(|e| drop(e.insert(name.into(), value))));
        assert!(with("version", 1.into()).is_ok());
        let invalid = |message: &str| Err(("RELAY_INVALID_ENVELOPE", message.to_owned()));
        assert_eq!(with("action_type", "delete".into()), invalid("Invalid action_type: delete"));
        assert_eq!(with("vault_id", 7.into()), invalid("Invalid vault_id"));
        assert_eq!(with("request_id", "x".repeat(257).into()), invalid("request_id too long (max 256 bytes)"));
        assert_eq!(with("expires_at", "tomorrow".into()), invalid("Invalid expires_at format"));
        assert_eq!(
            with("expires_at", time::format(Millis(NOW.0 + 360_001)).into()),
            invalid("TTL too long (max 5 minutes)")
        );
        let late = with("expires_at", time::format(NOW).into());
        assert_eq!(late, Err(("RELAY_MESSAGE_EXPIRED", "Message has expired".to_owned())));
    }

    #[test]
    fn a_repeat_is_known_by_its_whole_envelope_and_its_sender() {
        let id = |json: &str, last| RecordId::of(json, IpAddr::from([10, 0, 0, last]));
        let plain = r#"{"a":"x y","b":[1,2]}"#;
        assert_eq!(id(plain, 1), id("{ \"a\" : \"x y\",\n\t\"b\":[1, 2] }\r\n", 1));
        assert_ne!(id(plain, 1), id(plain, 2));
        assert_ne!(id(plain, 1), id(r#"{"a":"xy","b":[1,2]}"#, 1));
        assert_ne!(id(plain, 1), id(r#"{"a":"x y","b":[1,3]}"#, 1));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(unchecked) = Unchecked::parse(&bytes) {
                drop(unchecked.check(NOW));
            }
        }
    }
}
