//! The database as the committing threads see it: opened again by itself after a write has failed.
//!
//! After a write to its log has failed, RocksDB 11.8 takes no more writes. From a full disk it recovers by a thread
//! of its own, which flushes one family after the other; if the process dies meanwhile, a batch that was in the log
//! but not answered can be found in some families and not in others. From any other failure only `Resume` leads
//! back, which its C interface does not have. Opening the files again does for every failure, and replays the log
//! as a whole.
//!
//! Until then reads go on from what is open. Nobody can keep the files open meanwhile: readers hold on to the
//! database for one read only, and the one who finds it closed waits behind the committing thread.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use parking_lot::Mutex;

use super::database::Database;
use super::options::RocksOptions;
use super::{open, reserve};
use crate::runtime::backoff::Backoff;
use crate::store::StoreError;
use crate::store::stage::{Changes, Engine, Family, Lookup};

/// Longest wait between two attempts to open the files again.
const MAX_RETRY: Duration = Duration::from_secs(30);

/// Longest wait for the reads that are under way.
const MAX_READ: Duration = Duration::from_secs(10);

/// What opening the files takes besides writing the log's content out: a new manifest and the first of a new log.
const OPEN_BYTES: u64 = 4 << 20;

/// What is written for a trial; with a suffix that a first start takes no offence at.
const PROBE: &str = "probe.dbtmp";

/// How much is written for a trial: more than what a file system lays aside for its own records.
const PROBE_BYTES: usize = 1 << 20;

/// The files, open or about to be.
pub(super) struct RocksEngine {
    path: PathBuf,
    options: RocksOptions,
    /// `None` only while the committing thread opens the files again, or until it has managed to.
    database: ArcSwapOption<Database>,
    health: Mutex<Health>,
}

/// Whether a write can succeed.
struct Health {
    failure: Option<Failure>,
    /// Starts over once a write has succeeded.
    backoff: Backoff,
}

/// Why no write can succeed, and when to see whether one can again.
struct Failure {
    detail: String,
    retry: Instant,
}

impl Health {
    fn fail(&mut self, detail: String) {
        self.failure = Some(Failure { detail, retry: Instant::now() + self.backoff.next(1.0) });
    }
}

impl RocksEngine {
    /// Opens the files.
    pub(super) fn open(path: &Path, options: RocksOptions) -> Result<Self, StoreError> {
        let database = ArcSwapOption::from_pointee(open::open(path, &options)?);
        let backoff = Backoff::new(options.retry, MAX_RETRY.max(options.retry));
        let health = Mutex::new(Health { failure: None, backoff });
        Ok(Self { path: path.to_owned(), options, database, health })
    }

    /// The directory of the files.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The database, for one read; `None` while the files are closed.
    pub(super) fn database(&self) -> Option<Arc<Database>> {
        self.database.load_full()
    }

    fn use_database<T>(&self, work: impl FnOnce(&Database) -> Result<T, StoreError>) -> Result<T, StoreError> {
        match self.database() {
            Some(database) => work(&database),
            None => Err(self.failing()),
        }
    }

    /// The answer to whoever asks while nothing can be done.
    pub(super) fn failing(&self) -> StoreError {
        let health = self.health.lock();
        let detail = health.failure.as_ref().map_or("its files are being opened again", |failure| &failure.detail);
        StoreError::Failing { detail: detail.to_owned() }
    }

    fn reopen(&self) -> Result<(), String> {
        self.probe().map_err(|error| error.to_string())?;
        if let Some(database) = self.database.swap(None)
            && let Err(database) = alone(database)
        {
            self.database.store(Some(database));
            return Err("a read does not end".to_owned());
        }
        let database = open::open(&self.path, &self.options).map_err(|error| error.to_string())?;
        self.database.store(Some(Arc::new(database)));
        Ok(())
    }

    /// Whether the disk takes writes, and has room for what opening the files writes.
    fn probe(&self) -> io::Result<()> {
        let mut needed = OPEN_BYTES;
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if Path::new(&entry.file_name()).extension().is_some_and(|extension| extension == "log") {
                needed += entry.metadata()?.len();
            }
        }
        if reserve::free_bytes(&self.path)? < needed {
            return Err(io::Error::new(io::ErrorKind::StorageFull, format!("{needed} bytes must be free")));
        }
        let probe = self.path.join(PROBE);
        let mut file = File::create(&probe)?;
        let written = file.write_all(&vec![0; PROBE_BYTES]).and_then(|()| file.sync_all());
        fs::remove_file(&probe)?;
        written
    }
}

/// Closes the files once the last read is over; gives the database back if that takes too long.
fn alone(database: Arc<Database>) -> Result<(), Arc<Database>> {
    let end = Instant::now() + MAX_READ;
    while Arc::strong_count(&database) > 1 {
        if Instant::now() >= end {
            return Err(database);
        }
        thread::sleep(Duration::from_millis(1));
    }
    drop(database);
    Ok(())
}

impl Lookup for RocksEngine {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.use_database(|database| database.get(family, key))
    }
}

impl Engine for RocksEngine {
    fn ready(&self) -> Result<(), StoreError> {
        let retry = self.health.lock().failure.as_ref().map(|failure| failure.retry);
        let Some(retry) = retry else { return Ok(()) };
        if Instant::now() < retry {
            return Err(self.failing());
        }
        match self.reopen() {
            Ok(()) => {
                tracing::info!("the store is open again after a write had failed");
                self.health.lock().failure = None;
                Ok(())
            }
            Err(detail) => {
                tracing::warn!(detail, "the store still cannot write");
                self.health.lock().fail(detail);
                Err(self.failing())
            }
        }
    }

    fn write(&self, changes: &Changes) -> Result<(), StoreError> {
        let written = self.use_database(|database| database.write(changes));
        match &written {
            Ok(()) => self.health.lock().backoff.reset(),
            Err(StoreError::Write { detail }) => self.health.lock().fail(detail.clone()),
            Err(_) => {}
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::domain::clock::Millis;
    use crate::observe::metrics::StoreMetrics;
    use crate::store::{Record, Records, RocksStore};

    const NOW: Millis = Millis(1_000);
    const AT_ONCE: RocksOptions = RocksOptions { retry: Duration::ZERO, ..RocksOptions::DEFAULT };

    async fn store_with_one_record(path: &Path, options: RocksOptions) -> RocksStore {
        let store = RocksStore::open_with(path, options, StoreMetrics::default()).unwrap();
        store.put("before".into(), Record::lasting("v"), NOW).await.unwrap();
        store
    }

    #[tokio::test]
    async fn after_a_failed_write_the_files_are_opened_again() {
        let directory = TempDir::new().unwrap();
        let store = store_with_one_record(directory.path(), AT_ONCE).await;
        let before = Arc::downgrade(&store.engine.database().unwrap());
        store.engine.health.lock().fail("input/output error".to_owned());
        store.put("after".into(), Record::lasting("v"), NOW).await.unwrap();
        assert!(before.upgrade().is_none(), "the files were not closed");
        for key in ["before", "after"] {
            assert!(store.get(key.as_bytes(), NOW).await.unwrap().is_some(), "{key}");
        }
    }

    #[tokio::test]
    async fn until_it_is_time_to_try_again_writes_are_refused_and_reads_go_on() {
        let directory = TempDir::new().unwrap();
        let patient = RocksOptions { retry: Duration::from_secs(3600), ..RocksOptions::DEFAULT };
        let store = store_with_one_record(directory.path(), patient).await;
        store.engine.health.lock().fail("input/output error".to_owned());
        let refused = store.put("after".into(), Record::lasting("v"), NOW).await;
        assert_eq!(refused, Err(StoreError::Failing { detail: "input/output error".to_owned() }));
        assert!(store.get(b"before", NOW).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_reader_who_finds_the_files_closed_waits_until_they_are_open() {
        let directory = TempDir::new().unwrap();
        let store = store_with_one_record(directory.path(), AT_ONCE).await;
        store.engine.health.lock().fail("input/output error".to_owned());
        drop(store.engine.database.swap(None));
        assert!(store.get(b"before", NOW).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn files_that_cannot_be_opened_again_are_an_error_to_readers_until_they_can() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("store");
        let store = store_with_one_record(&path, AT_ONCE).await;
        store.engine.health.lock().fail("input/output error".to_owned());
        drop(store.engine.database.swap(None));
        let elsewhere = directory.path().join("elsewhere");
        fs::rename(&path, &elsewhere).unwrap();
        assert!(matches!(store.get(b"before", NOW).await, Err(StoreError::Failing { .. })));
        fs::rename(&elsewhere, &path).unwrap();
        assert!(store.get(b"before", NOW).await.unwrap().is_some());
    }
}
