//! Settings of the service for mailboxes.

use std::num::NonZeroU32;
use std::time::Duration;

use super::error::ConfigError;
use super::parse;
use super::table;
use super::values::Values;

/// Settings of the service for mailboxes.
#[derive(Debug, Clone, PartialEq)]
pub struct MailboxConfig {
    /// Messages of one identity, or of one name at one address, per minute.
    pub rate: NonZeroU32,
    /// Recovery proofs stored and asked for, per minute.
    pub recovery_rate: NonZeroU32,
    /// Blobs in one mailbox; `None`: no limit.
    pub max_blobs: Option<u64>,
    /// Bytes in one mailbox; `None`: no limit.
    pub max_bytes: Option<u64>,
    /// The share of these that one sender may fill, 0 to 1.
    pub sender_share: f64,
    /// Bytes in all mailboxes.
    pub total_bytes: u64,
    /// How long a blob waits.
    pub ttl: Duration,
    /// How often what has expired is deleted.
    pub cleanup_interval: Duration,
    /// How long a message that is done with is known.
    pub dedup_memory: Duration,
}

impl MailboxConfig {
    pub(super) fn read(values: &Values) -> Result<Self, ConfigError> {
        let unless_zero = |number: u64| (number > 0).then_some(number);
        Ok(Self {
            rate: values.non_zero(&table::RATE_LIMIT)?,
            recovery_rate: values.non_zero(&table::RECOVERY_RATE_LIMIT)?,
            max_blobs: unless_zero(values.integer(&table::MAX_BLOBS_PER_USER)?),
            max_bytes: unless_zero(values.integer(&table::MAX_STORAGE_PER_USER)?),
            sender_share: values.required(&table::MAX_SENDER_SHARE, parse::ratio)?,
            total_bytes: values.integer(&table::MAX_STORAGE_BYTES)?,
            ttl: values.duration(&table::BLOB_TTL_SECS)?,
            cleanup_interval: values.duration(&table::CLEANUP_INTERVAL)?,
            dedup_memory: values.duration(&table::DEDUP_MEMORY_SECS)?,
        })
    }
}
