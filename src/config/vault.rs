//! Settings of the service for vaults.

use std::num::NonZeroU32;
use std::time::Duration;

use http::Uri;

use super::error::ConfigError;
use super::parse;
use super::table;
use super::values::Values;

/// Settings of the service for vaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultConfig {
    /// Requests to one vault, per minute.
    pub rate: NonZeroU32,
    /// How long requests wait for a vault that has just gone; zero: they do not.
    pub reconnect_grace: Duration,
    /// Whether the older flow of plain register and pair is served.
    pub session_mode: bool,
    /// Unanswered requests of one vault.
    pub max_pending: usize,
    /// Memory for pending requests and kept answers on this node, in bytes.
    pub records_bytes: usize,
    /// Where to ask for a push notification to a sleeping vault, an `http` or `https` URL; `None`: none is sent.
    pub push_url: Option<Uri>,
}

impl VaultConfig {
    pub(super) fn read(values: &Values) -> Result<Self, ConfigError> {
        Ok(Self {
            rate: values.non_zero(&table::VAULT_RATE_LIMIT)?,
            reconnect_grace: values.duration(&table::VAULT_RECONNECT_GRACE_SECS)?,
            session_mode: values.required(&table::VAULT_SESSION_MODE, parse::boolean)?,
            max_pending: values.integer(&table::VAULT_MAX_PENDING)?,
            records_bytes: values.integer(&table::VAULT_RECORDS_BYTES)?,
            push_url: values.optional(&table::VAULT_PUSH_URL, parse::url)?,
        })
    }
}
