//! Every RocksDB option, and the memory they add up to: 32 MiB of blocks and 16 MiB of unwritten changes.

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, LogLevel, Options,
    WriteBufferManager, WriteOptions,
};

use super::stage::Family;

/// Blocks read from disk, with their indexes and filters, for all families together.
const BLOCK_CACHE_BYTES: usize = 32 << 20;

/// Changes not yet in sorted files, for all families together; above this the largest is written out.
const WRITE_BUFFERS_BYTES: usize = 16 << 20;

/// One family's share before it is written out on its own account.
const WRITE_BUFFER_BYTES: usize = 8 << 20;

/// Most log to replay at a start.
const MAX_WAL_BYTES: u64 = 64 << 20;

/// Files kept open: sorted files are a few MiB each, so this covers gigabytes without a reopen.
const MAX_OPEN_FILES: i32 = 512;

/// Bits of bloom filter for each key: one lookup in a hundred for an absent key reads a block in vain.
const BLOOM_BITS_PER_KEY: f64 = 10.0;

/// A run of deletions of at least half of this many entries asks for compaction, so that whoever walks an index
/// from its front does not wade through what was swept long ago.
const DELETION_WINDOW: usize = 1024;

/// The options of the database, and those of its families. `found` names the families on disk: one that we do
/// not know is opened too, so that a store of a newer format is recognised as such.
pub(super) fn options(found: &[String]) -> (Options, Vec<ColumnFamilyDescriptor>) {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(BLOCK_CACHE_BYTES));
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_bloom_filter(BLOOM_BITS_PER_KEY, false);

    let mut family = Options::default();
    family.set_block_based_table_factory(&table);
    family.set_write_buffer_size(WRITE_BUFFER_BYTES);
    family.set_compression_type(DBCompressionType::Lz4);
    family.set_level_compaction_dynamic_level_bytes(true);
    family.add_compact_on_deletion_collector_factory(DELETION_WINDOW, DELETION_WINDOW / 2, 0.5);

    let mut database = family.clone();
    database.create_if_missing(true);
    database.create_missing_column_families(true);
    database.set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager(WRITE_BUFFERS_BYTES, false));
    database.set_max_total_wal_size(MAX_WAL_BYTES);
    // A torn tail was never acknowledged: every write is synced before it is answered. A log that is missing
    // altogether is found by the manifest.
    database.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    database.set_track_and_verify_wals_in_manifest(true);
    database.set_paranoid_checks(true);
    database.set_max_open_files(MAX_OPEN_FILES);
    database.set_max_background_jobs(2);
    database.set_bytes_per_sync(1 << 20);
    database.set_max_manifest_file_size(16 << 20);
    database.set_log_level(LogLevel::Warn);
    database.set_keep_log_file_num(4);
    database.set_max_log_file_size(4 << 20);

    let ours = Family::ALL.iter().map(|family| family.name());
    let unknown = found.iter().map(String::as_str).filter(|name| Family::ALL.iter().all(|ours| ours.name() != *name));
    let descriptors = ours.chain(unknown).map(|name| ColumnFamilyDescriptor::new(name, family.clone())).collect();
    (database, descriptors)
}

/// How everything is written: on disk before it is answered.
pub(super) fn synced() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options
}
