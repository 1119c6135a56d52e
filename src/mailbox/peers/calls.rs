//! What this node asks of others about mailboxes.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use smallvec::SmallVec;

use super::convert;
use super::todo::Audience;
use crate::cluster::links::{AskError, LinkRefused};
use crate::cluster::proto::{MailAck, MailHolds, MailMark, PullPage, PullRequest, frame::Body, reply};
use crate::cluster::regions::PeerName;
use crate::domain::ids::{NodeId, NodeRun};
use crate::domain::mailbox::{MailboxKey, MessageKey, Place};
use crate::mailbox::MailboxService;
use crate::mailbox::acks::{Met, Tell};
use crate::mailbox::debts::Owed;
use crate::mailbox::flow::Whereabouts;
use crate::mailbox::session::{Over, Session};
use crate::store::{Page, PageLimit, StoredBlob};

/// How long another node may take. What it holds comes later then.
pub(in crate::mailbox) const PATIENCE: Duration = Duration::from_secs(2);

/// How long a node of another cluster may take.
pub(super) const PATIENCE_AFAR: Duration = Duration::from_secs(4);

impl MailboxService {
    /// Whether other nodes are live.
    pub(in crate::mailbox) fn has_others(&self) -> bool {
        self.inner.cluster.view.borrow().members.len() > 1
    }

    /// The runs of the other live nodes.
    pub(in crate::mailbox) fn others(&self) -> Vec<NodeRun> {
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

    /// Whether whoever holds something for a session is in another cluster.
    pub(in crate::mailbox) fn is_afar(&self, session: &Session, holder: usize) -> bool {
        matches!(session.flow.lock().whereabouts(holder), Some(Whereabouts::Afar(..)))
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

    /// The blob that waits at a place at another node, if it is still there; `None` if that node does not say.
    pub(in crate::mailbox) async fn pull_at(
        &self,
        session: &Session,
        holder: usize,
        mailbox: MailboxKey,
        place: Place,
    ) -> Option<Option<StoredBlob>> {
        let request = PullRequest {
            mailbox: convert::mailbox(&mailbox),
            at: vec![convert::place(place)],
            ..PullRequest::default()
        };
        let page = self.pull_page(session, holder, request).await?;
        Some(page.blobs.into_iter().find_map(convert::blob_from))
    }

    async fn pull_page(&self, session: &Session, holder: usize, request: PullRequest) -> Option<PullPage> {
        let whereabouts = session.flow.lock().whereabouts(holder)?;
        let has_told_purges = |to| self.inner.peers.tellings.has_told_purges(&to);
        let page = match &whereabouts {
            Whereabouts::Near(node) => {
                // It may hold what was purged while it was away.
                let run = self.run_of(node).filter(|run| has_told_purges(Audience::Node(run.clone())))?;
                self.inner.cluster.links.pull(&run, request, PATIENCE).await
            }
            Whereabouts::Afar(peer, node) => {
                let out = self.inner.cluster.afar.out.get()?;
                if !has_told_purges(Audience::Peer(peer.clone())) {
                    return None;
                }
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
    ///
    /// # Errors
    /// [`AskError`]: it may not have heard.
    pub(in crate::mailbox) async fn mark_away(
        &self,
        session: &Session,
        holder: usize,
        messages: &[MessageKey],
    ) -> Result<(), AskError> {
        let mark = MailMark { mailbox: convert::mailbox(&session.blobs), messages: convert::messages(messages) };
        self.ask_holder(session, holder, Body::MailMark(mark)).await.map(drop)
    }

    /// Deletes a message at another node; what that met, or `None` if it does not say.
    pub(in crate::mailbox) async fn acknowledge_away(
        &self,
        session: &Session,
        holder: usize,
        owed: Owed,
    ) -> Option<Met> {
        let ack = ack(session.mailbox(owed.over)?, owed.message, session.tells(owed));
        met(self.ask_holder(session, holder, ack).await).ok()
    }

    /// Deletes a message at all other live nodes of this cluster.
    pub(in crate::mailbox) async fn acknowledge_near(
        &self,
        mailbox: MailboxKey,
        message: MessageKey,
        tell: Tell,
    ) -> Heard {
        let others = self.others();
        let told = others.iter().map(|run| self.inner.cluster.links.ask(run, ack(mailbox, message, tell), PATIENCE));
        let mut heard = Heard::default();
        for (run, answer) in others.iter().zip(join_all(told).await) {
            match met(answer) {
                Ok(there) => {
                    heard.met = heard.met.and(there);
                    heard.nodes.push(run.node.clone());
                }
                Err(error) => heard.not_by(error),
            }
        }
        heard
    }

    /// Deletes a message wherever else it may lie.
    pub(in crate::mailbox) async fn acknowledge_at_all(
        &self,
        mailbox: MailboxKey,
        message: MessageKey,
        tell: Tell,
    ) -> Heard {
        let mut heard = self.acknowledge_near(mailbox, message, tell).await;
        let Some(out) = self.inner.cluster.afar.out.get().filter(|_| !heard.met.is_something()) else { return heard };
        let peers = out.peers();
        let told = peers.iter().map(|peer| out.ask(peer, None, ack(mailbox, message, tell), PATIENCE_AFAR));
        for (peer, answer) in peers.iter().zip(join_all(told).await) {
            if let Ok(there) = met(answer) {
                heard.met = heard.met.and(there);
                heard.peers.push(peer.clone());
            }
        }
        heard
    }
}

/// Who has heard that a message is done with: it is deleted there, if it was there.
#[derive(Debug, Default)]
pub(in crate::mailbox) struct Heard {
    /// What it met there.
    pub met: Met,
    nodes: SmallVec<[NodeId; 4]>,
    peers: SmallVec<[PeerName; 1]>,
    /// Why a node of this cluster has not; silence before anything else.
    unheard: Option<AskError>,
}

impl Heard {
    /// Whether a holder has heard it. It must not matter whether it seems to be there by now: it may have come back
    /// since.
    pub fn by(&self, holder: &Whereabouts) -> bool {
        match holder {
            Whereabouts::Near(node) => self.nodes.contains(node),
            Whereabouts::Afar(peer, _) => self.peers.contains(peer),
        }
    }

    /// Whether all these nodes of this cluster have heard it.
    ///
    /// # Errors
    /// [`AskError`] if one has not: silence if any of those that were told was silent.
    pub fn by_all(self, nodes: &[NodeRun]) -> Result<(), AskError> {
        match nodes.iter().all(|run| self.nodes.contains(&run.node)) {
            true => Ok(()),
            false => Err(self.unheard.unwrap_or(LinkRefused::Gone.into())),
        }
    }

    fn not_by(&mut self, error: AskError) {
        if self.unheard.as_ref().is_none_or(|known| !known.is_silence()) {
            self.unheard = Some(error);
        }
    }
}

/// That a message is done with.
pub(in crate::mailbox) fn ack(mailbox: MailboxKey, message: MessageKey, tell: Tell) -> Body {
    Body::MailAck(MailAck {
        mailbox: convert::mailbox(&mailbox),
        message: convert::message(message),
        quiet: tell == Tell::Nothing,
        received: tell == Tell::Received,
    })
}

/// What an acknowledgment met where it was told.
fn met(answer: Result<reply::Body, AskError>) -> Result<Met, AskError> {
    match answer? {
        reply::Body::Done(done) => Ok(Met { deleted: done.count, done: done.yes }),
        _ => Err(AskError::Failed("it says something else".to_owned())),
    }
}

/// How many were deleted.
pub(super) fn counted(answer: Result<reply::Body, AskError>) -> Result<u64, AskError> {
    Ok(met(answer)?.deleted)
}
