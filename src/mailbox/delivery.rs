//! From the store to the recipient's socket: a page at a time, the next one only when the last is written.
//!
//! A session has a task for this only while there is something for it. It keeps how far it has been sent what, so
//! that what comes while it is connected is sent once, in order, and after that only to its next connection until it
//! is acknowledged.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::MailboxService;
use super::labels::{BlobHeader, DeviceHeader};
use super::service::frame_as;
use super::session::{Over, Session};
use crate::domain::mailbox::{BlobId, MailboxKey, Place};
use crate::runtime::backoff::Backoff;
use crate::store::{PageLimit, StoreError, StoredBlob};
use crate::wire::vauchi::outgoing::RelayPayload;
use crate::wire::vauchi::payload::Status;

/// What is read from the store at a time. Spelled as JSON it may be four times as long, and with the blob that
/// brings it to its bound it still fits the half of a default outbox that may wait.
const PAGE: PageLimit = PageLimit { blobs: 64, bytes: 128 << 10 };

/// Bytes of deliveries that may wait to be written, unless one alone has more.
const WINDOW_BYTES: usize = 256 << 10;

/// Messages that came to a device and are not yet looked at. What does not fit, if it stands behind the cursor, is
/// sent to the device's next connection.
const MAX_CAME: usize = 256;

/// Messages that a device was sent and that are known by their ids.
const MAX_SENT: usize = 256;

/// Waits between attempts to read from a store that fails.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// How far a session has been sent its mailboxes.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// Whether its task runs.
    running: bool,
    /// Whether something may be new since the task last looked.
    again: bool,
    blobs: Option<Place>,
    device: Option<Place>,
    /// Messages to the device that came since it was last looked: with a version lower than what was sent already,
    /// they stand behind the cursor.
    came: Vec<Place>,
    /// What the device was sent last, so that nothing is sent twice because the notice of it came late.
    sent: VecDeque<BlobId>,
}

impl Flow {
    /// Something has come into the session's mailbox, or into that of its device.
    pub fn arrived(&mut self, device: bool, place: Place) {
        if device && self.came.len() < MAX_CAME {
            self.came.push(place);
        }
    }

    /// What came to the device and stands behind the cursor. The rest is shown by the pages after it.
    fn behind(&mut self) -> Vec<Place> {
        let came = std::mem::take(&mut self.came);
        let is_behind = |place: &Place| self.device.is_some_and(|cursor| *place <= cursor);
        came.into_iter().filter(|place| is_behind(place) && !self.sent.contains(&place.id)).collect()
    }

    /// The device was sent this.
    fn sent(&mut self, id: BlobId) {
        if self.sent.len() >= MAX_SENT {
            self.sent.pop_front();
        }
        self.sent.push_back(id);
    }
}

/// Why a delivery stops.
enum Stop {
    /// The connection takes nothing more.
    Closed,
    /// The store failed.
    Store(StoreError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl MailboxService {
    /// Has a session sent what there is for it.
    pub(super) fn wake(&self, session: &Arc<Session>) {
        {
            let mut flow = session.flow.lock();
            flow.again = true;
            if std::mem::replace(&mut flow.running, true) {
                return;
            }
        }
        let (this, session) = (self.clone(), session.clone());
        self.inner.supervisor.spawn_quiet(async move { this.deliver(&session).await });
    }

    async fn deliver(&self, session: &Arc<Session>) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            {
                let mut flow = session.flow.lock();
                if !std::mem::take(&mut flow.again) {
                    flow.running = false;
                    return;
                }
            }
            match self.flush(session).await {
                Ok(()) => backoff.reset(),
                // Nothing more is sent on this connection: no task is started for it again.
                Err(Stop::Closed) => return,
                Err(Stop::Store(error)) => {
                    self.store_failed("delivery", &error);
                    session.flow.lock().again = true;
                    tokio::time::sleep(backoff.next(rand::random())).await;
                    if session.outbox.is_closed() {
                        return;
                    }
                }
            }
        }
    }

    /// Sends everything that is there now.
    async fn flush(&self, session: &Arc<Session>) -> Result<(), Stop> {
        while session.may(Over::Blobs).await {
            let cursor = session.flow.lock().blobs;
            let page = self.page(session.blobs, cursor, PAGE).await?;
            let Some(last) = page.blobs.last().map(|blob| blob.place) else { break };
            self.send_page(session, session.blobs, &page.blobs).await?;
            session.flow.lock().blobs = Some(last);
            if !page.more {
                break;
            }
        }
        let Some(device) = session.device else { return Ok(()) };
        while session.may(Over::Devices).await {
            let behind = session.flow.lock().behind();
            for place in behind {
                let blob = self.at(device, place).await?;
                self.send_page(session, device, blob.as_slice()).await?;
            }
            let cursor = session.flow.lock().device;
            let page = self.page(device, cursor, PAGE).await?;
            let Some(last) = page.blobs.last().map(|blob| blob.place) else { break };
            self.send_page(session, device, &page.blobs).await?;
            session.flow.lock().device = Some(last);
            if !page.more {
                break;
            }
        }
        Ok(())
    }

    /// Sends blobs; once they are written, their senders are told.
    async fn send_page(&self, session: &Session, mailbox: MailboxKey, blobs: &[StoredBlob]) -> Result<(), Stop> {
        let (mut sent, is_device) = (Vec::with_capacity(blobs.len()), session.device == Some(mailbox));
        for blob in blobs {
            let over = if is_device { Over::Devices } else { Over::Blobs };
            if !session.may_now(over) {
                return Ok(());
            }
            // One that fits no outbox would cut off every connection of its mailbox. It does not hold up the others.
            let spelled = spell(session, blob, is_device).filter(|frame| frame.len() <= session.outbox.limit());
            let Some(frame) = spelled else {
                self.inner.metrics.mailbox.undeliverable.inc();
                continue;
            };
            session.outbox.room(frame.len(), WINDOW_BYTES).await;
            if !session.send(frame) {
                return Err(Stop::Closed);
            }
            self.inner.metrics.mailbox.sent.inc();
            sent.push(blob.place.id.message());
            if is_device {
                session.flow.lock().sent(blob.place.id);
            }
        }
        if !session.outbox.written().await {
            return Err(Stop::Closed);
        }
        session.touch();
        self.inner.metrics.mailbox.delivered.inc_by(sent.len() as u64);
        if is_device || session.who.suppress_presence || sent.is_empty() {
            return Ok(());
        }
        let _notices = session.notices.lock().await;
        match self.mark(mailbox, sent).await {
            Ok(receipts) => receipts.iter().flatten().for_each(|receipt| self.tell_sender(receipt, Status::Delivered)),
            // It is noted with the acknowledgment, or when the blob is sent again. What stands behind it is sent all
            // the same, and nothing twice, while the disk is full.
            Err(error) => self.store_failed("delivered", &error),
        }
        Ok(())
    }
}

/// A blob as the frame that delivers it; `None` if it was not stored by this service.
fn spell(session: &Session, blob: &StoredBlob, is_device: bool) -> Option<bytes::Bytes> {
    let id = blob.place.id.to_string();
    if is_device {
        let header = DeviceHeader::decode(&blob.header)?;
        return Some(frame_as(
            &id,
            RelayPayload::DeviceSyncMessage {
                identity_id: &session.who.client_id,
                target_device_id: &header.target_device_id,
                sender_device_id: &header.sender_device_id,
                encrypted_payload: &blob.body,
                version: blob.place.rank,
            },
        ));
    }
    let header = BlobHeader::decode(&blob.header)?;
    let payload = RelayPayload::EncryptedUpdate {
        recipient_id: &session.who.routing_id,
        sender_id: &header.sender_id,
        ciphertext: &blob.body,
    };
    Some(frame_as(&id, payload))
}
