//! Bounds on what clients may use.

use std::num::NonZeroU32;
use std::time::Duration;

use super::error::ConfigError;
use super::table;
use super::values::Values;

/// Bounds on what clients may use of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Client connections at one time.
    pub max_connections: usize,
    /// Client connections from one address at one time.
    pub address_max_connections: usize,
    /// HTTP requests and connection attempts from one address, per minute.
    pub address_rate: NonZeroU32,
    /// Frames on one connection, per minute.
    pub connection_rate: NonZeroU32,
    /// The largest message or request body from a client, in bytes.
    pub max_message_size: usize,
    /// What may wait to be written to one connection, in bytes; more than the largest message.
    pub send_queue_bytes: usize,
    /// How long one write to a client may take.
    pub write_timeout: Duration,
    /// How long a client may take to say who it is.
    pub handshake_timeout: Duration,
    /// Agent connections without traffic and without pending requests are closed after this.
    pub idle_timeout: Duration,
    /// Addresses that the limiters remember.
    pub tracked_addresses: usize,
}

impl Limits {
    pub(super) fn read(values: &Values) -> Result<Self, ConfigError> {
        Ok(Self {
            max_connections: values.integer(&table::MAX_CONNECTIONS)?,
            address_max_connections: values.integer(&table::ADDRESS_MAX_CONNECTIONS)?,
            address_rate: values.non_zero(&table::ADDRESS_RATE_LIMIT)?,
            connection_rate: values.non_zero(&table::CONNECTION_RATE_LIMIT)?,
            max_message_size: values.integer(&table::MAX_MESSAGE_SIZE)?,
            send_queue_bytes: values.integer(&table::SEND_QUEUE_BYTES)?,
            write_timeout: values.duration(&table::WRITE_TIMEOUT_SECS)?,
            handshake_timeout: values.duration(&table::HANDSHAKE_TIMEOUT_SECS)?,
            idle_timeout: values.duration(&table::IDLE_TIMEOUT_MS)?,
            tracked_addresses: values.integer(&table::TRACKED_ADDRESSES)?,
        })
    }
}
