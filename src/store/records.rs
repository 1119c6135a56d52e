//! Small values by key, with expiry: the types of the contract, and its bounds. The promises are in [`super`].

use async_trait::async_trait;
use bytes::Bytes;

use super::StoreError;
use crate::domain::clock::Millis;

/// Longest key, in bytes: a prefix and two ids of the longest kind, with room to spare.
pub const MAX_KEY_BYTES: usize = 1024;

/// Longest value, in bytes. Larger things are blobs and belong in a mailbox.
pub const MAX_VALUE_BYTES: usize = 64 * 1024;

/// Most writes in one change: one change never outgrows a group commit.
pub const MAX_CHANGE_WRITES: usize = 1024;

/// Most bytes of keys and values in one change: 16 values of the largest size, less their keys.
pub const MAX_CHANGE_BYTES: usize = 1024 * 1024;

/// Most records in one answer to a scan.
pub const MAX_PAGE_RECORDS: usize = 1024;

/// An answer to a scan ends with the record that brings its keys and values to this many bytes.
pub const MAX_PAGE_BYTES: usize = 1024 * 1024;

/// A value, and when it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What is kept: opaque here.
    pub value: Bytes,
    /// From this moment on the record is absent; `None`: it stays until deleted.
    pub expires: Option<Millis>,
}

impl Record {
    /// A record that stays until deleted.
    pub fn lasting(value: impl Into<Bytes>) -> Self {
        Self { value: value.into(), expires: None }
    }

    /// A record that is absent from `expires` on.
    pub fn until(value: impl Into<Bytes>, expires: Millis) -> Self {
        Self { value: value.into(), expires: Some(expires) }
    }

    /// Whether the record is still there at `now`.
    #[must_use]
    pub fn is_live(&self, now: Millis) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

/// One step of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Puts the record, whatever was there.
    Put {
        /// Where.
        key: Bytes,
        /// What.
        record: Record,
    },
    /// Puts the record on condition that no live one is there.
    PutNew {
        /// Where.
        key: Bytes,
        /// What.
        record: Record,
    },
    /// Puts the record on condition that the live value is the expected one (`None`: that there is none).
    PutIf {
        /// Where.
        key: Bytes,
        /// The value that must be there.
        expected: Option<Bytes>,
        /// What.
        record: Record,
    },
    /// Deletes whatever is there; nothing is fine too.
    Delete {
        /// Where.
        key: Bytes,
    },
}

impl Write {
    /// The key it is about.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Put { key, .. } | Self::PutNew { key, .. } | Self::PutIf { key, .. } | Self::Delete { key } => key,
        }
    }

    /// Whether its condition holds, given the live record of its key.
    pub(super) fn holds(&self, live: Option<&Record>) -> bool {
        match self {
            Self::Put { .. } | Self::Delete { .. } => true,
            Self::PutNew { .. } => live.is_none(),
            Self::PutIf { expected, .. } => expected.as_ref() == live.map(|record| &record.value),
        }
    }

    /// The key, and the record that is there afterwards.
    pub(super) fn into_parts(self) -> (Bytes, Option<Record>) {
        match self {
            Self::Put { key, record } | Self::PutNew { key, record } | Self::PutIf { key, record, .. } => {
                (key, Some(record))
            }
            Self::Delete { key } => (key, None),
        }
    }

    /// The value to be put; empty for a delete.
    fn value(&self) -> &[u8] {
        match self {
            Self::Put { record, .. } | Self::PutNew { record, .. } | Self::PutIf { record, .. } => &record.value,
            Self::Delete { .. } => &[],
        }
    }
}

/// What became of a change that met no error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Applied {
    /// All of it is done, and durable.
    Done,
    /// None of it is done: a condition did not hold.
    Refused {
        /// The first write whose condition did not hold, counted from 0.
        index: usize,
    },
}

/// Small values by key, with expiry. What every backend promises is written in [`super`].
#[async_trait]
pub trait Records: Send + Sync {
    /// The live record of `key`.
    async fn get(&self, key: &[u8], now: Millis) -> Result<Option<Record>, StoreError>;

    /// Does all the writes, in their order, or none.
    ///
    /// An empty change is `Done`.
    async fn apply(&self, writes: Vec<Write>, now: Millis) -> Result<Applied, StoreError>;

    /// At most `limit` live records whose keys start with `prefix` and come after `after`, in key order.
    ///
    /// An answer may hold fewer than `limit` because it would be too large ([`MAX_PAGE_RECORDS`],
    /// [`MAX_PAGE_BYTES`]), so ask again after its last key. An empty answer is the end.
    async fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        now: Millis,
    ) -> Result<Vec<(Bytes, Record)>, StoreError>;

    /// Deletes at most `limit` records that have expired, the longest expired first; answers how many.
    ///
    /// Not atomic as a whole: what an error interrupts is partly done.
    async fn sweep(&self, now: Millis, limit: usize) -> Result<usize, StoreError>;

    /// Puts a record, whatever was there.
    async fn put(&self, key: Bytes, record: Record, now: Millis) -> Result<(), StoreError> {
        self.apply(vec![Write::Put { key, record }], now).await.map(|_| ())
    }

    /// Puts a record if no live one is there; answers whether it did.
    async fn put_new(&self, key: Bytes, record: Record, now: Millis) -> Result<bool, StoreError> {
        Ok(self.apply(vec![Write::PutNew { key, record }], now).await? == Applied::Done)
    }

    /// Deletes a record, if it is there.
    async fn delete(&self, key: Bytes, now: Millis) -> Result<(), StoreError> {
        self.apply(vec![Write::Delete { key }], now).await.map(|_| ())
    }
}

/// Checks a change against the bounds; answers the bytes of its keys and values.
pub(super) fn check(writes: &[Write]) -> Result<usize, StoreError> {
    let mut bytes = 0;
    for write in writes {
        let (key, value) = (write.key().len(), write.value().len());
        if key > MAX_KEY_BYTES {
            return Err(StoreError::KeyTooLong { bytes: key, max: MAX_KEY_BYTES });
        }
        if value > MAX_VALUE_BYTES {
            return Err(StoreError::ValueTooLarge { bytes: value, max: MAX_VALUE_BYTES });
        }
        bytes += key + value;
    }
    if writes.len() > MAX_CHANGE_WRITES || bytes > MAX_CHANGE_BYTES {
        return Err(StoreError::ChangeTooLarge {
            writes: writes.len(),
            bytes,
            max_writes: MAX_CHANGE_WRITES,
            max_bytes: MAX_CHANGE_BYTES,
        });
    }
    Ok(bytes)
}

/// One answer to a scan, as it fills.
pub(super) struct Page {
    records: Vec<(Bytes, Record)>,
    bytes: usize,
    limit: usize,
}

impl Page {
    /// An empty page for at most `limit` records.
    pub(super) fn new(limit: usize) -> Self {
        Self { records: Vec::new(), bytes: 0, limit: limit.min(MAX_PAGE_RECORDS) }
    }

    /// Whether nothing more goes in.
    pub(super) fn is_full(&self) -> bool {
        self.records.len() >= self.limit || self.bytes >= MAX_PAGE_BYTES
    }

    /// Adds a record.
    pub(super) fn push(&mut self, key: Bytes, record: Record) {
        self.bytes += key.len() + record.value.len();
        self.records.push((key, record));
    }

    /// The answer.
    pub(super) fn into_records(self) -> Vec<(Bytes, Record)> {
        self.records
    }
}

/// The first key a scan may show.
pub(super) fn scan_start(prefix: &[u8], after: Option<&[u8]>) -> Vec<u8> {
    match after {
        // The least key greater than `after` is `after` and a zero byte.
        Some(after) if after >= prefix => [after, &[0]].concat(),
        _ => prefix.to_vec(),
    }
}
