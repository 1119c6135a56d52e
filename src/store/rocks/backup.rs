//! A copy of the store as of one moment, made while it is in use.

use std::path::{Path, PathBuf};

use rocksdb::checkpoint::Checkpoint;

use super::RocksStore;
use crate::store::StoreError;

impl RocksStore {
    /// The directory that it is in.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.engine.path()
    }

    /// Makes a copy of the whole store as of one moment in `target`, which must not be there, though its parent must.
    /// It is a store of its own. On the same disk sorted files and files of bodies are linked, and take no room;
    /// elsewhere they are copied.
    ///
    /// # Errors
    /// [`StoreError::Read`]; something may be left in `target` then.
    pub async fn checkpoint(&self, target: PathBuf) -> Result<(), StoreError> {
        self.read_blocking(move |database| {
            let failed = |error: rocksdb::Error| StoreError::Read { detail: error.to_string() };
            Checkpoint::new(database.rocks()).map_err(failed)?.create_checkpoint(&target).map_err(failed)
        })
        .await
    }
}
