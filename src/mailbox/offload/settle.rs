//! Notes whose answers were lost: the peer may have taken the blobs, or not.

use std::collections::BTreeSet;
use std::time::Instant;

use bytes::Bytes;

use super::notes::{Item, Note};
use crate::cluster::regions::PeerName;
use crate::mailbox::MailboxService;
use crate::store::{Carried, Known, StoreError};

impl MailboxService {
    /// The peers that are there and of which it is not known what became of some offer. Drops what was offered to others
    /// that are none any more.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) async fn open_offers(&self) -> Result<BTreeSet<PeerName>, StoreError> {
        self.offered().await?;
        let (mut after, mut open, mut owing) = (None, 0, BTreeSet::new());
        loop {
            let page = self.notes(after.as_ref()).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.key.clone());
            for note in page {
                if self.inner.offload.awaited.has(&note) {
                    continue;
                }
                let out = self.inner.cluster.afar.out.get();
                if out.is_some_and(|out| !out.knows(&note.peer)) {
                    // Nobody will ever say. What still lies here may go to others.
                    tracing::warn!(peer = %note.peer, blobs = note.items.len(), "dropped an offer to a peer no longer listed");
                    self.keep_note(&Note { items: Vec::new(), ..note.clone() }).await?;
                    self.offered().await?.remove(&note.items);
                } else {
                    open += 1;
                    owing.insert(note.peer);
                }
            }
        }
        self.inner.metrics.offload.notes.set(open);
        let peers = self.inner.cluster.afar.peers();
        owing.retain(|peer| peers.contains(peer));
        Ok(owing)
    }

    /// Finds out, of each blob of each note of a peer, what became of it, until it does not say. What still lies here is
    /// offered to that peer again; what is done with here is acknowledged there.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) async fn settle_with(&self, peer: &PeerName) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let page = self.notes(after.as_ref()).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.key.clone());
            for note in page.into_iter().filter(|note| note.peer == *peer) {
                let Some(awaiting) = self.inner.offload.awaited.begin(&note, Instant::now()) else { continue };
                // As it is now: while others were settled, who had made it may have heard.
                let Some(note) = self.note(&note.key).await? else { continue };
                let answers = self.settle_note(note).await?;
                drop(awaiting);
                if !answers {
                    return Ok(());
                }
            }
        }
    }

    /// Settles one, as far as the peer answers; false if it does not.
    async fn settle_note(&self, note: Note) -> Result<bool, StoreError> {
        let (mut open, mut blobs, mut gone) = (Vec::<Item>::new(), Vec::new(), Vec::<Item>::new());
        for (mailbox, id) in note.items.iter().copied() {
            match self.whereabouts_of((mailbox, id)).await? {
                Here::Waits(blob) => {
                    open.push((mailbox, blob.place.id));
                    blobs.push(*blob);
                }
                Here::Nothing => {}
                Here::Gone => gone.push((mailbox, id)),
            }
        }
        let (unheard, is_silent) = self.tell_peer(&note.peer, gone).await;
        open.extend(unheard);
        let mut answers = !is_silent;
        // A blob that waits may be another of its message than the one that was offered.
        let is_open =
            |(mailbox, id): &Item| open.iter().any(|(of, other)| of == mailbox && other.message() == id.message());
        let settled: Vec<_> = note.items.iter().filter(|item| !is_open(item)).copied().collect();
        let note = Note { items: open, ..note };
        self.keep_note(&note).await?;
        self.offered().await?.remove(&settled);
        if answers && !blobs.is_empty() {
            tracing::info!(peer = %note.peer, blobs = blobs.len(), "offering again what was not answered for");
            let sent = self.offer(note, blobs).await?;
            tracing::debug!(?sent, "settled");
            answers = !sent.broken_off;
        }
        Ok(answers)
    }

    /// Tells a peer that these are done with: those of which it has not heard, and whether it does not answer.
    pub(super) async fn tell_peer(&self, peer: &PeerName, mut items: Vec<Item>) -> (Vec<Item>, bool) {
        let place = Bytes::copy_from_slice(peer.0.as_bytes());
        let messages = items.iter().map(|(mailbox, id)| (*mailbox, id.message()));
        let (heard, is_silent) = self.tell_each(&place, messages).await;
        items.retain(|(mailbox, id)| !heard.contains(&(*mailbox, id.message())));
        (items, is_silent)
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
