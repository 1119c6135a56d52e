//! Names under which peers are found.

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
