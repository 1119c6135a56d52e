//! Gossip: what a peer publishes on one of the relay's topics reaches every peer of the cluster that has subscribed to it,
//! at once.
//!
//! Peers speak gossipsub (versions 1.0 and 1.1), and take the relay for a peer of theirs that has subscribed to its topics.
//! But the relay has no mesh, and neither waits for one nor gossips about what it has: Dusk's clients mark it as an explicit
//! peer, which is in nobody's mesh. Whatever is signed, and new, goes to all who want it, and once to every other node, which
//! hands it to its own peers and on to nobody.
//!
//! A peer that has opened no stream for it costs nothing.

mod crowd;
mod incoming;
mod limits;
mod listen;
mod proof;
mod queue;
mod seen;
mod speaker;
mod spread;
mod tell;
mod waiting;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use libp2p::{Stream, StreamProtocol};
use tokio::sync::mpsc;

use crate::cluster::Cluster;
use crate::observe::metrics::Metrics;
use crate::runtime::supervisor::Supervisor;
use crate::wire::p2p::pubsub;

use super::peers::Peers;
use super::running::Command;
use super::streams::{Connection, Serving, Work};

pub use limits::GossipLimits;

use crowd::Crowd;
use incoming::{Incoming, Waits};
use limits::Rates;
use seen::Seen;
use speaker::Speaker;
use waiting::Waiting;

/// The protocols, the newest first. What later versions add is about a mesh.
pub const PROTOCOLS: [StreamProtocol; 2] =
    [StreamProtocol::new("/meshsub/1.1.0"), StreamProtocol::new("/meshsub/1.0.0")];

/// Streams of one connection that are read at once: one, and one that takes its place before the relay has seen its end.
const MAX_SERVING: usize = 2;

/// How often rates that no longer limit anybody, and old messages, are forgotten.
const SWEEP: Duration = Duration::from_secs(60);

/// What gossip needs of its node.
pub struct GossipParts {
    /// The topics; at most [`MAX_TOPICS`](crate::domain::limits::MAX_TOPICS).
    pub topics: Vec<String>,
    /// What is passed on.
    pub limits: GossipLimits,
    /// Peers that are bound by no rate.
    pub trusted: Arc<[libp2p::PeerId]>,
    /// The connections that stand.
    pub peers: Arc<Peers>,
    /// Who closes connections.
    pub commands: mpsc::Sender<Command>,
    /// The node's part in its cluster.
    pub cluster: Cluster,
    /// Its figures.
    pub metrics: Arc<Metrics>,
    /// Who runs its tasks.
    pub supervisor: Supervisor,
}

/// The gossip of a node; clones share it.
#[derive(Clone)]
pub struct Gossip {
    inner: Arc<Inner>,
}

struct Inner {
    topics: Vec<String>,
    /// What peers are told first: the topics.
    hello: Bytes,
    trusted: Arc<[libp2p::PeerId]>,
    crowd: Crowd,
    rates: Rates,
    seen: Seen,
    waiting: Waiting,
    commands: mpsc::Sender<Command>,
    cluster: Cluster,
    metrics: Arc<Metrics>,
    supervisor: Supervisor,
}

impl Gossip {
    /// On which nobody has said anything yet.
    #[must_use]
    pub fn start(parts: GossipParts) -> Self {
        let GossipParts { topics, limits, trusted, peers, commands, cluster, metrics, supervisor } = parts;
        let inner = Inner {
            hello: pubsub::subscribing(topics.iter().map(String::as_str)).into(),
            crowd: Crowd::new(topics.len(), peers, metrics.clone()),
            topics,
            trusted,
            rates: Rates::new(&limits),
            seen: Seen::new(),
            waiting: Waiting::new(limits.waiting_kib, &metrics.p2p.gossip_waiting_bytes),
            commands,
            cluster,
            metrics,
            supervisor,
        };
        let this = Self { inner: Arc::new(inner) };
        let (incoming, waiting) = Incoming::new(this.inner.metrics.clone());
        this.inner.cluster.services.gossip.fill(Arc::new(incoming));
        let (told, stop) = (this.clone(), this.inner.supervisor.token());
        this.inner.supervisor.spawn("gossip of nodes", async move {
            stop.run_until_cancelled(told.hear_nodes(waiting)).await;
            Ok::<(), std::convert::Infallible>(())
        });
        let (swept, stop) = (this.clone(), this.inner.supervisor.token());
        this.inner.supervisor.spawn("gossip upkeep", async move {
            while stop.run_until_cancelled(tokio::time::sleep(SWEEP)).await.is_some() {
                let now = Instant::now();
                swept.inner.rates.sweep();
                swept.inner.seen.sweep(now);
                swept.inner.waiting.expire(now);
            }
            Ok::<(), std::convert::Infallible>(())
        });
        this
    }

    /// A peer has opened a stream of one of [`PROTOCOLS`]. With its first, the relay opens one to it, of the same version.
    pub fn serve(&self, connection: &Arc<Connection>, protocol: StreamProtocol, mut stream: Stream) {
        let refuse = |why| self.inner.metrics.p2p.refuse_stream(why);
        if connection.relayed {
            return refuse("relayed");
        }
        let Some(serving) = Serving::begin(connection, Work::Gossip, MAX_SERVING) else { return refuse("busy") };
        // Who only gossips is told to come again by the idle time-out, as who does nothing is.
        stream.ignore_for_keep_alive();
        let Some(speaker) = self.speaker(connection, protocol) else { return refuse("broken") };
        let (this, connection, stop) = (self.clone(), connection.clone(), self.inner.supervisor.token());
        self.inner.supervisor.spawn_quiet(async move {
            stop.run_until_cancelled(this.listen(&connection, &speaker, stream)).await;
            drop(serving);
        });
    }

    /// A connection has ended.
    pub fn closed(&self, connection: &Connection) {
        self.inner.crowd.leave(connection);
    }

    /// The speaker of that connection, which is told things from now on if it is new; none if the connection has ended.
    fn speaker(&self, connection: &Arc<Connection>, protocol: StreamProtocol) -> Option<Arc<Speaker>> {
        let (speaker, is_new) = self.inner.crowd.enter(connection)?;
        if is_new {
            let (this, told, stop) = (self.clone(), speaker.clone(), self.inner.supervisor.token());
            self.inner.supervisor.spawn_quiet(async move {
                stop.run_until_cancelled(this.tell(protocol, &told)).await;
            });
        }
        Some(speaker)
    }

    /// Hands on what other nodes have, as long as there are any.
    async fn hear_nodes(&self, mut waiting: mpsc::Receiver<Waits>) {
        while let Some((gossip, _room)) = waiting.recv().await {
            if let Err(why) = self.spread_here(gossip) {
                self.inner.metrics.p2p.refuse_gossip(why);
            }
        }
    }

    async fn close(&self, connection: &Connection) {
        // A relay that has stopped has closed it.
        self.inner.commands.send(Command::Close(connection.id)).await.unwrap_or_default();
    }
}
