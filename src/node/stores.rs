//! The stores that the configuration asks for.

use std::sync::Arc;

use crate::config::{Config, StorageBackend};
use crate::observe::metrics::StoreMetrics;
use crate::store::{Mailboxes, MemoryMailboxes, MemoryRecords, Records, RocksOptions, RocksStore, StoreError};

/// Memory for records when they are not on disk, in bytes.
const MEMORY_RECORDS: usize = 256 << 20;

/// Both contracts; with RocksDB they are one store.
pub struct Stores {
    pub records: Arc<dyn Records>,
    pub mailboxes: Arc<dyn Mailboxes>,
    /// The store that outlives the node, if there is one.
    pub durable: Option<Arc<RocksStore>>,
}

impl Stores {
    pub fn open(config: &Config, metrics: &StoreMetrics) -> Result<Self, StoreError> {
        Ok(match config.storage {
            StorageBackend::Memory => Self {
                records: Arc::new(MemoryRecords::new(MEMORY_RECORDS)),
                mailboxes: Arc::new(MemoryMailboxes::default()),
                durable: None,
            },
            StorageBackend::RocksDb => {
                let path = config.data_dir.join("store");
                let store = Arc::new(RocksStore::open_with(&path, options(config), metrics.clone())?);
                Self { records: store.clone(), mailboxes: store.clone(), durable: Some(store) }
            }
        })
    }
}

fn options(config: &Config) -> RocksOptions {
    RocksOptions {
        block_cache_bytes: config.rocksdb.cache_bytes,
        write_buffer_bytes: config.rocksdb.write_buffer_bytes,
        reserve_bytes: config.rocksdb.reserve_bytes,
        ..RocksOptions::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::domain::clock::Millis;
    use crate::domain::mailbox::{Full, MailboxKey, MessageKey, Quota, SenderKey};
    use crate::store::{Moment, NewBlob, Put};

    fn open(dir: &std::path::Path, more: &[(&str, &str)]) -> Stores {
        let pairs = [("RELAY_DATA_DIR", dir.to_str().unwrap())];
        let config = Config::from_pairs(pairs.into_iter().chain(more.iter().copied())).unwrap();
        Stores::open(&config, &StoreMetrics::default()).unwrap()
    }

    async fn put(stores: &Stores) -> Put {
        let blob = NewBlob {
            mailbox: MailboxKey::blobs("m"),
            message: MessageKey::of("s", "m", "1"),
            rank: 0,
            from: SenderKey([1; 16]),
            header: Bytes::new(),
            receipt: Bytes::new(),
            body: Bytes::from_static(b"body"),
        };
        let quota = Quota { blobs: None, bytes: None, sender_blobs: None, sender_bytes: None, total_bytes: u64::MAX };
        stores.mailboxes.put(blob, quota, Moment { now: Millis(1_000), horizon: Millis(0) }).await.unwrap()
    }

    /// RocksDB writes into its log what it was opened with.
    #[test]
    fn rocksdb_gets_the_memory_that_is_set() {
        let dir = tempfile::tempdir().unwrap();
        let more = [("RELAY_ROCKSDB_CACHE_BYTES", "3145728"), ("RELAY_ROCKSDB_WRITE_BUFFER_BYTES", "10485760")];
        drop(open(dir.path(), &more));
        let log = std::fs::read_to_string(dir.path().join("store/LOG")).unwrap();
        assert!(log.contains("capacity : 3145728"), "{log}");
        assert!(log.contains("Options.write_buffer_size: 5242880"), "{log}");
    }

    #[tokio::test]
    async fn blobs_leave_the_reserve_free() {
        let full = tempfile::tempdir().unwrap();
        let stores = open(full.path(), &[("RELAY_DISK_RESERVE_BYTES", "1125899906842624")]);
        assert_eq!(put(&stores).await, Put::Refused(Full::Disk));
        let free = tempfile::tempdir().unwrap();
        let stores = open(free.path(), &[("RELAY_DISK_RESERVE_BYTES", "0")]);
        assert!(matches!(put(&stores).await, Put::Stored(_)));
    }

    #[tokio::test]
    async fn memory_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let stores = open(dir.path(), &[("RELAY_STORAGE_BACKEND", "memory")]);
        assert!(matches!(put(&stores).await, Put::Stored(_)));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
