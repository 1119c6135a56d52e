//! What the rules of the mailboxes need of a backend: changes that stand in one line, and reads.

use super::StoreError;
use super::stage::{Scan, Stage};

pub(super) use super::swept::{Swept, Taking};

/// How much a change carries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    /// Its writes.
    pub(super) writes: usize,
    /// The bytes of their keys and values.
    pub(super) bytes: usize,
}

/// What a change leaves, and its answer.
pub(super) enum Verdict<T> {
    /// Everything it staged is written.
    Keep(T),
    /// Nothing of it is written.
    Discard(T),
}

/// Keyed values that change one change after the other.
pub(super) trait Backend: Send + Sync {
    /// Does a change, and answers once it is as durable as the backend makes it.
    fn commit<T, F>(&self, size: Size, change: F) -> impl Future<Output = Result<T, StoreError>> + Send
    where
        T: Send + 'static,
        F: FnOnce(&mut Stage<'_>) -> Result<Verdict<T>, StoreError> + Send + 'static;

    /// Reads what was committed, wherever a read that may touch many blocks should run.
    fn read<T, F>(&self, read: F) -> impl Future<Output = Result<T, StoreError>> + Send
    where
        T: Send + 'static,
        F: FnOnce(&dyn Scan) -> Result<T, StoreError> + Send + 'static;

    /// Whether the disk has room for this many bytes above its reserve.
    fn has_room(&self, bytes: usize) -> bool;

    /// How far the blobs have been swept.
    fn swept(&self) -> &Swept;
}
