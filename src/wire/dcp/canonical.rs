//! Canonical JSON as JavaScript clients sign it: compact, members sorted at every level, strings and numbers
//! as `JSON.stringify` writes them.
//!
//! Works on the text, not on a parsed value, because the digits of a number decide about a signature.
//! One thing JavaScript can sign is refused: a string with half a surrogate pair, which has no UTF-8.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::fields::text;

/// Deepest nesting that is followed; what clients sign has three levels.
pub const MAX_DEPTH: usize = 16;

/// Why a value has no canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CanonicalError {
    /// More than [`MAX_DEPTH`] levels.
    #[error("nested too deeply (max 16 levels)")]
    TooDeep,
    /// A string or a member's name that has no UTF-8 form, or text that is no JSON.
    #[error("not valid JSON text")]
    NotText,
}

/// The canonical form of `json`. Takes time in proportion to its length and its depth.
///
/// # Errors
/// [`CanonicalError`] for what has no canonical form.
pub fn canonical(json: &RawValue) -> Result<String, CanonicalError> {
    let mut out = String::with_capacity(json.get().len());
    write_value(json, MAX_DEPTH, &mut out)?;
    Ok(out)
}

/// The canonical form of the object that has just these members. Of those named twice the last counts.
///
/// # Errors
/// [`CanonicalError`] for what has no canonical form.
pub fn canonical_object<'a>(
    members: impl IntoIterator<Item = (&'a str, &'a RawValue)>,
) -> Result<String, CanonicalError> {
    let members = members.into_iter().map(|(name, value)| (Name(Cow::Borrowed(name)), value)).collect();
    let mut out = String::new();
    write_object(&members, MAX_DEPTH - 1, &mut out)?;
    Ok(out)
}

/// A member's name, in the order of JavaScript's `sort`: by UTF-16 code units.
#[derive(Deserialize, PartialEq, Eq)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl Ord for Name<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.encode_utf16().cmp(other.0.encode_utf16())
    }
}

impl PartialOrd for Name<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

type Members<'a> = BTreeMap<Name<'a>, &'a RawValue>;

fn write_value(value: &RawValue, levels: usize, out: &mut String) -> Result<(), CanonicalError> {
    let json = value.get();
    match json.as_bytes().first() {
        Some(b'{') => {
            let levels = levels.checked_sub(1).ok_or(CanonicalError::TooDeep)?;
            let members: Members<'_> = serde_json::from_str(json).map_err(|_| CanonicalError::NotText)?;
            write_object(&members, levels, out)
        }
        Some(b'[') => {
            let levels = levels.checked_sub(1).ok_or(CanonicalError::TooDeep)?;
            let items: Vec<&RawValue> = serde_json::from_str(json).map_err(|_| CanonicalError::NotText)?;
            write_list('[', ']', &items, out, |item, out| write_value(item, levels, out))
        }
        Some(b'"') => write_text(&text(value).ok_or(CanonicalError::NotText)?, out),
        Some(b't' | b'f' | b'n') => {
            out.push_str(json);
            Ok(())
        }
        _ => {
            out.push_str(&number_text(json.parse().map_err(|_| CanonicalError::NotText)?));
            Ok(())
        }
    }
}

fn write_object(members: &Members<'_>, levels: usize, out: &mut String) -> Result<(), CanonicalError> {
    write_list('{', '}', members, out, |(name, value), out| {
        write_text(&name.0, out)?;
        out.push(':');
        write_value(value, levels, out)
    })
}

fn write_list<T>(
    open: char,
    close: char,
    items: impl IntoIterator<Item = T>,
    out: &mut String,
    mut write: impl FnMut(T, &mut String) -> Result<(), CanonicalError>,
) -> Result<(), CanonicalError> {
    out.push(open);
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        write(item, out)?;
    }
    out.push(close);
    Ok(())
}

/// serde_json escapes exactly what `JSON.stringify` does, in the same spelling.
fn write_text(text: &str, out: &mut String) -> Result<(), CanonicalError> {
    out.push_str(&serde_json::to_string(text).map_err(|_| CanonicalError::NotText)?);
    Ok(())
}

/// `number` as `JSON.stringify` writes it (ECMA-262, `Number::toString`): the shortest digits that read back
/// as the same number, with an exponent from 10^21 on and below 10^-6; infinity is `null`.
#[must_use]
pub fn number_text(number: f64) -> String {
    let Some((digits, point)) = shortest_digits(number) else { return "null".into() };
    if digits.is_empty() {
        return "0".into();
    }
    let sign = if number < 0.0 { "-" } else { "" };
    sign.to_owned() + &place_point(&digits, point)
}

/// The digits of `number` without zeros on either side (none for zero), and after how many of them the decimal
/// point stands. `None` for what is not finite.
fn shortest_digits(number: f64) -> Option<(String, i32)> {
    // Between two equally short and close forms ECMA-262 wants the even one. serde_json does too; std's
    // formatting takes the larger.
    let spelled = serde_json::Number::from_f64(number.abs())?.to_string();
    let (mantissa, exponent) = spelled.split_once('e').unwrap_or((&spelled, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = [whole, fraction].concat();
    let digits = all.trim_start_matches('0');
    let point = exponent.parse::<i32>().ok()? + i32::try_from(whole.len() + digits.len()).ok()?
        - i32::try_from(all.len()).ok()?;
    Some((digits.trim_end_matches('0').to_owned(), point))
}

fn place_point(digits: &str, point: i32) -> String {
    let zeros = |n: usize| "0".repeat(n);
    match (point, usize::try_from(point)) {
        (1..=21, Ok(at)) => match digits.split_at_checked(at) {
            Some((whole, "")) => whole.to_owned(),
            Some((whole, fraction)) => format!("{whole}.{fraction}"),
            None => digits.to_owned() + &zeros(at - digits.len()),
        },
        (-5..=0, _) => format!("0.{}{digits}", zeros(point.unsigned_abs() as usize)),
        _ => {
            let (first, rest) = digits.split_at_checked(1).unwrap_or((digits, ""));
            let dot = if rest.is_empty() { "" } else { "." };
            format!("{first}{dot}{rest}e{:+}", point - 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn of(json: &str) -> Result<String, CanonicalError> {
        canonical(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn members_are_sorted_at_every_level_by_utf16_units() {
        assert_eq!(
            of(r#" { "b" : [ { "d" : 1 , "c" : null } ] , "a" : true } "#).unwrap(),
            r#"{"a":true,"b":[{"c":null,"d":1}]}"#
        );
        // U+1F600 comes after U+FFFD by code point, before it by code unit.
        assert_eq!(of("{\"\u{fffd}\":1,\"\u{1f600}\":2}").unwrap(), "{\"\u{1f600}\":2,\"\u{fffd}\":1}");
        assert_eq!(of(r#"{"a":1,"a":2}"#).unwrap(), r#"{"a":2}"#);
    }

    #[test]
    fn strings_are_escaped_as_json_stringify_does() {
        assert_eq!(
            of(r#""\u0041\/\u0008\u000c\n\r\t\u0001\u001F\"\\\u007f\u2028\u00e9\ud83d\ude00""#).unwrap(),
            "\"A/\\b\\f\\n\\r\\t\\u0001\\u001f\\\"\\\\\u{7f}\u{2028}\u{e9}\u{1f600}\""
        );
        assert_eq!(of(r#""\ud83d""#), Err(CanonicalError::NotText));
    }

    #[test]
    fn numbers_are_written_as_javascript_does() {
        for (json, expected) in [
            ("0", "0"),
            ("-0", "0"),
            ("-0.0", "0"),
            ("1.0", "1"),
            ("1.50", "1.5"),
            ("-2.5e0", "-2.5"),
            ("100", "100"),
            ("919207639915842.25", "919207639915842.2"),
            ("9007199254740991", "9007199254740991"),
            ("9007199254740993", "9007199254740992"),
            ("18446744073709551615", "18446744073709552000"),
            ("1e20", "100000000000000000000"),
            ("123456789012345680000", "123456789012345680000"),
            ("1e21", "1e+21"),
            ("1.5e300", "1.5e+300"),
            ("0.1", "0.1"),
            ("0.30000000000000004", "0.30000000000000004"),
            ("0.000001", "0.000001"),
            ("0.0000015", "0.0000015"),
            ("1e-7", "1e-7"),
            ("-1.25e-7", "-1.25e-7"),
            ("5e-324", "5e-324"),
            ("1.7976931348623157e308", "1.7976931348623157e+308"),
            ("1e999", "null"),
            ("1e-999", "0"),
        ] {
            assert_eq!(of(json).unwrap(), expected, "{json}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert_eq!(of(&nested(MAX_DEPTH)), Ok(nested(MAX_DEPTH)));
        assert_eq!(of(&nested(MAX_DEPTH + 1)), Err(CanonicalError::TooDeep));
        assert_eq!(of(&nested(100_000)), Err(CanonicalError::TooDeep));
    }

    #[test]
    fn an_object_of_chosen_members_is_the_object() {
        let inner: &RawValue = serde_json::from_str(r#"{"z":1.0,"y":2}"#).unwrap();
        assert_eq!(canonical_object([("b", inner), ("a", inner)]).unwrap(), r#"{"a":{"y":2,"z":1},"b":{"y":2,"z":1}}"#);
        assert_eq!(canonical_object([]).unwrap(), "{}");
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::vec((".{0,3}", inner), 0..5).prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_canonical_form_of_a_canonical_form_is_itself(value in any_json()) {
            let once = of(&value.to_string()).unwrap();
            prop_assert_eq!(of(&once).unwrap(), once);
        }

        #[test]
        fn a_number_reads_back_as_itself(number: f64) {
            if number.is_finite() {
                prop_assert_eq!(number_text(number).parse::<f64>().unwrap(), number);
            }
        }
    }
}
