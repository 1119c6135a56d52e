//! A disk that fills up for real: a small file system in memory. Mounting one takes root; without it these tests
//! say that they were skipped.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::{AT, mailbox, message, page, put};
use crate::domain::clock::Millis;
use crate::domain::mailbox::Full;
use crate::observe::metrics::StoreMetrics;
use crate::store::{Mailboxes, Put, Record, Records, RocksOptions, RocksStore, StoreError};

const DISK: &str = "size=192m";

const OPTIONS: RocksOptions =
    RocksOptions { write_buffer_bytes: 8 << 20, reserve_bytes: 0, retry: Duration::ZERO, ..RocksOptions::DEFAULT };

/// A file system of its own.
struct Disk {
    directory: TempDir,
}

impl Disk {
    fn mount() -> Option<Self> {
        let directory = TempDir::new().unwrap();
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", DISK, "tmpfs"]).arg(directory.path()).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self { directory });
        }
        eprintln!("SKIPPED: a small disk could not be mounted; run this test as root to have it fill up");
        None
    }

    fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    /// Takes all the room there is, but for `left` bytes.
    fn fill(&self, left: u64) -> PathBuf {
        let filler = self.directory.path().join("filler");
        let mut file = File::create(&filler).unwrap();
        let chunk = vec![0; 1 << 20];
        while free(self.directory.path()) > left + chunk.len() as u64 {
            file.write_all(&chunk).unwrap();
        }
        if left == 0 {
            while file.write_all(&chunk[..4096]).is_ok() {}
        }
        filler
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a failing test may still have files open.
        drop(Command::new("umount").arg("-l").arg(self.directory.path()).status());
    }
}

fn free(path: &Path) -> u64 {
    super::super::reserve::free_bytes(path).unwrap()
}

/// Repeats a put until it is stored, for a minute at most.
async fn put_until_stored(store: &RocksStore, id: usize) {
    let stored = async {
        while !matches!(put(store, id, vec![1; 1000]).await, Ok(Put::Stored(_))) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), stored).await.expect("the store did not recover");
}

#[tokio::test]
async fn within_the_reserve_blobs_are_refused_and_everything_else_goes_on() {
    let Some(disk) = Disk::mount() else { return };
    let options = RocksOptions { reserve_bytes: 32 << 20, ..OPTIONS };
    let store = RocksStore::open_with(&disk.store(), options, StoreMetrics::default()).unwrap();
    for id in 0..3 {
        assert!(matches!(put(&store, id, vec![1; 100_000]).await, Ok(Put::Stored(_))));
    }
    drop(store);
    let filler = disk.fill(16 << 20);

    let store = RocksStore::open_with(&disk.store(), options, StoreMetrics::default()).unwrap();
    assert_eq!(put(&store, 3, vec![1; 1000]).await, Ok(Put::Refused(Full::Disk)));
    assert!(matches!(put(&store, 2, vec![1; 1000]).await, Ok(Put::Duplicate(_))));
    assert_eq!(page(&store).await.unwrap().blobs.len(), 3);
    let acked = store.ack(mailbox(), vec![message(0)], AT, Duration::from_secs(1)).await.unwrap();
    assert!(acked[0].is_some());
    assert_eq!(store.purge(mailbox(), Millis(u64::MAX), AT, Duration::from_secs(1)).await, Ok(2));

    fs::remove_file(filler).unwrap();
    put_until_stored(&store, 4).await;
}

#[tokio::test]
async fn a_write_that_finds_no_room_is_an_error_and_the_store_recovers_when_there_is_room() {
    let Some(disk) = Disk::mount() else { return };
    let store = RocksStore::open_with(&disk.store(), OPTIONS, StoreMetrics::default()).unwrap();
    for id in 0..50 {
        assert!(matches!(put(&store, id, vec![1; 20_000]).await, Ok(Put::Stored(_))));
    }
    let filler = disk.fill(0);

    // Records know no reserve. What lies in room that RocksDB had already taken may still succeed.
    let mut acknowledged = Vec::new();
    let failed = loop {
        let key = format!("k{}", acknowledged.len());
        match Records::put(&store, key.clone().into(), Record::lasting(vec![1; 50_000]), Millis(1)).await {
            Ok(()) => acknowledged.push(key),
            Err(error) => break error,
        }
        assert!(acknowledged.len() < 4_000, "the disk did not fill up");
    };
    assert!(matches!(failed, StoreError::Write { .. }), "{failed:?}");
    let again = Records::put(&store, "more".into(), Record::lasting("v"), Millis(1)).await;
    assert!(matches!(again, Err(StoreError::Write { .. } | StoreError::Failing { .. })), "{again:?}");
    assert_eq!(page(&store).await.unwrap().blobs.len(), 50, "reads did not go on");

    fs::remove_file(filler).unwrap();
    put_until_stored(&store, 50).await;
    assert_eq!(page(&store).await.unwrap().blobs.len(), 51);
    drop(store);
    let store = RocksStore::open_with(&disk.store(), OPTIONS, StoreMetrics::default()).unwrap();
    assert_eq!(page(&store).await.unwrap().blobs.len(), 51);
    for key in acknowledged {
        assert!(Records::get(&store, key.as_bytes(), Millis(1)).await.unwrap().is_some(), "{key} is lost");
    }
}
