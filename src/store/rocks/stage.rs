//! What a change in a group sees and leaves: the database under everything that was staged before it.

use std::collections::HashMap;

use bytes::Bytes;

use crate::store::StoreError;

/// A column family: a key space with its own sorted files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// Records by key.
    Records,
    /// The keys of records that expire, in order of expiry.
    RecordsExpiry,
}

impl Family {
    /// All of them, each at the place its discriminant says.
    pub(super) const ALL: &[Self] = &[Self::Records, Self::RecordsExpiry];

    /// Its name on disk.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::RecordsExpiry => "records_expiry",
        }
    }
}

/// What the group commit needs of a database.
pub(super) trait Engine: Send + Sync {
    /// What is stored at a key.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Writes all changes or none; durable when it answers `Ok`.
    fn write(&self, changes: &Changes) -> Result<(), StoreError>;
}

/// New values by family and key; `None` deletes. A key has one entry: the last word on it.
#[derive(Debug, Default)]
pub(super) struct Changes {
    families: [HashMap<Bytes, Option<Bytes>>; Family::ALL.len()],
}

impl Changes {
    /// Whether nothing changes.
    pub(super) fn is_empty(&self) -> bool {
        self.families.iter().all(HashMap::is_empty)
    }

    /// Every change, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Family, &Bytes, Option<&Bytes>)> {
        let families = Family::ALL.iter().zip(&self.families);
        families.flat_map(|(family, changes)| changes.iter().map(|(key, value)| (*family, key, value.as_ref())))
    }

    fn get(&self, family: Family, key: &[u8]) -> Option<&Option<Bytes>> {
        self.families[family as usize].get(key)
    }

    fn set(&mut self, family: Family, key: Bytes, value: Option<Bytes>) {
        self.families[family as usize].insert(key, value);
    }

    /// Takes over `other`, which has the last word.
    fn absorb(&mut self, other: &mut Self) {
        for (into, from) in self.families.iter_mut().zip(&mut other.families) {
            into.extend(from.drain());
        }
    }

    fn clear(&mut self) {
        self.families.iter_mut().for_each(HashMap::clear);
    }
}

/// A group of changes as it grows. The change at hand is apart until it is kept or discarded as a whole.
pub(super) struct Stage<'a> {
    engine: &'a dyn Engine,
    kept: Changes,
    at_hand: Changes,
}

impl<'a> Stage<'a> {
    /// An empty group over a database.
    pub(super) fn new(engine: &'a dyn Engine) -> Self {
        Self { engine, kept: Changes::default(), at_hand: Changes::default() }
    }

    /// What is at a key, after all that was staged.
    pub(super) fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.at_hand.get(family, key).or_else(|| self.kept.get(family, key)) {
            Some(staged) => Ok(staged.clone()),
            None => self.engine.get(family, key),
        }
    }

    /// Stages a value.
    pub(super) fn put(&mut self, family: Family, key: Bytes, value: Bytes) {
        self.at_hand.set(family, key, Some(value));
    }

    /// Stages a deletion.
    pub(super) fn delete(&mut self, family: Family, key: Bytes) {
        self.at_hand.set(family, key, None);
    }

    /// Makes the change at hand part of the group.
    pub(super) fn keep(&mut self) {
        self.kept.absorb(&mut self.at_hand);
    }

    /// Forgets the change at hand.
    pub(super) fn discard(&mut self) {
        self.at_hand.clear();
    }

    /// The group, without what is still at hand.
    pub(super) fn into_changes(self) -> Changes {
        self.kept
    }
}
