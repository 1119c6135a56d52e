//! Passwords for TURN that a secret gives: a relay tells them to its clients, and a TURN server with the same secret makes
//! them again, without a word between the two ("A REST API For Access To TURN Services", section 2.2).

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The password of that user name: HMAC-SHA-1 by `secret`, in base 64 with padding. SHA-1 because that is what TURN servers
/// make; nothing is known to be wrong with it in HMAC.
#[must_use]
pub fn turn_password(secret: &[u8], username: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    STANDARD.encode(hmac::sign(&key, username.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_that_of_the_sheet() {
        assert_eq!(turn_password(b"north", "1800000000:12D3KooWExamplePeer"), "i6Lz4Hzbfn8pAM9u4e/+Rfkwmhc=");
    }
}
