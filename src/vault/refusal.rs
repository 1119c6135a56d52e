//! Why a request is refused or given up, with the sheet's codes and messages (sections 8 and 15a).

use std::time::Duration;

use crate::domain::ids::{RequestId, VaultId};

/// Why a request is refused or given up. `Display` is the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The vault is connected nowhere.
    #[error("Vault {0} is not connected")]
    NotConnected(VaultId),
    /// The vault's limit; and how long until it has room.
    #[error("Rate limit exceeded for vault {0}. Try again in {secs} seconds.", secs = whole_seconds(*.1))]
    VaultLimit(VaultId, Duration),
    /// The limit of the agent's address; and how long until it has room.
    #[error("Rate limit exceeded for your address. Try again in {} seconds.", whole_seconds(*.0))]
    AddressLimit(Duration),
    /// No room for another request.
    #[error("Failed to store message")]
    Full,
    /// The node that has the vault cannot be reached, or this one is stopping.
    #[error("The relay cannot reach the vault's node; try again")]
    Unavailable,
    /// Its time is over.
    #[error("Message has expired")]
    Expired,
    /// Not known here (HTTP).
    #[error("Request not found or expired")]
    Unknown,
    /// The same request waits already (HTTP).
    #[error("Duplicate request_id: {0}")]
    Duplicate(RequestId),
}

impl Refusal {
    /// The error code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotConnected(_) => "RELAY_VAULT_NOT_CONNECTED",
            Self::VaultLimit(..) | Self::AddressLimit(_) => "RELAY_RATE_LIMITED",
            Self::Full | Self::Unavailable => "RELAY_UNAVAILABLE",
            Self::Expired => "RELAY_MESSAGE_EXPIRED",
            Self::Unknown => "RELAY_TIMEOUT",
            Self::Duplicate(_) => "RELAY_DUPLICATE_REQUEST",
        }
    }
}

/// Seconds, rounded up.
#[must_use]
pub fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}
