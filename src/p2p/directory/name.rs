//! Names under which peers are found.

use std::ops::Deref;
use std::sync::Arc;

use crate::wire::p2p::directory::MAX_NAME_CHARS;

/// Why a name is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoName {
    /// Nothing is left without the white space around it, or too much.
    #[error("display_name must be 1-{MAX_NAME_CHARS} characters")]
    Length,
    /// It would disturb whoever shows it.
    #[error("display_name must not contain control characters")]
    Control,
}

/// The name without the white space around it.
///
/// # Errors
/// [`NoName`].
pub fn checked(name: &str) -> Result<&str, NoName> {
    let name = name.trim();
    if !(1..=MAX_NAME_CHARS).contains(&name.chars().take(MAX_NAME_CHARS + 1).count()) {
        return Err(NoName::Length);
    }
    if name.chars().any(char::is_control) { Err(NoName::Control) } else { Ok(name) }
}

/// So many characters in a row; shorter runs end in zeros.
pub type Gram = [char; LONGEST];

/// Characters of the longest run.
pub const LONGEST: usize = 3;

/// No name has it.
const NONE: char = '\0';

/// A name, with the runs of one to three characters by which it is found. Clones share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(Arc<Read>);

#[derive(Debug, PartialEq, Eq)]
struct Read {
    text: Box<str>,
    grams: Box<[Gram]>,
}

impl Name {
    /// All runs of it, each once.
    #[must_use]
    pub fn grams(&self) -> &[Gram] {
        &self.0.grams
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        let folded = folded(text);
        let mut grams: Vec<_> = (1..=LONGEST).flat_map(|length| folded.windows(length).map(gram)).collect();
        grams.sort_unstable();
        grams.dedup();
        Self(Arc::new(Read { text: text.into(), grams: grams.into() }))
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0.text
    }
}

/// The characters of a text, large and small letters of ASCII alike.
#[must_use]
pub fn folded(text: &str) -> Vec<char> {
    text.chars().map(|c| c.to_ascii_lowercase()).collect()
}

/// A run of [`LONGEST`] characters at most.
#[must_use]
pub fn gram(run: &[char]) -> Gram {
    let mut gram = [NONE; LONGEST];
    gram[..run.len()].copy_from_slice(run);
    gram
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_counted_in_characters_without_the_space_around_it() {
        assert_eq!(checked(" \tAnn\n"), Ok("Ann"));
        for good in ["x", "a b", &"\u{1f319}".repeat(64)] {
            assert_eq!(checked(good), Ok(good));
        }
        for bad in ["", " \t\n", &"n".repeat(65)] {
            assert_eq!(checked(bad), Err(NoName::Length), "{bad:?}");
        }
        for bad in ["a\nb", "a\0", "\u{7f}", "a\u{9b}b"] {
            assert_eq!(checked(bad), Err(NoName::Control), "{bad:?}");
        }
    }
}
