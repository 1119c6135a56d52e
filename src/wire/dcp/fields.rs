//! The members of a JSON object, kept as they were sent.
//!
//! A typed `Deserialize` would refuse what the protocol's JavaScript servers let pass: members of a wrong type
//! (which count as missing) and members named twice (the last one counts). And what a client signed must be
//! seen as it was spelled, numbers above all.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Most members that an object may have; the largest that clients send has 15.
pub const MAX_FIELDS: usize = 64;

/// The members of one JSON object, borrowed from its text.
#[derive(Debug, Clone)]
pub struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// Reads an object. `None` if `json` is not exactly one JSON object of at most [`MAX_FIELDS`] members.
    #[must_use]
    pub fn parse(json: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    /// The member as it was spelled.
    #[must_use]
    pub fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().rfind(|(key, _)| key == name).map(|(_, value)| *value)
    }

    /// The member, if it is a text and not empty.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        text(self.raw(name)?).filter(|text| !text.is_empty())
    }

    /// The member, if it is a number that a `f64` can hold.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<f64> {
        number(self.raw(name)?)
    }

    /// The member's own members, if it is an object within the bound of [`Fields::parse`].
    #[must_use]
    pub fn object(&self, name: &str) -> Option<Fields<'a>> {
        Self::parse(self.raw(name)?.get().as_bytes())
    }

    /// All members in the order they were sent, also those named twice.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(name, value)| (&**name, *value))
    }
}

/// The text that `value` spells; `None` if it is no string, or one with half a surrogate pair.
#[must_use]
pub fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Text<'_>>(value.get()).ok().map(|text| text.0)
}

/// The finite number that `value` spells, correctly rounded; `None` if it is none.
#[must_use]
pub fn number(value: &RawValue) -> Option<f64> {
    let spelled = value.get().starts_with(|c: char| c == '-' || c.is_ascii_digit());
    // Not by way of serde_json, whose numbers may be off in the last bit.
    if spelled { value.get().parse().ok().filter(|number: &f64| number.is_finite()) } else { None }
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object of at most {MAX_FIELDS} members")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Vec::new();
        while let Some((Text(name), value)) = map.next_entry()? {
            if fields.len() == MAX_FIELDS {
                return Err(A::Error::custom("too many members"));
            }
            fields.push((name, value));
        }
        Ok(Fields(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn members_are_found_by_name_and_type() {
        let fields = Fields::parse(br#" {"a":"x\u00e9","b":1.50,"c":"","d":{"e":"y"},"f":null} "#).unwrap();
        assert_eq!(fields.text("a").as_deref(), Some("x\u{e9}"));
        assert_eq!(fields.number("b"), Some(1.5));
        assert_eq!(fields.raw("b").map(RawValue::get), Some("1.50"));
        assert_eq!(fields.object("d").unwrap().text("e").as_deref(), Some("y"));
        for absent in ["b", "c", "d", "f", "g"] {
            assert_eq!(fields.text(absent), None, "{absent}");
        }
        assert_eq!(fields.number("a"), None);
    }

    #[test]
    fn of_members_named_twice_the_last_counts() {
        let fields = Fields::parse(br#"{"a":"first","a":"last"}"#).unwrap();
        assert_eq!(fields.text("a").as_deref(), Some("last"));
    }

    #[test]
    fn only_one_whole_object_within_the_bound_is_read() {
        for bad in ["", "null", "[]", "\"a\"", "{", "{} {}", "{\"a\":1,}"] {
            assert!(Fields::parse(bad.as_bytes()).is_none(), "{bad}");
        }
        let object = |n: usize| format!("{{{}}}", (0..n).map(|i| format!("\"{i}\":0")).collect::<Vec<_>>().join(","));
        assert!(Fields::parse(object(MAX_FIELDS).as_bytes()).is_some());
        assert!(Fields::parse(object(MAX_FIELDS + 1).as_bytes()).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(fields) = Fields::parse(&bytes) {
                prop_assert!(fields.iter().count() <= MAX_FIELDS);
            }
        }
    }
}
