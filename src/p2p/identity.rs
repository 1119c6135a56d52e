//! The relay's libp2p key. Its peer id is in the settings of every client, so a key is made once and never replaced.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use libp2p::identity::{KeyType, Keypair};

use crate::security::file;

/// The file in the data directory: the protobuf message `PrivateKey` of libp2p, 68 bytes for Ed25519.
pub const FILE: &str = "p2p_keypair";

/// Where the file is written before it takes its name, so that a crash leaves a whole one or none.
const UNFINISHED: &str = "p2p_keypair.tmp";

/// Bytes of an Ed25519 key in that form.
const KEY_BYTES: usize = 68;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("{path}: {source}; make it readable, and the data directory (RELAY_DATA_DIR) writable")]
    File {
        /// The file.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// The file holds no key. It is not replaced: clients know the relay by the key that was in it.
    #[error(
        "{path} holds no Ed25519 key of libp2p; restore it from a copy, or delete it and give clients the new address"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

/// The key in the data directory, else in the first other file that exists; else a new one, kept in the data directory.
/// And where it lies.
///
/// # Errors
/// [`KeyError`].
pub fn kept(folder: &Path, fallbacks: &[PathBuf]) -> Result<(Keypair, PathBuf), KeyError> {
    let own = folder.join(FILE);
    for path in std::iter::once(&own).chain(fallbacks) {
        match file::read_some(path, KEY_BYTES as u64 + 1) {
            Ok(bytes) => {
                let key = decode(&bytes).ok_or_else(|| KeyError::Damaged { path: path.clone() })?;
                tracing::info!("loaded existing keypair from {}", path.display());
                return Ok((key, path.clone()));
            }
            Err(source) if source.kind() == ErrorKind::NotFound => {}
            Err(source) => return Err(KeyError::File { path: path.clone(), source }),
        }
    }
    let key = Keypair::generate_ed25519();
    let failed = |source| KeyError::File { path: own.clone(), source };
    let bytes = key.to_protobuf_encoding().map_err(|error| failed(io::Error::other(error)))?;
    file::write_private(folder, FILE, UNFINISHED, &bytes).map_err(failed)?;
    tracing::info!("saved new keypair to {}", own.display());
    Ok((key, own))
}

/// The files in which the Dusk relay keeps its key: below the data folder of the user, or else the working directory.
#[must_use]
pub fn dusk_files(variable: impl Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    let data = variable("XDG_DATA_HOME").filter(|path| Path::new(path).is_absolute()).map(PathBuf::from);
    let home = variable("HOME").filter(|path| !path.is_empty()).map(|home| Path::new(&home).join(".local/share"));
    match data.or(home) {
        Some(folder) => vec![folder.join("dusk-relay").join("keypair")],
        None => vec![PathBuf::from("relay_keypair")],
    }
}

/// The key that these bytes are, if they are one of Ed25519.
fn decode(bytes: &[u8]) -> Option<Keypair> {
    let key = Keypair::from_protobuf_encoding(bytes).ok()?;
    (bytes.len() == KEY_BYTES && key.key_type() == KeyType::Ed25519).then_some(key)
}

/// Where the relay's key is.
#[derive(Debug, Clone)]
pub enum KeyPlace {
    /// In the data directory, or, if there is none yet, where the Dusk relay would have it.
    Kept {
        /// The data directory.
        folder: PathBuf,
        /// Files that are looked for then.
        fallbacks: Vec<PathBuf>,
    },
    /// Nowhere: it is made anew.
    Memory,
}

impl KeyPlace {
    /// The key.
    pub(super) fn open(&self) -> Result<Keypair, KeyError> {
        match self {
            Self::Kept { folder, fallbacks } => Ok(kept(folder, fallbacks)?.0),
            Self::Memory => Ok(Keypair::generate_ed25519()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn peer(kept: Result<(Keypair, PathBuf), KeyError>) -> String {
        kept.unwrap().0.public().to_peer_id().to_base58()
    }

    #[test]
    fn a_key_is_made_once_in_the_form_of_libp2p_and_nobody_else_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("new");
        let first = peer(kept(&data, &[]));
        assert_eq!(peer(kept(&data, &[])), first);
        let bytes = std::fs::read(data.join(FILE)).unwrap();
        assert_eq!((bytes.len(), &bytes[..4]), (KEY_BYTES, &[0x08, 0x01, 0x12, 0x40][..]));
        assert_eq!(data.join(FILE).metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(&data).unwrap().count(), 1);
    }

    #[test]
    fn a_key_of_the_dusk_relay_is_used_where_it_lies() {
        let (dusk, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let key = Keypair::generate_ed25519();
        let file = dusk.path().join("keypair");
        std::fs::write(&file, key.to_protobuf_encoding().unwrap()).unwrap();
        let (found, path) = kept(data.path(), std::slice::from_ref(&file)).unwrap();
        assert_eq!((found.public(), path), (key.public(), file.clone()));
        assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 0);
        // Its own file comes first.
        let own = peer(kept(data.path(), &[]));
        assert_eq!(peer(kept(data.path(), &[file])), own);
    }

    #[test]
    fn a_damaged_file_is_reported_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let whole = Keypair::generate_ed25519().to_protobuf_encoding().unwrap();
        let mut torn = whole.clone();
        torn[10] ^= 1;
        let long = [&whole[..], &[0]].concat();
        for bad in [&[][..], &whole[..67], &torn, &long, &[7; 68]] {
            std::fs::write(&path, bad).unwrap();
            let error = kept(dir.path(), &[]).unwrap_err().to_string();
            assert!(error.contains(FILE) && error.contains("restore it"), "{error}");
            assert_eq!(std::fs::read(&path).unwrap(), bad);
        }
    }

    #[test]
    fn the_dusk_relays_file_is_where_its_user_keeps_data() {
        let of = |xdg: Option<&str>, home: Option<&str>| {
            dusk_files(|name| if name == "HOME" { home } else { xdg }.map(str::to_owned))
        };
        assert_eq!(of(Some("/data"), Some("/root")), [PathBuf::from("/data/dusk-relay/keypair")]);
        assert_eq!(of(None, Some("/root")), [PathBuf::from("/root/.local/share/dusk-relay/keypair")]);
        assert_eq!(of(Some("relative"), None), [PathBuf::from("relay_keypair")]);
    }
}
