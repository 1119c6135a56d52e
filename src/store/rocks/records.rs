//! [`Records`] on RocksDB: the record in one family, its expiry in another, always written together.

use async_trait::async_trait;
use bytes::Bytes;

use super::RocksStore;
use super::codec::{decode_expiry, decode_record, encode_expiry, encode_record};
use crate::domain::clock::Millis;
use crate::store::backend::{Size, Verdict};
use crate::store::records::{self, Page, scan_start};
use crate::store::stage::{Family, Lookup, Scan, Stage, prefix_end};
use crate::store::{Applied, Record, Records, StoreError, Write};

/// Records swept in one change: few enough that nobody else's change waits long behind it.
const SWEEP_STEP: usize = 256;

#[async_trait]
impl Records for RocksStore {
    async fn get(&self, key: &[u8], now: Millis) -> Result<Option<Record>, StoreError> {
        let stored = self.database().await?.get(Family::Records, key)?;
        Ok(stored.map(decode_record).transpose()?.filter(|record| record.is_live(now)))
    }

    async fn apply(&self, writes: Vec<Write>, now: Millis) -> Result<Applied, StoreError> {
        let size = Size { writes: writes.len(), bytes: records::check(&writes)? };
        self.committer.commit(size, move |stage| stage_writes(stage, writes, now)).await
    }

    async fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        now: Millis,
    ) -> Result<Vec<(Bytes, Record)>, StoreError> {
        let (prefix, after) = (prefix.to_vec(), after.map(<[u8]>::to_vec));
        self.read_blocking(move |database| scan(database, &prefix, after.as_deref(), limit, now)).await
    }

    async fn sweep(&self, now: Millis, limit: usize) -> Result<usize, StoreError> {
        let (mut swept, mut left) = (0, limit);
        while left > 0 {
            let step = left.min(SWEEP_STEP);
            let expired = self.read_blocking(move |database| expired(database, now, step)).await?;
            let found = expired.len();
            if found == 0 {
                break;
            }
            let size = Size { writes: found, bytes: expired.iter().map(|(_, key)| key.len()).sum() };
            swept += self.committer.commit(size, move |stage| stage_sweep(stage, expired)).await?;
            left -= found;
        }
        Ok(swept)
    }
}

/// One page of live records.
fn scan(
    database: &dyn Scan,
    prefix: &[u8],
    after: Option<&[u8]>,
    limit: usize,
    now: Millis,
) -> Result<Vec<(Bytes, Record)>, StoreError> {
    let mut page = Page::new(limit);
    let start = scan_start(prefix, after);
    database.scan(Family::Records, &start, prefix_end(prefix).as_deref(), &mut |key, stored| {
        if page.is_full() {
            return Ok(false);
        }
        let record = decode_record(Bytes::copy_from_slice(stored))?;
        if record.is_live(now) {
            page.push(Bytes::copy_from_slice(key), record);
        }
        Ok(true)
    })?;
    Ok(page.into_records())
}

/// The front of the expiry index: at most `limit` moments and keys, up to and including `now`.
fn expired(database: &dyn Scan, now: Millis, limit: usize) -> Result<Vec<(Millis, Bytes)>, StoreError> {
    let mut expired = Vec::new();
    database.scan(Family::RecordsExpiry, &[], None, &mut |entry, _| {
        let (expires, key) = decode_expiry(entry)?;
        let more = expired.len() < limit && expires <= now;
        if more {
            expired.push((expires, key));
        }
        Ok(more)
    })?;
    Ok(expired)
}

fn stage_writes(stage: &mut Stage<'_>, writes: Vec<Write>, now: Millis) -> Result<Verdict<Applied>, StoreError> {
    for (index, write) in writes.into_iter().enumerate() {
        let stored =
            stage.get(Family::Records, write.key())?.map(|stored| decode_record(stored.into_bytes())).transpose()?;
        if !write.holds(stored.as_ref().filter(|record| record.is_live(now))) {
            return Ok(Verdict::Discard(Applied::Refused { index }));
        }
        // Read before every write, so that the index has one entry for a record however often it is renewed.
        let (key, record) = write.into_parts();
        if let Some(expires) = stored.and_then(|record| record.expires) {
            stage.delete(Family::RecordsExpiry, &encode_expiry(expires, &key));
        }
        match record {
            Some(record) => {
                if let Some(expires) = record.expires {
                    stage.put(Family::RecordsExpiry, &encode_expiry(expires, &key), &[]);
                }
                stage.put(Family::Records, &key, &encode_record(&record));
            }
            None => stage.delete(Family::Records, &key),
        }
    }
    Ok(Verdict::Keep(Applied::Done))
}

fn stage_sweep(stage: &mut Stage<'_>, expired: Vec<(Millis, Bytes)>) -> Result<Verdict<usize>, StoreError> {
    let mut swept = 0;
    for (expires, key) in expired {
        // The record may have been renewed since the index was read.
        let stored = stage.get(Family::Records, &key)?.map(|stored| decode_record(stored.into_bytes())).transpose()?;
        stage.delete(Family::RecordsExpiry, &encode_expiry(expires, &key));
        if stored.is_some_and(|record| record.expires == Some(expires)) {
            stage.delete(Family::Records, &key);
            swept += 1;
        }
    }
    Ok(Verdict::Keep(swept))
}
