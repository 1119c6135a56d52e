//! Notes whose answers were lost: the peer may have taken the blobs, or not.

use super::notes::{Item, Note};
use crate::mailbox::MailboxService;
use crate::mailbox::acks::Tell;
use crate::store::{Carried, Known, StoreError};

impl MailboxService {
    /// Finds out, of each blob of each note of a peer that can be asked, what became of it. What still lies here is
    /// offered to that peer again; what is done with here is acknowledged there.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) async fn settle_notes(&self) -> Result<(), StoreError> {
        self.offered().await?;
        let (mut after, mut pending) = (None, 0);
        loop {
            let page = self.notes(after.as_ref()).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.key.clone());
            let peers = self.inner.cluster.afar.peers();
            for note in page {
                if self.inner.offload.active.lock().contains(&note.key) {
                    continue;
                }
                let out = self.inner.cluster.afar.out.get();
                if out.is_some_and(|out| !out.knows(&note.peer)) {
                    // Nobody will ever say. What still lies here may go to others.
                    tracing::warn!(peer = %note.peer, blobs = note.items.len(), "dropped an offer to a peer no longer listed");
                    self.keep_note(&Note { items: Vec::new(), ..note.clone() }).await?;
                    self.offered().await?.remove(&note.items);
                    continue;
                }
                pending += 1;
                if peers.contains(&note.peer) {
                    self.settle_note(note).await?;
                }
            }
        }
        self.inner.metrics.offload.notes.set(pending);
        Ok(())
    }

    async fn settle_note(&self, note: Note) -> Result<(), StoreError> {
        let (mut open, mut blobs) = (Vec::new(), Vec::new());
        for (mailbox, id) in note.items.iter().copied() {
            match self.whereabouts_of((mailbox, id)).await? {
                Here::Waits(blob) => {
                    open.push((mailbox, blob.place.id));
                    blobs.push(*blob);
                }
                Here::Nothing => {}
                Here::Gone if self.tell_peer(&note.peer, mailbox, id.message(), Tell::Nothing).await => {}
                Here::Gone => open.push((mailbox, id)),
            }
        }
        let settled: Vec<_> = note.items.iter().filter(|item| !open.contains(item)).copied().collect();
        let note = Note { items: open, ..note };
        self.keep_note(&note).await?;
        self.offered().await?.remove(&settled);
        if !blobs.is_empty() {
            tracing::info!(peer = %note.peer, blobs = blobs.len(), "offering again what was not answered for");
            let sent = self.offer(note, blobs).await?;
            tracing::debug!(?sent, "settled");
        }
        Ok(())
    }

    async fn whereabouts_of(&self, (mailbox, id): Item) -> Result<Here, StoreError> {
        let (store, at) = (&self.inner.store, self.moment());
        let known = store.known(mailbox, vec![id.message()], at).await?.into_iter().next();
        Ok(match known {
            Some(Known::Live(place)) => match store.whole(mailbox, place, at).await? {
                Some(blob) => Here::Waits(Box::new(blob)),
                None => Here::Nothing,
            },
            Some(Known::Done) => Here::Gone,
            // What has expired here may be there for longer: another copy of the message that was there before.
            Some(Known::Moved | Known::Absent) | None => Here::Nothing,
        })
    }
}

/// What is here of a message that was offered.
enum Here {
    Waits(Box<Carried>),
    /// It has moved, or expired.
    Nothing,
    /// It is done with.
    Gone,
}
