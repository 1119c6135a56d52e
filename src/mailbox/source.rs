//! What this node holds for a mailbox: its store, for its own sessions and for those of other nodes.

use bytes::Bytes;

use super::MailboxService;
use crate::domain::clock::Millis;
use crate::domain::mailbox::{MailboxKey, MessageKey, Place};
use crate::store::{Acked, Page, PageLimit, StoreError, StoredBlob};

impl MailboxService {
    /// What waits in a mailbox after a place.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) async fn page(
        &self,
        mailbox: MailboxKey,
        after: Option<Place>,
        limit: PageLimit,
    ) -> Result<Page, StoreError> {
        self.inner.store.page(mailbox, after, limit, self.moment()).await
    }

    /// The blob at a place.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) async fn at(&self, mailbox: MailboxKey, place: Place) -> Result<Option<StoredBlob>, StoreError> {
        self.inner.store.get(mailbox, place, self.moment()).await
    }

    /// Notes that blobs have reached the recipient; the receipts of those for which that is new.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) async fn mark(
        &self,
        mailbox: MailboxKey,
        messages: Vec<MessageKey>,
    ) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.inner.peers.latecomers.reached(&mailbox, &messages);
        self.inner.store.mark_delivered(mailbox, messages, self.moment()).await
    }

    /// Deletes a message; what was deleted. Durable when this returns.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) async fn acknowledge(
        &self,
        mailbox: MailboxKey,
        message: MessageKey,
    ) -> Result<Option<Acked>, StoreError> {
        let memory = self.inner.settings.dedup_memory;
        let acked =
            self.inner.store.ack(mailbox, vec![message], self.moment(), memory).await?.into_iter().flatten().next();
        if matches!(acked, Some(Acked::Blob { .. })) {
            self.inner.metrics.mailbox.acknowledged.inc();
            self.inner.metrics.mailbox.blobs.dec();
        }
        Ok(acked)
    }

    /// Deletes everything that was stored in a mailbox until a moment; how much that was. Durable when this returns.
    ///
    /// # Errors
    /// When the store fails; a part may be deleted then.
    pub(super) async fn empty(&self, mailbox: MailboxKey, until: Millis) -> Result<u64, StoreError> {
        let memory = self.inner.settings.dedup_memory;
        let purged = self.inner.store.purge(mailbox, until, self.moment(), memory).await?;
        self.inner.metrics.mailbox.purged.inc_by(purged);
        self.inner.metrics.mailbox.blobs.dec_by(i64::try_from(purged).unwrap_or(i64::MAX));
        Ok(purged)
    }
}
