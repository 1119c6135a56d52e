//! What recipients are done with (sections 4.4 and 4.6): deleted whatever the status, without an answer.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use smallvec::SmallVec;

use super::MailboxService;
use super::debts::Owed;
use super::flow::{HERE, Whereabouts};
use super::lane::Done;
use super::noting::Noter;
use super::session::{Over, Session};
use crate::domain::mailbox::{BlobId, MailboxKey, MessageKey};
use crate::runtime::backoff::Backoff;
use crate::store::{Acked, StoreError};
use crate::wire::vauchi::payload::{Acknowledgment, DeviceSyncAck, Status};

/// Waits between attempts to write an acknowledgment to a store that fails.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How far the time of an id may be ahead of this node's clock: its node's is another.
const LEAD: Duration = Duration::from_secs(60);

/// How often it is looked at whether every node may be asked again.
const TURN: Duration = Duration::from_millis(50);

/// Who may hold a message that is done with, and has not heard.
pub(super) type Unheard = SmallVec<[Whereabouts; 2]>;

/// What an acknowledgment met on a node, or on several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Met {
    /// How many copies it deleted.
    pub deleted: u64,
    /// Whether the message is remembered as done there.
    pub done: bool,
}

impl Met {
    const ONE: Self = Self { deleted: 1, done: true };

    /// With what it met on another node.
    pub fn and(self, other: Self) -> Self {
        Self { deleted: self.deleted + other.deleted, done: self.done || other.done }
    }

    /// Whether anybody knew of the message.
    pub fn is_something(self) -> bool {
        self.deleted > 0 || self.done
    }
}

/// What the sender of a message may be told of its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tell {
    /// Nothing.
    Nothing,
    /// That it was delivered.
    Delivered,
    /// Besides, that the recipient says that it has received it.
    Received,
}

impl MailboxService {
    /// A blob is done with. Nothing that the client says later is answered before it is deleted.
    pub(super) fn acknowledgment(&self, session: &Arc<Session>, ack: &Acknowledgment<'_>, frame_bytes: usize) {
        let received = ack.status == Status::ReceivedByRecipient;
        self.acknowledged(session, Over::Blobs, &ack.message_id, received, frame_bytes);
    }

    /// A message to the connection's device is done with.
    pub(super) fn device_acknowledgment(&self, session: &Arc<Session>, ack: &DeviceSyncAck<'_>, frame_bytes: usize) {
        self.acknowledged(session, Over::Devices, &ack.message_id, false, frame_bytes);
    }

    fn acknowledged(&self, session: &Arc<Session>, over: Over, id: &str, received: bool, frame_bytes: usize) {
        let (Ok(id), Some(mailbox)) = (id.parse::<BlobId>(), session.mailbox(over)) else {
            self.inner.metrics.mailbox.acknowledged_nothing.inc();
            return;
        };
        let (this, of, owed) = (self.clone(), session.clone(), Owed { over, message: id.message(), received });
        self.work(session, false, frame_bytes, async move {
            if of.may(over).await {
                this.acknowledge_everywhere(&of, mailbox, id, owed).await;
            }
            Done::default()
        });
    }

    /// Deletes a message wherever copies of it lie.
    async fn acknowledge_everywhere(&self, session: &Session, mailbox: MailboxKey, id: BlobId, owed: Owed) {
        if session.tells(owed) != Tell::Nothing {
            // A sender is told of the delivery before it is told of this.
            drop(session.notices.lock().await);
        }
        let known = session.flow.lock().acknowledge(owed.over, owed.message);
        let (deleted, unheard) = match known.is_empty() {
            false => self.acknowledge_sent(session, mailbox, owed, &known).await,
            true => self.acknowledge_unknown(session, mailbox, id, owed).await,
        };
        if !unheard.is_empty() {
            // Whoever asks about those copies when their nodes are back is told that they are done with.
            self.insist(session, "acknowledgment", || self.note_done(mailbox, owed.message, &unheard)).await;
        }
        if deleted == 0 {
            self.inner.metrics.mailbox.acknowledged_nothing.inc();
        }
    }

    /// Deletes a message where the session was sent it; how many copies there were, and who has not heard.
    async fn acknowledge_sent(
        &self,
        session: &Session,
        mailbox: MailboxKey,
        owed: Owed,
        holders: &[usize],
    ) -> (u64, Unheard) {
        let (here, away): (SmallVec<[usize; 2]>, SmallVec<[usize; 2]>) =
            holders.iter().copied().partition(|holder| *holder == HERE);
        let (mut deleted, mut unheard) = (0, Unheard::new());
        if !here.is_empty() {
            deleted += self.acknowledge_here(session, mailbox, owed).await.deleted;
        }
        let told = join_all(away.iter().map(|holder| self.acknowledge_away(session, *holder, owed))).await;
        for (holder, told) in away.iter().zip(told) {
            match told {
                Some(met) => deleted += met.deleted,
                None => {
                    session.owe(*holder, owed);
                    unheard.extend(session.flow.lock().whereabouts(*holder));
                    if self.is_afar(session, *holder) {
                        // A node of this cluster may have moved it there, and keeps it in mind that it is to be told.
                        deleted += self.acknowledge_here(session, mailbox, owed).await.deleted;
                        deleted += self.acknowledge_near(mailbox, owed.message, session.tells(owed)).await.met.deleted;
                    }
                }
            }
        }
        (deleted, unheard)
    }

    /// Deletes a message that was sent on another connection, or long ago: whoever holds it knows. How many copies there
    /// were, and, if that is nowhere, who may hold one and has not heard.
    async fn acknowledge_unknown(
        &self,
        session: &Session,
        mailbox: MailboxKey,
        id: BlobId,
        owed: Owed,
    ) -> (u64, Unheard) {
        let likely = session.flow.lock().may_have_sent(owed.over, id);
        let mut met = self.acknowledge_here(session, mailbox, owed).await;
        let told = join_all(likely.iter().map(|holder| self.acknowledge_away(session, *holder, owed))).await;
        for (holder, told) in likely.iter().zip(told) {
            match told {
                Some(there) => met = met.and(there),
                None => session.owe(*holder, owed),
            }
        }
        // Of what has expired nobody needs to be asked.
        if met.is_something() || self.moment().is_past(id.time()) {
            return (met.deleted, Unheard::new());
        }
        self.turn_to_ask(session).await;
        let heard = self.acknowledge_at_all(mailbox, owed.message, session.tells(owed)).await;
        // What came after the session had begun it was sent itself, if anybody was.
        let may_have_been_sent =
            id.time() <= session.opened.plus(LEAD) || (id.time() <= self.moment().now.plus(LEAD) && !likely.is_empty());
        if heard.met.is_something() || !may_have_been_sent {
            return (heard.met.deleted, Unheard::new());
        }
        let by = Noter::of(session);
        let unheard = self.insist(session, "acknowledgment", || self.unheard(mailbox, &heard, by)).await;
        (0, unheard.unwrap_or_default())
    }

    /// Waits until a session may have every node asked, if there are others, unless its connection is gone.
    async fn turn_to_ask(&self, session: &Session) {
        while self.has_elsewhere() && !session.asks.check() && !session.channel.outbox.is_closed() {
            tokio::time::sleep(TURN).await;
        }
    }

    async fn acknowledge_here(&self, session: &Session, mailbox: MailboxKey, owed: Owed) -> Met {
        let tell = session.tells(owed);
        let written = self.insist(session, "acknowledgment", || self.acknowledge_message(mailbox, owed.message, tell));
        written.await.unwrap_or_default()
    }

    /// Repeats what the store must not fail at, until it does not or the connection is gone.
    async fn insist<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        session: &Session,
        work: &'static str,
        attempt: impl Fn() -> F,
    ) -> Option<T> {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            match attempt().await {
                Ok(done) => return Some(done),
                Err(error) => self.store_failed(work, &error),
            }
            if session.channel.outbox.is_closed() {
                return None;
            }
            tokio::time::sleep(backoff.next(rand::random())).await;
        }
    }

    /// Deletes a message from this node's store, and has its sender told.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) async fn acknowledge_message(
        &self,
        mailbox: MailboxKey,
        message: MessageKey,
        tell: Tell,
    ) -> Result<Met, StoreError> {
        if tell == Tell::Nothing {
            return match self.acknowledge(mailbox, message).await? {
                Some(Acked::Moved { place }) => {
                    self.pass_on_done(mailbox, message, place, tell);
                    Ok(Met::ONE)
                }
                Some(Acked::Blob { .. }) => Ok(Met::ONE),
                None => self.met_nothing(mailbox, message).await,
            };
        }
        let mark = self.mark(mailbox, vec![message]);
        let (marked, acked) = tokio::join!(biased; mark, self.acknowledge(mailbox, message));
        if let Ok(receipts) = marked {
            self.tell_senders(&receipts, Status::Delivered);
        }
        let receipt = match acked? {
            Some(Acked::Blob { receipt, .. }) => receipt,
            Some(Acked::Moved { place }) => {
                self.pass_on_done(mailbox, message, place, tell);
                return Ok(Met::ONE);
            }
            None => return self.met_nothing(mailbox, message).await,
        };
        if tell == Tell::Received {
            self.tell_senders(&[Some(receipt)], Status::ReceivedByRecipient);
        }
        Ok(Met::ONE)
    }

    async fn met_nothing(&self, mailbox: MailboxKey, message: MessageKey) -> Result<Met, StoreError> {
        let done = !self.known_here(mailbox, vec![message]).await?.done.is_empty();
        Ok(Met { deleted: 0, done })
    }
}

impl Session {
    /// A holder could not be told of an acknowledgment.
    pub(super) fn owe(&self, holder: usize, owed: Owed) {
        if let Some(debts) = self.flow.lock().debts(holder) {
            debts.owe(owed);
        }
    }

    /// What the sender of a message may be told of its end.
    pub(super) fn tells(&self, owed: Owed) -> Tell {
        match owed {
            Owed { over: Over::Devices, .. } => Tell::Nothing,
            _ if self.who.suppress_presence => Tell::Nothing,
            Owed { received: true, .. } => Tell::Received,
            Owed { received: false, .. } => Tell::Delivered,
        }
    }
}
