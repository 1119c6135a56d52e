//! What other nodes tell and ask.

use bytes::BytesMut;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::convert;
use super::todo::{Asker, Audience};
use crate::cluster::Frames;
use crate::cluster::links::Holder;
use crate::cluster::links::asks::busy;
use crate::cluster::proto::{
    Done, MailAck, MailHeld, MailHolds, MailInterest, MailKnown, MailMark, MailMoved, MailMoving, MailNotice,
    MailWaiting, PullPage, PullRequest, frame::Body, reply,
};
use crate::cluster::view::View;
use crate::domain::ids::NodeRun;
use crate::domain::mailbox::{MailboxKey, Place};
use crate::mailbox::MailboxService;
use crate::mailbox::acks::{Met, Tell};
use crate::mailbox::flow::Whereabouts;
use crate::mailbox::offload::Origin;
use crate::mailbox::session::Over;
use crate::store::{MAX_MESSAGES, MAX_PAGE_BLOB_BYTES, MAX_PAGE_BLOBS, PageLimit, StoreError};
use crate::wire::vauchi::payload::Status;

/// Most mailboxes that are asked about at a time: a session has two.
const MAX_ASKED: usize = 16;

/// Most blobs that are asked for by their places at a time.
const MAX_AT: usize = 64;

impl Frames for MailboxService {
    fn frame(&self, from: &NodeRun, ask: u64, body: Body) {
        let this = self.clone();
        match body {
            Body::MailInterest(interest) => {
                self.interest(from, interest);
                self.inner.cluster.links.reply(from, ask, done(0));
            }
            Body::MailWaiting(waiting) => self.waiting(from, &waiting),
            Body::MailNotice(notice) => self.notice(&notice),
            body => {
                let (links, from) = (self.inner.cluster.links.clone(), from.clone());
                let asker = Audience::Node(from.clone());
                let reply = move |body| links.reply(&from, ask, body);
                self.beside(reply, async move {
                    match body {
                        Body::MailKnown(known) => this.answer_known(&asker, &known).await,
                        body => this.answer(body).await,
                    }
                });
            }
        }
    }

    fn link_up(&self, peer: &NodeRun) {
        self.inner.peers.silent.forget(peer);
        self.inner.peers.tellings.meet(Audience::Node(peer.clone()));
    }

    fn view_changed(&self, _before: &View, now: &View) {
        self.inner.peers.interests.keep(|run| now.is_live(run));
        self.inner.peers.tellings.keep(|run| now.is_live(run));
        self.inner.peers.silent.keep(|run| now.is_live(run));
        self.note_seen_soon();
    }
}

impl Holder for MailboxService {
    fn pull(&self, request: PullRequest) -> BoxFuture<'static, Result<PullPage, String>> {
        let this = self.clone();
        async move { this.answer_pull(&request).await.map_err(|error| error.to_string()) }.boxed()
    }

    fn keep(&self, blobs: Vec<MailMoving>) -> BoxFuture<'static, Vec<MailMoved>> {
        let this = self.clone();
        async move { this.take_in(blobs, Origin::Cluster).await }.boxed()
    }
}

impl MailboxService {
    /// Works on a question beside the stream it came from, and replies.
    pub(super) fn beside(
        &self,
        reply: impl FnOnce(reply::Body) + Send + 'static,
        work: impl Future<Output = Result<reply::Body, StoreError>> + Send + 'static,
    ) {
        match self.inner.peers.busy.clone().try_acquire_owned() {
            Ok(place) => self.inner.supervisor.spawn_quiet(async move {
                reply(work.await.unwrap_or_else(|error| reply::Body::Failed(error.to_string())));
                drop(place);
            }),
            Err(_) => {
                self.inner.metrics.drop_one("mailbox", "busy");
                reply(busy());
            }
        }
    }

    /// What this node answers to a question.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) async fn answer(&self, question: Body) -> Result<reply::Body, StoreError> {
        match question {
            Body::MailMark(mark) => self.answer_mark(mark).await,
            Body::MailAck(ack) => self.answer_ack(&ack).await,
            Body::MailHolds(holds) => self.answer_holds(&holds).await,
            Body::MailHints(hints) => self.answer_hints(&hints).await,
            Body::MailCopies(copies) => self.answer_copies(&copies).await,
            Body::MailPurge(purge) => Ok(done(self.obey(&purge).await?)),
            // A newer version's.
            _ => {
                self.inner.metrics.drop_one("mailbox", "unknown_frame");
                Ok(reply::Body::Failed("this is no question here".to_owned()))
            }
        }
    }

    fn interest(&self, from: &NodeRun, interest: MailInterest) {
        let interests = &self.inner.peers.interests;
        if interest.anew {
            interests.begin(from);
        }
        for mailbox in convert::mailboxes_from(&interest.mailboxes) {
            if interest.over {
                interests.remove(from, &mailbox);
            } else if !interests.add(from, mailbox) {
                self.inner.metrics.drop_one("mailbox", "interests");
            }
        }
        if !interest.over && !interest.asks && !interest.mailboxes.is_empty() {
            self.inner.peers.lookups.check(Asker::Node(from.clone()), interest.mailboxes, interest.fresh);
        }
    }

    fn waiting(&self, from: &NodeRun, waiting: &MailWaiting) {
        let Some(mailbox) = convert::mailbox_from(&waiting.mailbox) else { return };
        self.waits_at(&Whereabouts::Near(from.node.clone()), mailbox, waiting);
        self.wake_callers(&from.node, mailbox, waiting);
    }

    /// Wakes the sessions of a mailbox here: somebody holds something for it.
    pub(super) fn waits_at(&self, holder: &Whereabouts, mailbox: MailboxKey, waiting: &MailWaiting) {
        let place = waiting.place.as_ref().and_then(convert::place_from);
        for session in self.inner.sessions.of(&mailbox) {
            let over = if session.device == Some(mailbox) { Over::Devices } else { Over::Blobs };
            {
                let mut flow = session.flow.lock();
                let holder = flow.waits_at(holder, over);
                if let Some(place) = place.filter(|_| over == Over::Devices || waiting.late) {
                    flow.came(over, holder, place);
                }
            }
            self.wake(&session);
        }
    }

    fn notice(&self, notice: &MailNotice) {
        self.noticed(notice);
        self.notify_callers(notice);
    }

    /// Tells a sender here what became of its message.
    pub(super) fn noticed(&self, notice: &MailNotice) {
        let status = if notice.received { Status::ReceivedByRecipient } else { Status::Delivered };
        self.tell_here(&notice.routing_id, &notice.message_id, status);
    }

    async fn answer_holds(&self, holds: &MailHolds) -> Result<reply::Body, StoreError> {
        let mut held = BytesMut::new();
        for mailbox in convert::mailboxes_from(&holds.mailboxes).take(MAX_ASKED) {
            if self.inner.store.holdings(mailbox).await?.blobs > 0 {
                held.extend_from_slice(&mailbox.0);
            }
        }
        Ok(reply::Body::MailHeld(MailHeld { mailboxes: held.freeze() }))
    }

    async fn answer_mark(&self, mark: MailMark) -> Result<reply::Body, StoreError> {
        let Some(mailbox) = convert::mailbox_from(&mark.mailbox) else { return Ok(nonsense()) };
        let receipts = self.mark(mailbox, convert::messages_from(&mark.messages)).await?;
        self.tell_senders(&receipts, Status::Delivered);
        Ok(done(0))
    }

    async fn answer_ack(&self, ack: &MailAck) -> Result<reply::Body, StoreError> {
        let (mailbox, message) = (convert::mailbox_from(&ack.mailbox), convert::message_from(ack.message));
        let (Some(mailbox), Some(message)) = (mailbox, message) else { return Ok(nonsense()) };
        Ok(said(self.acknowledge_message(mailbox, message, Tell::of(ack)).await?))
    }

    async fn answer_known(&self, asker: &Audience, known: &MailKnown) -> Result<reply::Body, StoreError> {
        if !self.inner.peers.tellings.has_told_purges(asker) {
            return Ok(reply::Body::Failed("purges are to be heard first".to_owned()));
        }
        let Some(mailbox) = convert::mailbox_from(&known.mailbox) else { return Ok(nonsense()) };
        let mut messages = convert::messages_from(&known.messages);
        messages.truncate(MAX_MESSAGES);
        Ok(reply::Body::MailDone(self.known_here(mailbox, messages).await?.into()))
    }

    /// What this node holds of what is asked for.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) async fn answer_pull(&self, request: &PullRequest) -> Result<PullPage, StoreError> {
        let Some(mailbox) = convert::mailbox_from(&request.mailbox) else { return Ok(PullPage::default()) };
        if !request.at.is_empty() {
            // Whoever names places need not say how many bytes.
            let most = if request.bytes == 0 { usize::MAX } else { request.bytes as usize };
            let places = request.at.iter().filter_map(convert::place_from);
            return self.answer_pull_at(mailbox, places, most.min(MAX_PAGE_BLOB_BYTES)).await;
        }
        let limit = PageLimit {
            blobs: (request.blobs as usize).clamp(1, MAX_PAGE_BLOBS),
            bytes: (request.bytes as usize).clamp(1, MAX_PAGE_BLOB_BYTES),
        };
        let after = request.after.as_ref().and_then(convert::place_from);
        let page = self.page(mailbox, after, limit).await?;
        Ok(PullPage { blobs: page.blobs.into_iter().map(convert::blob).collect(), more: page.more })
    }

    async fn answer_pull_at(
        &self,
        mailbox: MailboxKey,
        places: impl Iterator<Item = Place>,
        most: usize,
    ) -> Result<PullPage, StoreError> {
        let (mut page, mut bytes) = (PullPage::default(), 0);
        for place in places.take(MAX_AT) {
            // A page like any other: a few large blobs would be more than the asker reads, and than one may have here.
            page.more = bytes >= most;
            if page.more {
                break;
            }
            if let Some(blob) = self.at(mailbox, place).await? {
                bytes += blob.body.len();
                page.blobs.push(convert::blob(blob));
            }
        }
        Ok(page)
    }
}

impl Tell {
    pub(super) fn of(ack: &MailAck) -> Self {
        match ack {
            MailAck { quiet: true, .. } => Self::Nothing,
            MailAck { received: true, .. } => Self::Received,
            MailAck { .. } => Self::Delivered,
        }
    }
}

pub(super) fn done(count: u64) -> reply::Body {
    reply::Body::Done(Done { count, yes: false })
}

/// What an acknowledgment met.
pub(super) fn said(met: Met) -> reply::Body {
    reply::Body::Done(Done { count: met.deleted, yes: met.done })
}

pub(super) fn nonsense() -> reply::Body {
    reply::Body::Failed("no mailbox, or no message".to_owned())
}
