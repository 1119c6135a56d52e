//! Blobs to be stored (sections 4.3 and 4.9).

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use smallvec::smallvec;

use super::labels::{BlobHeader, Receipt};
use super::lane::Done;
use super::service::{acknowledgment, fresh_id};
use super::session::Session;
use super::{MAX_NAME_BYTES, MailboxService};
use crate::domain::mailbox::{Full, MailboxKey, MessageKey, Quota};
use crate::store::{NewBlob, Put};
use crate::wire::vauchi::handshake::is_id;
use crate::wire::vauchi::incoming::Incoming;
use crate::wire::vauchi::payload::{AccountRevoked, EncryptedUpdate, Status};

/// Longest frame of an account revocation that is stored, in bytes: shipped clients send 400. As a blob it is
/// spelled with up to four characters a byte.
const MAX_REVOCATION_BYTES: usize = 16 << 10;

impl MailboxService {
    /// Stores a blob for whoever is named as its recipient.
    pub(super) fn update(&self, session: &Arc<Session>, id: &str, update: EncryptedUpdate<'_>, frame_bytes: usize) {
        let sender_id = update.sender_id.as_deref().unwrap_or_default();
        if update.recipient_id.len() > MAX_NAME_BYTES || sender_id.len() > MAX_NAME_BYTES {
            return self.refuse(session, id, "name", frame_bytes);
        }
        let blob = NewBlob {
            mailbox: MailboxKey::blobs(&update.recipient_id),
            message: message_key(&session.who.routing_id, &update.recipient_id, id),
            rank: 0,
            from: session.from,
            header: BlobHeader::encode(sender_id),
            receipt: Receipt::encode(&session.who.routing_id, id),
            body: update.ciphertext,
        };
        self.store(session, id, blob, self.inner.settings.quota, frame_bytes);
    }

    /// Stores that an account is gone, as a blob that holds the very message. Nobody is told of its delivery.
    pub(super) fn revocation(
        &self,
        session: &Arc<Session>,
        message: &Incoming<'_>,
        revoked: &AccountRevoked<'_>,
        frame_bytes: usize,
    ) {
        let id = &*message.message_id;
        if !is_id(&revoked.recipient_id) || revoked.sender_id.len() > MAX_NAME_BYTES {
            return self.refuse(session, id, "name", frame_bytes);
        }
        if frame_bytes > MAX_REVOCATION_BYTES {
            return self.refuse(session, id, "revocation_size", frame_bytes);
        }
        let blob = NewBlob {
            mailbox: MailboxKey::blobs(&revoked.recipient_id),
            message: message_key(&session.who.routing_id, &revoked.recipient_id, id),
            rank: 0,
            from: session.from,
            header: BlobHeader::encode(&revoked.sender_id),
            receipt: Bytes::new(),
            body: message.encode(),
        };
        let quota = Quota { bytes: None, sender_bytes: None, ..self.inner.settings.quota };
        self.store(session, id, blob, quota, frame_bytes);
    }

    /// Stores a blob, and answers what became of it.
    pub(super) fn store(&self, session: &Arc<Session>, id: &str, blob: NewBlob, quota: Quota, frame_bytes: usize) {
        let (this, id, begun) = (self.clone(), id.to_owned(), Instant::now());
        self.work(session, false, frame_bytes, async move { this.put(&id, blob, quota, begun).await });
    }

    /// Stores a blob; the answer to its sender.
    pub(super) async fn put(&self, id: &str, blob: NewBlob, quota: Quota, begun: Instant) -> Done {
        let (mailbox, rank) = (blob.mailbox, blob.rank);
        let put = self.inner.store.put(blob, quota, self.moment()).await;
        let metrics = &self.inner.metrics.mailbox;
        metrics.store_seconds.observe(begun.elapsed().as_secs_f64());
        let stored = || acknowledgment(id, Status::Stored);
        match put {
            Ok(Put::Stored(blob)) => {
                metrics.stored.inc();
                metrics.blobs.inc();
                let place = crate::domain::mailbox::Place { rank, id: blob };
                Done { answer: Some(stored()), arrived: smallvec![(mailbox, place)] }
            }
            Ok(Put::Duplicate(_) | Put::Done) => {
                metrics.repeats.inc();
                Done::answer(stored())
            }
            Ok(Put::Refused(full)) => self.failed(id, reason(full)),
            Err(error) => {
                self.store_failed("put", &error);
                self.failed(id, "store")
            }
        }
    }

    /// Answers `Failed`, in the message's turn.
    pub(super) fn refuse(&self, session: &Arc<Session>, id: &str, why: &'static str, frame_bytes: usize) {
        let done = self.failed(id, why);
        self.work(session, false, frame_bytes, async move { done });
    }

    /// The answer that a message was not stored.
    pub(super) fn failed(&self, id: &str, why: &'static str) -> Done {
        self.inner.metrics.mailbox.fail(why);
        Done::answer(acknowledgment(id, Status::Failed))
    }
}

/// What makes a message known again. One without an id of its own is never a repeat.
pub(super) fn message_key(sender: &str, recipient: &str, id: &str) -> MessageKey {
    if id.is_empty() { MessageKey::of(sender, recipient, &fresh_id()) } else { MessageKey::of(sender, recipient, id) }
}

fn reason(full: Full) -> &'static str {
    match full {
        Full::Mailbox => "mailbox_full",
        Full::Sender => "sender_share",
        Full::Store => "store_full",
        Full::Disk => "disk_full",
    }
}
