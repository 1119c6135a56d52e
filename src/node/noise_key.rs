//! The node's Noise key: the operator's, else the cluster's, else one made at the first start and kept in the data
//! directory.

use std::io::{self, ErrorKind};
use std::path::PathBuf;

use crate::config::{Config, StorageBackend};
use crate::security::cluster_secret::{ClusterSecret, SecretError};
use crate::security::file;
use crate::security::noise::{KeyError, PAIR_BYTES, StaticKey};

/// The file in the data directory, as the original relay has it: the private half of the key, then the public one.
pub(super) const FILE: &str = "relay_noise_key.bin";

/// Where the file is written before it takes its name, so that a crash leaves a whole one or none.
const UNFINISHED: &str = "relay_noise_key.tmp";

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum NoiseKeyError {
    /// The file cannot be read or written.
    #[error("{path}: {source}; make the data directory (RELAY_DATA_DIR) writable, or set RELAY_NOISE_STATIC_KEY")]
    File {
        /// The file.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// The file holds no key. It is not replaced: clients know the key that was in it.
    #[error("{path} {source}; restore it from a copy, or delete it and give clients the new key that is then made")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: KeyError,
    },
    /// The cluster's key could not be derived.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// No key could be made.
    #[error("a Noise key {0}")]
    Key(#[from] KeyError),
}

/// The key of this node. Nodes of a cluster that has a secret have the same one.
///
/// # Errors
/// [`NoiseKeyError`].
pub fn noise_key(config: &Config, secret: &ClusterSecret) -> Result<StaticKey, NoiseKeyError> {
    if let Some(key) = &config.noise.key {
        return Ok(key.clone());
    }
    if secret.protects() {
        return Ok(StaticKey::from_private(secret.noise_key(&config.cluster.cluster_id)?)?);
    }
    if config.storage == StorageBackend::Memory {
        return Ok(StaticKey::from_private(rand::random())?);
    }
    let path = config.data_dir.join(FILE);
    let failed = |source| NoiseKeyError::File { path: path.clone(), source };
    match file::read_some(&path, PAIR_BYTES as u64 + 1) {
        Ok(bytes) => {
            StaticKey::from_bytes(&bytes).map_err(|source| NoiseKeyError::Damaged { path: path.clone(), source })
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let key = StaticKey::from_private(rand::random())?;
            file::write_private(&config.data_dir, FILE, UNFINISHED, &key.to_bytes()).map_err(failed)?;
            Ok(key)
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;

    const SECRET: &[u8] = b"0123456789abcdef";

    fn config(dir: &Path, more: &[(&str, &str)]) -> Config {
        let pairs = [("RELAY_DATA_DIR", dir.to_str().unwrap())];
        Config::from_pairs(pairs.into_iter().chain(more.iter().copied())).unwrap()
    }

    fn alone(dir: &Path) -> Result<StaticKey, NoiseKeyError> {
        noise_key(&config(dir, &[]), &ClusterSecret::unprotected())
    }

    #[test]
    fn a_key_is_made_once_and_kept_where_nobody_else_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("new");
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join(UNFINISHED), "what a crash has left").unwrap();
        let first = alone(&data).unwrap();
        assert_eq!(alone(&data).unwrap(), first);
        let file = data.join(FILE);
        assert_eq!(std::fs::read(&file).unwrap(), first.to_bytes());
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(&data).unwrap().count(), 1);
        assert_ne!(alone(dir.path()).unwrap(), first);
    }

    #[test]
    fn a_damaged_file_is_reported_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        for bad in [&[][..], &[7; PAIR_BYTES - 1], &[7; PAIR_BYTES], &[7; 1000]] {
            std::fs::write(&path, bad).unwrap();
            let error = alone(dir.path()).unwrap_err().to_string();
            assert!(error.contains(FILE) && error.contains("restore it"), "{error}");
            assert_eq!(std::fs::read(&path).unwrap(), bad);
        }
    }

    #[test]
    fn nodes_with_one_secret_have_one_key_and_no_file() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let secret = ClusterSecret::from_text(SECRET).unwrap();
        let key = noise_key(&config(one.path(), &[]), &secret).unwrap();
        assert_eq!(noise_key(&config(other.path(), &[]), &secret).unwrap(), key);
        let elsewhere = config(other.path(), &[("RELAY_CLUSTER_ID", "another")]);
        assert_ne!(noise_key(&elsewhere, &secret).unwrap(), key);
        assert_eq!(std::fs::read_dir(one.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_operators_key_wins_over_the_secret_and_the_file() {
        use base64::Engine;

        let dir = tempfile::tempdir().unwrap();
        alone(dir.path()).unwrap();
        let key = StaticKey::from_private([7; 32]).unwrap();
        let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(key.to_bytes());
        let config = config(dir.path(), &[("RELAY_NOISE_STATIC_KEY", &text)]);
        for secret in [ClusterSecret::unprotected(), ClusterSecret::from_text(SECRET).unwrap()] {
            assert_eq!(noise_key(&config, &secret).unwrap(), key);
        }
    }

    #[test]
    fn memory_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), &[("RELAY_STORAGE_BACKEND", "memory")]);
        noise_key(&config, &ClusterSecret::unprotected()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
