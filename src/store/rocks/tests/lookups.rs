//! What it costs to look for something, however much is stored.

use rocksdb::perf::{PerfContext, PerfMetric, PerfStatsLevel, set_perf_stats};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::observe::metrics::StoreMetrics;
use crate::store::stage::{Changes, Family, Lookup, Value};
use crate::store::{RocksOptions, RocksStore};

/// Entries of one file: their filter has 10 bits for each, which is twice the cache below.
const ENTRIES: u32 = 100_000;

const CACHE: usize = 64 << 10;

const LOOKUPS: u32 = 200;

/// A part of a filter, and, where the key may be there, one of an index and a block of entries.
const MOST_BYTES: u64 = 12 << 10;

fn key(number: u32) -> [u8; 32] {
    Sha256::digest(number.to_be_bytes()).into()
}

#[test]
fn a_lookup_reads_little_however_large_the_file_is_and_however_small_the_cache() {
    let directory = TempDir::new().unwrap();
    let options = RocksOptions { block_cache_bytes: CACHE, ..RocksOptions::DEFAULT };
    let store = RocksStore::open_with(directory.path(), options, StoreMetrics::default()).unwrap();
    let database = store.engine.database().unwrap();
    let messages = database.rocks().cf_handle(Family::Messages.name()).unwrap();
    // Two files that are merged: one alone would move down as it is, with its filter held in memory.
    for half in 0..2 {
        let mut changes = Changes::default();
        for number in (half..ENTRIES).step_by(2) {
            changes.push(Family::Messages, &key(number), Some(Value::Small(b"there")));
        }
        database.write(&changes).unwrap();
        database.rocks().flush_cf(messages).unwrap();
    }
    database.rocks().compact_range_cf(messages, None::<&[u8]>, None::<&[u8]>);

    set_perf_stats(PerfStatsLevel::EnableCount);
    let mut figures = PerfContext::default();
    for (what, first) in [("what is there", 0), ("what is not there", ENTRIES)] {
        figures.reset();
        for number in first..first + LOOKUPS {
            assert_eq!(database.get(Family::Messages, &key(number)).unwrap().is_some(), first == 0);
        }
        let each = figures.metric(PerfMetric::BlockReadByte) / u64::from(LOOKUPS);
        assert!(each > 0 && each <= MOST_BYTES, "{what}: {each} bytes a lookup");
    }
}
