//! The configuration: one [`table`] of settings, four layers that give them, one typed [`Config`].
//!
//! A layer wins over those before it: the defaults, a TOML file, the environment, flags. Each value is checked
//! in the layer that gives it, the rules between settings on what comes out, and all errors are reported
//! together, before any port opens.

mod admin;
mod check;
mod cluster;
mod error;
mod federation;
mod federation_proof;
mod gif;
mod gossip;
mod layer;
mod limits;
mod mailbox;
mod operator;
mod origin;
mod p2p;
mod parse;
mod roots;
mod secret;
mod setting;
mod shown;
mod sources;
pub mod table;
mod turn;
mod values;
mod vault;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use ipnet::IpNet;
use rustls::RootCertStore;

pub use admin::AdminConfig;
pub use cluster::ClusterConfig;
pub use error::{ConfigError, ConfigErrors};
pub use federation::{FederationConfig, PeerUrl};
pub use federation_proof::{FederationProof, Pins, Reach};
pub use gif::GifConfig;
pub use gossip::GossipConfig;
pub use limits::Limits;
pub use mailbox::MailboxConfig;
pub use operator::{MetricsConfig, NoiseConfig, RocksConfig};
pub use origin::{LayerKind, Origin};
pub use p2p::P2pConfig;
pub use parse::MIN_SECRET_BYTES;
pub use secret::Secret;
pub use setting::{Alias, Kind, Meaning, Setting, Unit};
pub use shown::Shown;
pub use sources::{FILE_VARIABLE, Sources, process_environment};
pub use turn::TurnConfig;
pub use vault::VaultConfig;

use values::Values;

/// Everything an operator can set, complete and checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where clients connect; port 0 picks a free one.
    pub listen: SocketAddr,
    /// The folder for everything that must outlive the process.
    pub data_dir: PathBuf,
    /// Where what is kept is stored.
    pub storage: StorageBackend,
    /// What RocksDB may use.
    pub rocksdb: RocksConfig,
    /// What is logged, and how.
    pub log: LogConfig,
    /// Who may read the figures, and where.
    pub metrics: MetricsConfig,
    /// The port for administration.
    pub admin: AdminConfig,
    /// Which traces are sent, and where.
    pub trace: TraceConfig,
    /// Whose certificates calls out of the relay accept, whatever they are for.
    pub outbound_roots: Arc<RootCertStore>,
    /// Bounds on what clients may use.
    pub limits: Limits,
    /// How long a stop waits for what is in flight; zero: exit at once.
    pub drain_timeout: Duration,
    /// Proxies whose word on the client's address is taken.
    pub trusted_proxies: Vec<IpNet>,
    /// Web origins, in lower case, that may call the HTTP interface; `*` alone: all of them.
    pub cors_origins: Vec<String>,
    /// The service for vaults.
    pub vault: VaultConfig,
    /// The service for mailboxes.
    pub mailbox: MailboxConfig,
    /// The service for libp2p peers.
    pub p2p: P2pConfig,
    /// The search for GIFs of libp2p peers.
    pub gif: GifConfig,
    /// TURN.
    pub turn: TurnConfig,
    /// Noise, for the clients of mailboxes.
    pub noise: NoiseConfig,
    /// This node among others.
    pub cluster: ClusterConfig,
    /// This cluster among others.
    pub federation: FederationConfig,
    /// Where the value of each setting came from, by the setting's name; settings without a value are left out.
    pub origins: BTreeMap<&'static str, Origin>,
    /// The value of each setting as it may be shown, by the setting's name; settings without a value are left out.
    pub shown: BTreeMap<&'static str, Shown>,
    /// Environment variables that start with `RELAY_` and are no settings, to warn of.
    pub unknown_variables: Vec<String>,
}

/// Where what is kept is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageBackend {
    /// On disk, in the data folder.
    RocksDb,
    /// In memory: forgotten at exit.
    Memory,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// A level, or directives for `tracing_subscriber::EnvFilter`, which accepts them.
    pub level: String,
    /// How lines are written.
    pub format: LogFormat,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Which traces are sent, and where.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceConfig {
    /// The OTLP collector, an `http` or `https` URL; `None`: no traces.
    pub endpoint: Option<Uri>,
    /// The share of traces that are sent, 0 to 1.
    pub sample_ratio: f64,
}

impl Config {
    /// Reads and checks the configuration.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn load(sources: &Sources) -> Result<Self, ConfigErrors> {
        let mut errors = Vec::new();
        let layers = sources.layers(&mut errors);
        let values = Values::merge(layers, &errors)?;
        errors.extend(check::send_queue(&values).err());
        errors.extend(federation::check_ratios(&values).err());
        let secret = check::secret(&values, &table::CLUSTER_SECRET, &table::CLUSTER_SECRET_FILE);
        let (federation, roots) = (FederationProof::read(&values), roots::read(&values));
        let (admin, gif) = (AdminConfig::read(&values), GifConfig::read(&values));
        errors.extend(check::cluster(&values, !matches!(secret, Ok(None))));
        let turn = TurnConfig::read(&values);
        match (secret, federation, roots, admin, gif, turn) {
            (Ok(cluster), Ok(federation), Ok(roots), Ok(admin), Ok(gif), Ok(turn)) if errors.is_empty() => {
                let from_files = FromFiles { cluster, federation, roots, admin, gif, turn };
                Ok(Self::read(&values, from_files, sources.unknown_variables())?)
            }
            (secret, federation, roots, admin, gif, turn) => {
                errors.extend(secret.err().into_iter().chain(roots.err()).chain(gif.err()).chain(turn.err()));
                errors.extend(federation.err().into_iter().chain(admin.err()).flatten());
                Err(ConfigErrors(errors))
            }
        }
    }

    /// The defaults with `pairs` as the environment, and no file: for tests and demonstrations.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, ConfigErrors> {
        let environment = pairs.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        Self::load(&Sources { environment, ..Sources::default() })
    }

    fn read(values: &Values, from_files: FromFiles, unknown_variables: Vec<String>) -> Result<Self, ConfigError> {
        Ok(Self {
            listen: values.address(&table::LISTEN_ADDR)?,
            data_dir: values.required(&table::DATA_DIR, parse::path)?,
            storage: values.required(&table::STORAGE_BACKEND, StorageBackend::read)?,
            rocksdb: RocksConfig::read(values)?,
            metrics: MetricsConfig::read(values)?,
            log: LogConfig {
                level: values.required(&table::LOG_LEVEL, parse::log_filter)?,
                format: values.required(&table::LOG_FORMAT, LogFormat::read)?,
            },
            trace: TraceConfig {
                endpoint: values.optional(&table::OTLP_ENDPOINT, parse::url)?,
                sample_ratio: values.required(&table::TRACE_SAMPLE_RATIO, parse::ratio)?,
            },
            admin: from_files.admin,
            outbound_roots: from_files.roots,
            limits: Limits::read(values)?,
            drain_timeout: values.duration(&table::DRAIN_TIMEOUT_SECS)?,
            trusted_proxies: values.optional(&table::TRUSTED_PROXIES, parse::networks)?.unwrap_or_default(),
            cors_origins: values.optional(&table::CORS_ORIGINS, parse::origins)?.unwrap_or_default(),
            vault: VaultConfig::read(values)?,
            mailbox: MailboxConfig::read(values)?,
            p2p: P2pConfig::read(values)?,
            gif: from_files.gif,
            turn: from_files.turn,
            noise: NoiseConfig::read(values)?,
            cluster: ClusterConfig::read(values, from_files.cluster)?,
            federation: FederationConfig::read(values, from_files.federation)?,
            origins: values.origins(),
            shown: values.shown(),
            unknown_variables,
        })
    }
}

/// What may come from files.
struct FromFiles {
    cluster: Option<Secret>,
    federation: FederationProof,
    roots: Arc<RootCertStore>,
    admin: AdminConfig,
    gif: GifConfig,
    turn: TurnConfig,
}

impl StorageBackend {
    fn read(text: &str) -> Option<Self> {
        match text {
            "rocksdb" => Some(Self::RocksDb),
            "memory" => Some(Self::Memory),
            _ => None,
        }
    }
}

impl LogFormat {
    fn read(text: &str) -> Option<Self> {
        match text {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
