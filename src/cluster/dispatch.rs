//! Who a frame is for.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::cluster::proto::{frame::Body, reply};
use crate::domain::clock::Epoch;
use crate::domain::ids::NodeRun;
use crate::runtime::slot::Slot;
use crate::runtime::supervisor::Supervisor;

use super::links::{Dispatch, asks};
use super::view::View;
use super::{Cluster, convert};

/// Frames whose handling may touch the disk, or other nodes, at once; more are answered with a failure.
const BUSY: usize = 4_096;

/// The services that speak to their like on other nodes.
#[derive(Default)]
pub struct Services {
    /// Of vaults.
    pub vault: Slot<dyn Frames>,
    /// Of mailboxes.
    pub mailbox: Slot<dyn Frames>,
    /// Of registrations of libp2p peers.
    pub rendezvous: Slot<dyn Frames>,
    /// Of the directory of libp2p peers.
    pub directory: Slot<dyn Frames>,
    /// Of gossip of libp2p peers.
    pub gossip: Slot<dyn Frames>,
}

impl Services {
    fn of(&self, body: &Body) -> Option<Arc<dyn Frames>> {
        match body {
            Body::MailInterest(_)
            | Body::MailWaiting(_)
            | Body::MailMark(_)
            | Body::MailAck(_)
            | Body::MailKnown(_)
            | Body::MailPurge(_)
            | Body::MailNotice(_)
            | Body::MailHints(_)
            | Body::MailCopies(_)
            | Body::MailHolds(_) => self.mailbox.get(),
            Body::RendezvousPut(_) | Body::RendezvousPull(_) => self.rendezvous.get(),
            Body::PeerGossip(_) => self.gossip.get(),
            Body::DirectoryPut(_) | Body::DirectoryPull(_) => self.directory.get(),
            _ => self.vault.get(),
        }
    }

    /// Those that there are.
    pub fn all(&self) -> impl Iterator<Item = Arc<dyn Frames>> {
        [self.vault.get(), self.mailbox.get(), self.rendezvous.get(), self.directory.get(), self.gossip.get()]
            .into_iter()
            .flatten()
    }

    /// Lets go of all of them.
    pub fn clear(&self) {
        self.vault.clear();
        self.mailbox.clear();
        self.rendezvous.clear();
        self.directory.clear();
        self.gossip.clear();
    }
}

/// A service that speaks to its like on other nodes. Called in the order of arrival; must not block.
pub trait Frames: Send + Sync {
    /// A frame from `from`, which waits for a reply if `ask` is not zero.
    fn frame(&self, from: &NodeRun, ask: u64, body: Body);

    /// A stream between this node and `peer` is new: what was under way between them may be lost.
    fn link_up(&self, peer: &NodeRun);

    /// Nodes have come or gone.
    fn view_changed(&self, before: &View, now: &View);
}

/// Hands each frame to its part of the cluster, or to the service.
pub struct Dispatcher {
    cluster: Cluster,
    supervisor: Supervisor,
    busy: Arc<Semaphore>,
}

impl Dispatcher {
    pub fn new(cluster: Cluster, supervisor: Supervisor) -> Self {
        Self { cluster, supervisor, busy: Arc::new(Semaphore::new(BUSY)) }
    }

    /// Works on a frame beside the stream it came from, and replies.
    fn beside(&self, from: &NodeRun, ask: u64, work: impl Future<Output = reply::Body> + Send + 'static) {
        let (links, from) = (self.cluster.links.clone(), from.clone());
        match self.busy.clone().try_acquire_owned() {
            Ok(place) => self.supervisor.spawn_quiet(async move {
                let body = work.await;
                links.reply(&from, ask, body);
                drop(place);
            }),
            Err(_) => {
                self.cluster.metrics.drop_one("dispatch", "busy");
                links.reply(&from, ask, asks::busy());
            }
        }
    }
}

impl Dispatch for Dispatcher {
    fn frame(&self, from: &NodeRun, ask: u64, body: Body) {
        let Cluster { presence, claims, shared, links, .. } = &self.cluster;
        match body {
            Body::Announce(announce) => {
                let standing = convert::standing_from(announce.standing());
                if let (Some(principal), Some(standing)) =
                    (convert::principal_from(announce.principal.as_ref()), standing)
                {
                    presence.announced(from, &principal, Epoch(announce.epoch), standing);
                }
            }
            Body::Withdraw(withdraw) => {
                if let Some(principal) = convert::principal_from(withdraw.principal.as_ref()) {
                    presence.withdrawn(from, &principal, Epoch(withdraw.epoch));
                }
            }
            Body::Locate(locate) => {
                let principal = convert::principal_from(locate.principal.as_ref());
                links.reply(from, ask, principal.map_or_else(unknown, |p| presence.answer_locate(&p)));
            }
            Body::Holds(holds) => {
                let principal = convert::principal_from(holds.principal.as_ref());
                links.reply(from, ask, principal.map_or_else(unknown, |p| presence.answer_holds(&p)));
            }
            Body::Claim(claim) => {
                let claims = claims.clone();
                self.beside(from, ask, async move { reply::Body::Claim(claims.judge(&claim).await) });
            }
            Body::Bound(bound) => {
                let (claims, whose) = (claims.clone(), from.clone());
                self.beside(from, ask, async move { claims.answer_bound(&whose, &bound).await });
            }
            Body::BindingQuery(query) => {
                let claims = claims.clone();
                self.beside(from, ask, async move { claims.answer_query(&query).await });
            }
            Body::StoreShared(store) => {
                let shared = shared.clone();
                self.beside(from, ask, async move { shared.answer_store(store).await });
            }
            Body::FetchShared(fetch) => {
                let shared = shared.clone();
                self.beside(from, ask, async move { shared.answer_fetch(&fetch).await });
            }
            // Replies are taken off before.
            Body::Reply(_) => {}
            body => match self.cluster.services.of(&body) {
                Some(service) => service.frame(from, ask, body),
                // What is asked must not pass for done.
                None => links.reply(from, ask, reply::Body::Failed("this node is starting or has stopped".to_owned())),
            },
        }
    }

    fn stream_opened(&self, peer: &NodeRun) {
        self.cluster.presence.stream_opened(peer);
    }

    fn link_up(&self, peer: &NodeRun) {
        self.cluster.presence.link_up(peer);
        self.cluster.services.all().for_each(|service| service.link_up(peer));
    }
}

fn unknown() -> reply::Body {
    reply::Body::Failed("unknown kind of principal".to_owned())
}
