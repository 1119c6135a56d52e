//! The members of a payload, read in one pass before its type is known, for `type` may stand anywhere.

use std::borrow::Cow;
use std::mem;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::value::BorrowedStrDeserializer;
use serde_json::value::RawValue;

use super::cursor::{Cursor, Text};
use super::frame::DecodeError;

/// Members that may hold an array of bytes.
const BYTE_ARRAYS: [&str; 4] = ["ciphertext", "encrypted_payload", "proof_data", "signature"];

/// All other members of the payloads that clients send.
const OTHERS: [&str; 23] = [
    "type",
    "accept_hints",
    "client_id",
    "device_id",
    "identity_id",
    "identity_public_key",
    "include_device_sync",
    "include_recovery_proofs",
    "key_hash",
    "key_hashes",
    "message_id",
    "nonce",
    "recipient_id",
    "recovery_key_hash",
    "routing_token",
    "sender_device_id",
    "sender_id",
    "status",
    "suppress_presence",
    "synced_version",
    "target_device_id",
    "timestamp",
    "version",
];

/// The known members of one object. Unknown ones are passed over, so its size does not depend on the frame.
#[derive(Debug, Default)]
pub(super) struct Members<'a> {
    byte_arrays: [Member<'a>; BYTE_ARRAYS.len()],
    others: [Member<'a>; OTHERS.len()],
}

#[derive(Debug, Default)]
enum Member<'a> {
    #[default]
    Absent,
    Bytes(Bytes),
    /// A string without escapes.
    Text(&'a str),
    Other(&'a RawValue),
    /// There more than once. Undecodable only if the type of the payload has such a member.
    Repeated,
}

impl<'a> Members<'a> {
    /// Reads the object at the cursor.
    pub(super) fn read(cursor: &mut Cursor<'a>) -> Result<Self, DecodeError> {
        let mut members = Self::default();
        cursor.members(|name, cursor| members.take(name, cursor))?;
        Ok(members)
    }

    fn take(&mut self, name: &str, cursor: &mut Cursor<'a>) -> Result<(), DecodeError> {
        let Some(member) = self.find(name) else { return cursor.skip() };
        if !matches!(member, Member::Absent) {
            *member = Member::Repeated;
            return cursor.skip();
        }
        let bytes = if BYTE_ARRAYS.contains(&name) { cursor.bytes() } else { None };
        *member = match bytes {
            Some(bytes) => Member::Bytes(bytes),
            None => match cursor.plain_text() {
                Some(text) => Member::Text(text),
                None => Member::Other(cursor.value()?),
            },
        };
        Ok(())
    }

    fn find(&mut self, name: &str) -> Option<&mut Member<'a>> {
        match BYTE_ARRAYS.iter().position(|known| *known == name) {
            Some(index) => self.byte_arrays.get_mut(index),
            None => self.others.get_mut(OTHERS.iter().position(|known| *known == name)?),
        }
    }

    /// Takes the member that is named.
    fn remove(&mut self, name: &str) -> Member<'a> {
        self.find(name).map(mem::take).unwrap_or_default()
    }

    /// A member that is needed.
    pub(super) fn required<T: Deserialize<'a>>(&mut self, name: &str) -> Result<T, DecodeError> {
        self.remove(name).read()?.ok_or(DecodeError::Malformed)
    }

    /// A member that may be absent, but not null.
    pub(super) fn or_default<T: Deserialize<'a> + Default>(&mut self, name: &str) -> Result<T, DecodeError> {
        Ok(self.remove(name).read()?.unwrap_or_default())
    }

    /// A member that may be absent or null.
    pub(super) fn optional<T: Deserialize<'a>>(&mut self, name: &str) -> Result<Option<T>, DecodeError> {
        self.or_default(name)
    }

    /// A text that is needed.
    pub(super) fn text(&mut self, name: &str) -> Result<Cow<'a, str>, DecodeError> {
        self.optional_text(name)?.ok_or(DecodeError::Malformed)
    }

    /// A text that may be absent or null.
    pub(super) fn optional_text(&mut self, name: &str) -> Result<Option<Cow<'a, str>>, DecodeError> {
        match self.remove(name) {
            Member::Text(text) => Ok(Some(Cow::Borrowed(text))),
            other => Ok(other.read::<Option<Text<'a>>>()?.flatten().map(|Text(text)| text)),
        }
    }

    /// An array of bytes that is needed.
    pub(super) fn bytes(&mut self, name: &str) -> Result<Bytes, DecodeError> {
        match self.remove(name) {
            Member::Bytes(bytes) => Ok(bytes),
            _ => Err(DecodeError::Malformed),
        }
    }
}

impl<'a> Member<'a> {
    /// Its value; `None` if it is not there.
    fn read<T: Deserialize<'a>>(self) -> Result<Option<T>, DecodeError> {
        let value = match self {
            Self::Absent => return Ok(None),
            Self::Text(text) => T::deserialize(BorrowedStrDeserializer::<serde_json::Error>::new(text)),
            Self::Other(value) => T::deserialize(value),
            Self::Bytes(_) | Self::Repeated => return Err(DecodeError::Malformed),
        };
        value.map(Some).map_err(|_| DecodeError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Members<'_> {
        Members::read(&mut Cursor::new(json.as_bytes())).unwrap()
    }

    #[test]
    fn a_member_is_found_wherever_it_stands_and_of_its_type() {
        let mut members = read(r#"{"x":[{}],"version":7,"signature":"ab","ciphertext":[1,2],"type":"T"}"#);
        assert_eq!(members.text("type").unwrap(), "T");
        assert_eq!(members.required::<u64>("version"), Ok(7));
        assert_eq!(members.bytes("ciphertext").unwrap(), &[1, 2][..]);
        assert_eq!(members.optional_text("signature").unwrap().unwrap(), "ab");
        assert_eq!(members.optional_text("nonce"), Ok(None));
    }

    #[test]
    fn a_member_that_is_absent_null_or_of_another_type_is_told_apart() {
        let text = r#"{"nonce":null,"suppress_presence":null,"ciphertext":[256],"type":[1],"version":1.0}"#;
        assert_eq!(read(text).optional_text("nonce"), Ok(None));
        assert_eq!(read(text).text("nonce"), Err(DecodeError::Malformed));
        assert_eq!(read(text).or_default::<bool>("suppress_presence"), Err(DecodeError::Malformed));
        assert_eq!(read(text).or_default::<bool>("include_device_sync"), Ok(false));
        assert_eq!(read(text).bytes("ciphertext"), Err(DecodeError::Malformed));
        assert_eq!(read(text).bytes("proof_data"), Err(DecodeError::Malformed));
        assert_eq!(read(text).text("type"), Err(DecodeError::Malformed));
        assert_eq!(read(text).required::<u64>("version"), Err(DecodeError::Malformed));
    }

    #[test]
    fn a_repeated_member_spoils_only_itself() {
        let text = r#"{"nonce":"a","nonce":"a","ciphertext":[1],"ciphertext":[1],"x":1,"x":2,"type":"T"}"#;
        assert_eq!(read(text).optional_text("nonce"), Err(DecodeError::Malformed));
        assert_eq!(read(text).bytes("ciphertext"), Err(DecodeError::Malformed));
        assert_eq!(read(text).text("type").unwrap(), "T");
    }
}
