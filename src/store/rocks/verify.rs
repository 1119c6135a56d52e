//! Whether a store that nobody has open is sound: every byte of it is read, against the checksums that RocksDB wrote
//! with it, every entry is understood, and the counts are compared with what they count. Nothing in it is changed.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::codec::{decode_expiry, decode_record};
use super::{RocksOptions, open};
use crate::store::StoreError;
use crate::store::mailboxes::Audit;
use crate::store::stage::{Family, Scan};

/// Entries and bytes after which progress is told, whichever comes first.
const TELL: (u64, u64) = (4096, 4 << 20);

/// Most things that are wrong of which is told.
const MAX_DAMAGE: usize = 20;

/// Memory for what is read: it is read once.
const CACHE_BYTES: usize = 4 << 20;

/// The longest rest between two looks at the disk.
const MAX_REST: Duration = Duration::from_millis(100);

/// What was found in a store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Soundness {
    /// What is wrong, a line each: the first [`MAX_DAMAGE`] things.
    pub damage: Vec<String>,
    /// Entries that were read.
    pub entries: u64,
    /// How many there are, as RocksDB estimates.
    pub expected: u64,
    /// The bytes of their keys and values.
    pub bytes: u64,
    /// Records among them.
    pub records: u64,
    /// Blobs.
    pub blobs: u64,
    /// Mailboxes that hold any.
    pub mailboxes: u64,
}

impl Soundness {
    fn add(&mut self, damage: String) {
        if self.damage.len() < MAX_DAMAGE {
            self.damage.push(damage);
        }
    }
}

/// Reads the store in `path` from end to end. `tell` hears how far it is, and answers whether to go on; the reading
/// rests as long as it works, so that others get the disk too. Blocks.
///
/// # Errors
/// [`StoreError::NotAStore`], [`StoreError::Open`], and [`StoreError::Stopped`] if `tell` does not want more. What is
/// wrong with a store that is there is in the [`Soundness`].
pub fn verify(path: &Path, mut tell: impl FnMut(&Soundness) -> bool) -> Result<Soundness, StoreError> {
    let mut found = Soundness::default();
    let own = RocksOptions { block_cache_bytes: CACHE_BYTES, ..RocksOptions::DEFAULT };
    let database = match open::open_read_only(path, &own) {
        Ok(database) => database,
        Err(StoreError::Corrupt { detail, .. }) => {
            found.add(detail);
            return Ok(found);
        }
        Err(error @ StoreError::WrongFormat { .. }) => {
            found.add(error.to_string());
            return Ok(found);
        }
        Err(error) => return Err(error),
    };
    found.expected = Family::ALL.iter().map(|family| database.estimate(*family)).sum();
    let (mut audit, mut told, mut working) = (Audit::default(), (0, 0), Instant::now());
    for family in Family::ALL {
        let before = found.entries;
        let read = database.scan(*family, &[], None, &mut |key, value| {
            found.entries += 1;
            found.bytes += (key.len() + value.len()) as u64;
            if let Err(error) = understand(&mut audit, *family, key, value) {
                found.add(format!("{}: {error}", family.name()));
            }
            found.records += u64::from(*family == Family::Records);
            (found.blobs, found.mailboxes) = (audit.blobs, audit.mailboxes);
            if found.entries - told.0 >= TELL.0 || found.bytes - told.1 >= TELL.1 {
                told = (found.entries, found.bytes);
                if !tell(&found) {
                    return Err(StoreError::Stopped);
                }
                std::thread::sleep(working.elapsed().min(MAX_REST));
                working = Instant::now();
            }
            Ok(true)
        });
        match read {
            Ok(()) => {}
            Err(StoreError::Stopped) => return Err(StoreError::Stopped),
            // Of sorted files RocksDB names the file; of a body it knows only where it was looking for it.
            Err(StoreError::Read { detail }) => {
                found.add(format!("{}, behind {} entries: {detail}", family.name(), found.entries - before));
            }
            Err(error) => found.add(format!("{}: {error}", family.name())),
        }
    }
    if found.damage.is_empty() {
        audit.disagreements().into_iter().for_each(|line| found.add(line));
    }
    Ok(found)
}

fn understand(audit: &mut Audit, family: Family, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
    match family {
        Family::Records => decode_record(Bytes::copy_from_slice(value)).map(drop),
        Family::RecordsExpiry => decode_expiry(key).map(drop),
        _ => audit.see(family, key, value),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::domain::clock::Millis;
    use crate::domain::mailbox::{MailboxKey, MessageKey, Quota, SenderKey};
    use crate::store::{Mailboxes, Moment, NewBlob, Put, Record, Records, RocksStore};

    const NOW: Millis = Millis(1_000);
    const QUOTA: Quota =
        Quota { blobs: None, bytes: None, sender_blobs: None, sender_bytes: None, total_bytes: u64::MAX };

    /// A store with a record, two small blobs and a large one; and a copy of it.
    async fn stores() -> (TempDir, RocksStore, std::path::PathBuf) {
        let directory = TempDir::new().unwrap();
        let store = RocksStore::open(&directory.path().join("store")).unwrap();
        Records::put(&store, "k".into(), Record::lasting("v"), NOW).await.unwrap();
        for (id, bytes) in [("1", 10), ("2", 20), ("3", 4096)] {
            let mailbox = MailboxKey::blobs(id);
            let blob = NewBlob {
                mailbox,
                message: MessageKey::of("s", id, id),
                rank: 0,
                from: SenderKey([1; 16]),
                header: Bytes::new(),
                receipt: Bytes::new(),
                body: vec![7; bytes].into(),
            };
            let at = Moment { now: NOW, horizon: Millis(0) };
            assert!(matches!(Mailboxes::put(&store, blob, QUOTA, at).await, Ok(Put::Stored(_))));
        }
        let copy = directory.path().join("copy");
        store.checkpoint(copy.clone()).await.unwrap();
        (directory, store, copy)
    }

    fn files(path: &Path, suffix: &str) -> Vec<std::path::PathBuf> {
        let all = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        all.filter(|path| path.to_str().unwrap().ends_with(suffix)).collect()
    }

    /// Flips a byte of a file; the copy alone must change, so its link is cut first.
    fn damage(path: &Path, at: usize) {
        let mut bytes = fs::read(path).unwrap();
        bytes[at] ^= 0xff;
        fs::remove_file(path).unwrap();
        fs::write(path, bytes).unwrap();
    }

    #[tokio::test]
    async fn a_copy_is_sound_and_stays_as_it_is_whatever_happens_to_the_store() {
        let (_directory, store, copy) = stores().await;
        Records::put(&store, "later".into(), Record::lasting("v"), NOW).await.unwrap();
        let found = verify(&copy, |_| true).unwrap();
        assert_eq!((found.damage.as_slice(), found.records, found.blobs, found.mailboxes), (&[][..], 1, 3, 3));
        assert!(found.bytes > 4096 && found.entries >= 4 && found.expected > 0, "{found:?}");
        let opened = RocksStore::open(&copy).unwrap();
        assert!(
            Records::get(&opened, b"k", NOW).await.unwrap().is_some()
                && Records::get(&opened, b"later", NOW).await.unwrap().is_none()
        );
        assert_eq!(opened.usage().await.unwrap().blobs, 3);
    }

    #[tokio::test]
    async fn damage_is_told_with_where_it_is() {
        for (suffix, at, told) in [(".sst", 2, ".sst"), (".blob", 1000, "blobs, behind ")] {
            let (_directory, store, copy) = stores().await;
            for file in files(&copy, suffix) {
                damage(&file, at);
            }
            let found = verify(&copy, |_| true).unwrap();
            assert!(!found.damage.is_empty(), "{suffix}");
            assert!(found.damage.iter().any(|line| line.contains(told)), "{:?}", found.damage);
            drop(store);
        }
    }

    #[tokio::test]
    async fn a_file_that_is_missing_is_damage_and_what_is_no_store_an_error() {
        let (directory, _store, copy) = stores().await;
        let missing = files(&copy, ".sst").remove(0);
        fs::remove_file(&missing).unwrap();
        let found = verify(&copy, |_| true).unwrap();
        let name = missing.file_name().unwrap().to_str().unwrap();
        assert!(found.damage.iter().any(|line| line.contains(name)), "{:?}", found.damage);
        let elsewhere = directory.path().join("elsewhere");
        assert!(verify(&elsewhere, |_| true).is_err() && !elsewhere.exists());
    }

    #[tokio::test]
    async fn counts_that_are_wrong_are_damage() {
        let (_directory, _store, copy) = stores().await;
        let database = open::open(&copy, &RocksOptions::DEFAULT).unwrap();
        let ages = database.rocks().cf_handle(Family::Ages.name()).unwrap();
        let first = database.rocks().iterator_cf(ages, rocksdb::IteratorMode::Start).next().unwrap().unwrap().0;
        database.rocks().delete_cf(ages, first).unwrap();
        drop(database);
        let found = verify(&copy, |_| true).unwrap();
        assert_eq!(found.damage, ["blobs in the order by age: 2, where 3 are right"]);
    }
}
