//! A walk over the members of JSON objects that leaves every value where it is.
//!
//! serde_json reads the values, one at a time; only commas, colons and braces are read here, and strings without
//! escapes. That lets an array
//! of bytes be decoded where it stands: found by serde_json as a [`RawValue`] it would be read twice, and the
//! first time costs several times the second (`benches/vauchi_json.rs` measures it). Nothing recurses, however
//! deep a value is nested.
//!
//! [`RawValue`]: serde_json::value::RawValue

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::array;
use super::frame::DecodeError;

/// JSON text, and how far it has been read.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    json: &'a [u8],
    at: usize,
}

#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

impl<'a> Cursor<'a> {
    pub(super) fn new(json: &'a [u8]) -> Self {
        Self { json, at: 0 }
    }

    /// Reads an object: gives `each` the name of every member, and the cursor before its value, which it reads.
    pub(super) fn members(
        &mut self,
        mut each: impl FnMut(&str, &mut Self) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        if self.next() != Some(b'{') {
            return Err(DecodeError::Malformed);
        }
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            let name = self.text()?;
            if self.next() != Some(b':') {
                return Err(DecodeError::Malformed);
            }
            each(&name, self)?;
            match self.next() {
                Some(b',') => {}
                Some(b'}') => return Ok(()),
                _ => return Err(DecodeError::Malformed),
            }
        }
    }

    /// Reads the next value, which is a string.
    pub(super) fn text(&mut self) -> Result<Cow<'a, str>, DecodeError> {
        match self.plain_text() {
            Some(text) => Ok(Cow::Borrowed(text)),
            None => self.value().map(|Text(text)| text),
        }
    }

    /// Reads a string without escapes: nearly all are, and to find its end is all there is to do. Stays where it is
    /// if the next value is anything else.
    pub(super) fn plain_text(&mut self) -> Option<&'a str> {
        if self.peek()? != b'"' {
            return None;
        }
        let rest = self.json.get(self.at + 1..)?;
        let len = rest.iter().position(|byte| *byte < 0x20 || matches!(byte, b'"' | b'\\'))?;
        if rest.get(len) != Some(&b'"') {
            return None;
        }
        let text = std::str::from_utf8(rest.get(..len)?).ok()?;
        self.at += len + 2;
        Some(text)
    }

    /// Reads the next value.
    pub(super) fn value<T: Deserialize<'a>>(&mut self) -> Result<T, DecodeError> {
        let rest = self.json.get(self.at..).unwrap_or_default();
        let mut values = serde_json::Deserializer::from_slice(rest).into_iter();
        let Some(Ok(value)) = values.next() else { return Err(DecodeError::Malformed) };
        self.at += values.byte_offset();
        Ok(value)
    }

    /// Reads the next value whatever it is.
    pub(super) fn skip(&mut self) -> Result<(), DecodeError> {
        self.value::<IgnoredAny>().map(drop)
    }

    /// Reads an array of bytes. Stays where it is if the next value is anything else.
    pub(super) fn bytes(&mut self) -> Option<Bytes> {
        self.peek();
        let (bytes, taken) = array::decode(self.json.get(self.at..)?)?;
        self.at += taken;
        Some(bytes)
    }

    /// Makes sure that nothing follows.
    pub(super) fn end(&mut self) -> Result<(), DecodeError> {
        if self.peek().is_none() { Ok(()) } else { Err(DecodeError::Malformed) }
    }

    /// What stands behind white space.
    fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.json.get(self.at) {
            self.at += 1;
        }
        self.json.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of an object's members, without arrays of bytes, whose length stands instead.
    fn names(json: &str) -> Option<Vec<String>> {
        let mut cursor = Cursor::new(json.as_bytes());
        let mut names = Vec::new();
        let walked = cursor.members(|name, cursor| {
            match cursor.bytes() {
                Some(bytes) => names.push(bytes.len().to_string()),
                None => {
                    names.push(name.to_owned());
                    cursor.skip()?;
                }
            }
            Ok(())
        });
        walked.and_then(|()| cursor.end()).ok().map(|()| names)
    }

    #[test]
    fn members_are_walked_whatever_they_are() {
        let json = r#" { "a" : 1 , "\u0062":[ 1, 2 ],"c":{"d":[1,"}"]},"":"\"},", "e" : null,"f":[1,300],"g":[ ] } "#;
        assert_eq!(names(json).unwrap(), ["a", "2", "c", "", "e", "f", "0"]);
        assert_eq!(names("{}").unwrap(), [""; 0]);
        assert_eq!(names("\n{\t}\r").unwrap(), [""; 0]);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for bad in [
            "",
            " ",
            "{",
            "}",
            "[]",
            "null",
            "1",
            "{}{}",
            "{} x",
            "{,}",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            r#"{"a":1 "b":2}"#,
            r#"{"a":1x}"#,
            r#"{"a":01}"#,
            r#"{a:1}"#,
            r#"{1:1}"#,
            r#"{"a":[1,2}"#,
            r#"{"a":[1]"#,
            r#"{"a" "b"}"#,
            r#"{"a":1;"b":2}"#,
            r#"{"a":tru}"#,
            "{\"a\":\"\n\"}",
        ] {
            assert_eq!(names(bad), None, "{bad}");
        }
    }

    #[test]
    fn deep_nesting_is_passed_over_without_recursion() {
        let (open, close) = ("[".repeat(1_000_000), "]".repeat(1_000_000));
        assert_eq!(names(&format!(r#"{{"a":{open}{close}}}"#)).unwrap(), ["a"]);
        assert_eq!(names(&format!(r#"{{"a":{open}}}"#)), None);
    }
}
