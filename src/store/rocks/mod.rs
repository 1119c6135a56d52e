//! The durable backend: one RocksDB, one thread that writes to it.
//!
//! | file | holds |
//! |---|---|
//! | `options` | every RocksDB option, and the memory they add up to |
//! | `open` | opening a directory, and refusing one that is not ours, damaged or of another format |
//! | `database` | the open RocksDB: reads, and one synced write of many changes |
//! | `commit` | group commit: gathers changes, writes them once, answers everybody |
//! | `stage` | what a change in a group sees: the database under everything staged before it |
//! | `records` | [`Records`](super::Records) in these terms |
//! | `codec` | records and expiry index as bytes |
//!
//! **Where reads run.** A `get` runs on the caller's thread: nearly all find their key in a memtable or the block
//! cache, or learn from a bloom filter that it is not there, in a few microseconds, which is less than a hop to
//! another thread costs; a miss costs one read of the disk. A `scan` or `sweep` may touch many blocks, so it runs
//! on the blocking pool.

mod codec;
mod commit;
mod database;
mod open;
mod options;
mod records;
mod stage;

use std::path::Path;
use std::sync::Arc;

use self::commit::Committer;
use self::database::Database;
use super::StoreError;

/// A durable store in one directory, open in one process at a time.
///
/// Dropping it waits until every change handed to it is on disk and answered, then closes the files (the last
/// scan still running on the blocking pool closes them if it outlives the store).
pub struct RocksStore {
    committer: Committer,
    database: Arc<Database>,
}

impl RocksStore {
    /// Opens the store in `path`, and creates it if the directory is missing or empty.
    ///
    /// # Errors
    ///
    /// [`StoreError::Locked`], [`StoreError::Corrupt`], [`StoreError::NotAStore`], [`StoreError::WrongFormat`] or
    /// [`StoreError::Open`]. A directory with anything else in it is never taken for an empty store.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let database = Arc::new(open::open(path)?);
        let committer = Committer::start(database.clone())
            .map_err(|error| StoreError::Open { path: path.to_owned(), detail: error.to_string() })?;
        Ok(Self { committer, database })
    }

    /// Runs a read that may touch many blocks on the blocking pool.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Database) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let database = self.database.clone();
        tokio::task::spawn_blocking(move || read(&database)).await.map_err(|_| StoreError::Stopped)?
    }
}
