//! What can go wrong in a store, and what to do about it.

use std::path::PathBuf;

use thiserror::Error;

/// Why a store could not be opened, or did not do as asked.
///
/// Can be cloned, because one failed write is the answer to everyone whose change was in it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StoreError {
    /// A key longer than [`MAX_KEY_BYTES`](super::MAX_KEY_BYTES).
    #[error("the key has {bytes} bytes; use at most {max}")]
    KeyTooLong {
        /// Its length.
        bytes: usize,
        /// The longest allowed.
        max: usize,
    },
    /// A value longer than [`MAX_VALUE_BYTES`](super::MAX_VALUE_BYTES).
    #[error("the value has {bytes} bytes; use at most {max}")]
    ValueTooLarge {
        /// Its length.
        bytes: usize,
        /// The longest allowed.
        max: usize,
    },
    /// A part of a blob larger than its bound.
    #[error("the {part} of the blob has {bytes} bytes; use at most {max}")]
    BlobTooLarge {
        /// Which part.
        part: &'static str,
        /// Its length.
        bytes: usize,
        /// The longest allowed.
        max: usize,
    },
    /// A call with more than [`MAX_MESSAGES`](super::MAX_MESSAGES) messages.
    #[error("the call names {messages} messages; split it to at most {max}")]
    TooManyMessages {
        /// How many it names.
        messages: usize,
        /// The most allowed.
        max: usize,
    },
    /// A change of more than [`MAX_CHANGE_WRITES`](super::MAX_CHANGE_WRITES) writes or
    /// [`MAX_CHANGE_BYTES`](super::MAX_CHANGE_BYTES) bytes.
    #[error("the change has {writes} writes and {bytes} bytes; split it to at most {max_writes} and {max_bytes}")]
    ChangeTooLarge {
        /// How many writes it has.
        writes: usize,
        /// The bytes of their keys and values.
        bytes: usize,
        /// The most writes allowed.
        max_writes: usize,
        /// The most bytes allowed.
        max_bytes: usize,
    },
    /// The backend has no room for the change; nothing of it was kept.
    #[error("the store is full at {max_bytes} bytes; delete records, wait for some to expire, or give it more room")]
    Full {
        /// Its bound.
        max_bytes: usize,
    },
    /// Another process (or another part of this one) has the directory open.
    #[error("{path} is in use by another process; stop that one, or choose another data directory")]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The files are there but cannot be trusted. They were not touched.
    #[error("{path} is damaged ({detail}); restore it from a backup, or move it away to start with an empty store")]
    Corrupt {
        /// The directory.
        path: PathBuf,
        /// RocksDB's own words.
        detail: String,
    },
    /// The directory holds something that is not a store.
    #[error("{path} holds {found}, but no store; choose an empty directory, or restore the store from a backup")]
    NotAStore {
        /// The directory.
        path: PathBuf,
        /// A file that has no business there.
        found: String,
    },
    /// The directory was written in another format.
    #[error(
        "{path} has store format {found}, and this program reads format {supported}; run the program that wrote it"
    )]
    WrongFormat {
        /// The directory.
        path: PathBuf,
        /// What it says it has.
        found: String,
        /// What we read.
        supported: u32,
    },
    /// The directory cannot be opened for some other reason.
    #[error("cannot open the store in {path}: {detail}; check that the directory is writable and its disk has room")]
    Open {
        /// The directory.
        path: PathBuf,
        /// The system's own words.
        detail: String,
    },
    /// A read failed.
    #[error("cannot read from the store: {detail}; check the disk, then restart")]
    Read {
        /// The backend's own words.
        detail: String,
    },
    /// A write failed: it may or may not be found later.
    #[error("cannot write to the store: {detail}; check that the disk is healthy and has room")]
    Write {
        /// The backend's own words.
        detail: String,
    },
    /// An earlier write failed, and the store has not yet recovered from it. Nothing was done.
    #[error("the store waits for its disk: {detail}; check that the disk is healthy and has room")]
    Failing {
        /// Why.
        detail: String,
    },
    /// The store is closing, or its committer is gone.
    #[error("the store has stopped; restart the node")]
    Stopped,
}
