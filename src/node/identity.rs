//! The node's ids: the operator's, or ones made at the first start and kept in the data directory.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use crate::config::{Config, StorageBackend};
use crate::domain::ids::{NodeId, NotAName};

/// The file in the data directory that holds the node's name in its cluster.
pub(super) const NODE_FILE: &str = "node_id";

/// The file that holds its name among clusters.
pub(super) const RELAY_FILE: &str = "relay_id";

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read or written.
    #[error("{path}: {source}; make the data directory (RELAY_DATA_DIR) writable, or set {setting}")]
    File {
        /// What gives an id without a file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What failed.
        source: std::io::Error,
    },
    /// The file holds no id. It is not replaced.
    #[error("{path} holds no node id: it {source}; restore it, or delete it to get a new id")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What an id is.
        source: NotAName,
    },
}

/// The name of this node in its cluster.
///
/// # Errors
/// [`IdentityError`].
pub fn node_id(config: &Config) -> Result<NodeId, IdentityError> {
    let fresh = format!("node-{:016x}", rand::random::<u64>());
    config.cluster.node_id.clone().map_or_else(|| kept(config, NODE_FILE, "RELAY_NODE_ID", &fresh), Ok)
}

/// The name of this node among clusters.
///
/// # Errors
/// [`IdentityError`].
pub fn relay_id(config: &Config) -> Result<NodeId, IdentityError> {
    let fresh = uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string();
    let given = config.federation.relay_id.clone();
    given.map_or_else(|| kept(config, RELAY_FILE, "RELAY_FEDERATION_RELAY_ID", &fresh), Ok)
}

/// The id in a file, which is made with `fresh` if there is none.
fn kept(config: &Config, name: &str, setting: &'static str, fresh: &str) -> Result<NodeId, IdentityError> {
    let path = config.data_dir.join(name);
    let damaged = |source| IdentityError::Damaged { path: path.clone(), source };
    if config.storage == StorageBackend::Memory {
        return fresh.parse().map_err(damaged);
    }
    let file = |source| IdentityError::File { setting, path: path.clone(), source };
    match std::fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(damaged),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            std::fs::create_dir_all(&config.data_dir).map_err(file)?;
            let mut options = std::fs::OpenOptions::new();
            let mut out = options.write(true).create_new(true).mode(0o600).open(&path).map_err(file)?;
            out.write_all(fresh.as_bytes()).and_then(|()| out.sync_all()).map_err(file)?;
            fresh.parse().map_err(damaged)
        }
        Err(error) => Err(file(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &std::path::Path) -> Config {
        Config::from_pairs([("RELAY_DATA_DIR", dir.to_str().unwrap())]).unwrap()
    }

    #[test]
    fn an_id_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let first = node_id(&config(dir.path())).unwrap();
        assert_eq!(node_id(&config(dir.path())).unwrap(), first);
        let relay = relay_id(&config(dir.path())).unwrap();
        assert_eq!(relay_id(&config(dir.path())).unwrap(), relay);
        assert_ne!(relay, first);
    }

    #[test]
    fn a_damaged_file_is_reported_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(NODE_FILE), "two words").unwrap();
        let error = node_id(&config(dir.path())).unwrap_err().to_string();
        assert!(error.contains("holds no node id"), "{error}");
        assert_eq!(std::fs::read_to_string(dir.path().join(NODE_FILE)).unwrap(), "two words");
    }
}
