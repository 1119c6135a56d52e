//! The node's id: the operator's, or one made at the first start and kept in the data directory.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use crate::config::{Config, StorageBackend};
use crate::domain::ids::{NodeId, NotAName};

/// The file in the data directory.
pub(super) const FILE: &str = "node_id";

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read or written.
    #[error("{path}: {source}; make the data directory (RELAY_DATA_DIR) writable, or set RELAY_NODE_ID")]
    File {
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

/// The id of this node.
///
/// # Errors
/// [`IdentityError`].
pub fn node_id(config: &Config) -> Result<NodeId, IdentityError> {
    if let Some(id) = &config.cluster.node_id {
        return Ok(id.clone());
    }
    let path = config.data_dir.join(FILE);
    let damaged = |source| IdentityError::Damaged { path: path.clone(), source };
    let fresh = format!("node-{:016x}", rand::random::<u64>());
    if config.storage == StorageBackend::Memory {
        return fresh.parse().map_err(damaged);
    }
    let file = |source| IdentityError::File { path: path.clone(), source };
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
    }

    #[test]
    fn a_damaged_file_is_reported_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), "two words").unwrap();
        let error = node_id(&config(dir.path())).unwrap_err().to_string();
        assert!(error.contains("holds no node id"), "{error}");
        assert_eq!(std::fs::read_to_string(dir.path().join(FILE)).unwrap(), "two words");
    }
}
