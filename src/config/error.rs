//! What is wrong with a configuration: everything at once, so that one run is enough to mend it.

use std::fmt;
use std::path::PathBuf;

use super::origin::Origin;
use super::setting::Setting;

/// One thing that is wrong. No secret is ever part of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A value outside its range. `given` says what was given, unless it is a secret.
    #[error("{setting} must be {accepted}: {origin} gives {given}")]
    Invalid {
        /// The setting's name.
        setting: &'static str,
        /// What it accepts.
        accepted: String,
        /// Where the value came from.
        origin: Origin,
        /// The value in quotes, or that it is not shown.
        given: String,
    },
    /// A setting that must have a value has none.
    #[error("{setting} must be set: {accepted}")]
    Missing {
        /// The setting's name.
        setting: &'static str,
        /// What it accepts.
        accepted: String,
    },
    /// Two names of one setting, in one layer, with different values.
    #[error("{setting}: {first} and {second} disagree; set only one of them")]
    Conflict {
        /// The setting's name.
        setting: &'static str,
        /// One name and its layer.
        first: Origin,
        /// The other.
        second: Origin,
    },
    /// An environment variable that is not text.
    #[error("{name} must be UTF-8 text")]
    NotText {
        /// The setting's name.
        setting: &'static str,
        /// The variable.
        name: String,
    },
    /// The configuration file cannot be read.
    #[error("cannot read the configuration file {path}: {reason}; check --config and RELAY_CONFIG")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The configuration file is not TOML.
    #[error("the configuration file {path} is not TOML: {reason}")]
    NotToml {
        /// The file.
        path: PathBuf,
        /// Where it stops being TOML.
        reason: String,
    },
    /// The configuration file has a key that is no setting.
    #[error("{key} in {path} is no setting; `waystation serve --help` lists them all")]
    UnknownKey {
        /// The key.
        key: String,
        /// The file.
        path: PathBuf,
    },
    /// The layers cannot be merged.
    #[error("the settings cannot be merged: {reason}")]
    Merge {
        /// What the merging library says.
        reason: String,
    },
    /// A send queue that cannot hold one message.
    #[error("RELAY_SEND_QUEUE_BYTES ({queue}) must be at least RELAY_MAX_MESSAGE_SIZE plus {margin} ({least})")]
    QueueTooSmall {
        /// The queue, in bytes.
        queue: u64,
        /// The room for framing, in bytes.
        margin: u64,
        /// The least that will do, in bytes.
        least: u64,
    },
    /// A secret is given twice.
    #[error("set {direct} or {file}, not both")]
    TwoSecrets {
        /// The setting with the secret.
        direct: &'static str,
        /// The setting with its file.
        file: &'static str,
    },
    /// Other clusters are on other machines, with nothing to tell them from strangers.
    #[error(
        "{setting} must stay on loopback, without TLS, or set RELAY_FEDERATION_TLS_CERT, RELAY_FEDERATION_TLS_KEY and \
         RELAY_FEDERATION_TLS_CA, or RELAY_FEDERATION_SECRET"
    )]
    FederationNeedsProof {
        /// The setting with the address.
        setting: &'static str,
    },
    /// A part of what TLS between clusters needs.
    #[error("set RELAY_FEDERATION_TLS_CERT, RELAY_FEDERATION_TLS_KEY and RELAY_FEDERATION_TLS_CA together")]
    HalfFederationTls,
    /// Two settings of the federation that say opposite things.
    #[error("set {one} or {other}, not both: {reason}")]
    FederationContradiction {
        /// One of them.
        one: &'static str,
        /// The other.
        other: &'static str,
        /// Why not both.
        reason: &'static str,
    },
    /// Keys of certificates without certificates.
    #[error("RELAY_FEDERATION_PINS is about certificates: set RELAY_FEDERATION_TLS_CERT as well")]
    PinsWithoutTls,
    /// Blobs would be taken in that are moved on at once.
    #[error("RELAY_FEDERATION_OFFLOAD_THRESHOLD must be less than RELAY_FEDERATION_OFFLOAD_REFUSE")]
    OffloadRatios,
    /// A file that a setting names cannot be used.
    #[error("{setting} {path}: {reason}")]
    NamedFile {
        /// The setting's name.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An address that others can reach, with nothing to tell them from strangers.
    #[error("{setting} must be a loopback address such as 127.0.0.1, or set RELAY_CLUSTER_SECRET")]
    NeedsSecret {
        /// The setting with the address.
        setting: &'static str,
    },
    /// A port for administration that strangers can reach, with nothing to tell them from operators.
    #[error(
        "RELAY_ADMIN_ADDR must be a loopback address such as 127.0.0.1, or set RELAY_ADMIN_TOKEN_FILE, or \
         RELAY_ADMIN_TLS_CERT, RELAY_ADMIN_TLS_KEY and RELAY_ADMIN_TLS_CA"
    )]
    NeedsAdminProof,
    /// A part of what TLS of the port for administration needs.
    #[error(
        "set RELAY_ADMIN_TLS_CERT and RELAY_ADMIN_TLS_KEY together; RELAY_ADMIN_TLS_CA comes besides them or not at all"
    )]
    HalfAdminTls,
    /// Credentials for a TURN server that is nowhere.
    #[error("set RELAY_TURN_PUBLIC_HOST: clients that get credentials for TURN must be told where it is")]
    NeedsTurnHost,
    /// An address that says nothing about where others find this node.
    #[error("set RELAY_ADVERTISE_HOST: {setting} is an unspecified address, which other nodes cannot use")]
    NeedsAdvertiseHost {
        /// The setting with the address.
        setting: &'static str,
    },
}

impl ConfigError {
    /// The setting whose value is missing from the layers because of this error.
    pub(super) fn faulty_setting(&self) -> Option<&'static str> {
        match self {
            Self::Invalid { setting, .. } | Self::Conflict { setting, .. } | Self::NotText { setting, .. } => {
                Some(setting)
            }
            _ => None,
        }
    }

    /// That the file at `path`, which `setting` names, cannot be used.
    pub(super) fn named_file(setting: &Setting, path: PathBuf, reason: String) -> Self {
        Self::NamedFile { setting: setting.name, path, reason }
    }

    /// That `given` is none of the values of `setting`.
    pub(super) fn invalid(setting: &Setting, accepted: String, origin: Origin, given: &str) -> Self {
        let given = if setting.is_secret() { "something else (not shown)".to_owned() } else { format!("{given:?}") };
        Self::Invalid { setting: setting.name, accepted, origin, given }
    }
}

/// Everything that is wrong with a configuration, one a line when printed; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}
