//! Damage, full disks and older formats: what RocksDB and its files do, as far as the store's promises rest on it.

mod damage;
mod full_disk;
mod lookups;
mod reserve;
mod upgrade;

use bytes::Bytes;

use crate::domain::clock::Millis;
use crate::domain::mailbox::{MailboxKey, MessageKey, Quota, SenderKey};
use crate::store::{Mailboxes, Moment, NewBlob, Page, PageLimit, Put, RocksStore, StoreError};

const AT: Moment = Moment { now: Millis(1_000), horizon: Millis(0) };
const FREE: Quota = Quota { blobs: None, bytes: None, sender_blobs: None, sender_bytes: None, total_bytes: u64::MAX };

fn mailbox() -> MailboxKey {
    MailboxKey::blobs("m")
}

fn message(id: usize) -> MessageKey {
    MessageKey::of("sender", "m", &id.to_string())
}

async fn put(store: &RocksStore, id: usize, body: Vec<u8>) -> Result<Put, StoreError> {
    let blob = NewBlob {
        mailbox: mailbox(),
        message: message(id),
        rank: 0,
        from: SenderKey([1; 16]),
        header: Bytes::from_static(b"header"),
        receipt: Bytes::from_static(b"receipt"),
        body: body.into(),
    };
    store.put(blob, FREE, AT).await
}

async fn page(store: &RocksStore) -> Result<Page, StoreError> {
    store.page(mailbox(), None, PageLimit { blobs: 1024, bytes: usize::MAX }, AT).await
}
