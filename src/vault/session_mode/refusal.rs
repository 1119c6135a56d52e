//! Why a plain registration, a pair, or a frame of a session is refused.

use std::time::Duration;

use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::domain::ids::VaultId;
use crate::domain::limits::MAX_ID_BYTES;
use crate::vault::refusal::whole_seconds;
use crate::wire::dcp::session;

/// Why a plain registration or a pair is refused. `Display` is the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The operator has turned session mode off.
    #[error("Session mode is turned off: register with a signature")]
    Off,
    /// A key owns the name.
    #[error("vault_id belongs to a key: use signed registration and requests")]
    HasKey,
    /// The name is too long.
    #[error("vault_id too long (max {MAX_ID_BYTES} bytes)")]
    IdTooLong,
    /// The limit of the client's address; and how long until it has room.
    #[error("Rate limit exceeded for your address. Try again in {} seconds.", whole_seconds(*.0))]
    AddressLimit(Duration),
    /// A node that has to be asked does not answer.
    #[error("The relay cannot reach all of its nodes; try again")]
    Unavailable,
    /// The vault is registered nowhere in session mode.
    #[error("Vault {0} is not connected")]
    NotConnected(VaultId),
    /// The vault has as many sessions as it may.
    #[error("Vault {0} has as many sessions as it may; try again later")]
    Full(VaultId),
    /// The vault said no, with words of its own or without.
    #[error("{}", .0.as_deref().unwrap_or("The vault refused the pair"))]
    Refused(Option<String>),
    /// The vault said nothing.
    #[error("The vault did not answer the pair in time")]
    Timeout,
}

impl Refusal {
    /// The error code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Off | Self::HasKey | Self::IdTooLong => "RELAY_UNAUTHORIZED",
            Self::AddressLimit(_) => "RELAY_RATE_LIMITED",
            Self::Unavailable | Self::Full(_) => "RELAY_UNAVAILABLE",
            Self::NotConnected(_) => "RELAY_VAULT_NOT_CONNECTED",
            Self::Refused(_) => "RELAY_PAIR_REFUSED",
            Self::Timeout => "RELAY_TIMEOUT",
        }
    }

    /// One word for the figures.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::HasKey => "has_key",
            Self::IdTooLong => "id_too_long",
            Self::AddressLimit(_) => "address_limit",
            Self::Unavailable => "unavailable",
            Self::NotConnected(_) => "not_connected",
            Self::Full(_) => "full",
            Self::Refused(_) => "refused",
            Self::Timeout => "timeout",
        }
    }

    /// The error frame, about the vault of that name.
    #[must_use]
    pub fn frame(&self, vault: &str) -> Utf8Bytes {
        // A name that is too long is not said again.
        let about = (vault.len() <= MAX_ID_BYTES).then_some(("vault_id", vault));
        session::error(self.code(), &self.to_string(), about)
    }
}

/// The socket has no session of that name that would take such a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("This connection has no such session; it may have been closed")]
pub struct NoSession;

impl NoSession {
    /// The error code.
    pub const CODE: &'static str = "RELAY_SESSION_NOT_FOUND";
}
