//! What this node asks of others about mailboxes.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;

use super::convert;
use crate::cluster::links::{AskError, LinkRefused};
use crate::cluster::proto::{
    MailAck, MailHolds, MailKnown, MailMark, PullPage, PullRequest, SharedRecord, frame::Body, reply,
};
use crate::domain::ids::{NodeId, NodeRun};
use crate::domain::mailbox::{MailboxKey, MessageKey, Place};
use crate::mailbox::MailboxService;
use crate::mailbox::acks::Tell;
use crate::mailbox::flow::{Owed, Whereabouts};
use crate::mailbox::session::{Over, Session};
use crate::runtime::time;
use crate::store::{Known, Page, PageLimit, StoreError, StoredBlob};

/// How long another node may take. What it holds comes later then.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// How long a node of another cluster may take.
pub(super) const PATIENCE_AFAR: Duration = Duration::from_secs(4);

/// The kind of the shared records that say that a message is done with, tagged with its mailbox.
const DONE: &str = "mail-done";

impl MailboxService {
    /// Whether other nodes are live.
    pub(in crate::mailbox) fn has_others(&self) -> bool {
        self.inner.cluster.view.borrow().members.len() > 1
    }

    /// The runs of the other live nodes.
    pub(super) fn others(&self) -> Vec<NodeRun> {
        self.inner.cluster.view.borrow().others().map(|member| member.run.clone()).collect()
    }

    /// Whether a message may lie anywhere but here.
    pub(in crate::mailbox) fn has_elsewhere(&self) -> bool {
        self.has_others() || !self.inner.cluster.afar.peers().is_empty()
    }

    /// The live run of a node of this cluster.
    pub(super) fn run_of(&self, node: &NodeId) -> Option<NodeRun> {
        self.inner.cluster.view.borrow().members.get(node).map(|member| member.run.clone())
    }

    /// Asks whoever holds something for a session.
    async fn ask_holder(&self, session: &Session, holder: usize, body: Body) -> Result<reply::Body, AskError> {
        let whereabouts = session.flow.lock().whereabouts(holder);
        match whereabouts.ok_or(LinkRefused::Gone)? {
            Whereabouts::Near(node) => {
                let run = self.run_of(&node).ok_or(LinkRefused::Gone)?;
                self.inner.cluster.links.ask(&run, body, PATIENCE).await
            }
            Whereabouts::Afar(peer, node) => {
                let out = self.inner.cluster.afar.out.get().ok_or(LinkRefused::Gone)?;
                out.ask(&peer, Some(&node), body, PATIENCE_AFAR).await
            }
        }
    }

    /// Finds out which other nodes of this cluster hold something for a new session: what they hold is sent in one
    /// order with what lies here. Who does not say in time is heard of later.
    pub(in crate::mailbox) async fn find_holders(&self, session: &Session) {
        let others = self.others();
        if others.is_empty() {
            return;
        }
        let all = [Some(session.blobs), session.device];
        let mailboxes: Bytes = all.iter().flatten().flat_map(|mailbox| mailbox.0).collect();
        let asked = others.iter().map(|run| {
            let holds = MailHolds { mailboxes: mailboxes.clone() };
            self.inner.cluster.links.ask(run, Body::MailHolds(holds), PATIENCE)
        });
        for (run, answer) in others.iter().zip(join_all(asked).await) {
            let held = match answer {
                Ok(reply::Body::MailHeld(held)) => held.mailboxes,
                // It may hold something: whether it does is found out by asking for it.
                _ => mailboxes.clone(),
            };
            let mut flow = session.flow.lock();
            for mailbox in convert::mailboxes_from(&held) {
                let over = if session.device == Some(mailbox) { Over::Devices } else { Over::Blobs };
                flow.waits_at(&Whereabouts::Near(run.node.clone()), over);
            }
        }
    }

    /// What waits in a mailbox at another node after a place; `None` if it does not say.
    pub(in crate::mailbox) async fn pull(
        &self,
        session: &Session,
        holder: usize,
        mailbox: MailboxKey,
        after: Option<Place>,
        limit: PageLimit,
    ) -> Option<Page> {
        let request = PullRequest {
            mailbox: convert::mailbox(&mailbox),
            after: after.map(convert::place),
            blobs: u32::try_from(limit.blobs).unwrap_or(u32::MAX),
            bytes: u32::try_from(limit.bytes).unwrap_or(u32::MAX),
            ..PullRequest::default()
        };
        let page = self.pull_page(session, holder, request).await?;
        let more = page.more;
        Some(Page { blobs: page.blobs.into_iter().filter_map(convert::blob_from).collect(), more })
    }

    /// The blob that waits at a place at another node.
    pub(in crate::mailbox) async fn pull_at(
        &self,
        session: &Session,
        holder: usize,
        mailbox: MailboxKey,
        place: Place,
    ) -> Option<StoredBlob> {
        let request = PullRequest {
            mailbox: convert::mailbox(&mailbox),
            at: vec![convert::place(place)],
            ..PullRequest::default()
        };
        let page = self.pull_page(session, holder, request).await?;
        page.blobs.into_iter().find_map(convert::blob_from)
    }

    async fn pull_page(&self, session: &Session, holder: usize, request: PullRequest) -> Option<PullPage> {
        let whereabouts = session.flow.lock().whereabouts(holder)?;
        let page = match &whereabouts {
            Whereabouts::Near(node) => {
                let run = self.run_of(node)?;
                self.inner.cluster.links.pull(&run, request, PATIENCE).await
            }
            Whereabouts::Afar(peer, node) => {
                let out = self.inner.cluster.afar.out.get()?;
                out.pull(peer, node, request, PATIENCE_AFAR).await
            }
        };
        match page {
            Ok(page) => {
                self.inner.metrics.mailbox.pulled.inc_by(page.blobs.len() as u64);
                Some(page)
            }
            Err(error) => {
                tracing::debug!(?whereabouts, %error, "a node does not say what it holds");
                None
            }
        }
    }

    /// Has another node note that blobs were delivered, and tell their senders.
    pub(in crate::mailbox) async fn mark_away(
        &self,
        session: &Session,
        holder: usize,
        mailbox: MailboxKey,
        messages: &[MessageKey],
    ) {
        let mark = MailMark { mailbox: convert::mailbox(&mailbox), messages: convert::messages(messages) };
        // It is noted with the acknowledgment, or when the blob is sent again.
        if let Err(error) = self.ask_holder(session, holder, Body::MailMark(mark)).await {
            tracing::debug!(holder, %error, "a node did not note what was delivered");
        }
    }

    /// Deletes a message at another node; how many copies there were, or `None` if it does not say.
    pub(in crate::mailbox) async fn acknowledge_away(
        &self,
        session: &Session,
        holder: usize,
        owed: Owed,
    ) -> Option<u64> {
        let ack = ack(session.mailbox(owed.over)?, owed.message, session.tells(owed));
        counted(self.ask_holder(session, holder, ack).await).ok()
    }

    /// Deletes a message at all other live nodes of this cluster; how many copies there were, as far as they say.
    pub(super) async fn acknowledge_near(&self, mailbox: MailboxKey, message: MessageKey, tell: Tell) -> u64 {
        let others = self.others();
        let told = others.iter().map(|run| self.inner.cluster.links.ask(run, ack(mailbox, message, tell), PATIENCE));
        join_all(told).await.into_iter().filter_map(|answer| counted(answer).ok()).sum()
    }

    /// Deletes a message wherever else it may lie; how many copies there were, as far as anybody says.
    pub(in crate::mailbox) async fn acknowledge_at_all(
        &self,
        mailbox: MailboxKey,
        message: MessageKey,
        tell: Tell,
    ) -> u64 {
        let near = self.acknowledge_near(mailbox, message, tell).await;
        let Some(out) = self.inner.cluster.afar.out.get().filter(|_| near == 0) else { return near };
        let told = out.peers().into_iter().map(|peer| {
            let ack = ack(mailbox, message, tell);
            out.ask(&peer, None, ack, PATIENCE_AFAR)
        });
        join_all(told).await.into_iter().filter_map(|answer| counted(answer).ok()).sum()
    }

    /// Which of these the other nodes of this cluster know to be done with.
    pub(in crate::mailbox) async fn done_elsewhere(
        &self,
        mailbox: MailboxKey,
        messages: &[MessageKey],
    ) -> HashSet<MessageKey> {
        let others = self.others();
        let asked = others.iter().map(|run| {
            let known = MailKnown { mailbox: convert::mailbox(&mailbox), messages: convert::messages(messages) };
            self.inner.cluster.links.ask(run, Body::MailKnown(known), PATIENCE)
        });
        let done = join_all(asked).await.into_iter().filter_map(|answer| match answer {
            Ok(reply::Body::MailDone(done)) => Some(convert::messages_from(&done.messages)),
            // Who does not say may let a copy come once more.
            _ => None,
        });
        done.flatten().collect()
    }

    /// Which of these this node knows to be done with.
    ///
    /// # Errors
    /// When the store fails.
    pub(in crate::mailbox) async fn done_here(
        &self,
        mailbox: MailboxKey,
        messages: Vec<MessageKey>,
    ) -> Result<Vec<MessageKey>, StoreError> {
        let known = self.inner.store.known(mailbox, messages.clone(), self.moment()).await?;
        let noted = self.inner.cluster.shared.ids_tagged_here(DONE, &hex::encode(mailbox.0)).await?;
        let is_done = |(message, known): &(MessageKey, Known)| {
            *known == Known::Done || (!noted.is_empty() && noted.contains(&done_id(mailbox, *message)))
        };
        Ok(messages.into_iter().zip(known).filter(is_done).map(|(message, _)| message).collect())
    }

    /// Notes that a message is done with of which a copy lies where it cannot be deleted now. Durable here when this
    /// returns.
    ///
    /// # Errors
    /// When the store fails.
    pub(in crate::mailbox) async fn note_done(
        &self,
        mailbox: MailboxKey,
        message: MessageKey,
    ) -> Result<(), StoreError> {
        let record = SharedRecord {
            kind: DONE.to_owned(),
            id: done_id(mailbox, message),
            tag: hex::encode(mailbox.0),
            version: 1,
            // The copy is gone by then.
            expires_ms: time::now().plus(self.inner.settings.ttl).0,
            ..SharedRecord::default()
        };
        self.inner.cluster.shared.store(record).await
    }
}

fn ack(mailbox: MailboxKey, message: MessageKey, tell: Tell) -> Body {
    Body::MailAck(MailAck {
        mailbox: convert::mailbox(&mailbox),
        message: convert::message(message),
        quiet: tell == Tell::Nothing,
        received: tell == Tell::Received,
    })
}

/// How many were deleted.
pub(super) fn counted(answer: Result<reply::Body, AskError>) -> Result<u64, AskError> {
    match answer? {
        reply::Body::Done(done) => Ok(done.count),
        _ => Err(AskError::Failed("it says something else".to_owned())),
    }
}

fn done_id(mailbox: MailboxKey, message: MessageKey) -> String {
    format!("{}{}", hex::encode(mailbox.0), hex::encode(message.to_bytes()))
}
