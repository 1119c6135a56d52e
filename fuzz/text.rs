//! The texts inside messages: base64, canonical JSON, dates.

use bolero::check;
use serde_json::value::RawValue;
use waystation::wire::dcp::canonical::canonical;
use waystation::wire::dcp::fields::{self, Fields, MAX_FIELDS};
use waystation::wire::dcp::{base64, time};

use super::ITERATIONS;

/// A bound for decoded bytes: that of a signature.
const BOUND: usize = 64;

#[test]
fn decode_base64() {
    check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        let Ok(bytes) = base64::decode(text, BOUND) else { return };
        assert!(bytes.len() <= BOUND);
        assert_eq!(base64::decode(&base64::encode(&bytes), BOUND), Ok(bytes));
    });
}

#[test]
fn canonical_json() {
    check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
        let Ok(json) = serde_json::from_slice::<&RawValue>(input) else { return };
        let Ok(once) = canonical(json) else { return };
        let twice = canonical(serde_json::from_str(&once).expect("the canonical form is JSON"));
        assert_eq!(twice.as_deref(), Ok(&*once));
    });
}

#[test]
fn object_fields() {
    check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
        let Some(object) = Fields::parse(input) else { return };
        assert!(object.iter().count() <= MAX_FIELDS);
        for (name, value) in object.iter() {
            assert!(object.raw(name).is_some());
            let kinds = [fields::text(value).is_some(), fields::number(value).is_some(), object.object(name).is_some()];
            assert!(kinds[0] as u8 + kinds[1] as u8 <= 1, "{value}");
        }
    });
}

#[test]
fn date() {
    check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        let Some(moment) = time::parse(text) else { return };
        assert_eq!(time::parse(&time::format(moment)), Some(moment));
    });
}
