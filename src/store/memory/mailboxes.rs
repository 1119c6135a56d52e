//! Mailboxes in memory: sorted maps under the same rules as on disk. Bounded by the quota that comes with each put.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::store::StoreError;
use crate::store::backend::{Backend, Size, Swept, Verdict};
use crate::store::stage::{Changes, Family, Lookup, Scan, Stage, Visit};

/// Mailboxes that live as long as the process.
///
/// What a blob takes is about what it is charged. What is remembered as done comes on top, up to
/// [`MAX_DONE`](crate::store::MAX_DONE) messages of some 300 bytes.
#[derive(Debug, Default)]
pub struct MemoryMailboxes {
    maps: Mutex<Maps>,
    swept: Swept,
}

impl MemoryMailboxes {
    /// Empty mailboxes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Backend for MemoryMailboxes {
    async fn commit<T, F>(&self, _: Size, change: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Stage<'_>) -> Result<Verdict<T>, StoreError> + Send + 'static,
    {
        let mut maps = self.maps.lock();
        let mut stage = Stage::new(&*maps);
        match change(&mut stage)? {
            Verdict::Keep(answer) => {
                let changes = stage.into_changes();
                maps.write(&changes);
                Ok(answer)
            }
            Verdict::Discard(answer) => Ok(answer),
        }
    }

    async fn read<T, F>(&self, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Scan) -> Result<T, StoreError> + Send + 'static,
    {
        read(&*self.maps.lock())
    }

    fn has_room(&self, _: usize) -> bool {
        true
    }

    fn swept(&self) -> &Swept {
        &self.swept
    }
}

/// One sorted map for each family.
#[derive(Debug, Default)]
struct Maps([BTreeMap<Bytes, Bytes>; Family::ALL.len()]);

impl Maps {
    fn write(&mut self, changes: &Changes) {
        for (family, key, value) in changes.iter() {
            let map = &mut self.0[family as usize];
            match value {
                Some(value) => drop(map.insert(Bytes::copy_from_slice(key), value.to_bytes())),
                None => drop(map.remove(key)),
            }
        }
    }
}

impl Lookup for Maps {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.0[family as usize].get(key).cloned())
    }
}

impl Scan for Maps {
    fn scan(&self, family: Family, from: &[u8], below: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let below = below.map_or(Bound::Unbounded, Bound::Excluded);
        for (key, value) in self.0[family as usize].range::<[u8], _>((Bound::Included(from), below)) {
            if !visit(key, value)? {
                break;
            }
        }
        Ok(())
    }
}
