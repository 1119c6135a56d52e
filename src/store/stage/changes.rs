//! A group of changes in the order in which they were staged. Keys and small values lie in one buffer, which is used
//! again for the next group: staging allocates nothing.

use std::ops::Range;

use bytes::Bytes;

use super::Family;

/// What is to be at a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Value<'a> {
    /// A value that is copied.
    Small(&'a [u8]),
    /// A value whose memory is shared.
    Shared(&'a Bytes),
}

impl<'a> Value<'a> {
    /// Its bytes.
    pub(in crate::store) fn as_slice(self) -> &'a [u8] {
        match self {
            Self::Small(value) => value,
            Self::Shared(value) => value,
        }
    }

    /// Its bytes, to keep.
    pub(in crate::store) fn to_bytes(self) -> Bytes {
        match self {
            Self::Small(value) => Bytes::copy_from_slice(value),
            Self::Shared(value) => value.clone(),
        }
    }
}

/// New values by family and key. Of one key that is there more than once, the last word counts.
#[derive(Debug, Default)]
pub(in crate::store) struct Changes {
    entries: Vec<Entry>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Entry {
    family: Family,
    key: Range<usize>,
    value: Stored,
}

#[derive(Debug)]
enum Stored {
    Nothing,
    Here(Range<usize>),
    Shared(Bytes),
}

impl Changes {
    /// Whether nothing changes.
    pub(in crate::store) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// About how many bytes they are as a batch.
    pub(in crate::store) fn batch_bytes(&self) -> usize {
        let shared = |entry: &Entry| if let Stored::Shared(value) = &entry.value { value.len() } else { 0 };
        self.buffer.len() + self.entries.iter().map(|entry| ENTRY_BYTES + shared(entry)).sum::<usize>()
    }

    /// Every change, in order: its family, key and value; `None` deletes.
    pub(in crate::store) fn iter(&self) -> impl Iterator<Item = (Family, &[u8], Option<Value<'_>>)> {
        self.entries.iter().map(|entry| {
            let value = match &entry.value {
                Stored::Nothing => None,
                Stored::Here(range) => Some(Value::Small(&self.buffer[range.clone()])),
                Stored::Shared(value) => Some(Value::Shared(value)),
            };
            (entry.family, &self.buffer[entry.key.clone()], value)
        })
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The key of the change with this number.
    pub(super) fn key(&self, index: usize) -> (Family, &[u8]) {
        let entry = &self.entries[index];
        (entry.family, &self.buffer[entry.key.clone()])
    }

    /// Adds a change; its number.
    pub(in crate::store) fn push(&mut self, family: Family, key: &[u8], value: Option<Value<'_>>) -> usize {
        let key = self.copy(key);
        let value = self.store(value);
        self.entries.push(Entry { family, key, value });
        self.entries.len() - 1
    }

    /// Gives the change with this number another value.
    pub(super) fn replace(&mut self, index: usize, value: Option<Value<'_>>) {
        match (&self.entries[index].value, value) {
            // Counts are replaced over and over, and keep their length.
            (Stored::Here(range), Some(Value::Small(value))) if range.len() == value.len() => {
                self.buffer[range.clone()].copy_from_slice(value);
            }
            (_, value) => self.entries[index].value = self.store(value),
        }
    }

    /// Takes all changes from this number on away.
    pub(super) fn truncate(&mut self, len: usize) {
        self.entries.truncate(len);
    }

    /// Takes all changes away.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.buffer.clear();
    }

    fn store(&mut self, value: Option<Value<'_>>) -> Stored {
        match value {
            None => Stored::Nothing,
            Some(Value::Small(value)) => Stored::Here(self.copy(value)),
            Some(Value::Shared(value)) => Stored::Shared(value.clone()),
        }
    }

    fn copy(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(bytes);
        start..self.buffer.len()
    }
}

/// What RocksDB adds to a key and a value in a batch, at most: a tag, a family and two lengths.
const ENTRY_BYTES: usize = 12;
