//! Opening a directory. What is not certainly a store of ours, whole and of our format, is refused and left as
//! it is: a relay that starts empty over somebody's data has lost it as far as its clients can tell.

use std::fs;
use std::io;
use std::path::Path;

use rocksdb::{DB, DBWithThreadMode, ErrorKind, Options};

use super::database::Database;
use super::options::{RocksOptions, options, synced};
use crate::store::StoreError;
use crate::store::mailboxes::{REBUILDS, Rebuild};
use crate::store::stage::{Family, Scan};

/// The format this program writes. It grows with every change that an older program would misread.
const FORMAT: u32 = 4;

/// The formats without mailboxes, without blobs that move, and with an order by age that had one blob for each id, and an
/// entry for every sender's share. All but that order is read as it is.
pub(super) const OLDER: [&[u8]; 3] = [b"1", b"2", b"3"];

/// What stands for the format while an older one is being upgraded: no program takes what is half of one and half of
/// another for either, and this one begins again.
pub(super) const UPGRADING: &[u8] = b"on the way to 4";

/// Where the format is kept, in the default family, as decimal digits.
const FORMAT_KEY: &[u8] = b"format";

/// RocksDB's name for the file that says a database is here.
const CURRENT: &str = "CURRENT";

/// What a first start that was cut short may leave beside a missing `CURRENT`, and the file systems' own.
const HARMLESS: [&str; 6] = ["LOCK", "LOG", "IDENTITY", "MANIFEST-", "OPTIONS-", "lost+found"];

/// Opens the store in `path`; creates it if there is nothing.
pub(super) fn open(path: &Path, own: &RocksOptions) -> Result<Database, StoreError> {
    let (database, ours) = (open_as_it_is(path, own)?, FORMAT.to_string());
    match database.marker(FORMAT_KEY).map_err(|error| explain(path, &error))? {
        Some(format) if format == ours.as_bytes() => return Ok(database),
        Some(format) if format == UPGRADING || OLDER.contains(&&*format) => upgrade(&database, path, REBUILDS)?,
        Some(format) => return Err(wrong_format(path, String::from_utf8_lossy(&format).into_owned())),
        // No marker: a first start, or one that was cut short before it kept anything.
        None if database.is_empty()? => {}
        None => return Err(wrong_format(path, "unknown".to_owned())),
    }
    database.set_marker(FORMAT_KEY, ours.as_bytes()).map_err(|error| explain(path, &error))?;
    Ok(database)
}

/// The store in `path`, of whatever format it is.
pub(super) fn open_as_it_is(path: &Path, own: &RocksOptions) -> Result<Database, StoreError> {
    let found = families(path)?;
    let (database_options, descriptors) = options(&found, own).map_err(|error| explain(path, &error))?;
    let db = DBWithThreadMode::open_cf_descriptors(&database_options, path, descriptors)
        .map_err(|error| explain(path, &error))?;
    Ok(Database::new(db))
}

/// Writes anew what older formats wrote otherwise. What is broken off is done again, from the beginning, at the next
/// opening.
pub(super) fn upgrade(database: &Database, path: &Path, rebuilds: &[Rebuild]) -> Result<(), StoreError> {
    database.set_marker(FORMAT_KEY, UPGRADING).map_err(|error| explain(path, &error))?;
    for rebuild in rebuilds {
        let mut from = Some(Vec::new());
        while let Some(key) = from {
            let (changes, next) = rebuild(database, &key)?;
            if !changes.is_empty() {
                database.write(&changes)?;
            }
            from = next;
        }
    }
    Ok(())
}

/// Opens the store in `path` to be read only, and changes nothing that is in it. RocksDB leaves its own log beside it.
pub(super) fn open_read_only(path: &Path, own: &RocksOptions) -> Result<Database, StoreError> {
    if !path.join(CURRENT).exists() {
        let detail = "there is no store".to_owned();
        return Err(StoreError::Open { path: path.to_owned(), detail });
    }
    let found = families(path)?;
    let (mut database_options, descriptors) = options(&found, own).map_err(|error| explain(path, &error))?;
    database_options.create_if_missing(false);
    database_options.create_missing_column_families(false);
    let db = DBWithThreadMode::open_cf_descriptors_read_only(&database_options, path, descriptors, false)
        .map_err(|error| explain(path, &error))?;
    let database = Database::new(db);
    match database.marker(FORMAT_KEY).map_err(|error| explain(path, &error))? {
        Some(format) if format == FORMAT.to_string().as_bytes() => Ok(database),
        format => {
            let found = format.map_or_else(|| "unknown".into(), |format| String::from_utf8_lossy(&format).into_owned());
            Err(wrong_format(path, found))
        }
    }
}

/// The families on disk; none if the directory is missing, or holds nothing that anyone would miss.
fn families(path: &Path) -> Result<Vec<String>, StoreError> {
    if path.join(CURRENT).exists() {
        return DB::list_cf(&Options::default(), path).map_err(|error| explain(path, &error));
    }
    let refused = |error: io::Error| StoreError::Open { path: path.to_owned(), detail: error.to_string() };
    match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir_all(path).map_err(refused)?,
        Err(error) => return Err(refused(error)),
        Ok(entries) => {
            for entry in entries {
                let name = entry.map_err(refused)?.file_name().to_string_lossy().into_owned();
                let harmless = HARMLESS.iter().any(|prefix| name.starts_with(prefix)) || name.ends_with(".dbtmp");
                if !harmless {
                    return Err(StoreError::NotAStore { path: path.to_owned(), found: name });
                }
            }
        }
    }
    Ok(Vec::new())
}

fn wrong_format(path: &Path, found: String) -> StoreError {
    StoreError::WrongFormat { path: path.to_owned(), found, supported: FORMAT }
}

/// RocksDB's error in our terms.
fn explain(path: &Path, error: &rocksdb::Error) -> StoreError {
    let (path, detail) = (path.to_owned(), error.to_string());
    match error.kind() {
        // "While lock file: …/LOCK: Resource temporarily unavailable", or "lock hold by current process".
        ErrorKind::IOError if detail.contains("lock file") || detail.contains("lock hold") => {
            StoreError::Locked { path }
        }
        ErrorKind::Corruption => StoreError::Corrupt { path, detail },
        _ => StoreError::Open { path, detail },
    }
}

impl Database {
    /// Whether no family of ours holds anything.
    fn is_empty(&self) -> Result<bool, StoreError> {
        let mut empty = true;
        for family in Family::ALL {
            self.scan(*family, &[], None, &mut |_, _| {
                empty = false;
                Ok(false)
            })?;
        }
        Ok(empty)
    }

    fn marker(&self, key: &[u8]) -> Result<Option<Vec<u8>>, rocksdb::Error> {
        self.rocks().get(key)
    }

    /// The format that it says it has.
    #[cfg(test)]
    pub(super) fn format(&self) -> Option<Vec<u8>> {
        self.marker(FORMAT_KEY).unwrap()
    }

    /// Has it say that it has that format.
    #[cfg(test)]
    pub(super) fn set_format(&self, format: &[u8]) {
        self.set_marker(FORMAT_KEY, format).unwrap();
    }

    fn set_marker(&self, key: &[u8], value: &[u8]) -> Result<(), rocksdb::Error> {
        self.rocks().put_opt(key, value, &synced())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tempfile::TempDir;

    use super::*;
    use crate::domain::clock::Millis;
    use crate::store::{Record, Records, RocksStore};

    const NOW: Millis = Millis(1_000);

    fn refusal(path: &Path) -> StoreError {
        RocksStore::open(path).err().unwrap()
    }

    /// A closed store with one record in it.
    async fn store() -> TempDir {
        let directory = TempDir::new().unwrap();
        let store = RocksStore::open(directory.path()).unwrap();
        store.put("k".into(), Record::lasting("v"), NOW).await.unwrap();
        directory
    }

    fn files(path: &Path, suffix: &str) -> Vec<std::path::PathBuf> {
        let paths = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        paths.filter(|path| path.to_string_lossy().ends_with(suffix)).collect()
    }

    #[tokio::test]
    async fn what_was_acknowledged_is_there_after_reopening() {
        let directory = store().await;
        let store = RocksStore::open(directory.path()).unwrap();
        assert_eq!(store.get(b"k", NOW).await.unwrap().unwrap().value, Bytes::from("v"));
    }

    #[tokio::test]
    async fn a_store_in_use_is_locked() {
        let directory = TempDir::new().unwrap();
        let _holder = RocksStore::open(directory.path()).unwrap();
        assert_eq!(refusal(directory.path()), StoreError::Locked { path: directory.path().into() });
    }

    #[tokio::test]
    async fn another_format_is_refused_by_its_number() {
        let directory = store().await;
        let database = open(directory.path(), &RocksOptions::DEFAULT).unwrap();
        database.set_format(b"5");
        drop(database);
        assert!(matches!(refusal(directory.path()), StoreError::WrongFormat { found, .. } if found == "5"));
    }

    #[tokio::test]
    async fn records_without_a_format_are_not_taken_for_ours() {
        let directory = store().await;
        let database = open(directory.path(), &RocksOptions::DEFAULT).unwrap();
        database.rocks().delete(FORMAT_KEY).unwrap();
        drop(database);
        assert!(matches!(refusal(directory.path()), StoreError::WrongFormat { found, .. } if found == "unknown"));
    }

    #[tokio::test]
    async fn a_store_that_lost_its_current_file_is_not_taken_for_an_empty_one() {
        let directory = store().await;
        fs::remove_file(directory.path().join(CURRENT)).unwrap();
        assert!(matches!(refusal(directory.path()), StoreError::NotAStore { .. }));
    }

    #[tokio::test]
    async fn a_directory_of_other_files_is_left_alone() {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("thesis.tex"), "x").unwrap();
        assert!(matches!(refusal(directory.path()), StoreError::NotAStore { found, .. } if found == "thesis.tex"));
        assert_eq!(files(directory.path(), "").len(), 1);
    }

    #[tokio::test]
    async fn a_first_start_that_was_cut_short_can_be_repeated() {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("LOCK"), "").unwrap();
        fs::write(directory.path().join("MANIFEST-000001"), "").unwrap();
        RocksStore::open(directory.path()).unwrap();
    }

    #[tokio::test]
    async fn a_damaged_or_missing_file_is_corruption() {
        let directory = store().await;
        fs::write(files(directory.path(), "").iter().find(|file| is_manifest(file)).unwrap(), "not a manifest")
            .unwrap();
        assert!(matches!(refusal(directory.path()), StoreError::Corrupt { .. }));

        let directory = store().await;
        let database = open(directory.path(), &RocksOptions::DEFAULT).unwrap();
        for family in Family::ALL {
            database.rocks().flush_cf(database.rocks().cf_handle(family.name()).unwrap()).unwrap();
        }
        drop(database);
        files(directory.path(), ".sst").iter().for_each(|file| fs::remove_file(file).unwrap());
        assert!(matches!(refusal(directory.path()), StoreError::Corrupt { .. }), "{:?}", refusal(directory.path()));
    }

    fn is_manifest(path: &Path) -> bool {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("MANIFEST-"))
    }

    #[tokio::test]
    async fn a_file_where_the_directory_should_be_is_an_error_with_its_path() {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("store");
        fs::write(&file, "x").unwrap();
        assert!(matches!(refusal(&file), StoreError::Open { path, .. } if path == file));
    }
}
