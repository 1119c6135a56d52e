//! Settings of what operators see and keep: figures, the disk, the relay's Noise key.

use std::net::SocketAddr;

use super::error::ConfigError;
use super::parse;
use super::secret::Secret;
use super::table;
use super::values::Values;
use crate::security::noise::StaticKey;

/// Who may read the figures, and where.
#[derive(Debug, Clone)]
pub struct MetricsConfig {
    /// A second port for them; `None`: there is none. Port 0 picks a free one.
    pub listen: Option<SocketAddr>,
    /// What whoever asks must show; `None`: nothing.
    pub token: Option<Secret>,
    /// Whether they are on the port for clients.
    pub public: bool,
}

/// What RocksDB may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RocksConfig {
    /// Memory for what was read from the disk, in bytes.
    pub cache_bytes: usize,
    /// Memory for changes that are not yet in sorted files, in bytes.
    pub write_buffer_bytes: usize,
    /// What new blobs leave free on the disk, in bytes.
    pub reserve_bytes: u64,
}

/// How mailbox clients may hide what they say from a proxy in front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoiseConfig {
    /// The relay's key; `None`: it is derived from the cluster secret, or kept in the data folder.
    pub key: Option<StaticKey>,
    /// Whether clients must.
    pub required: bool,
}

impl MetricsConfig {
    pub(super) fn read(values: &Values) -> Result<Self, ConfigError> {
        Ok(Self {
            listen: values.optional_address(&table::METRICS_ADDR),
            token: values.optional(&table::METRICS_TOKEN, parse::token)?,
            public: values.required(&table::PUBLIC_METRICS, parse::boolean)?,
        })
    }
}

impl RocksConfig {
    pub(super) fn read(values: &Values) -> Result<Self, ConfigError> {
        Ok(Self {
            cache_bytes: values.integer(&table::ROCKSDB_CACHE_BYTES)?,
            write_buffer_bytes: values.integer(&table::ROCKSDB_WRITE_BUFFER_BYTES)?,
            reserve_bytes: values.integer(&table::DISK_RESERVE_BYTES)?,
        })
    }
}

impl NoiseConfig {
    pub(super) fn read(values: &Values) -> Result<Self, ConfigError> {
        Ok(Self {
            key: values.optional(&table::NOISE_STATIC_KEY, parse::noise_key)?,
            required: values.required(&table::REQUIRE_NOISE_ENCRYPTION, parse::boolean)?,
        })
    }
}
