//! From the stores to the recipient's socket: a page of each holder at a time, the next one only when the last is
//! written.
//!
//! A session has a task for this only while there is something for it. It keeps how far it has been sent what of whom,
//! so that what comes while it is connected is sent once, in order, and after that only to its next connection until
//! it is acknowledged.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use smallvec::SmallVec;

use super::MailboxService;
use super::debts::{Debts, Owed};
use super::flow::HERE;
use super::labels::{BlobHeader, DeviceHeader};
use super::merge::Merge;
use super::peers::Knowledge;
use super::sent::Verdict;
use super::service::frame_as;
use super::session::{Over, Session};
use crate::cluster::links::AskError;
use crate::domain::clock::Millis;
use crate::domain::mailbox::{BlobId, MailboxKey, MessageKey};
use crate::runtime::backoff::Backoff;
use crate::runtime::time;
use crate::store::{Page, PageLimit, StoreError, StoredBlob};
use crate::wire::vauchi::outgoing::RelayPayload;
use crate::wire::vauchi::payload::Status;

/// What is read from a holder at a time, and sent. Spelled as JSON it may be four times as long, and with the blob
/// that brings it to its bound it still fits the half of a default outbox that may wait.
const PAGE: PageLimit = PageLimit { blobs: 64, bytes: 128 << 10 };

/// Bytes of deliveries that may wait to be written, unless one alone has more.
const WINDOW_BYTES: usize = 256 << 10;

/// Waits between attempts to read from a store that fails.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// A copy that has waited for this long may be of a message that was done with elsewhere: the other nodes are asked.
/// What came since the connection began is brought at once, and not held up.
const OLD: Duration = Duration::from_secs(1);

/// Why a delivery stops.
pub(super) enum Stop {
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
        if session.flow.lock().wake() {
            let (this, session) = (self.clone(), session.clone());
            self.inner.supervisor.spawn_quiet(async move { this.deliver(&session).await });
        }
    }

    async fn deliver(&self, session: &Arc<Session>) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut hints = None;
        if session.flow.lock().is_first() {
            (_, hints) = tokio::join!(self.find_holders(session), self.hint_at(session));
        }
        while session.flow.lock().look() {
            match self.flush(session).await {
                Ok(()) => {
                    backoff.reset();
                    if let Some(hints) = hints.take().filter(|_| session.may_now(Over::Blobs)) {
                        self.send(session, hints);
                    }
                }
                // Nothing more is sent on this connection: no task is started for it again.
                Err(Stop::Closed) => return,
                Err(Stop::Store(error)) => {
                    self.store_failed("delivery", &error);
                    session.flow.lock().again();
                    tokio::time::sleep(backoff.next(rand::random())).await;
                    if session.channel.outbox.is_closed() {
                        return;
                    }
                }
            }
        }
    }

    /// Sends everything that is there now.
    async fn flush(&self, session: &Arc<Session>) -> Result<(), Stop> {
        self.flush_mailbox(session, Over::Blobs, session.blobs).await?;
        let Some(device) = session.device else { return Ok(()) };
        self.flush_mailbox(session, Over::Devices, device).await
    }

    async fn flush_mailbox(&self, session: &Arc<Session>, over: Over, mailbox: MailboxKey) -> Result<(), Stop> {
        if !session.may(over).await {
            return Ok(());
        }
        self.flush_behind(session, over, mailbox).await?;
        let holders = session.flow.lock().begin(over);
        let mut merge = Merge::new(holders.len());
        let flushed = self.flush_holders(session, over, mailbox, &holders, &mut merge).await;
        if flushed.is_err() {
            let mut flow = session.flow.lock();
            merge.unfinished().for_each(|n| flow.broke_off(over, holders[n]));
        }
        flushed
    }

    async fn flush_holders(
        &self,
        session: &Arc<Session>,
        over: Over,
        mailbox: MailboxKey,
        holders: &[usize],
        merge: &mut Merge,
    ) -> Result<(), Stop> {
        while session.may(over).await {
            let hungry: SmallVec<[usize; 2]> = merge.hungry().collect();
            let pages = hungry.iter().map(|n| self.page_of(session, over, mailbox, holders[*n]));
            for (n, page) in hungry.iter().zip(join_all(pages).await) {
                match page? {
                    Some(page) => merge.feed(*n, page),
                    None => merge.leave_out(*n),
                }
            }
            let batch = merge.batch(PAGE);
            if batch.is_empty() {
                break;
            }
            let batch: Vec<_> = batch.into_iter().map(|(n, blob)| (holders[n], blob)).collect();
            self.send_batch(session, over, mailbox, &batch).await?;
            let mut flow = session.flow.lock();
            batch.iter().for_each(|(holder, blob)| flow.passed(over, *holder, blob.place));
        }
        Ok(())
    }

    /// What waits at a holder behind the session's cursor; `None` if another node does not say.
    async fn page_of(
        &self,
        session: &Arc<Session>,
        over: Over,
        mailbox: MailboxKey,
        holder: usize,
    ) -> Result<Option<Page>, StoreError> {
        let after = session.flow.lock().cursor(over, holder);
        if holder == HERE {
            return self.page(mailbox, after, PAGE).await.map(Some);
        }
        if session.flow.lock().rests(holder) {
            // It has failed since the last page.
            session.flow.lock().broke_off(over, holder);
            return Ok(None);
        }
        if self.pay_marks(session, holder).await
            && self.pay_owed(session, holder).await
            && let Some(page) = self.pull(session, holder, mailbox, after, PAGE).await
        {
            session.flow.lock().answered(holder);
            return Ok(Some(page));
        }
        self.leave_out(session, over, holder);
        Ok(None)
    }

    /// Has a holder note what it has not; false if it says nothing.
    async fn pay_marks(&self, session: &Session, holder: usize) -> bool {
        if !session.flow.lock().debts(holder).is_some_and(|debts| debts.owes_sent()) {
            return true;
        }
        let _notices = session.notices.lock().await;
        let sent = session.flow.lock().debts(holder).map(Debts::take_sent).unwrap_or_default();
        self.mark_at(session, holder, &sent).await
    }

    /// Has a holder note that these were sent; if it does not, it is told again before it is read on. False if it says
    /// nothing, and is to be tried again. One whose disk is full says so: what it holds is sent meanwhile.
    async fn mark_at(&self, session: &Session, holder: usize, messages: &[MessageKey]) -> bool {
        let Err(error) = self.mark_away(session, holder, messages).await else { return true };
        tracing::debug!(holder, %error, "a node did not note what was delivered");
        if let Some(debts) = session.flow.lock().debts(holder) {
            debts.owe_sent(messages);
        }
        !error.is_silence() && error != AskError::Busy
    }

    /// Tells a holder what it has not heard; false if it still does not.
    async fn pay_owed(&self, session: &Session, holder: usize) -> bool {
        let owed = session.flow.lock().debts(holder).map(Debts::take).unwrap_or_default();
        let told = join_all(owed.iter().map(|owed| self.acknowledge_away(session, holder, *owed))).await;
        let unheard = owed.iter().zip(&told).filter(|(_, told)| told.is_none());
        unheard.for_each(|(owed, _)| session.owe(holder, *owed));
        told.iter().all(Option::is_some)
    }

    /// What a node that has failed holds comes later: when it speaks again, or when it is tried again.
    pub(super) fn leave_out(&self, session: &Arc<Session>, over: Over, holder: usize) {
        self.inner.metrics.mailbox.left_out.inc();
        let failed = {
            let mut flow = session.flow.lock();
            flow.broke_off(over, holder);
            flow.failed(holder)
        };
        let Some((failures, wait)) = failed else { return };
        let pause = RETRY.0.saturating_mul(1 << failures.min(10)).min(RETRY.1);
        let (this, session) = (self.clone(), session.clone());
        self.until_stopped(async move {
            tokio::time::sleep(pause).await;
            if !session.channel.outbox.is_closed() && session.flow.lock().rested(holder, wait) {
                this.wake(&session);
            }
        });
    }

    /// Sends what lies at these holders; once it is written, the senders are told.
    pub(super) async fn send_batch(
        &self,
        session: &Arc<Session>,
        over: Over,
        mailbox: MailboxKey,
        batch: &[(usize, StoredBlob)],
    ) -> Result<(), Stop> {
        let known = self.known_of(session, mailbox, batch).await?;
        // Where there is one holder only, what stands before its cursor is enough to know.
        let remember = over == Over::Devices || self.has_elsewhere();
        let mut sent: Vec<(usize, MessageKey)> = Vec::with_capacity(batch.len());
        for (holder, blob) in batch {
            if !session.may_now(over) {
                return Ok(());
            }
            let id = blob.place.id;
            if over == Over::Blobs && session.flow.lock().is_left_to_client(id.message(), *holder) {
                continue;
            }
            let verdict = match known.done.contains(&id.message()) {
                true => Verdict::Acknowledged,
                false if remember => session.flow.lock().judge(over, id, *holder, &known.waiting),
                false => Verdict::New,
            };
            match verdict {
                Verdict::New => {}
                Verdict::Repeat => continue,
                Verdict::Acknowledged => {
                    self.delete_copy(session, over, *holder, id.message());
                    continue;
                }
            }
            // One that fits no outbox would cut off every connection of its mailbox, and Noise has a bound of its
            // own. It does not hold up the others.
            let spelled = spell(session, blob, over).filter(|frame| frame.len() <= session.channel.limit());
            let Some(frame) = spelled else {
                self.inner.metrics.mailbox.undeliverable.inc();
                continue;
            };
            session.channel.outbox.room(frame.len(), WINDOW_BYTES).await;
            if !session.send(frame) {
                return Err(Stop::Closed);
            }
            self.inner.metrics.mailbox.sent.inc();
            sent.push((*holder, id.message()));
            if remember {
                session.flow.lock().note(over, id, *holder);
            }
        }
        if !session.channel.outbox.written().await {
            return Err(Stop::Closed);
        }
        session.touch();
        self.inner.metrics.mailbox.delivered.inc_by(sent.len() as u64);
        if over == Over::Blobs && !session.who.suppress_presence {
            self.mark_sent(session, mailbox, sent).await;
        }
        Ok(())
    }

    /// What is known of those that may have been done with on another connection.
    async fn known_of(
        &self,
        session: &Session,
        mailbox: MailboxKey,
        batch: &[(usize, StoredBlob)],
    ) -> Result<Knowledge, StoreError> {
        let now = time::now();
        let old = batch.iter().map(|(_, blob)| blob.place.id).filter(|id| is_old(*id, session.opened, now));
        let old: Vec<_> = old.map(BlobId::message).collect();
        match old.is_empty() || !self.has_elsewhere() {
            true => Ok(Knowledge::default()),
            false => self.known(mailbox, old).await,
        }
    }

    /// Deletes a copy of a message that is done with.
    fn delete_copy(&self, session: &Arc<Session>, over: Over, holder: usize, message: MessageKey) {
        self.inner.metrics.mailbox.copies_deleted.inc();
        let (this, session) = (self.clone(), session.clone());
        self.inner.supervisor.spawn_quiet(async move {
            let owed = Owed { over, message, received: false };
            match (holder, session.mailbox(over)) {
                // If it cannot be deleted now, it is the next time that it is found.
                (HERE, Some(mailbox)) => drop(this.acknowledge(mailbox, message).await),
                _ => drop(this.acknowledge_away(&session, holder, owed).await),
            }
        });
    }

    /// Notes where the blobs lie that they were delivered, and has their senders told.
    async fn mark_sent(&self, session: &Arc<Session>, mailbox: MailboxKey, mut sent: Vec<(usize, MessageKey)>) {
        // Blobs of one holder keep their order.
        sent.sort_by_key(|(holder, _)| *holder);
        let _notices = session.notices.lock().await;
        let of_holder = sent.chunk_by(|(a, _), (b, _)| a == b);
        join_all(of_holder.map(async |part| {
            let messages: Vec<_> = part.iter().map(|(_, message)| *message).collect();
            match part.first() {
                Some((HERE, _)) => match self.mark(mailbox, messages).await {
                    Ok(receipts) => self.tell_senders(&receipts, Status::Delivered),
                    // It is noted with the acknowledgment, or when the blob is sent again. What stands behind it is
                    // sent all the same, and nothing twice, while the disk is full.
                    Err(error) => self.store_failed("delivered", &error),
                },
                Some((away, _)) => {
                    let has_said = self.mark_at(session, *away, &messages).await;
                    if !has_said {
                        self.leave_out(session, Over::Blobs, *away);
                    }
                }
                None => {}
            }
        }))
        .await;
    }
}

/// Whether a copy was there before the connection, or has waited for long. One that is not stored yet has, for what is
/// known: its node's clock is another.
fn is_old(id: BlobId, opened: Millis, now: Millis) -> bool {
    let stored = id.time();
    stored <= opened.plus(OLD) || now.since(stored) > OLD || stored.since(now) > OLD
}

/// A blob as the frame that delivers it; `None` if it was not stored by this service.
fn spell(session: &Session, blob: &StoredBlob, over: Over) -> Option<bytes::Bytes> {
    let id = blob.place.id.to_string();
    if over == Over::Devices {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::mailbox::Stamp;

    #[test]
    fn a_copy_is_asked_about_that_is_old_or_older_than_the_connection_or_from_a_clock_that_is_ahead() {
        let id = |millis: u64| BlobId::new(Stamp::new(millis << 12).unwrap(), MessageKey::of("s", "r", "m"));
        let (opened, now) = (Millis(0), Millis(1_000_000));
        let old = [998_999, 999_000, 1_001_000, 1_001_001].map(|at| is_old(id(at), opened, now));
        assert_eq!(old, [true, false, false, true]);
        let opened = Millis(998_500);
        assert_eq!([999_499, 999_500, 999_501].map(|at| is_old(id(at), opened, now)), [true, true, false]);
    }
}
