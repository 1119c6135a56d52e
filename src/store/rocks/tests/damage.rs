//! Files that were cut or changed behind the store's back.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{message, page, put};
use crate::store::stage::Family;
use crate::store::{Put, RocksStore, StoreError};

/// Nothing else in the files looks like it.
const MARK: &[u8] = b"nothing else in the files looks like this";

fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

/// Flips a bit of the mark, in the one file of this kind that has it.
fn damage(directory: &Path, extension: &str) {
    let find = |bytes: &[u8]| bytes.windows(MARK.len()).position(|window| window == MARK);
    let mut found = files(directory, extension).into_iter().filter_map(|path| {
        let bytes = fs::read(&path).unwrap();
        find(&bytes).map(|at| (path, bytes, at))
    });
    let (path, mut bytes, at) = found.next().unwrap_or_else(|| panic!("no .{extension} file has the mark"));
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// A closed store with a blob that has a body of this many bytes, in its sorted files, and another in its log.
async fn store(body_bytes: usize) -> TempDir {
    let directory = TempDir::new().unwrap();
    let store = RocksStore::open(directory.path()).unwrap();
    let body = MARK.iter().copied().cycle().take(body_bytes).collect();
    assert!(matches!(put(&store, 1, body).await, Ok(Put::Stored(_))));
    let database = store.engine.database().unwrap();
    for family in Family::ALL {
        database.rocks().flush_cf(database.rocks().cf_handle(family.name()).unwrap()).unwrap();
    }
    assert!(matches!(put(&store, 2, b"whole".to_vec()).await, Ok(Put::Stored(_))));
    directory
}

#[tokio::test]
async fn a_flipped_bit_in_a_value_is_an_error_to_whoever_reads_it() {
    for (body_bytes, extension) in [(100, "sst"), (10_000, "blob")] {
        let directory = store(body_bytes).await;
        damage(directory.path(), extension);
        let store = RocksStore::open(directory.path()).unwrap();
        let read = page(&store).await;
        assert!(matches!(read, Err(StoreError::Read { .. })), "{extension}: {read:?}");
        assert!(matches!(put(&store, 3, b"new".to_vec()).await, Ok(Put::Stored(_))), "{extension}");
    }
}

#[tokio::test]
async fn a_log_that_is_cut_short_loses_what_was_cut_and_nothing_before_it() {
    let whole = TempDir::new().unwrap();
    let store = RocksStore::open(whole.path()).unwrap();
    for id in 0..5 {
        assert!(matches!(put(&store, id, vec![id as u8; 300]).await, Ok(Put::Stored(_))));
    }
    drop(store);
    let log = files(whole.path(), "log").pop().unwrap();
    let bytes = fs::read(&log).unwrap();
    let mut before = 5;
    for cut in [1, 10, 300, 700, 1_500] {
        let torn = TempDir::new().unwrap();
        for entry in fs::read_dir(whole.path()).unwrap().map(Result::unwrap) {
            fs::copy(entry.path(), torn.path().join(entry.file_name())).unwrap();
        }
        fs::write(torn.path().join(log.file_name().unwrap()), &bytes[..bytes.len() - cut]).unwrap();
        let store = RocksStore::open(torn.path()).unwrap();
        let left: Vec<_> = page(&store).await.unwrap().blobs.iter().map(|blob| blob.place.id.message()).collect();
        assert_eq!(left, (0..left.len()).map(message).collect::<Vec<_>>(), "{cut} bytes cut");
        assert!(left.len() < 5 && left.len() <= before && left.len() * 300 + cut >= 1_000, "{cut} bytes cut");
        before = left.len();
    }
}

#[tokio::test]
async fn a_log_that_is_damaged_before_its_end_is_not_passed_over() {
    let directory = TempDir::new().unwrap();
    let store = RocksStore::open(directory.path()).unwrap();
    for (id, body) in [b"before".to_vec(), MARK.to_vec(), b"after".to_vec()].into_iter().enumerate() {
        assert!(matches!(put(&store, id, body).await, Ok(Put::Stored(_))));
    }
    drop(store);
    damage(directory.path(), "log");
    let refused = RocksStore::open(directory.path()).err();
    assert!(matches!(refused, Some(StoreError::Corrupt { .. })), "{refused:?}");
}
