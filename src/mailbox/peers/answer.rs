//! What other nodes tell and ask.

use futures::FutureExt;
use futures::future::BoxFuture;

use super::convert;
use crate::cluster::Frames;
use crate::cluster::links::Holder;
use crate::cluster::proto::{
    Done, MailAck, MailDone, MailInterest, MailKnown, MailMark, MailNotice, MailWaiting, PullPage, PullRequest,
    frame::Body, reply,
};
use crate::cluster::view::View;
use crate::domain::ids::NodeRun;
use crate::domain::mailbox::{MailboxKey, Place};
use crate::mailbox::MailboxService;
use crate::mailbox::acks::Tell;
use crate::mailbox::session::Over;
use crate::store::{MAX_MESSAGES, MAX_PAGE_BLOB_BYTES, MAX_PAGE_BLOBS, PageLimit, StoreError};
use crate::wire::vauchi::payload::Status;

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
            Body::MailMark(mark) => self.beside(from, ask, async move { this.answer_mark(mark).await }),
            Body::MailAck(ack) => self.beside(from, ask, async move { this.answer_ack(&ack).await }),
            Body::MailKnown(known) => {
                let asker = from.clone();
                self.beside(from, ask, async move { this.answer_known(&asker, &known).await });
            }
            Body::MailPurge(purge) => self.beside(from, ask, async move { Ok(done(this.obey(&purge).await?)) }),
            // A newer version's.
            _ => self.inner.metrics.drop_one("mailbox", "unknown_frame"),
        }
    }

    fn link_up(&self, peer: &NodeRun) {
        self.inner.peers.silent.forget(peer);
        self.inner.peers.tellings.meet(peer);
    }

    fn view_changed(&self, _before: &View, now: &View) {
        self.inner.peers.interests.keep(|run| now.is_live(run));
        self.inner.peers.tellings.keep(|run| now.is_live(run));
        self.inner.peers.silent.keep(|run| now.is_live(run));
    }
}

impl Holder for MailboxService {
    fn pull(&self, request: PullRequest) -> BoxFuture<'static, Result<PullPage, String>> {
        let this = self.clone();
        async move { this.answer_pull(&request).await.map_err(|error| error.to_string()) }.boxed()
    }
}

impl MailboxService {
    /// Works on a question beside the stream it came from, and replies.
    fn beside(
        &self,
        from: &NodeRun,
        ask: u64,
        work: impl Future<Output = Result<reply::Body, StoreError>> + Send + 'static,
    ) {
        let (links, from) = (self.inner.cluster.links.clone(), from.clone());
        match self.inner.peers.busy.clone().try_acquire_owned() {
            Ok(place) => self.inner.supervisor.spawn_quiet(async move {
                let body = work.await.unwrap_or_else(|error| reply::Body::Failed(error.to_string()));
                links.reply(&from, ask, body);
                drop(place);
            }),
            Err(_) => {
                self.inner.metrics.drop_one("mailbox", "busy");
                links.reply(&from, ask, reply::Body::Failed("busy".to_owned()));
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
        if !interest.over && !interest.mailboxes.is_empty() {
            self.inner.peers.lookups.check(from, interest.mailboxes);
        }
    }

    fn waiting(&self, from: &NodeRun, waiting: &MailWaiting) {
        let Some(mailbox) = convert::mailbox_from(&waiting.mailbox) else { return };
        let place = waiting.place.as_ref().and_then(convert::place_from);
        for session in self.inner.sessions.of(&mailbox) {
            let over = if session.device == Some(mailbox) { Over::Devices } else { Over::Blobs };
            {
                let mut flow = session.flow.lock();
                let holder = flow.waits_at(&from.node, over);
                if let Some(place) = place.filter(|_| over == Over::Devices) {
                    flow.came(holder, place);
                }
            }
            self.wake(&session);
        }
    }

    fn notice(&self, notice: &MailNotice) {
        let status = if notice.received { Status::ReceivedByRecipient } else { Status::Delivered };
        self.tell_here(&notice.routing_id, &notice.message_id, status);
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
        let tell = match ack {
            MailAck { quiet: true, .. } => Tell::Nothing,
            MailAck { received: true, .. } => Tell::Received,
            MailAck { .. } => Tell::Delivered,
        };
        Ok(done(self.acknowledge_message(mailbox, message, tell).await?))
    }

    async fn answer_known(&self, asker: &NodeRun, known: &MailKnown) -> Result<reply::Body, StoreError> {
        if !self.inner.peers.tellings.has_told_purges(asker) {
            return Ok(reply::Body::Failed("purges are to be heard first".to_owned()));
        }
        let Some(mailbox) = convert::mailbox_from(&known.mailbox) else { return Ok(nonsense()) };
        let mut messages = convert::messages_from(&known.messages);
        messages.truncate(MAX_MESSAGES);
        let known = self.known_here(mailbox, messages).await?;
        let messages = known.done.iter().map(|message| convert::message(*message)).collect();
        let waiting = known.waiting.into_iter().map(|(_, place)| convert::place(place)).collect();
        Ok(reply::Body::MailDone(MailDone { messages, waiting }))
    }

    async fn answer_pull(&self, request: &PullRequest) -> Result<PullPage, StoreError> {
        let Some(mailbox) = convert::mailbox_from(&request.mailbox) else { return Ok(PullPage::default()) };
        if !request.at.is_empty() {
            return self.answer_pull_at(mailbox, request.at.iter().filter_map(convert::place_from)).await;
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
    ) -> Result<PullPage, StoreError> {
        let mut page = PullPage::default();
        for place in places.take(MAX_AT) {
            page.blobs.extend(self.at(mailbox, place).await?.map(convert::blob));
        }
        Ok(page)
    }
}

fn done(count: u64) -> reply::Body {
    reply::Body::Done(Done { count, yes: false })
}

fn nonsense() -> reply::Body {
    reply::Body::Failed("no mailbox, or no message".to_owned())
}
