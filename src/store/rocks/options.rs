//! Every RocksDB option, and the memory they add up to: [`RocksOptions`] says how much for blocks and for unwritten
//! changes; what a write buffer holds while it is written out, and the tables of open files, come on top.

use std::time::Duration;

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, LogLevel,
    Options, WriteBufferManager, WriteOptions,
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

/// The way to an entry's place in a write buffer misses the processor's cache at nearly every step, and is most of
/// what a put costs the thread that writes. In a small buffer it is short. So blobs, messages and counts fill several
/// of them, one after the other, which are written out as one: the files that come of it are no smaller for it. Each
/// has this part of all write buffers.
const SMALL_BUFFERS: usize = 16;

/// How many of them are written out as one.
const BUFFERS_WRITTEN_AS_ONE: i32 = 4;

/// How many of them there may be while some are being written out; above it, writes wait.
const MAX_BUFFERS: i32 = 3 * BUFFERS_WRITTEN_AS_ONE;

/// The way begins where the last entry with the same first byte was put, not at the top. Keys begin with a mailbox,
/// which is a digest, so they are spread evenly. More bytes would make it shorter, but to find its begin longer.
/// RocksDB's C interface has this option as text only.
const NEAR_THE_LAST: &str = "memtable_insert_with_hint_prefix_extractor=rocksdb.FixedPrefix.1";

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
    /// half of them, and blobs, messages and counts a quarter each; above that, or above all together, the largest is
    /// written out.
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
///
/// # Errors
///
/// If RocksDB does not know an option that is given as text.
pub(super) fn options(
    found: &[String],
    own: &RocksOptions,
) -> Result<(Options, Vec<ColumnFamilyDescriptor>), rocksdb::Error> {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(own.block_cache_bytes));
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    // In parts of a few KiB. As one block each they grow with their file, up to MiBs; then they fit no part of a small
    // cache, and every lookup reads the whole again.
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(true);
    table.set_pin_top_level_index_and_filter(true);
    table.set_bloom_filter(BLOOM_BITS_PER_KEY, false);

    let with = |mut family: Options| {
        family.set_block_based_table_factory(&table);
        family.set_write_buffer_size(own.write_buffer_bytes / 2);
        family.set_compression_type(DBCompressionType::Lz4);
        family.set_level_compaction_dynamic_level_bytes(true);
        family.add_compact_on_deletion_collector_factory(DELETION_WINDOW, DELETION_WINDOW / 2, 0.5);
        family
    };
    let family = with(Options::default());
    let mut by_mailbox = with(Options::default().get_options_from_string(NEAR_THE_LAST)?);
    by_mailbox.set_write_buffer_size(own.write_buffer_bytes / SMALL_BUFFERS);
    by_mailbox.set_min_write_buffer_number_to_merge(BUFFERS_WRITTEN_AS_ONE);
    by_mailbox.set_max_write_buffer_number(MAX_BUFFERS);

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

    let mut blobs = by_mailbox.clone();
    // Ciphertext does not get smaller.
    blobs.set_compression_type(DBCompressionType::None);
    blobs.set_enable_blob_files(true);
    blobs.set_min_blob_size(MIN_BLOB_FILE_VALUE_BYTES);
    blobs.set_blob_file_size(BLOB_FILE_BYTES);
    blobs.set_enable_blob_gc(true);
    blobs.set_blob_gc_age_cutoff(BLOB_GC_AGE);
    blobs.set_blob_gc_force_threshold(BLOB_GC_DEAD);

    let mut messages = by_mailbox.clone();
    messages.set_memtable_prefix_bloom_ratio(MESSAGES_BLOOM);
    messages.set_memtable_whole_key_filtering(true);

    let ours = Family::ALL.iter().map(|family| family.name());
    let unknown = found.iter().map(String::as_str).filter(|name| Family::ALL.iter().all(|ours| ours.name() != *name));
    let of = |name| match name {
        name if name == Family::Blobs.name() => blobs.clone(),
        name if name == Family::Messages.name() => messages.clone(),
        name if name == Family::Usage.name() => by_mailbox.clone(),
        _ => family.clone(),
    };
    let descriptors = ours.chain(unknown).map(|name| ColumnFamilyDescriptor::new(name, of(name))).collect();
    Ok((database, descriptors))
}

/// How everything is written: on disk before it is answered.
pub(super) fn synced() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::store::RocksStore;

    #[test]
    fn what_is_given_as_text_is_in_force_where_it_is_meant_and_leaves_the_rest() {
        let directory = TempDir::new().unwrap();
        drop(RocksStore::open(directory.path()).unwrap());
        let paths = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
        let written = paths.filter(|path| path.to_string_lossy().contains("OPTIONS-")).max().unwrap();
        let written = fs::read_to_string(written).unwrap();
        let by_mailbox = [Family::Blobs, Family::Messages, Family::Usage];
        for family in Family::ALL {
            let (_, section) = written.split_once(&format!("[CFOptions \"{}\"]", family.name())).unwrap();
            let of = |name: &str| {
                let line = section.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='));
                line.unwrap().to_owned()
            };
            let near = of("memtable_insert_with_hint_prefix_extractor");
            assert_eq!(near.contains("FixedPrefix"), by_mailbox.contains(family), "{family:?}: {near}");
            let part = if by_mailbox.contains(family) { SMALL_BUFFERS } else { 2 };
            assert_eq!(of("write_buffer_size"), (RocksOptions::DEFAULT.write_buffer_bytes / part).to_string());
            assert_eq!(of("enable_blob_files"), (*family == Family::Blobs).to_string());
        }
    }
}
