//! What the rules of the mailboxes need, on RocksDB.

use super::RocksStore;
use crate::store::StoreError;
use crate::store::backend::{Backend, Size, Swept, Verdict};
use crate::store::stage::{Scan, Stage};

impl Backend for RocksStore {
    async fn commit<T, F>(&self, size: Size, change: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Stage<'_>) -> Result<Verdict<T>, StoreError> + Send + 'static,
    {
        self.committer.commit(size, change).await
    }

    async fn read<T, F>(&self, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Scan) -> Result<T, StoreError> + Send + 'static,
    {
        self.read_blocking(move |database| read(database)).await
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.reserve.has_room(bytes)
    }

    fn swept(&self) -> &Swept {
        &self.swept
    }
}
