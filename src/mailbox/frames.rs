//! What is done with each message after the handshake (sections 4 and 7).

use std::sync::Arc;

use super::session::Session;
use super::{MAX_NAME_BYTES, MailboxService};
use crate::wire::vauchi::incoming::Incoming;
use crate::wire::vauchi::payload::ClientPayload;

impl MailboxService {
    /// Takes a frame in. What is wrong with one is answered with silence, and counted.
    pub(super) fn frame(&self, session: &Arc<Session>, frame: &[u8]) {
        let metrics = &self.inner.metrics.mailbox;
        session.touch();
        metrics.received.inc();
        if frame.len() > self.inner.settings.max_message_size {
            return metrics.ignore("oversize");
        }
        let Ok(message) = Incoming::decode(frame) else { return metrics.ignore("malformed") };
        if message.message_id.len() > MAX_NAME_BYTES {
            return metrics.ignore("malformed");
        }
        let bytes = frame.len();
        match &message.payload {
            ClientPayload::Acknowledgment(ack) => return self.acknowledgment(session, ack, bytes),
            ClientPayload::DeviceSyncAck(ack) => return self.device_acknowledgment(session, ack, bytes),
            _ => {}
        }
        if let Err(limited) = self.inner.rates.message(session) {
            return metrics.limit(limited);
        }
        if matches!(message.payload, ClientPayload::RecoveryProofStore(_) | ClientPayload::RecoveryProofQuery(_))
            && let Err(limited) = self.inner.rates.recovery(session)
        {
            return metrics.limit(limited);
        }
        if let ClientPayload::AccountRevoked(revoked) = &message.payload {
            return self.revocation(session, &message, revoked, bytes);
        }
        let id = &*message.message_id;
        match message.payload {
            ClientPayload::EncryptedUpdate(update) => self.update(session, id, update, bytes),
            ClientPayload::DeviceSyncMessage(message) => self.device_message(session, id, message, bytes),
            ClientPayload::RecoveryProofStore(store) => self.recovery_store(session, id, store, bytes),
            ClientPayload::RecoveryProofQuery(query) => self.recovery_query(session, query, bytes),
            ClientPayload::PurgeRequest(request) => self.purge(session, id, request, bytes),
            _ => metrics.ignore("ignored"),
        }
    }
}
