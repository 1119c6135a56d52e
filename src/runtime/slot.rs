//! A place for a part that is made after the one that calls it, and that has to let go of it again.
//!
//! Parts that call each other hold each other; a node that stops empties the slots, so that what it had open,
//! such as its store, is closed.

use std::sync::Arc;

use parking_lot::RwLock;

/// Holds one part, or none yet, or none any more.
pub struct Slot<T: ?Sized> {
    part: RwLock<Option<Arc<T>>>,
}

impl<T: ?Sized> Default for Slot<T> {
    fn default() -> Self {
        Self { part: RwLock::new(None) }
    }
}

impl<T: ?Sized> Slot<T> {
    /// Puts `part` in, unless one is there.
    pub fn fill(&self, part: Arc<T>) {
        self.part.write().get_or_insert(part);
    }

    /// The part, if one is there.
    #[must_use]
    pub fn get(&self) -> Option<Arc<T>> {
        self.part.read().clone()
    }

    /// Whether a part is there.
    #[must_use]
    pub fn is_filled(&self) -> bool {
        self.part.read().is_some()
    }

    /// Lets go of the part.
    pub fn clear(&self) {
        self.part.write().take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_part_stays_until_it_is_let_go() {
        let slot = Slot::default();
        let part: Arc<str> = "first".into();
        slot.fill(part.clone());
        slot.fill("second".into());
        assert_eq!((slot.get().as_deref(), slot.is_filled()), (Some("first"), true));
        slot.clear();
        assert_eq!((slot.get(), Arc::strong_count(&part)), (None, 1));
    }
}
