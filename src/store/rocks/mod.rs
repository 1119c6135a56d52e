//! The durable backend: one RocksDB, one line of changes to it.
//!
//! | file | holds |
//! |---|---|
//! | `options` | every RocksDB option, and the memory they add up to |
//! | `open` | opening a directory, and refusing one that is not ours, damaged or of another format |
//! | `database` | the open RocksDB: reads, and one synced write of many changes |
//! | `engine` | the database as the committing threads see it: opened again after a write has failed |
//! | `commit` | group commit: gathers changes, writes them once, answers everybody |
//! | `reserve` | how much of the disk is left for new blobs |
//! | `records`, `codec` | [`Records`](super::Records) in these terms, and as bytes |
//! | `backup`, `verify` | a copy as of one moment, and whether one is sound |
//! | `mailboxes` | what the rules of the mailboxes need, in these terms |
//!
//! **Where reads run.** A record is read on the caller's thread: nearly all find their key in a memtable or the
//! block cache, or learn from a bloom filter that it is not there, in a few microseconds, which is less than a hop
//! to another thread costs; a miss costs one read of the disk. What may touch many blocks, or a large blob, runs on
//! the blocking pool.

mod backup;
mod codec;
mod commit;
mod database;
mod engine;
mod mailboxes;
mod open;
mod options;
mod records;
mod reserve;
#[cfg(test)]
mod tests;
mod verify;

use std::path::Path;
use std::sync::Arc;

use self::commit::Committer;
use self::database::Database;
use self::engine::RocksEngine;
use self::reserve::Reserve;
use super::StoreError;
use super::backend::{Size, Swept, Verdict};
use crate::observe::metrics::StoreMetrics;

pub use options::RocksOptions;
pub use verify::{Soundness, verify};

/// A durable store in one directory, open in one process at a time.
///
/// Dropping it waits until every change handed to it is on disk and answered, then closes the files (the last
/// scan still running on the blocking pool closes them if it outlives the store).
pub struct RocksStore {
    committer: Committer,
    engine: Arc<RocksEngine>,
    reserve: Reserve,
    swept: Swept,
}

impl RocksStore {
    /// Opens the store in `path` with the [default](RocksOptions::DEFAULT) options: see [`RocksStore::open_with`].
    ///
    /// # Errors
    ///
    /// As [`RocksStore::open_with`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, RocksOptions::DEFAULT, StoreMetrics::default())
    }

    /// Opens the store in `path`, and creates it if the directory is missing or empty; its writes are counted in `metrics`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Locked`], [`StoreError::Corrupt`], [`StoreError::NotAStore`], [`StoreError::WrongFormat`] or
    /// [`StoreError::Open`]. A directory with anything else in it is never taken for an empty store.
    pub fn open_with(path: &Path, options: RocksOptions, metrics: StoreMetrics) -> Result<Self, StoreError> {
        let reserve = Reserve::new(path, options.reserve_bytes);
        let engine = Arc::new(RocksEngine::open(path, options)?);
        let committer = Committer::start(engine.clone(), metrics)
            .map_err(|error| StoreError::Open { path: path.to_owned(), detail: error.to_string() })?;
        Ok(Self { committer, engine, reserve, swept: Swept::default() })
    }

    /// The database, for one read.
    async fn database(&self) -> Result<Arc<Database>, StoreError> {
        if let Some(database) = self.engine.database() {
            return Ok(database);
        }
        // The committing thread is opening it again, or does so now.
        self.committer.commit(Size { writes: 0, bytes: 0 }, |_| Ok(Verdict::Discard(()))).await?;
        self.engine.database().ok_or_else(|| self.engine.failing())
    }

    /// Runs a read that may touch many blocks on the blocking pool.
    async fn read_blocking<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Database) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let database = self.database().await?;
        tokio::task::spawn_blocking(move || read(&database)).await.map_err(|_| StoreError::Stopped)?
    }
}
