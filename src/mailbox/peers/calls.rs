//! What this node asks of others about mailboxes.

use std::time::Duration;

use futures::future::join_all;

use super::convert;
use crate::cluster::links::AskError;
use crate::cluster::proto::{MailAck, MailMark, PullPage, PullRequest, frame::Body, reply};
use crate::domain::ids::NodeRun;
use crate::domain::mailbox::{MailboxKey, MessageKey, Place};
use crate::mailbox::MailboxService;
use crate::mailbox::acks::Tell;
use crate::mailbox::flow::Owed;
use crate::mailbox::session::Session;
use crate::store::{Page, PageLimit, StoredBlob};

/// How long another node may take. What it holds comes later then.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

impl MailboxService {
    /// Whether other nodes are live.
    pub(in crate::mailbox) fn has_others(&self) -> bool {
        self.inner.cluster.view.borrow().members.len() > 1
    }

    /// The runs of the other live nodes.
    pub(super) fn others(&self) -> Vec<NodeRun> {
        self.inner.cluster.view.borrow().others().map(|member| member.run.clone()).collect()
    }

    /// The live run of another node that holds something for a session.
    pub(in crate::mailbox) fn run_of(&self, session: &Session, holder: usize) -> Option<NodeRun> {
        let node = session.flow.lock().node(holder)?;
        self.inner.cluster.view.borrow().members.get(&node).map(|member| member.run.clone())
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
        let page = self
            .pull_page(
                &self.run_of(session, holder)?,
                PullRequest {
                    mailbox: convert::mailbox(&mailbox),
                    after: after.map(convert::place),
                    blobs: u32::try_from(limit.blobs).unwrap_or(u32::MAX),
                    bytes: u32::try_from(limit.bytes).unwrap_or(u32::MAX),
                    ..PullRequest::default()
                },
            )
            .await?;
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
        let page = self.pull_page(&self.run_of(session, holder)?, request).await?;
        page.blobs.into_iter().find_map(convert::blob_from)
    }

    async fn pull_page(&self, run: &NodeRun, request: PullRequest) -> Option<PullPage> {
        // It may hold what was purged while it was away.
        if !self.inner.peers.tellings.has_told_purges(run) {
            return None;
        }
        match self.inner.cluster.links.pull(run, request, PATIENCE).await {
            Ok(page) => {
                self.inner.metrics.mailbox.pulled.inc_by(page.blobs.len() as u64);
                Some(page)
            }
            Err(error) => {
                tracing::debug!(peer = %run, %error, "a node does not say what it holds");
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
        let Some(run) = self.run_of(session, holder) else { return };
        let mark = MailMark { mailbox: convert::mailbox(&mailbox), messages: convert::messages(messages) };
        // It is noted with the acknowledgment, or when the blob is sent again.
        if let Err(error) = self.inner.cluster.links.ask(&run, Body::MailMark(mark), PATIENCE).await {
            tracing::debug!(peer = %run, %error, "a node did not note what was delivered");
        }
    }

    /// Deletes a message at another node; how many copies there were, or `None` if it does not say.
    pub(in crate::mailbox) async fn acknowledge_away(
        &self,
        session: &Session,
        holder: usize,
        owed: Owed,
    ) -> Option<u64> {
        let (run, mailbox) = (self.run_of(session, holder)?, session.mailbox(owed.over)?);
        self.acknowledge_at(&run, mailbox, owed.message, session.tells(owed)).await.ok()
    }

    /// Deletes a message at all other live nodes; how many copies there were, as far as they say, and whether all do.
    pub(in crate::mailbox) async fn acknowledge_at_all(
        &self,
        mailbox: MailboxKey,
        message: MessageKey,
        tell: Tell,
    ) -> (u64, bool) {
        let others = self.others();
        let told = join_all(others.iter().map(|run| self.acknowledge_at(run, mailbox, message, tell))).await;
        let all = told.iter().all(Result::is_ok);
        (told.into_iter().filter_map(Result::ok).sum(), all)
    }

    async fn acknowledge_at(
        &self,
        run: &NodeRun,
        mailbox: MailboxKey,
        message: MessageKey,
        tell: Tell,
    ) -> Result<u64, AskError> {
        let ack = MailAck {
            mailbox: convert::mailbox(&mailbox),
            message: convert::message(message),
            quiet: tell == Tell::Nothing,
            received: tell == Tell::Received,
        };
        match self.inner.cluster.links.ask(run, Body::MailAck(ack), PATIENCE).await? {
            reply::Body::Done(done) => Ok(done.count),
            _ => Err(AskError::Failed("it says something else".to_owned())),
        }
    }
}
