//! What recipients are done with (sections 4.4 and 4.6): deleted whatever the status, without an answer.

use std::sync::Arc;

use super::MailboxService;
use super::lane::Done;
use super::session::{Over, Session};
use crate::domain::mailbox::{BlobId, MessageKey};
use crate::wire::vauchi::payload::{Acknowledgment, DeviceSyncAck, Status};

impl MailboxService {
    /// A blob is done with. Nothing that the client says later is answered before it is deleted.
    pub(super) fn acknowledgment(&self, session: &Arc<Session>, ack: &Acknowledgment<'_>, frame_bytes: usize) {
        let Ok(id) = ack.message_id.parse::<BlobId>() else {
            self.inner.metrics.mailbox.acknowledged_nothing.inc();
            return;
        };
        let (this, of, status) = (self.clone(), session.clone(), ack.status);
        self.work(session, false, frame_bytes, async move {
            this.acknowledge_blob(&of, id.message(), status).await;
            Done::default()
        });
    }

    async fn acknowledge_blob(&self, session: &Session, message: MessageKey, status: Status) {
        if !session.may(Over::Blobs).await {
            return;
        }
        if session.who.suppress_presence {
            if let Err(error) = self.acknowledge(session.blobs, message).await {
                self.store_failed("acknowledgment", &error);
            }
            return;
        }
        // A sender is told of the delivery before it is told of this.
        drop(session.notices.lock().await);
        let mark = self.mark(session.blobs, vec![message]);
        let (marked, acked) = tokio::join!(biased; mark, self.acknowledge(session.blobs, message));
        if let Ok(receipts) = marked {
            receipts.iter().flatten().for_each(|receipt| self.tell_sender(receipt, Status::Delivered));
        }
        match acked {
            Ok(Some(acked)) if status == Status::ReceivedByRecipient => self.tell_sender(&acked.receipt, status),
            Ok(_) => {}
            Err(error) => self.store_failed("acknowledgment", &error),
        }
    }

    /// A message to the connection's device is done with.
    pub(super) fn device_acknowledgment(&self, session: &Arc<Session>, ack: &DeviceSyncAck<'_>, frame_bytes: usize) {
        let (Ok(id), Some(device)) = (ack.message_id.parse::<BlobId>(), session.device) else {
            self.inner.metrics.mailbox.acknowledged_nothing.inc();
            return;
        };
        let (this, of) = (self.clone(), session.clone());
        self.work(session, false, frame_bytes, async move {
            if of.may(Over::Devices).await
                && let Err(error) = this.acknowledge(device, id.message()).await
            {
                this.store_failed("acknowledgment", &error);
            }
            Done::default()
        });
    }
}
