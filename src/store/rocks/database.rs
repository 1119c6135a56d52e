//! The open RocksDB: reads of every shape, and one synced write of many changes.

use bytes::Bytes;
use rocksdb::{ColumnFamily, DBWithThreadMode, ReadOptions, SingleThreaded, WriteBatch};

use super::codec::{decode_expiry, decode_record};
use super::options::synced;
use super::stage::{Changes, Engine, Family};
use crate::domain::clock::Millis;
use crate::store::records::{Page, scan_start};
use crate::store::{Record, StoreError};

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

    /// The first key of a family.
    pub(super) fn first_key(&self, family: Family) -> Result<Option<Vec<u8>>, rocksdb::Error> {
        let Some(handle) = self.rocks.cf_handle(family.name()) else { return Ok(None) };
        let mut entries = self.rocks.raw_iterator_cf(handle);
        entries.seek_to_first();
        entries.status()?;
        Ok(entries.key().map(<[u8]>::to_vec))
    }

    /// One page of live records: see [`Records::scan`](crate::store::Records::scan).
    pub(super) fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        now: Millis,
    ) -> Result<Vec<(Bytes, Record)>, StoreError> {
        let mut options = ReadOptions::default();
        if let Some(end) = prefix_end(prefix) {
            options.set_iterate_upper_bound(end);
        }
        let mut page = Page::new(limit);
        let mut entries = self.rocks.raw_iterator_cf_opt(self.handle(Family::Records)?, options);
        entries.seek(scan_start(prefix, after));
        while let Some((key, stored)) = entries.item().filter(|_| !page.is_full()) {
            let record = decode_record(Bytes::copy_from_slice(stored))?;
            if record.is_live(now) {
                page.push(Bytes::copy_from_slice(key), record);
            }
            entries.next();
        }
        entries.status().map_err(read_error)?;
        Ok(page.into_records())
    }

    /// The front of the expiry index: at most `limit` moments and keys, up to and including `now`.
    pub(super) fn expired(&self, now: Millis, limit: usize) -> Result<Vec<(Millis, Bytes)>, StoreError> {
        let mut expired = Vec::new();
        let mut entries = self.rocks.raw_iterator_cf(self.handle(Family::RecordsExpiry)?);
        entries.seek_to_first();
        while let Some(entry) = entries.key().filter(|_| expired.len() < limit) {
            let (expires, key) = decode_expiry(entry)?;
            if expires > now {
                break;
            }
            expired.push((expires, key));
            entries.next();
        }
        entries.status().map_err(read_error)?;
        Ok(expired)
    }

    fn handle(&self, family: Family) -> Result<&ColumnFamily, StoreError> {
        let missing = || StoreError::Read { detail: format!("column family {} is missing", family.name()) };
        self.rocks.cf_handle(family.name()).ok_or_else(missing)
    }
}

impl Engine for Database {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.rocks.get_cf(self.handle(family)?, key).map_err(read_error)?.map(Bytes::from))
    }

    fn write(&self, changes: &Changes) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        for (family, key, value) in changes.iter() {
            let handle = self.handle(family)?;
            match value {
                Some(value) => batch.put_cf(handle, key, value),
                None => batch.delete_cf(handle, key),
            }
        }
        self.rocks.write_opt(batch, &synced()).map_err(|error| StoreError::Write { detail: error.to_string() })
    }
}

fn read_error(error: rocksdb::Error) -> StoreError {
    StoreError::Read { detail: error.to_string() }
}

/// The least key that is greater than all with this prefix; `None` if there is none.
fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}
