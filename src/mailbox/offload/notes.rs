//! Which blobs are offered to whom: durable before they leave, and kept until it is known what became of each.

use std::collections::HashSet;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use parking_lot::Mutex;

use crate::cluster::regions::PeerName;
use crate::domain::mailbox::{BlobId, MailboxKey, MessageKey};
use crate::mailbox::MailboxService;
use crate::runtime::time;
use crate::store::{Applied, Record, StoreError};

const PREFIX: &[u8] = b"offer/";

/// Notes that are read at a time.
const PAGE: usize = 64;

/// Bytes of one blob in a note.
const ITEM_BYTES: usize = 48;

/// A blob that is offered.
pub type Item = (MailboxKey, BlobId);

/// Blobs that are offered to a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Where it is kept.
    pub key: Bytes,
    /// To whom.
    pub peer: PeerName,
    /// Which.
    pub items: Vec<Item>,
}

impl Note {
    /// A new one.
    pub fn new(peer: PeerName, items: Vec<Item>) -> Self {
        let key = [PREFIX, hex::encode(rand::random::<[u8; 16]>()).as_bytes()].concat().into();
        Self { key, peer, items }
    }

    fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(2 + self.peer.0.len() + self.items.len() * ITEM_BYTES);
        out.put_u16(u16::try_from(self.peer.0.len()).unwrap_or(u16::MAX));
        out.put_slice(self.peer.0.as_bytes());
        for (mailbox, id) in &self.items {
            out.put_slice(&mailbox.0);
            out.put_slice(&id.to_bytes());
        }
        out.freeze()
    }

    fn decode(key: Bytes, mut value: Bytes) -> Option<Self> {
        let length = usize::from(value.try_get_u16().ok()?);
        if value.len() < length {
            return None;
        }
        let peer = PeerName(std::str::from_utf8(&value.split_to(length)).ok()?.into());
        let items = value.chunks_exact(ITEM_BYTES).filter_map(|item| {
            let (mailbox, id) = item.split_first_chunk::<32>()?;
            Some((MailboxKey(*mailbox), BlobId::from_bytes(id.try_into().ok()?)?))
        });
        Some(Self { key, peer, items: items.collect() })
    }
}

/// The messages that are offered to somebody, or may have been taken by them.
#[derive(Debug, Default)]
pub struct Offered(Mutex<HashSet<(MailboxKey, MessageKey)>>);

impl Offered {
    /// Offers those that are not offered yet: these.
    pub fn add(&self, items: Vec<Item>) -> Vec<Item> {
        let mut offered = self.0.lock();
        items.into_iter().filter(|(mailbox, id)| offered.insert((*mailbox, id.message()))).collect()
    }

    /// It is known what became of them.
    pub fn remove(&self, items: &[Item]) {
        let mut offered = self.0.lock();
        for (mailbox, id) in items {
            offered.remove(&(*mailbox, id.message()));
        }
    }

    /// Whether a message is offered.
    pub fn contains(&self, mailbox: MailboxKey, message: MessageKey) -> bool {
        self.0.lock().contains(&(mailbox, message))
    }
}

impl MailboxService {
    /// What is offered, with what the notes of an earlier process say.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) async fn offered(&self) -> Result<&Offered, StoreError> {
        let load = async {
            let (offered, mut after) = (Offered::default(), None);
            loop {
                let page = self.notes(after.as_ref()).await?;
                let Some(last) = page.last() else { return Ok(offered) };
                after = Some(last.key.clone());
                page.into_iter().for_each(|note| drop(offered.add(note.items)));
            }
        };
        self.inner.offload.offered.get_or_try_init(|| load).await
    }

    /// The notes after the one at a key.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) async fn notes(&self, after: Option<&Bytes>) -> Result<Vec<Note>, StoreError> {
        let page = self.inner.records.scan(PREFIX, after.map(|after| &after[..]), PAGE, time::now()).await?;
        Ok(page.into_iter().filter_map(|(key, record)| Note::decode(key, record.value)).collect())
    }

    /// The note at that key, as it is now; nothing, if it is known what became of all of it.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) async fn note(&self, key: &Bytes) -> Result<Option<Note>, StoreError> {
        let record = self.inner.records.get(key, time::now()).await?;
        Ok(record.and_then(|record| Note::decode(key.clone(), record.value)))
    }

    /// Keeps a note: durable when this returns. One of nothing is not kept any more.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) async fn keep_note(&self, note: &Note) -> Result<(), StoreError> {
        let write = match note.items.is_empty() {
            true => crate::store::Write::Delete { key: note.key.clone() },
            false => crate::store::Write::Put { key: note.key.clone(), record: Record::lasting(note.encode()) },
        };
        // Without a condition it cannot be refused.
        let (Applied::Done | Applied::Refused { .. }) = self.inner.records.apply(vec![write], time::now()).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::mailbox::Stamp;

    #[test]
    fn a_note_says_what_was_offered_to_whom() {
        let id = BlobId::new(Stamp::new(5).unwrap(), MessageKey::of("s", "r", "m"));
        let note = Note::new(PeerName("http://peer:1".into()), vec![(MailboxKey::blobs("r"), id); 3]);
        assert_eq!(Note::decode(note.key.clone(), note.encode()), Some(note.clone()));
        assert_eq!(Note::decode(note.key.clone(), note.encode().slice(..5)), None);
    }
}
