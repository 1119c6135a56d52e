//! Who is live: chitchat (scuttlebutt gossip with a phi accrual failure detector) under a [`View`].
//!
//! # How a death is noticed
//!
//! A member is dead when it has been silent for [`PHI`] times the mean interval between its heartbeats. Left to
//! itself that mean follows the traffic down: in a cluster of three a heartbeat arrives every 33 to 50 ms, and
//! after a while 0.4 s of silence would be death. So the window is short and the prior heavy: chitchat counts
//! five priors of [`PRIOR`], and with [`WINDOW`] samples of 50 ms the mean is (5 × 50 + 5 × 400) / 10 = 225 ms,
//! death after 1.8 s. Samples of 0 to 100 ms keep it between 1.6 and 2.0 s, whatever the size of the cluster. A stall of one second passes, and
//! its sample makes the node more patient for the next few heartbeats.
//!
//! A node that was taken for dead, because it was paused or cut off, is live again after its next two
//! heartbeats: it keeps its run, and the gap itself (longer than [`LONGEST_SAMPLE`]) is no sample. A node that
//! stops in order says goodbye, and is out of every view within a few gossip intervals.

mod address;
mod keeper;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chitchat::{ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, NodeState, ProtocolVersion};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::keeper::Keeper;
use super::cut::Cut;
use super::facts::{DRAINING, EXTRA_PREFIX, Facts, Load, MAX_EXTRAS, flag, is_fit_to_publish};
use super::gossip::SealedTransport;
use super::view::{Member, Superseded, View};
use crate::domain::ids::{ClusterId, Generation, NodeId, NodeRun};
use crate::observe::metrics::Metrics;
use crate::runtime::supervisor::Supervisor;
use crate::security::cluster_secret::{ClusterSecret, SecretError};
use crate::wire::gossip::{SealError, Sealer};

/// How often a node gossips.
pub const INTERVAL: Duration = Duration::from_millis(100);

/// How many mean intervals of silence are death.
pub const PHI: f64 = 8.0;

/// The interval between heartbeats that is assumed before any is seen, and mixed into the mean for ever.
pub const PRIOR: Duration = Duration::from_millis(400);

/// How many intervals the mean is made of, besides the prior.
pub const WINDOW: usize = 5;

/// Longer intervals are gaps, not samples.
pub const LONGEST_SAMPLE: Duration = Duration::from_secs(2);

/// How long a view must stand still before a node that joins takes it for complete: the nodes that a seed knows
/// are live here after two heartbeats each.
const QUIET: Duration = INTERVAL.saturating_mul(3);

/// How long a dead member is remembered, so that one that was only away is taken up where it left off.
pub const DEAD_MEMORY: Duration = Duration::from_secs(3600);

/// How long a deleted fact is remembered as deleted.
const DELETED_MEMORY: Duration = Duration::from_secs(600);

/// What membership needs to know.
#[derive(Debug, Clone)]
pub struct MembershipConfig {
    /// The cluster to be in.
    pub cluster: ClusterId,
    /// This node.
    pub node: NodeId,
    /// This run of it: start time, later than that of any earlier run.
    pub generation: Generation,
    /// Where to listen for gossip (UDP); port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Where others reach `listen`: `host` or `host:port`, an address or a DNS name. Without it, `listen` itself.
    pub advertise: Option<String>,
    /// Members to begin with: `host:port`. Names are resolved again every minute.
    pub seeds: Vec<String>,
    /// What this node says of itself.
    pub facts: Facts,
}

/// Why there is no membership.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// Gossip that protects nothing would face a network.
    #[error("without a cluster secret gossip may only listen on loopback, not on {0}: set RELAY_CLUSTER_SECRET")]
    Unprotected(SocketAddr),
    /// No socket.
    #[error("gossip cannot listen on {address}: {source}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// Others could not know where to reach this node.
    #[error("gossip listens on all addresses ({0}): set the address at which other nodes reach this one")]
    NoAddress(SocketAddr),
    /// The address for others makes no sense or does not resolve.
    #[error("other nodes cannot reach gossip at {text:?}: {why}")]
    Advertise {
        /// What was set.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// No keys.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// No seal.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The gossip library did not start.
    #[error("gossip did not start: {0}")]
    Start(String),
    /// Gossip ended by itself.
    #[error("gossip ended by itself: {0}")]
    Ended(String),
}

/// Why a fact was not published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The key or the value is too long, or the key not plain.
    #[error("a fact has a plain key of at most 32 bytes and a value of at most 1024")]
    Unfit,
    /// More than [`MAX_EXTRAS`].
    #[error("a node publishes at most 16 further facts")]
    TooMany,
}

/// A node's place in its cluster; clones share it.
#[derive(Clone)]
pub struct Membership {
    shared: Arc<Shared>,
}

struct Shared {
    me: NodeRun,
    gossip: SocketAddr,
    handle: ChitchatHandle,
    live: watch::Receiver<BTreeMap<ChitchatId, NodeState>>,
    view: watch::Receiver<Arc<View>>,
    superseded: watch::Receiver<Option<Superseded>>,
    leave: CancellationToken,
    left: CancellationToken,
}

impl Membership {
    /// Binds the gossip socket, joins the cluster by its seeds, and keeps the view until `supervisor` stops.
    /// Returns as soon as this node gossips; others come into the view as they are met.
    ///
    /// # Errors
    /// [`MembershipError`].
    pub async fn start(
        config: MembershipConfig,
        secret: &ClusterSecret,
        cut: Cut,
        metrics: Arc<Metrics>,
        supervisor: &Supervisor,
    ) -> Result<Self, MembershipError> {
        let listen = config.listen;
        if !secret.protects() && !listen.ip().is_loopback() {
            return Err(MembershipError::Unprotected(listen));
        }
        let bind = |source| MembershipError::Bind { address: listen, source };
        let socket = UdpSocket::bind(listen).await.map_err(bind)?;
        let bound = socket.local_addr().map_err(bind)?;
        let gossip = address::advertised(bound, config.advertise.as_deref()).await?;
        let sealer = Sealer::new(&secret.gossip_key(&config.cluster)?, &config.cluster)?;
        let transport = SealedTransport::new(socket, sealer, cut, metrics.clone());
        let me = NodeRun { node: config.node.clone(), generation: config.generation };
        let mine = Member::new(me.clone(), gossip, config.facts.clone());
        let pairs = config.facts.to_pairs();
        let handle = chitchat::spawn_chitchat(chitchat_config(config, bound, gossip), pairs, &transport)
            .await
            .map_err(|error| MembershipError::Start(format!("{error:#}")))?;

        let live = handle.with_chitchat(|c| c.live_nodes_watcher()).await;
        let (view_sender, view) = watch::channel(Arc::new(View::assemble(mine.clone(), []).0));
        let (superseded_sender, superseded) = watch::channel(None);
        let (leave, left) = (supervisor.token().child_token(), CancellationToken::new());
        let shared = Arc::new(Shared { me, gossip, handle, live, view, superseded, leave, left });
        let keeper = Keeper::new(shared.clone(), mine, view_sender, superseded_sender, metrics);
        supervisor.spawn("membership", keeper.run());
        Ok(Self { shared })
    }

    /// This run of this node.
    #[must_use]
    pub fn me(&self) -> &NodeRun {
        &self.shared.me
    }

    /// Where other nodes gossip with this one.
    #[must_use]
    pub fn gossip_address(&self) -> SocketAddr {
        self.shared.gossip
    }

    /// The cluster now.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.shared.view.borrow().clone()
    }

    /// The cluster now and whenever it changes. Heartbeats and load are no changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.shared.view.clone()
    }

    /// Waits until others are in the view and no more of them come, `patience` at most: before, this node knows of
    /// nobody, and must not tell clients what there is in the cluster.
    pub async fn meet(&self, patience: Duration) {
        let mut view = self.watch();
        let met = async {
            view.wait_for(|view| view.others().next().is_some()).await?;
            while let Ok(changed) = tokio::time::timeout(QUIET, view.changed()).await {
                changed?;
            }
            Ok::<(), watch::error::RecvError>(())
        };
        match tokio::time::timeout(patience, met).await {
            Ok(Ok(())) => {}
            // Membership has ended, which its task reports.
            Ok(Err(_)) => {}
            Err(_) => tracing::warn!(?patience, "met no other node: serving alone until one comes"),
        }
    }

    /// Waits until another process is known to run under this node's id; this one should stop then.
    pub async fn superseded(&self) -> Superseded {
        let mut superseded = self.shared.superseded.clone();
        if let Ok(found) = superseded.wait_for(Option::is_some).await
            && let Some(found) = found.clone()
        {
            return found;
        }
        // Membership has ended without it ever happening.
        std::future::pending().await
    }

    /// Tells the cluster whether this node drains: one that does owns no keys.
    pub async fn set_draining(&self, draining: bool) {
        self.shared.set(DRAINING, flag(draining)).await;
    }

    /// Tells the cluster how much this node has to do.
    pub async fn report_load(&self, load: Load) {
        let (key, value) = load.to_pair();
        self.shared.set(key, &value).await;
    }

    /// How much a live node has to do, if it has said so.
    #[must_use]
    pub fn load_of(&self, run: &NodeRun) -> Option<Load> {
        let live = self.shared.live.borrow();
        let is = |id: &ChitchatId| *id.node_id == *run.node.as_str() && id.generation_id == run.generation.0;
        live.iter().find(|(id, _)| is(id)).and_then(|(_, state)| Load::from_pairs(state.key_values()))
    }

    /// Tells the cluster a further fact of this node; it appears in [`Facts::extras`] under `key`.
    ///
    /// # Errors
    /// [`PublishError`]; then nothing has changed.
    pub async fn publish(&self, key: &str, value: &str) -> Result<(), PublishError> {
        if !is_fit_to_publish(key, value) {
            return Err(PublishError::Unfit);
        }
        let key = format!("{EXTRA_PREFIX}{key}");
        let publish = |chitchat: &mut chitchat::Chitchat| {
            let state = chitchat.self_node_state();
            if !state.contains_key(&key) && state.iter_prefix(EXTRA_PREFIX).count() >= MAX_EXTRAS {
                return Err(PublishError::TooMany);
            }
            state.set(&key, value);
            Ok(())
        };
        self.shared.handle.with_chitchat(publish).await
    }

    /// Says goodbye to the others and stops gossiping; returns when that is done.
    pub async fn shutdown(&self) {
        self.shared.leave.cancel();
        self.shared.left.cancelled().await;
    }
}

impl Shared {
    async fn set(&self, key: &str, value: &str) {
        self.handle.with_chitchat(|chitchat| chitchat.self_node_state().set(key, value)).await;
    }
}

fn chitchat_config(config: MembershipConfig, listen: SocketAddr, gossip: SocketAddr) -> ChitchatConfig {
    ChitchatConfig {
        chitchat_id: ChitchatId::new(config.node.as_str(), config.generation.0, gossip),
        cluster_id: config.cluster.to_string(),
        gossip_interval: INTERVAL,
        listen_addr: listen,
        seed_nodes: config.seeds,
        failure_detector_config: FailureDetectorConfig::new(PHI, WINDOW, LONGEST_SAMPLE, PRIOR, DEAD_MEMORY),
        marked_for_deletion_grace_period: DELETED_MEMORY,
        catchup_callback: None,
        extra_liveness_predicate: None,
        protocol_version: ProtocolVersion::V1,
    }
}

#[cfg(test)]
mod tests;
