//! Links: one supervised gRPC stream for each ordered pair of nodes.
//!
//! A node sends to another only on the link that it opened itself; frames of one link arrive in order. A link
//! has a bounded queue: what does not fit is refused to the sender at once, and counted, so a slow node cannot
//! stall this one. What a broken link had queued is lost; whoever cares is told by [`Dispatch::link_up`] when
//! it stands again, and repeats what is still open. Questions are frames with a number, answered by a frame on
//! the other node's link.

pub mod accept;
pub mod asks;
pub mod circuits;
mod client;
mod codec;
pub mod counted;
pub mod held;
mod pulls;
pub(crate) mod queue;
mod server;
pub mod stream;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::OptionFuture;
use parking_lot::RwLock;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::cluster::cut::Cut;
use crate::cluster::proto::{Frame, frame, reply};
use crate::cluster::view::{Member, View};
use crate::domain::ids::{ClusterId, NodeId, NodeRun};
use crate::observe::metrics::Metrics;
use crate::runtime::slot::Slot;
use crate::runtime::supervisor::Supervisor;
use crate::security::tls::ClusterTls;

use asks::Asks;
pub use circuits::{Exchange, FarHalf, Reach};
pub use client::TIMEOUT_CONNECT;
pub use pulls::Holder;
use pulls::Places;
use queue::LinkQueue;
pub use server::ServeError;

/// Bytes that may wait on one link, but for the largest frames: a quarter of a second of a 256 Mbit/s line.
pub const QUEUE_BYTES: usize = 8 << 20;

/// Largest batch: a frame with a message of the largest configurable size, and room for others beside it.
const BATCH_LIMIT: usize = 80 << 20;

/// Why a frame was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkRefused {
    /// The queue is full.
    #[error("the link to that node is full")]
    Full,
    /// That run of that node is not in the cluster, as far as this node sees.
    #[error("that node is gone")]
    Gone,
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// It could not be sent.
    #[error(transparent)]
    Refused(#[from] LinkRefused),
    /// No answer came in time.
    #[error("that node did not answer in time")]
    TimedOut,
    /// The link broke: it may have taken the question with it.
    #[error("the link to that node broke before it answered")]
    Broken,
    /// The node has too much to do: it has said nothing of what it was asked.
    #[error("that node has too much to do")]
    Busy,
    /// The node answered that it could not: that concerns what it was asked, and nothing else.
    #[error("that node failed: {0}")]
    Failed(String),
}

impl AskError {
    /// Whether nobody has answered at all: whoever was asked is not likely to answer anything else now.
    #[must_use]
    pub fn is_silence(&self) -> bool {
        match self {
            Self::Refused(_) | Self::TimedOut | Self::Broken => true,
            Self::Busy | Self::Failed(_) => false,
        }
    }
}

/// Who is told of what arrives. Called in the order of arrival; must not block.
pub trait Dispatch: Send + Sync {
    /// A frame of another node, which waits for a reply if `ask` is not zero.
    fn frame(&self, from: &NodeRun, ask: u64, body: frame::Body);

    /// A stream from `peer` begins: frames that it sent before may be missing. Called before its first frame.
    fn stream_opened(&self, peer: &NodeRun);

    /// A stream between this node and `peer`, in either direction, is new: what either knew of the other may
    /// have been lost.
    fn link_up(&self, peer: &NodeRun);
}

/// What links need of their node.
pub struct LinkSettings {
    /// This run.
    pub me: NodeRun,
    /// This cluster.
    pub cluster: ClusterId,
    /// Mutual TLS; without it, plain text, for loopback only.
    pub tls: Option<ClusterTls>,
    /// Addresses not to be spoken to.
    pub cut: Cut,
}

/// All links of a node; clones share them.
#[derive(Clone)]
pub struct Links {
    inner: Arc<Inner>,
}

struct Inner {
    settings: LinkSettings,
    peers: RwLock<HashMap<NodeId, Arc<Peer>>>,
    incoming: RwLock<HashMap<NodeId, Incoming>>,
    asks: Asks,
    dispatch: Slot<dyn Dispatch>,
    holder: Slot<dyn Holder>,
    exchange: Slot<dyn Exchange>,
    places: Places,
    leaving: AtomicBool,
    metrics: Arc<Metrics>,
    supervisor: Supervisor,
}

/// A stream that another node opened.
struct Incoming {
    run: NodeRun,
    end: CancellationToken,
    /// Whether that run has ever been in the view.
    seen: bool,
}

/// Another node, as long as it is in the view.
struct Peer {
    run: NodeRun,
    grpc: String,
    gossip: SocketAddr,
    queue: LinkQueue,
    /// Told whenever the link breaks: what was asked over it has no answer.
    broken: Notify,
    /// Where its mailboxes are asked for, once they are.
    pulls: OnceLock<Channel>,
    /// Where circuits are connected, once they are.
    circuits: OnceLock<Channel>,
    gone: CancellationToken,
}

impl Links {
    /// No links yet: they follow the membership, see [`Links::follow`].
    #[must_use]
    pub fn new(settings: LinkSettings, metrics: Arc<Metrics>, supervisor: Supervisor) -> Self {
        let inner = Inner {
            settings,
            peers: RwLock::default(),
            incoming: RwLock::default(),
            asks: Asks::default(),
            dispatch: Slot::default(),
            holder: Slot::default(),
            exchange: Slot::default(),
            places: Places::default(),
            leaving: AtomicBool::new(false),
            metrics,
            supervisor,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Says who is told of frames. Later calls have no effect.
    pub fn dispatch_to(&self, dispatch: Arc<dyn Dispatch>) {
        self.inner.dispatch.fill(dispatch);
    }

    /// No link is opened from here on, nor opened again: this node is about to say goodbye. Whoever hears of it closes
    /// its stream, and a new one would only have to be closed again.
    pub fn leave(&self) {
        self.inner.leaving.store(true, Ordering::Relaxed);
    }

    /// Frames are handed to nobody any more: the node has stopped.
    pub fn let_go(&self) {
        self.inner.dispatch.clear();
        self.inner.holder.clear();
        self.inner.exchange.clear();
    }

    /// Accepts links of other nodes on `listener` until the node stops.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(&self, listener: TcpListener) -> Result<(), ServeError> {
        server::serve(self.inner.clone(), listener).await
    }

    /// Opens links to the members of `view` that have none, and closes those to nodes that are gone from it.
    pub fn follow(&self, view: &View) {
        let inner = &self.inner;
        let mut peers = inner.peers.write();
        peers.retain(|_, peer| {
            let stays =
                view.members.get(&peer.run.node).is_some_and(|m| m.run == peer.run && m.facts.grpc == peer.grpc);
            if !stays {
                peer.gone.cancel();
            }
            stays
        });
        for member in view.others() {
            if !peers.contains_key(&member.run.node) {
                let peer = Arc::new(Peer::new(member, &inner.supervisor, &inner.metrics));
                peers.insert(member.run.node.clone(), peer.clone());
                inner.supervisor.spawn_quiet(client::run(inner.clone(), peer));
            }
        }
        drop(peers);
        inner.places.keep(|node| view.members.contains_key(node));
        inner.incoming.write().retain(|node, incoming| {
            let stays = match view.members.get(node) {
                Some(member) => {
                    incoming.seen |= member.run == incoming.run;
                    member.run.generation <= incoming.run.generation
                }
                // A run that has never been in the view may be younger than the view; one that has left it is dead.
                None => !incoming.seen,
            };
            if !stays {
                incoming.end.cancel();
            }
            stays
        });
    }

    /// Sends a frame to that run of that node.
    ///
    /// # Errors
    /// [`LinkRefused`], at once; the frame is counted as dropped.
    pub fn send(&self, to: &NodeRun, frame: impl Into<Frame>) -> Result<(), LinkRefused> {
        self.offer(to, frame.into(), LinkQueue::push).map_err(|(refused, _)| refused)
    }

    /// As [`Links::send`], for what can be done without: only a quarter of what may wait on a link is for it.
    ///
    /// # Errors
    /// [`LinkRefused`], at once; the frame is counted as dropped.
    pub fn send_if_room(&self, to: &NodeRun, frame: impl Into<Frame>) -> Result<(), LinkRefused> {
        self.offer(to, frame.into(), LinkQueue::push_if_room).map_err(|(refused, _)| refused)
    }

    /// As [`Links::send`], but gives back what could not be sent.
    ///
    /// # Errors
    /// The frame's body.
    pub fn try_send(&self, to: &NodeRun, body: frame::Body) -> Result<(), Box<frame::Body>> {
        self.offer(to, body.into(), LinkQueue::push)
            .or_else(|(_, frame)| frame.body.map_or(Ok(()), |body| Err(Box::new(body))))
    }

    fn offer(
        &self,
        to: &NodeRun,
        frame: Frame,
        push: impl FnOnce(&LinkQueue, Frame) -> Result<(), Box<Frame>>,
    ) -> Result<(), (LinkRefused, Box<Frame>)> {
        let result = match self.inner.peers.read().get(&to.node) {
            Some(peer) if peer.run == *to => push(&peer.queue, frame).map_err(|frame| (LinkRefused::Full, frame)),
            _ => Err((LinkRefused::Gone, Box::new(frame))),
        };
        if let Err((refused, _)) = &result {
            self.inner.metrics.drop_one("link", if *refused == LinkRefused::Full { "full" } else { "gone" });
        }
        result
    }

    /// Asks that run of that node and waits for its answer, as long as the link stands.
    ///
    /// # Errors
    /// [`AskError`]; `patience` at most after the call.
    pub async fn ask(&self, to: &NodeRun, body: frame::Body, patience: Duration) -> Result<reply::Body, AskError> {
        let peer = self.inner.peers.read().get(&to.node).cloned();
        let broken = OptionFuture::from(peer.as_ref().map(|peer| peer.broken.notified()));
        let (number, answer) = self.inner.asks.open();
        self.send(to, Frame { ask: number.get(), body: Some(body) })?;
        tokio::select! {
            biased;
            answer = answer => match answer {
                Ok(answer) => asks::said(answer),
                Err(_) => Err(AskError::TimedOut),
            },
            Some(()) = broken => Err(AskError::Broken),
            () = tokio::time::sleep(patience) => Err(AskError::TimedOut),
        }
    }

    /// Answers a question of that run.
    pub fn reply(&self, to: &NodeRun, ask: u64, body: reply::Body) {
        if ask != 0 {
            let reply = crate::cluster::proto::Reply { ask, body: Some(body) };
            // An answer that cannot be sent is a question that times out; `send` has counted it.
            self.send(to, frame::Body::Reply(reply)).unwrap_or_default();
        }
    }
}

impl Peer {
    fn new(member: &Member, supervisor: &Supervisor, metrics: &Arc<Metrics>) -> Self {
        Self {
            run: member.run.clone(),
            grpc: member.facts.grpc.clone(),
            gossip: member.gossip,
            queue: LinkQueue::new(QUEUE_BYTES, metrics.clone()),
            broken: Notify::new(),
            pulls: OnceLock::new(),
            circuits: OnceLock::new(),
            gone: supervisor.token().child_token(),
        }
    }
}

impl Inner {
    fn stream_opened(&self, peer: &NodeRun) {
        if let Some(dispatch) = self.dispatch.get() {
            dispatch.stream_opened(peer);
        }
    }

    fn link_up(&self, peer: &NodeRun) {
        if let Some(dispatch) = self.dispatch.get() {
            dispatch.link_up(peer);
        }
    }

    fn arrived(&self, from: &NodeRun, frame: Frame) {
        match frame.body {
            Some(frame::Body::Reply(reply)) => {
                if let Some(body) = reply.body {
                    self.asks.close(reply.ask, body);
                }
            }
            Some(body) => {
                if let Some(dispatch) = self.dispatch.get() {
                    dispatch.frame(from, frame.ask, body);
                }
            }
            // A kind of frame that this version does not know.
            None => self.metrics.drop_one("link", "unknown_frame"),
        }
    }
}
