//! Requests to delete (section 4.8). Whoever may not read deletes nothing, and is told so by zeros.

use std::sync::Arc;

use super::MailboxService;
use super::lane::Done;
use super::service::frame_as;
use super::session::{Over, Session};
use crate::store::StoreError;
use crate::wire::vauchi::outgoing::RelayPayload;
use crate::wire::vauchi::payload::PurgeRequest;

impl MailboxService {
    /// Deletes what the connection's client asks to have deleted, and answers how much that was.
    pub(super) fn purge(&self, session: &Arc<Session>, id: &str, request: PurgeRequest, frame_bytes: usize) {
        let (this, of, id) = (self.clone(), session.clone(), id.to_owned());
        self.work(session, true, frame_bytes, async move {
            let zero_if_failed = |deleted: Result<u64, StoreError>| {
                deleted.unwrap_or_else(|error| {
                    this.store_failed("purge", &error);
                    0
                })
            };
            let blobs_deleted = zero_if_failed(this.purge_blobs(&of).await);
            let device_sync_deleted =
                if request.include_device_sync { zero_if_failed(this.purge_devices(&of).await) } else { 0 };
            let proof = request.recovery_key_hash.filter(|_| request.include_recovery_proofs);
            let recovery_proofs_deleted = match proof {
                Some(hash) => zero_if_failed(this.purge_proof(&of, hash).await.map(u64::from)),
                None => 0,
            };
            let counts = RelayPayload::PurgeResponse { blobs_deleted, device_sync_deleted, recovery_proofs_deleted };
            Done::answer(frame_as(&id, counts))
        });
    }

    async fn purge_blobs(&self, session: &Session) -> Result<u64, StoreError> {
        if session.may(Over::Blobs).await { self.purge_mailbox(session.blobs).await } else { Ok(0) }
    }

    async fn purge_devices(&self, session: &Session) -> Result<u64, StoreError> {
        if session.may(Over::Devices).await { self.purge_devices_of(&session.who.client_id).await } else { Ok(0) }
    }
}
