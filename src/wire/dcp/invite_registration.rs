//! What a vault tells of an invite that it hands out (section 11.1). The invite itself never comes here.

use super::fields::Fields;
use crate::domain::ids::VaultId;
use crate::domain::limits::MAX_ID_BYTES;

/// Why a registration of an invite is refused. Displays as the `error` of the HTTP 400 body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InviteRegistrationError {
    /// The body is no JSON object, or a name is not there, empty, or no text.
    #[error("Missing invite_id or vault_id")]
    Missing,
    /// A name is longer than [`MAX_ID_BYTES`].
    #[error("invite_id or vault_id too long (max 256 bytes)")]
    TooLong,
}

/// Which vault made which invite, in the words of a caller who proves nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InviteRegistration {
    /// The invite.
    pub invite_id: String,
    /// The vault.
    pub vault_id: VaultId,
}

impl InviteRegistration {
    /// Reads the body of POST `/v1/invites/register`.
    ///
    /// # Errors
    /// [`InviteRegistrationError`] for the first check that fails.
    pub fn parse(body: &[u8]) -> Result<Self, InviteRegistrationError> {
        let fields = Fields::parse(body).ok_or(InviteRegistrationError::Missing)?;
        let (Some(invite_id), Some(vault_id)) = (fields.text("invite_id"), fields.text("vault_id")) else {
            return Err(InviteRegistrationError::Missing);
        };
        if invite_id.len() > MAX_ID_BYTES || vault_id.len() > MAX_ID_BYTES {
            return Err(InviteRegistrationError::TooLong);
        }
        Ok(Self { invite_id: invite_id.into_owned(), vault_id: VaultId::from(&*vault_id) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn parse(body: &serde_json::Value) -> Result<InviteRegistration, InviteRegistrationError> {
        InviteRegistration::parse(body.to_string().as_bytes())
    }

    #[test]
    fn both_names_are_read_or_refused() {
        let good = json!({"invite_id": "inv_0123456789abcdef", "vault_id": "vault_demo01", "more": 1});
        let expected = InviteRegistration { invite_id: "inv_0123456789abcdef".into(), vault_id: "vault_demo01".into() };
        assert_eq!(parse(&good), Ok(expected));
        for (field, value, error) in [
            ("invite_id", json!(""), InviteRegistrationError::Missing),
            ("vault_id", json!(7), InviteRegistrationError::Missing),
            ("vault_id", json!("v".repeat(MAX_ID_BYTES + 1)), InviteRegistrationError::TooLong),
            ("invite_id", json!("i".repeat(MAX_ID_BYTES + 1)), InviteRegistrationError::TooLong),
        ] {
            let mut bad = good.clone();
            bad[field] = value;
            assert_eq!(parse(&bad), Err(error), "{bad}");
        }
        assert_eq!(parse(&json!(null)), Err(InviteRegistrationError::Missing));
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_in_peace(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(InviteRegistration::parse(&bytes).is_err());
        }
    }
}
