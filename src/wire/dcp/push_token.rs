//! The address at which a phone can be woken (section 12).

use super::fields::Fields;
use crate::domain::ids::VaultId;
use crate::domain::limits::MAX_ID_BYTES;

/// Longest push token, in bytes; those in use have about 40.
pub const MAX_PUSH_TOKEN_BYTES: usize = 256;

/// Longest name of a platform that is kept, in bytes.
const MAX_PLATFORM_BYTES: usize = 32;

/// Why a push token is refused. Displays as the `error` of the HTTP 400 body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PushTokenError {
    /// The body is no JSON object, or a field is not there, empty, or no text.
    #[error("Missing vault_id or token")]
    Missing,
    /// Not `ExpoPushToken[…]` or `ExponentPushToken[…]`, or longer than [`MAX_PUSH_TOKEN_BYTES`].
    #[error("Unsupported push token format")]
    UnsupportedFormat,
    /// The vault's name is longer than [`MAX_ID_BYTES`].
    #[error("vault_id too long (max 256 bytes)")]
    VaultIdTooLong,
}

/// A push token, and whose it is. That the sender speaks for the vault is for the proof in the body to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushToken {
    /// The vault on the phone.
    pub vault_id: VaultId,
    /// The token.
    pub token: String,
    /// What the phone runs; `unknown` if it does not tell.
    pub platform: String,
    /// The phone, if it tells.
    pub device_id: Option<String>,
}

impl PushToken {
    /// Reads the body of POST `/v1/devices/push-token`.
    ///
    /// # Errors
    /// [`PushTokenError`] for the first check that fails.
    pub fn parse(body: &[u8]) -> Result<Self, PushTokenError> {
        let fields = Fields::parse(body).ok_or(PushTokenError::Missing)?;
        let (Some(vault_id), Some(token)) = (fields.text("vault_id"), fields.text("token")) else {
            return Err(PushTokenError::Missing);
        };
        if !is_expo_token(&token) {
            return Err(PushTokenError::UnsupportedFormat);
        }
        if vault_id.len() > MAX_ID_BYTES {
            return Err(PushTokenError::VaultIdTooLong);
        }
        let short = |name, max| fields.text(name).filter(|text| text.len() <= max).map(String::from);
        Ok(Self {
            vault_id: VaultId::from(&*vault_id),
            token: token.into_owned(),
            platform: short("platform", MAX_PLATFORM_BYTES).unwrap_or_else(|| "unknown".to_owned()),
            device_id: short("device_id", MAX_ID_BYTES),
        })
    }
}

/// Whether `token` is one of Expo's: its name, and letters, digits, `_` and `-` in brackets.
fn is_expo_token(token: &str) -> bool {
    let inside = ["ExpoPushToken[", "ExponentPushToken["].iter().find_map(|name| token.strip_prefix(name));
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    token.len() <= MAX_PUSH_TOKEN_BYTES
        && inside
            .and_then(|rest| rest.strip_suffix(']'))
            .is_some_and(|inside| !inside.is_empty() && inside.bytes().all(plain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn parse(body: &Value) -> Result<PushToken, PushTokenError> {
        PushToken::parse(body.to_string().as_bytes())
    }

    fn token(token: &str) -> Value {
        json!({"vault_id": "vault_demo01", "token": token})
    }

    #[test]
    fn a_token_is_read_with_what_the_phone_tells() {
        let read = parse(&token("ExpoPushToken[a_B-9]")).unwrap();
        assert_eq!((read.platform.as_str(), read.device_id), ("unknown", None));
        let mut told = token("ExponentPushToken[x]");
        told["platform"] = "ios".into();
        told["device_id"] = "phone".into();
        let read = parse(&told).unwrap();
        assert_eq!((read.platform.as_str(), read.device_id.as_deref()), ("ios", Some("phone")));
        told["platform"] = "p".repeat(MAX_PLATFORM_BYTES + 1).into();
        assert_eq!(parse(&told).unwrap().platform, "unknown");
    }

    #[test]
    fn only_the_two_spellings_of_expo_are_tokens() {
        let long = format!("ExpoPushToken[{}]", "x".repeat(MAX_PUSH_TOKEN_BYTES));
        for bad in [
            "x",
            "ExpoPushToken[]",
            "ExpoPushToken[a b]",
            "ExpoPushToken[a",
            "ExpoPushToken[a]]",
            "expopushtoken[a]",
            " ExpoPushToken[a]",
            &long,
        ] {
            assert_eq!(parse(&token(bad)), Err(PushTokenError::UnsupportedFormat), "{bad}");
        }
    }

    #[test]
    fn what_is_missing_or_too_long_is_said() {
        for body in [json!(null), json!({"token": "x"}), json!({"vault_id": "v"}), token("")] {
            assert_eq!(parse(&body), Err(PushTokenError::Missing), "{body}");
        }
        let mut long = token("ExpoPushToken[a]");
        long["vault_id"] = "v".repeat(MAX_ID_BYTES + 1).into();
        assert_eq!(parse(&long), Err(PushTokenError::VaultIdTooLong));
    }

    proptest! {
        #[test]
        fn any_token_is_read_or_refused(text in "(Expo(nent)?PushToken)?\\[?\\PC{0,20}\\]?") {
            if let Ok(read) = parse(&token(&text)) {
                prop_assert_eq!(read.token, text);
            }
        }
    }
}
