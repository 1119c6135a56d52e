//! What a peer shows to be told the rest: what it was told already, between which stamps. All nodes read one another's.
//!
//! rust-libp2p's clients take a cookie for eight bytes and a text, so that is what it is: the digest of the namespace, and
//! the stamps in hexadecimal digits.

use crate::domain::clock::Epoch;
use crate::domain::placement::KeyHash;

/// What the text begins with: which form of a cookie this is.
const FORM: &[u8] = b"w1";

/// Bytes of a cookie.
const BYTES: usize = 8 + FORM.len() + 2 * DIGITS;

/// Digits of a stamp.
const DIGITS: usize = 16;

/// What was told already: everything between these stamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cookie {
    /// The oldest.
    pub low: Epoch,
    /// The newest.
    pub high: Epoch,
}

/// Why a cookie cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadCookie {
    /// It is another relay's: that is as good as none.
    Unknown,
    /// It is of another namespace.
    OtherNamespace,
}

impl Cookie {
    /// As it is sent, for answers about `namespace`; `None`: about all.
    #[must_use]
    pub fn encode(self, namespace: Option<&str>) -> Vec<u8> {
        let stamps = format!("{:016x}{:016x}", self.low.0, self.high.0);
        [&of_namespace(namespace).to_be_bytes(), FORM, stamps.as_bytes()].concat()
    }

    /// Reads what was sent.
    ///
    /// # Errors
    /// [`BadCookie`].
    pub fn decode(bytes: &[u8], namespace: Option<&str>) -> Result<Self, BadCookie> {
        let read = || {
            let (digest, text) = bytes.split_at_checked(8)?;
            let stamps = std::str::from_utf8(text.strip_prefix(FORM)?).ok().filter(|_| bytes.len() == BYTES)?;
            let stamp = |digits: &str| u64::from_str_radix(digits, 16).ok().map(Epoch);
            let (low, high) = stamps.split_at_checked(DIGITS)?;
            Some((digest, Self { low: stamp(low)?, high: stamp(high)? }))
        };
        let (digest, cookie) = read().ok_or(BadCookie::Unknown)?;
        if digest == of_namespace(namespace).to_be_bytes() { Ok(cookie) } else { Err(BadCookie::OtherNamespace) }
    }
}

fn of_namespace(namespace: Option<&str>) -> u64 {
    match namespace {
        None => KeyHash::of(&[b"all"]).0,
        Some(name) => KeyHash::of(&[b"namespace", name.as_bytes()]).0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_good_for_its_namespace() {
        let cookie = Cookie { low: Epoch(1), high: Epoch(u64::MAX) };
        let sent = cookie.encode(Some("x"));
        assert_eq!(sent.len(), BYTES);
        assert_eq!(Cookie::decode(&sent, Some("x")), Ok(cookie));
        for other in [None, Some("y"), Some("all")] {
            assert_eq!(Cookie::decode(&sent, other), Err(BadCookie::OtherNamespace));
        }
        assert!(std::str::from_utf8(&sent[8..]).is_ok());
        let longer = [&sent[..], b"0"].concat();
        for unknown in [&[][..], &sent[..8], &sent[..sent.len() - 1], &longer, &[b'g'; BYTES]] {
            assert_eq!(Cookie::decode(unknown, Some("x")), Err(BadCookie::Unknown));
        }
    }
}
