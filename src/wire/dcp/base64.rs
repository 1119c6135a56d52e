//! Base64 as JavaScript clients write it and as Node's `Buffer.from(text, "base64")` reads it.
//!
//! Accepted, alone or mixed: the standard and the URL alphabet, missing or surplus padding at the end, white
//! space anywhere, and a last character whose unused bits are not zero. Stricter than Node in two points, for
//! a text that uses them is damaged: a character outside both alphabets is an error (Node skips it), and so is
//! a last group of a single character (Node drops it).

use ::base64::Engine;
use ::base64::alphabet;
use ::base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose};

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Why a text was not decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Base64Error {
    /// A character of no alphabet, padding before the end, or a last group of one character.
    #[error("not base64: use the standard alphabet with padding")]
    Malformed,
    /// Not the number of bytes that belongs here.
    #[error("decodes to the wrong number of bytes")]
    WrongLength,
}

/// Decodes `text` to at most `max` bytes. Memory used is bounded by `max`, not by the text.
///
/// # Errors
/// [`Base64Error::WrongLength`] beyond `max` bytes, [`Base64Error::Malformed`] if it is no base64.
pub fn decode(text: &str, max: usize) -> Result<Vec<u8>, Base64Error> {
    let text = text.trim_end_matches(|c: char| c == '=' || is_space(c as u32));
    let longest = max.saturating_mul(4).div_ceil(3);
    let mut plain = Vec::with_capacity(text.len().min(longest));
    for byte in text.bytes().filter(|b| !is_space(u32::from(*b))) {
        if plain.len() == longest {
            return Err(Base64Error::WrongLength);
        }
        plain.push(match byte {
            b'-' => b'+',
            b'_' => b'/',
            other => other,
        });
    }
    LENIENT.decode(plain).map_err(|_| Base64Error::Malformed)
}

/// Decodes `text` to exactly `N` bytes.
///
/// # Errors
/// As [`decode`], with [`Base64Error::WrongLength`] for fewer bytes too.
pub fn decode_array<const N: usize>(text: &str) -> Result<[u8; N], Base64Error> {
    decode(text, N)?.try_into().map_err(|_| Base64Error::WrongLength)
}

/// Encodes with the standard alphabet and padding.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    general_purpose::STANDARD.encode(bytes)
}

fn is_space(c: u32) -> bool {
    matches!(c, 0x20 | 0x09..=0x0d)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_dialect_of_the_same_bytes_is_read() {
        let bytes = vec![0xfb, 0xff, 0xfe, 0xff];
        for text in
            ["+//+/w==", "-__-_w==", "+//+/w", "-__-_w", "+/_-/w=", " +//\n+\t/w= =\r\n", "+//+/w====", "+//+/x=="]
        {
            assert_eq!(decode(text, 16), Ok(bytes.clone()), "{text:?}");
        }
    }

    #[test]
    fn damaged_text_is_refused() {
        for text in ["ab*d", "YQ==YQ==", "abcde", "\u{e9}abc", "ab\0d"] {
            assert_eq!(decode(text, 16), Err(Base64Error::Malformed), "{text:?}");
        }
    }

    #[test]
    fn the_size_is_bounded_and_an_array_is_exact() {
        assert_eq!(decode(&encode(&[1; 33]), 32), Err(Base64Error::WrongLength));
        assert_eq!(decode(&"A".repeat(1 << 20), 32), Err(Base64Error::WrongLength));
        assert_eq!(decode(&encode(&[1; 32]), 32), Ok(vec![1; 32]));
        assert_eq!(decode_array::<32>(&encode(&[1; 31])), Err(Base64Error::WrongLength));
        assert_eq!(decode_array::<32>(&encode(&[1; 32])), Ok([1; 32]));
        assert_eq!(decode("", 32), Ok(Vec::new()));
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(decode(&encode(&bytes), bytes.len()), Ok(bytes));
        }

        #[test]
        fn any_text_is_decoded_within_the_bound_or_refused(text in "\\PC*|[A-Za-z0-9+/=_ -]*", max in 0usize..64) {
            if let Ok(bytes) = decode(&text, max) {
                prop_assert!(bytes.len() <= max);
            }
        }
    }
}
