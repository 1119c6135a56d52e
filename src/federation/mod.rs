//! Links to other clusters: one for each peer that the operator lists, and those that others open to this node.
//!
//! | file | holds |
//! |---|---|
//! | `peer` | what is known of a peer |
//! | `call` | calling a peer, and keeping the link |
//! | `answer` | the port that others call |
//! | `offload` | blobs that are offered, either way |
//! | `queue` | frames on their way out |
//! | `ways` | what the services see of all this |

mod answer;
mod call;
mod offload;
mod peer;
pub mod proto;
mod queue;
mod ways;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::cluster::Cluster;
use crate::cluster::links::LinkRefused;
use crate::cluster::links::asks::Asks;
use crate::cluster::regions::PeerName;
use crate::config::PeerUrl;
use crate::domain::ids::{ClusterId, NodeId, Region};
use crate::observe::log_gate::LogGate;
use crate::observe::metrics::Metrics;
use crate::runtime::supervisor::Supervisor;
use crate::security::tls::ClusterTls;

pub use answer::ServeError;
pub use peer::PeerStatus;
pub use proto::Capacity;

use peer::Peer;
use proto::Hello;
use queue::Queue;

/// The version of what clusters say to one another.
pub const PROTOCOL: u32 = 1;

/// How often it is looked at how much this cluster stores.
const LOOK: Duration = Duration::from_secs(1);

/// What a node's part in the federation needs.
pub struct FederationSettings {
    /// This node's name among clusters.
    pub relay_id: NodeId,
    /// This cluster, and where it is: together they must differ from those of every other.
    pub cluster: ClusterId,
    /// Where this cluster is.
    pub region: Region,
    /// Where clients reach it, if it says so.
    pub public_url: Option<String>,
    /// The clusters that are called.
    pub peers: Vec<PeerUrl>,
    /// Mutual TLS; without it, plain text, for loopback only.
    pub tls: Option<ClusterTls>,
    /// How long a peer may take to answer the first word, and be silent.
    pub timeout: Duration,
    /// How often peers are told how much is stored.
    pub capacity_interval: Duration,
    /// How much this cluster stores now.
    pub capacity: Arc<dyn Fn() -> Capacity + Send + Sync>,
}

/// A node's part in the federation; clones share it.
#[derive(Clone)]
pub struct Federation {
    inner: Arc<Inner>,
}

struct Inner {
    settings: FederationSettings,
    cluster: Cluster,
    peers: RwLock<BTreeMap<PeerName, Arc<Peer>>>,
    callers: Mutex<HashMap<u64, CallerState>>,
    next_caller: AtomicU64,
    asks: Asks,
    /// Callers whose offers are read.
    offers: Arc<Semaphore>,
    log: Mutex<LogGate>,
    metrics: Arc<Metrics>,
    supervisor: Supervisor,
}

/// A node of another cluster that has called.
#[derive(Clone)]
struct CallerState {
    queue: Queue,
    /// Its questions that are not answered yet.
    open: Arc<AtomicUsize>,
}

impl Federation {
    /// Calls the peers, answers callers on `listener`, and is the services' way to other clusters from now on.
    #[must_use]
    pub fn start(
        settings: FederationSettings,
        cluster: &Cluster,
        listener: TcpListener,
        metrics: &Arc<Metrics>,
        supervisor: &Supervisor,
    ) -> Self {
        let peers = settings.peers.iter().map(|url| {
            let peer = Peer::new(url.clone(), metrics.clone());
            (peer.name.clone(), Arc::new(peer))
        });
        let inner = Arc::new(Inner {
            peers: RwLock::new(peers.collect()),
            settings,
            cluster: cluster.clone(),
            callers: Mutex::default(),
            next_caller: AtomicU64::new(1),
            asks: Asks::default(),
            offers: Arc::new(Semaphore::new(offload::OFFERS)),
            log: Mutex::new(LogGate::once_a_minute()),
            metrics: metrics.clone(),
            supervisor: supervisor.clone(),
        });
        let this = Self { inner };
        cluster.afar.out.fill(Arc::new(this.clone()));
        for peer in this.inner.peers.read().values() {
            supervisor.spawn_quiet(call::run(this.inner.clone(), peer.clone()));
        }
        let inner = this.inner.clone();
        supervisor.spawn("federation port", async move { answer::serve(inner, listener).await });
        this
    }

    /// What is known of each peer.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.inner.peers.read().values().map(|peer| peer.status()).collect()
    }
}

impl Inner {
    /// Who this node is.
    fn hello(&self) -> Hello {
        let settings = &self.settings;
        Hello {
            protocol: PROTOCOL,
            relay_id: settings.relay_id.to_string(),
            cluster_id: settings.cluster.to_string(),
            region: settings.region.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            public_url: settings.public_url.clone().unwrap_or_default(),
        }
    }

    /// Whether whoever says this is to be spoken to; in words why not.
    fn check(&self, hello: &Hello) -> Result<(), String> {
        if hello.protocol != PROTOCOL {
            return Err(format!("it speaks protocol {}, not {PROTOCOL}: upgrade the older cluster", hello.protocol));
        }
        let named = [&hello.relay_id, &hello.cluster_id, &hello.region];
        if named.iter().any(|name| name.parse::<NodeId>().is_err()) {
            return Err("it gives no proper names".to_owned());
        }
        if hello.cluster_id == self.settings.cluster.as_str() && hello.region == self.settings.region.as_str() {
            return Err(
                "it is this very cluster, or has its name: give each a RELAY_CLUSTER_ID or RELAY_REGION of its \
                own"
                .to_owned(),
            );
        }
        Ok(())
    }

    /// Says how much this cluster stores when that changes, and again and again; returns when the link has ended.
    async fn report_capacity(&self, queue: &Queue) {
        let mut said: Option<(Instant, Capacity)> = None;
        loop {
            let now = (self.settings.capacity)();
            let is_said =
                |(at, what): &(Instant, Capacity)| *what == now && at.elapsed() < self.settings.capacity_interval;
            if !said.as_ref().is_some_and(is_said) {
                said = Some((Instant::now(), now));
                if queue.push(0, proto::frame::Body::Capacity(now)) == Err(LinkRefused::Gone) {
                    return;
                }
            }
            tokio::time::sleep(LOOK.min(self.settings.capacity_interval)).await;
        }
    }

    /// How many times this was left out since it was last to be logged; `None` if it is to be left out.
    fn may_log(&self, what: &'static str) -> Option<u64> {
        self.log.lock().pass(what, Instant::now())
    }
}
