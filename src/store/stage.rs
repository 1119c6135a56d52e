//! Keyed values under a backend, and what a change to them sees and leaves: the database under everything that was
//! staged before it.

use std::collections::HashMap;

use bytes::Bytes;

use super::StoreError;

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
    /// The messages that are remembered as done, in the order in which they are to be forgotten.
    Done,
    /// How much is stored: in all, for each mailbox, and for each sender in it.
    Usage,
}

impl Family {
    /// All of them, each at the place its discriminant says.
    pub(super) const ALL: &[Self] =
        &[Self::Records, Self::RecordsExpiry, Self::Blobs, Self::Messages, Self::Ages, Self::Done, Self::Usage];

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
        }
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

    fn set(&mut self, family: Family, key: Bytes, value: Option<Bytes>) -> Option<Option<Bytes>> {
        self.families[family as usize].insert(key, value)
    }

    fn unset(&mut self, family: Family, key: &[u8]) {
        self.families[family as usize].remove(key);
    }

    fn clear(&mut self) {
        self.families.iter_mut().for_each(HashMap::clear);
    }
}

/// Most counts that are kept from group to group: a few MiB.
const MAX_RECENT: usize = 16 << 10;

/// A group of changes as it grows. The change at hand can be taken back until it is kept as a whole.
///
/// Counts of what is in use are kept from group to group: nearly every change reads again what one shortly before
/// it wrote, and nobody else writes.
pub(super) struct Stage<'a> {
    database: &'a dyn Lookup,
    changes: Changes,
    /// Counts as they are in the database.
    recent: HashMap<Bytes, Option<Bytes>>,
    /// What the change at hand replaced in `changes`, in the order of replacing.
    replaced: Vec<(Family, Bytes, Option<Option<Bytes>>)>,
}

impl<'a> Stage<'a> {
    /// An empty group over a database.
    pub(super) fn new(database: &'a dyn Lookup) -> Self {
        Self { database, changes: Changes::default(), recent: HashMap::new(), replaced: Vec::new() }
    }

    /// What is at a key, after all that was staged.
    pub(super) fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let recent = || self.recent.get(key).filter(|_| family == Family::Usage);
        match self.changes.get(family, key).or_else(recent) {
            Some(staged) => Ok(staged.clone()),
            None => self.database.get(family, key),
        }
    }

    /// Stages a value.
    pub(super) fn put(&mut self, family: Family, key: Bytes, value: Bytes) {
        self.set(family, key, Some(value));
    }

    /// Stages a deletion.
    pub(super) fn delete(&mut self, family: Family, key: Bytes) {
        self.set(family, key, None);
    }

    fn set(&mut self, family: Family, key: Bytes, value: Option<Bytes>) {
        let before = self.changes.set(family, key.clone(), value);
        self.replaced.push((family, key, before));
    }

    /// Makes the change at hand part of the group.
    pub(super) fn keep(&mut self) {
        self.replaced.clear();
    }

    /// Forgets the change at hand.
    pub(super) fn discard(&mut self) {
        while let Some((family, key, before)) = self.replaced.pop() {
            match before {
                Some(value) => drop(self.changes.set(family, key, value)),
                None => self.changes.unset(family, &key),
            }
        }
    }

    /// The group.
    pub(super) fn changes(&self) -> &Changes {
        &self.changes
    }

    /// The group with the change at hand, if nothing comes after it.
    pub(super) fn into_changes(self) -> Changes {
        self.changes
    }

    /// Begins the next group: the last one is in the database.
    pub(super) fn written(&mut self) {
        if self.recent.len() > MAX_RECENT {
            self.recent.clear();
        }
        self.recent.extend(self.changes.families[Family::Usage as usize].drain());
        self.changes.clear();
    }

    /// Begins the next group: the last one may or may not be in the database.
    pub(super) fn failed(&mut self) {
        self.recent.clear();
        self.changes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Stored(&'static str);

    impl Lookup for Stored {
        fn get(&self, _: Family, _: &[u8]) -> Result<Option<Bytes>, StoreError> {
            Ok(Some(self.0.into()))
        }
    }

    fn at<'a>(stage: &Stage<'a>, key: &str) -> Option<Bytes> {
        stage.get(Family::Records, key.as_bytes()).unwrap()
    }

    #[test]
    fn a_discarded_change_leaves_what_was_kept_before_it() {
        let stored = Stored("stored");
        let mut stage = Stage::new(&stored);
        stage.put(Family::Records, "a".into(), "kept".into());
        stage.keep();
        stage.put(Family::Records, "a".into(), "once".into());
        stage.delete(Family::Records, "a".into());
        stage.delete(Family::Records, "b".into());
        assert_eq!((at(&stage, "a"), at(&stage, "b")), (None, None));
        stage.discard();
        assert_eq!((at(&stage, "a"), at(&stage, "b")), (Some("kept".into()), Some("stored".into())));
        let kept = (Family::Records, &Bytes::from("a"), Some(&Bytes::from("kept")));
        assert_eq!(stage.changes().iter().collect::<Vec<_>>(), [kept]);
    }

    #[test]
    fn a_count_is_read_from_the_database_again_only_after_a_failure() {
        let stored = Stored("stored");
        let mut stage = Stage::new(&stored);
        for family in [Family::Usage, Family::Messages] {
            stage.put(family, "a".into(), "written".into());
        }
        stage.keep();
        stage.written();
        assert!(stage.changes().is_empty());
        assert_eq!(stage.get(Family::Usage, b"a").unwrap(), Some("written".into()));
        assert_eq!(stage.get(Family::Messages, b"a").unwrap(), Some("stored".into()));
        stage.failed();
        assert_eq!(stage.get(Family::Usage, b"a").unwrap(), Some("stored".into()));
    }

    #[test]
    fn a_prefix_ends_where_no_key_has_it() {
        assert_eq!(prefix_end(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(prefix_end(&[1, u8::MAX]), Some(vec![2]));
        assert_eq!(prefix_end(&[u8::MAX]), None);
        assert_eq!(prefix_end(&[]), None);
    }
}
