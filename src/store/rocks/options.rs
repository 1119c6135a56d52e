//! Every RocksDB option, and the memory they add up to: [`RocksOptions`] says how much for blocks and for unwritten
//! changes; what a write buffer holds while it is written out, and the tables of open files, come on top.

use std::time::Duration;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, LogLevel, Options,
    WriteBufferManager, WriteOptions,
};

use crate::store::stage::Family;

/// The least log that is replayed at a start, however small the write buffers.
const MIN_WAL_BYTES: usize = 64 << 20;

/// Files kept open: sorted files are a few MiB each, so this covers gigabytes without a reopen.
const MAX_OPEN_FILES: i32 = 512;

/// Bits of bloom filter for each key: one lookup in a hundred for an absent key reads a block in vain.
const BLOOM_BITS_PER_KEY: f64 = 10.0;

/// A run of deletions of at least half of this many entries asks for compaction, so that whoever walks an index
/// from its front does not wade through what was swept long ago.
const DELETION_WINDOW: usize = 1024;

/// The part of a write buffer for a bloom filter over the messages in it: nearly every put asks for one that is not
/// there.
const MESSAGES_BLOOM: f64 = 0.02;

/// Values of this many bytes and more lie in files of their own, so that compaction does not copy them: that is
/// nearly every body, and compaction of bodies takes the disk away from the syncs that senders wait for.
const MIN_BLOB_FILE_VALUE_BYTES: u64 = 512;

/// Largest such file.
const BLOB_FILE_BYTES: u64 = 64 << 20;

/// The part of the oldest of those files that compaction takes live values out of, to delete them.
const BLOB_GC_AGE: f64 = 0.5;

/// The part of dead bytes in them from which compaction is asked for on their account.
const BLOB_GC_DEAD: f64 = 0.5;

/// What an operator decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RocksOptions {
    /// Bytes of blocks kept that were read from disk, with their indexes and filters, for everything together.
    pub block_cache_bytes: usize,
    /// Bytes of changes kept that are not yet in sorted files, for everything together. No family keeps more than
    /// half of them; above that, or above all together, the largest is written out.
    pub write_buffer_bytes: usize,
    /// Bytes of the disk that new blobs leave free.
    pub reserve_bytes: u64,
    /// How long to wait after a write has failed before the files are opened again.
    pub retry: Duration,
}

impl RocksOptions {
    /// 32 MiB of blocks, 64 MiB of changes, 256 MiB of reserve, one second.
    pub const DEFAULT: Self = Self {
        block_cache_bytes: 32 << 20,
        write_buffer_bytes: 64 << 20,
        reserve_bytes: 256 << 20,
        retry: Duration::from_secs(1),
    };
}

/// The options of the database, and those of its families. `found` names the families on disk: one that we do
/// not know is opened too, so that a store of a newer format is recognised as such.
pub(super) fn options(found: &[String], own: &RocksOptions) -> (Options, Vec<ColumnFamilyDescriptor>) {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(own.block_cache_bytes));
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_bloom_filter(BLOOM_BITS_PER_KEY, false);

    let mut family = Options::default();
    family.set_block_based_table_factory(&table);
    family.set_write_buffer_size(own.write_buffer_bytes / 2);
    family.set_compression_type(DBCompressionType::Lz4);
    family.set_level_compaction_dynamic_level_bytes(true);
    family.add_compact_on_deletion_collector_factory(DELETION_WINDOW, DELETION_WINDOW / 2, 0.5);

    let mut database = family.clone();
    database.create_if_missing(true);
    database.create_missing_column_families(true);
    let buffers = WriteBufferManager::new_write_buffer_manager(own.write_buffer_bytes, false);
    database.set_write_buffer_manager(&buffers);
    database.set_max_total_wal_size((2 * own.write_buffer_bytes).max(MIN_WAL_BYTES) as u64);
    // A torn tail was never acknowledged: every write is synced before it is answered. What is damaged before the
    // tail may have been, so it is not passed over. A log that is missing altogether is found by the manifest.
    database.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    database.set_track_and_verify_wals_in_manifest(true);
    database.set_paranoid_checks(true);
    database.set_max_open_files(MAX_OPEN_FILES);
    database.set_max_background_jobs(2);
    database.set_bytes_per_sync(256 << 10);
    database.set_max_manifest_file_size(16 << 20);
    database.set_log_level(LogLevel::Warn);
    database.set_keep_log_file_num(4);
    database.set_max_log_file_size(4 << 20);

    let mut blobs = family.clone();
    // Ciphertext does not get smaller.
    blobs.set_compression_type(DBCompressionType::None);
    blobs.set_enable_blob_files(true);
    blobs.set_min_blob_size(MIN_BLOB_FILE_VALUE_BYTES);
    blobs.set_blob_file_size(BLOB_FILE_BYTES);
    blobs.set_enable_blob_gc(true);
    blobs.set_blob_gc_age_cutoff(BLOB_GC_AGE);
    blobs.set_blob_gc_force_threshold(BLOB_GC_DEAD);

    let mut messages = family.clone();
    messages.set_memtable_prefix_bloom_ratio(MESSAGES_BLOOM);
    messages.set_memtable_whole_key_filtering(true);

    let ours = Family::ALL.iter().map(|family| family.name());
    let unknown = found.iter().map(String::as_str).filter(|name| Family::ALL.iter().all(|ours| ours.name() != *name));
    let of = |name| match name {
        name if name == Family::Blobs.name() => blobs.clone(),
        name if name == Family::Messages.name() => messages.clone(),
        _ => family.clone(),
    };
    let descriptors = ours.chain(unknown).map(|name| ColumnFamilyDescriptor::new(name, of(name))).collect();
    (database, descriptors)
}

/// How everything is written: on disk before it is answered.
pub(super) fn synced() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options
}
