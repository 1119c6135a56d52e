//! Keyed values under a backend, and what a change to them sees and leaves: the database under everything that was
//! staged before it.

mod changes;
mod recent;
#[cfg(test)]
mod tests;

use std::ops::Deref;

use bytes::Bytes;

use self::recent::{Recent, Slot, Small};
use super::StoreError;

pub(super) use self::changes::{Changes, Value};

/// A key space of its own. In RocksDB: a column family, with its own sorted files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// Records by key.
    Records,
    /// The keys of records that expire, in order of expiry.
    RecordsExpiry,
    /// Blobs, by mailbox and place.
    Blobs,
    /// What is known of a message, by mailbox and message.
    Messages,
    /// The places of all blobs, in the order of storing.
    Ages,
    /// The messages that are remembered as done or moved, in the order in which they are to be forgotten.
    Done,
    /// How much is stored: in all, for each mailbox, and for each sender in it.
    Usage,
    /// The blobs that came from another store and end before their age says, in the order in which they end.
    Ends,
    /// The messages whose blobs were moved elsewhere, by mailbox.
    Moved,
}

impl Family {
    /// All of them, each at the place its discriminant says.
    pub(super) const ALL: &[Self] = &[
        Self::Records,
        Self::RecordsExpiry,
        Self::Blobs,
        Self::Messages,
        Self::Ages,
        Self::Done,
        Self::Usage,
        Self::Ends,
        Self::Moved,
    ];

    /// Its name on disk.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::RecordsExpiry => "records_expiry",
            Self::Blobs => "blobs",
            Self::Messages => "messages",
            Self::Ages => "ages",
            Self::Done => "done",
            Self::Usage => "usage",
            Self::Ends => "ends",
            Self::Moved => "moved",
        }
    }

    /// Whether a change may read what others before it staged. The rest is only ever written by changes.
    pub(super) fn is_looked_up(self) -> bool {
        matches!(self, Self::Records | Self::Messages | Self::Usage)
    }
}

/// Finds what is stored at a key.
pub(super) trait Lookup {
    /// What is stored at a key.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError>;
}

/// What [`Scan::scan`] hands an entry to: its key and its value. Answers whether to go on.
pub(super) type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<bool, StoreError> + 'a;

/// Also walks along the keys.
pub(super) trait Scan: Lookup {
    /// Shows the entries from the key `from` up to but not including `below` (`None`: to the end), in key order,
    /// until `visit` has had enough.
    fn scan(&self, family: Family, from: &[u8], below: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<(), StoreError>;
}

/// Also writes.
pub(super) trait Engine: Lookup + Send + Sync {
    /// Whether a write may succeed. What was read before it answers may be void after.
    fn ready(&self) -> Result<(), StoreError>;

    /// Writes all changes or none; durable when it answers `Ok`, if the engine is.
    fn write(&self, changes: &Changes) -> Result<(), StoreError>;
}

/// The least key that is greater than all with this prefix; `None` if there is none.
pub(super) fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

/// What is at a key.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// It was staged, or lately was.
    Staged(&'a [u8]),
    /// It is in the database.
    Stored(Bytes),
}

impl Found<'_> {
    /// Its bytes, to keep.
    pub(super) fn into_bytes(self) -> Bytes {
        match self {
            Self::Staged(value) => Bytes::copy_from_slice(value),
            Self::Stored(value) => value,
        }
    }
}

impl Deref for Found<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Staged(value) => value,
            Self::Stored(value) => value,
        }
    }
}

/// A group of changes as it grows. The change at hand can be taken back until it is kept as a whole.
///
/// While a group is being written the next one is staged over it, so what was staged is remembered until it is in the
/// database, and a while longer.
pub(super) struct Stage<'a> {
    database: &'a (dyn Lookup + Sync),
    /// The group, which has this number.
    changes: Changes,
    group: u64,
    recent: Recent,
    /// The changes of the group that were kept.
    kept: usize,
    /// What the change at hand replaced, in the order of replacing: the number of the change that did, and what was
    /// known before.
    replaced: Vec<(usize, Option<Slot>)>,
}

impl<'a> Stage<'a> {
    /// An empty group over a database.
    pub(super) fn new(database: &'a (dyn Lookup + Sync)) -> Self {
        let (changes, recent) = (Changes::default(), Recent::default());
        Self { database, changes, group: 0, recent, kept: 0, replaced: Vec::new() }
    }

    /// What is at a key, after all that was staged, of a family that [is looked up](Family::is_looked_up).
    pub(super) fn get(&self, family: Family, key: &[u8]) -> Result<Option<Found<'_>>, StoreError> {
        debug_assert!(family.is_looked_up(), "{family:?}");
        match self.recent.get(family, key) {
            Some(slot) => Ok(slot.value.as_ref().map(|value| Found::Staged(value))),
            None => Ok(self.database.get(family, key)?.map(Found::Stored)),
        }
    }

    /// What is at a key in the database, whatever was staged since.
    pub(super) fn written(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.database.get(family, key)
    }

    /// Stages a value.
    pub(super) fn put(&mut self, family: Family, key: &[u8], value: &[u8]) {
        self.set(family, key, Some(Value::Small(value)));
    }

    /// Stages a value without copying it.
    pub(super) fn put_shared(&mut self, family: Family, key: &[u8], value: &Bytes) {
        self.set(family, key, Some(Value::Shared(value)));
    }

    /// Stages a deletion.
    pub(super) fn delete(&mut self, family: Family, key: &[u8]) {
        self.set(family, key, None);
    }

    fn set(&mut self, family: Family, key: &[u8], value: Option<Value<'_>>) {
        if !family.is_looked_up() {
            self.changes.push(family, key, value);
            return;
        }
        let staged = self.recent.get(family, key).filter(|slot| slot.group == self.group).map(|slot| slot.index);
        let index = match staged {
            Some(index) => {
                self.changes.replace(index, value);
                index
            }
            None => self.changes.push(family, key, value),
        };
        let slot = Slot { value: value.map(|value| Small::from_slice(value.as_slice())), group: self.group, index };
        let before = self.recent.set(family, key, slot);
        self.replaced.push((index, before));
    }

    /// Makes the change at hand part of the group.
    pub(super) fn keep(&mut self) {
        self.replaced.clear();
        self.kept = self.changes.len();
    }

    /// Forgets the change at hand.
    pub(super) fn discard(&mut self) {
        while let Some((index, before)) = self.replaced.pop() {
            if let Some(before) = before.as_ref().filter(|before| before.group == self.group) {
                self.changes.replace(index, before.value.as_deref().map(Value::Small));
            }
            let (family, key) = self.changes.key(index);
            match before {
                Some(before) => drop(self.recent.set(family, key, before)),
                None => self.recent.unset(family, key),
            }
        }
        self.changes.truncate(self.kept);
    }

    /// Whether nothing is staged.
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The group with the change at hand, if nothing comes after it.
    pub(super) fn into_changes(self) -> Changes {
        self.changes
    }

    /// Gives the group away to be written, and begins the next one over it. Every group before it must be in the
    /// database. `spent` is one that is, for its memory.
    pub(super) fn hand_over(&mut self, mut spent: Changes) -> Changes {
        spent.clear();
        self.kept = 0;
        self.group += 1;
        self.recent.age();
        std::mem::replace(&mut self.changes, spent)
    }

    /// Begins anew: the group that was given away last may or may not be in the database, and nothing that was
    /// staged over it counts.
    pub(super) fn failed(&mut self) {
        self.changes.clear();
        self.kept = 0;
        self.recent.clear();
    }
}
