//! What was last staged, by key: all that is not yet in the database, and counts for longer.
//!
//! Nearly every change reads counts again that one not long before it wrote, and nobody else writes. All else is
//! rarely asked for again.

use std::collections::HashMap;
use std::mem;

use foldhash::fast::RandomState;
use smallvec::SmallVec;

use super::Family;

/// Counts that one generation may have before it is the older one: some 6 MiB.
const GENERATION_COUNTS: usize = 32 << 10;

/// A key; those of the mailboxes that are looked up have 48 bytes at most, and need no allocation.
type Key = SmallVec<[u8; 48]>;

/// A value; counts need no allocation.
pub(super) type Small = SmallVec<[u8; 56]>;

/// What was last staged for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slot {
    /// The value; `None` if it was deleted.
    pub(super) value: Option<Small>,
    /// Which group it was staged in.
    pub(super) group: u64,
    /// Which change in that group it is.
    pub(super) index: usize,
}

/// Entries by family, in two generations. What was not staged again while the younger one grew is forgotten with the
/// older.
#[derive(Debug, Default)]
pub(super) struct Recent {
    families: [[Slots; 2]; Family::ALL.len()],
}

type Slots = HashMap<Key, Slot, RandomState>;

impl Recent {
    /// What was last staged for a key.
    pub(super) fn get(&self, family: Family, key: &[u8]) -> Option<&Slot> {
        self.families[family as usize].iter().find_map(|slots| slots.get(key))
    }

    /// Notes what is staged for a key; gives what was before.
    pub(super) fn set(&mut self, family: Family, key: &[u8], slot: Slot) -> Option<Slot> {
        let [young, old] = &mut self.families[family as usize];
        if let Some(place) = young.get_mut(key) {
            return Some(mem::replace(place, slot));
        }
        young.insert(Key::from_slice(key), slot);
        // Most often there is none at all.
        if old.is_empty() { None } else { old.remove(key) }
    }

    /// Forgets a key.
    pub(super) fn unset(&mut self, family: Family, key: &[u8]) {
        let [young, _] = &mut self.families[family as usize];
        young.remove(key);
    }

    /// Forgets what was not staged for long. Whatever is in no group but the last must be in the database.
    pub(super) fn age(&mut self) {
        for (family, [young, old]) in Family::ALL.iter().zip(&mut self.families) {
            if *family != Family::Usage || young.len() >= GENERATION_COUNTS {
                mem::swap(young, old);
                young.clear();
            }
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.families.iter_mut().flatten().for_each(HashMap::clear);
    }
}
