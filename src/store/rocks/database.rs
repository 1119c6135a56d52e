//! The open RocksDB: looking up, walking along the keys, and one synced write of many changes.

use bytes::Bytes;
use rocksdb::{ColumnFamily, DBWithThreadMode, ReadOptions, SingleThreaded, WriteBatch};

use super::options::synced;
use crate::store::StoreError;
use crate::store::stage::{Changes, Family, Lookup, Scan, Visit};

/// RocksDB with families that are all there from its opening on.
pub(super) type Rocks = DBWithThreadMode<SingleThreaded>;

/// An open database.
pub(super) struct Database {
    rocks: Rocks,
}

impl Database {
    /// Takes over a RocksDB that was opened with [`options`](super::options::options).
    pub(super) fn new(rocks: Rocks) -> Self {
        Self { rocks }
    }

    /// RocksDB itself.
    pub(super) fn rocks(&self) -> &Rocks {
        &self.rocks
    }

    /// How many entries a family has, as RocksDB estimates.
    pub(super) fn estimate(&self, family: Family) -> u64 {
        let estimate = self.handle(family).ok().and_then(|handle| {
            self.rocks.property_int_value_cf(handle, rocksdb::properties::ESTIMATE_NUM_KEYS).ok().flatten()
        });
        estimate.unwrap_or(0)
    }

    /// Writes all changes or none; durable when it answers `Ok`.
    ///
    /// The bytes of a blob are copied here into the batch, by RocksDB into the log's buffer and a memtable, and by the
    /// system into its cache. Before, they were copied once, to stand behind the header.
    pub(super) fn write(&self, changes: &Changes) -> Result<(), StoreError> {
        let mut batch = WriteBatch::with_capacity_bytes(changes.batch_bytes());
        let mut handles = [None; Family::ALL.len()];
        for (family, key, value) in changes.iter() {
            let handle = match handles[family as usize] {
                Some(handle) => handle,
                None => *handles[family as usize].insert(self.handle(family)?),
            };
            match value {
                Some(value) => batch.put_cf(handle, key, value.as_slice()),
                None => batch.delete_cf(handle, key),
            }
        }
        self.rocks.write_opt(batch, &synced()).map_err(|error| StoreError::Write { detail: error.to_string() })
    }

    fn handle(&self, family: Family) -> Result<&ColumnFamily, StoreError> {
        let missing = || StoreError::Read { detail: format!("column family {} is missing", family.name()) };
        self.rocks.cf_handle(family.name()).ok_or_else(missing)
    }
}

impl Lookup for Database {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.rocks.get_cf(self.handle(family)?, key).map_err(read_error)?.map(Bytes::from))
    }
}

impl Scan for Database {
    fn scan(&self, family: Family, from: &[u8], below: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let mut options = ReadOptions::default();
        if let Some(below) = below {
            options.set_iterate_upper_bound(below);
        }
        let mut entries = self.rocks.raw_iterator_cf_opt(self.handle(family)?, options);
        entries.seek(from);
        while let Some((key, value)) = entries.item() {
            if !visit(key, value)? {
                return Ok(());
            }
            entries.next();
        }
        // Without this, what cannot be read would look like the end.
        entries.status().map_err(read_error)
    }
}

fn read_error(error: rocksdb::Error) -> StoreError {
    StoreError::Read { detail: error.to_string() }
}
