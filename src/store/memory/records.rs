//! Records in memory: for trials, and for nodes that are told to keep nothing. Bounded by bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::domain::clock::Millis;
use crate::store::records::{self, Page, scan_start};
use crate::store::{Applied, Record, Records, StoreError, Write};

/// What one record costs besides its bytes: two tree entries with their share of the nodes, rounded up.
const RECORD_OVERHEAD_BYTES: usize = 192;

/// Records that live as long as the process.
#[derive(Debug)]
pub struct MemoryRecords {
    max_bytes: usize,
    table: Mutex<Table>,
}

impl MemoryRecords {
    /// An empty store that keeps at most `max_bytes`, counting keys, values and what holding them costs.
    #[must_use]
    pub fn new(max_bytes: usize) -> Self {
        Self { max_bytes, table: Mutex::default() }
    }
}

#[async_trait]
impl Records for MemoryRecords {
    async fn get(&self, key: &[u8], now: Millis) -> Result<Option<Record>, StoreError> {
        Ok(self.table.lock().records.get(key).filter(|record| record.is_live(now)).cloned())
    }

    async fn apply(&self, writes: Vec<Write>, now: Millis) -> Result<Applied, StoreError> {
        let bytes = records::check(&writes)? + writes.len() * RECORD_OVERHEAD_BYTES;
        let mut table = self.table.lock();
        if table.bytes + bytes > self.max_bytes {
            // The expired are not worth refusing a live one for.
            table.sweep(now, usize::MAX);
        }
        table.apply(writes, now, self.max_bytes)
    }

    async fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        now: Millis,
    ) -> Result<Vec<(Bytes, Record)>, StoreError> {
        let start = scan_start(prefix, after);
        let mut page = Page::new(limit);
        let table = self.table.lock();
        let range = table.records.range::<[u8], _>((Bound::Included(start.as_slice()), Bound::Unbounded));
        for (key, record) in range.take_while(|(key, _)| key.starts_with(prefix)) {
            if page.is_full() {
                break;
            }
            if record.is_live(now) {
                page.push(key.clone(), record.clone());
            }
        }
        Ok(page.into_records())
    }

    async fn sweep(&self, now: Millis, limit: usize) -> Result<usize, StoreError> {
        Ok(self.table.lock().sweep(now, limit))
    }
}

/// The records, their expiry index, and what they cost. The three change together, in [`Table::set`] only.
#[derive(Debug, Default)]
struct Table {
    records: BTreeMap<Bytes, Record>,
    expiry: BTreeSet<(Millis, Bytes)>,
    bytes: usize,
}

impl Table {
    fn apply(&mut self, writes: Vec<Write>, now: Millis, max_bytes: usize) -> Result<Applied, StoreError> {
        let bytes_before = self.bytes;
        let mut undo = Vec::with_capacity(writes.len());
        let mut outcome = Ok(Applied::Done);
        for (index, write) in writes.into_iter().enumerate() {
            let live = self.records.get(write.key()).filter(|record| record.is_live(now));
            if !write.holds(live) {
                outcome = Ok(Applied::Refused { index });
                break;
            }
            let (key, record) = write.into_parts();
            undo.push((key.clone(), self.set(key, record)));
        }
        // A change that makes room is welcome even if it does not make enough.
        if outcome == Ok(Applied::Done) && self.bytes > max_bytes.max(bytes_before) {
            outcome = Err(StoreError::Full { max_bytes });
        }
        if outcome != Ok(Applied::Done) {
            for (key, record) in undo.into_iter().rev() {
                self.set(key, record);
            }
        }
        outcome
    }

    fn sweep(&mut self, now: Millis, limit: usize) -> usize {
        let mut swept = 0;
        while swept < limit {
            let Some((_, key)) = self.expiry.first().filter(|(expires, _)| *expires <= now).cloned() else { break };
            self.set(key, None);
            swept += 1;
        }
        swept
    }

    /// Makes `record` what `key` holds; answers what it held.
    fn set(&mut self, key: Bytes, record: Option<Record>) -> Option<Record> {
        if let Some(record) = &record {
            self.bytes += cost(&key, record);
            if let Some(expires) = record.expires {
                self.expiry.insert((expires, key.clone()));
            }
        }
        let expires = record.as_ref().and_then(|record| record.expires);
        let old = match record {
            Some(record) => self.records.insert(key.clone(), record),
            None => self.records.remove(&key),
        };
        if let Some(old) = &old {
            self.bytes -= cost(&key, old);
            if let Some(entry) = old.expires.filter(|_| old.expires != expires) {
                self.expiry.remove(&(entry, key));
            }
        }
        old
    }
}

fn cost(key: &Bytes, record: &Record) -> usize {
    key.len() + record.value.len() + RECORD_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_000);
    const ROOM_FOR_TWO: usize = 2 * (RECORD_OVERHEAD_BYTES + 1 + 100);

    fn record(expires: Option<Millis>) -> Record {
        Record { value: Bytes::from(vec![0; 100]), expires }
    }

    #[tokio::test]
    async fn a_full_store_refuses_whole_changes_until_there_is_room() {
        let store = MemoryRecords::new(ROOM_FOR_TWO);
        store.put("a".into(), record(None), NOW).await.unwrap();
        let two = ["b", "c"].map(|key| Write::Put { key: key.into(), record: record(None) }).to_vec();
        assert_eq!(store.apply(two.clone(), NOW).await, Err(StoreError::Full { max_bytes: ROOM_FOR_TWO }));
        assert_eq!(store.get(b"b", NOW).await, Ok(None));
        store.delete("a".into(), NOW).await.unwrap();
        assert_eq!(store.apply(two, NOW).await, Ok(Applied::Done));
    }

    #[tokio::test]
    async fn a_full_store_gives_up_the_expired_for_the_new() {
        let store = MemoryRecords::new(ROOM_FOR_TWO);
        for key in ["a", "b"] {
            store.put(key.into(), record(Some(NOW)), Millis(0)).await.unwrap();
        }
        assert_eq!(store.put("c".into(), record(None), NOW).await, Ok(()));
    }

    #[tokio::test]
    async fn bytes_fall_to_zero_when_everything_is_gone() {
        let store = MemoryRecords::new(1 << 20);
        for _ in 0..3 {
            store.put("a".into(), record(Some(NOW)), Millis(0)).await.unwrap();
            store.put("b".into(), record(None), Millis(0)).await.unwrap();
        }
        store.delete("b".into(), NOW).await.unwrap();
        assert_eq!(store.sweep(NOW, 10).await, Ok(1));
        let table = store.table.lock();
        assert_eq!((table.bytes, table.expiry.len(), table.records.len()), (0, 0, 0));
    }
}
