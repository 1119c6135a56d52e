//! What nodes of other clusters tell and ask. What is not for this node is passed on inside this cluster, and nowhere
//! else.

use futures::FutureExt;
use futures::future::BoxFuture;

use super::answer::{done, nonsense, said};
use super::calls::PATIENCE;
use super::convert;
use super::tell::Change;
use super::todo::{Asker, Audience};
use crate::cluster::convert::principal_from;
use crate::cluster::proto::{
    MailInterest, MailKnown, MailMoved, MailMoving, PullPage, PullRequest, frame::Body, reply,
};
use crate::cluster::regions::{Caller, FromRegions, PeerName};
use crate::domain::ids::NodeId;
use crate::mailbox::MailboxService;
use crate::mailbox::acks::Tell;
use crate::mailbox::flow::Whereabouts;
use crate::mailbox::noting::Noter;
use crate::mailbox::offload::Origin;
use crate::store::{MAX_MESSAGES, StoreError};

impl FromRegions for MailboxService {
    fn asked(&self, caller: Caller, ask: u64, node: Option<NodeId>, body: Body) {
        if let Body::MailInterest(interest) = body {
            self.caller_interest(caller, interest);
            if let Some(out) = self.inner.cluster.afar.out.get() {
                out.reply(caller, ask, done(0));
            }
            return;
        }
        let (this, afar) = (self.clone(), self.inner.cluster.afar.clone());
        let reply = move |body| {
            if let Some(out) = afar.out.get() {
                out.reply(caller, ask, body);
            }
        };
        self.beside(reply, async move {
            match node {
                Some(node) if node == this.inner.cluster.me.node => this.answer(body).await,
                Some(node) => Ok(this.pass_on(&node, body).await),
                None => this.answer_for_all(caller, body).await,
            }
        });
    }

    fn pulled(&self, node: NodeId, what: PullRequest) -> BoxFuture<'static, Result<PullPage, String>> {
        let this = self.clone();
        async move {
            if node == this.inner.cluster.me.node {
                return this.answer_pull(&what).await.map_err(|error| error.to_string());
            }
            let run = this.run_of(&node).ok_or_else(|| "that node is gone".to_owned())?;
            this.inner.cluster.links.pull(&run, what, PATIENCE).await.map_err(|error| error.to_string())
        }
        .boxed()
    }

    fn offered(&self, blobs: Vec<MailMoving>) -> BoxFuture<'static, Vec<MailMoved>> {
        let this = self.clone();
        async move { this.take_in(blobs, Origin::Region).await }.boxed()
    }

    fn hung_up(&self, caller: Caller) {
        self.inner.peers.callers.keep(|other| *other != caller);
        // The other nodes were told of its interest as of this node's.
        let tellings = &self.inner.peers.tellings;
        self.others().into_iter().for_each(|run| tellings.introduce(Audience::Node(run)));
    }

    fn told(&self, peer: &PeerName, about: NodeId, body: Body) {
        match body {
            Body::MailWaiting(waiting) => {
                if let Some(mailbox) = convert::mailbox_from(&waiting.mailbox) {
                    self.waits_at(&Whereabouts::Afar(peer.clone(), about), mailbox, &waiting);
                }
            }
            Body::MailNotice(notice) => self.noticed(&notice),
            Body::Bound(bound) => {
                if let Some(principal) = principal_from(bound.principal.as_ref()) {
                    self.owned_afar(&principal, &bound.key);
                }
            }
            _ => self.inner.metrics.drop_one("mailbox", "unknown_frame"),
        }
    }

    fn peer_up(&self, peer: &PeerName) {
        self.inner.peers.tellings.meet(Audience::Peer(peer.clone()));
        self.settle_soon();
    }

    fn peer_gone(&self, peer: &PeerName) {
        self.inner.peers.tellings.forget(&Audience::Peer(peer.clone()));
    }
}

impl MailboxService {
    fn caller_interest(&self, caller: Caller, interest: MailInterest) {
        let (callers, sessions) = (&self.inner.peers.callers, &self.inner.sessions);
        if interest.anew {
            callers.begin(&caller);
        }
        for mailbox in convert::mailboxes_from(&interest.mailboxes) {
            // In one order with the sessions of this node, for which the same is said.
            let is_taken = sessions.hold(&mailbox, |has_sessions| {
                if interest.over {
                    callers.remove(&caller, &mailbox);
                    if !has_sessions && callers.of(&mailbox).is_empty() {
                        self.announce_near(&mailbox, Change::Over);
                    }
                    return true;
                }
                let is_taken = callers.add(&caller, mailbox);
                if is_taken {
                    self.announce_near(&mailbox, if interest.fresh { Change::Fresh } else { Change::Begun });
                }
                is_taken
            });
            if !is_taken {
                self.inner.metrics.drop_one("mailbox", "interests");
            }
        }
        if !interest.over && !interest.mailboxes.is_empty() {
            self.inner.peers.lookups.check(Asker::Caller(caller), interest.mailboxes, interest.fresh);
        }
    }

    async fn pass_on(&self, node: &NodeId, question: Body) -> reply::Body {
        let Some(run) = self.run_of(node) else { return reply::Body::Failed("that node is gone".to_owned()) };
        let answer = self.inner.cluster.links.ask(&run, question, PATIENCE).await;
        answer.unwrap_or_else(reply::Body::from)
    }

    /// What is known of these messages in this cluster.
    async fn answer_known_near(&self, known: &MailKnown) -> Result<reply::Body, StoreError> {
        let Some(mailbox) = convert::mailbox_from(&known.mailbox) else { return Ok(nonsense()) };
        let mut messages = convert::messages_from(&known.messages);
        messages.truncate(MAX_MESSAGES);
        Ok(reply::Body::MailDone(self.known(mailbox, messages).await?.into()))
    }

    async fn answer_for_all(&self, caller: Caller, question: Body) -> Result<reply::Body, StoreError> {
        match question {
            Body::MailAck(ack) => {
                let (mailbox, message) = (convert::mailbox_from(&ack.mailbox), convert::message_from(ack.message));
                let (Some(mailbox), Some(message)) = (mailbox, message) else { return Ok(nonsense()) };
                let tell = Tell::of(&ack);
                let (here, near) = tokio::join!(
                    self.acknowledge_message(mailbox, message, tell),
                    self.acknowledge_near(mailbox, message, tell)
                );
                let met = here?.and(near.met);
                let party = self.inner.cluster.afar.out.get().and_then(|out| out.party(caller));
                // Whoever has hung up does not hear that it was heard.
                if let Some(party) = party.filter(|_| !met.is_something()) {
                    // A node that is away may hold it.
                    let unheard = self.unheard_near(mailbox, &near, Noter::afar(&party)).await?;
                    if !unheard.is_empty() {
                        self.note_done(mailbox, message, &unheard).await?;
                    }
                }
                Ok(said(met))
            }
            Body::MailKnown(known) => self.answer_known_near(&known).await,
            Body::MailPurge(purge) => Ok(done(self.purge_near(&purge).await?)),
            question => self.answer(question).await,
        }
    }
}
