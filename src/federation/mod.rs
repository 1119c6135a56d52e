//! Links to other clusters: one for each peer that the operator lists, and those that others open to this node.
//!
//! | file | holds |
//! |---|---|
//! | `peer` | what is known of a peer |
//! | `peers` | the peers there are, and how that changes |
//! | `call` | calling a peer, and keeping the link |
//! | `answer` | the port that others call |
//! | `callers` | who has called, and what one party may have |
//! | `circuits` | circuits between clusters, either way |
//! | `window` | how much of a circuit is under way |
//! | `inflow` | how much is read of whom |
//! | `proof` | how both prove themselves, and for which relay each may speak |
//! | `first_keys` | the keys of relays that no certificate names |
//! | `leaving` | what others are told when this node leaves service |
//! | `offload` | blobs that are offered, either way |
//! | `queue` | frames on their way out |
//! | `ways` | what the services see of all this |
//! | `vaults` | frames about vaults, on either side |

mod answer;
mod call;
mod callers;
mod circuits;
mod first_keys;
pub mod inflow;
mod leaving;
mod offload;
mod peer;
mod peers;
mod proof;
pub mod proto;
mod queue;
mod vaults;
mod ways;
mod window;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::cluster::Cluster;
use crate::cluster::regions::PeerName;
use crate::config::{PeerUrl, Reach};
use crate::domain::ids::{ClusterId, NodeId, Region};
use crate::observe::log_gate::LogGate;
use crate::observe::metrics::{Metrics, count};
use crate::runtime::supervisor::Supervisor;
use crate::security::peer_tls::Shown;
use crate::store::Records;

pub use answer::ServeError;
pub use peer::PeerStatus;
pub use peers::NotAdded;
pub use proof::PeerProof;
pub use proto::Capacity;

use callers::Callers;
use first_keys::FirstKeys;
use leaving::Stage;
use peer::Peer;
use proof::{Side, Unfit};
use proto::Hello;

/// The version of what clusters say to one another.
pub const PROTOCOL: u32 = 1;

/// Longest release and URL that a node of another cluster may give, in bytes.
const MAX_TEXT_BYTES: usize = 256;

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
    /// How clusters prove themselves to one another.
    pub proof: PeerProof,
    /// How far links may go with that.
    pub reach: Reach,
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
    first_keys: FirstKeys,
    peers: RwLock<BTreeMap<PeerName, Arc<Peer>>>,
    /// Changes whenever something that is known of a peer does.
    changes: Arc<watch::Sender<()>>,
    stage: watch::Sender<Stage>,
    callers: Arc<Callers>,
    log: Mutex<LogGate>,
    metrics: Arc<Metrics>,
    supervisor: Supervisor,
}

impl Federation {
    /// Calls the peers, answers callers on `listener`, and is the services' way to other clusters from now on.
    #[must_use]
    pub fn start(
        settings: FederationSettings,
        cluster: &Cluster,
        records: Arc<dyn Records>,
        listener: TcpListener,
        metrics: &Arc<Metrics>,
        supervisor: &Supervisor,
    ) -> Self {
        let inner = Arc::new(Inner {
            callers: Arc::new(Callers::new(&settings.proof)),
            settings,
            cluster: cluster.clone(),
            first_keys: FirstKeys::new(cluster.shared.clone(), records),
            peers: RwLock::default(),
            changes: Arc::new(watch::channel(()).0),
            stage: watch::channel(Stage::Serving).0,
            log: Mutex::new(LogGate::once_a_minute()),
            metrics: metrics.clone(),
            supervisor: supervisor.clone(),
        });
        let this = Self { inner };
        cluster.afar.out.fill(Arc::new(this.clone()));
        for url in &this.inner.settings.peers {
            this.call(url, false);
        }
        let inner = this.inner.clone();
        supervisor.spawn("federation port", async move { answer::serve(inner, listener).await });
        this
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

    /// The relay that says and shows this, if it is to be spoken to, on a link or `beside` one. One that is not is
    /// counted, and logged once a minute.
    async fn admit(&self, side: Side, hello: &Hello, shown: &Shown, beside: bool) -> Result<NodeId, Unfit> {
        let fit = match self.check(hello) {
            Ok(relay) => {
                let judged = self.settings.proof.judge(side, &relay, shown, &self.first_keys, beside).await;
                judged.map(|()| relay)
            }
            Err(why) => Err(Unfit::new("unfit", why)),
        };
        fit.inspect_err(|unfit| self.refuse(unfit.reason, &unfit.detail))
    }

    /// The relay that says this, if it is to be spoken to; in words why not.
    fn check(&self, hello: &Hello) -> Result<NodeId, String> {
        if hello.protocol != PROTOCOL {
            return Err(format!("it speaks protocol {}, not {PROTOCOL}: upgrade the older cluster", hello.protocol));
        }
        let named = [&hello.relay_id, &hello.cluster_id, &hello.region].map(|name| name.parse::<NodeId>());
        let [Ok(relay), Ok(_), Ok(_)] = named else { return Err("it gives no proper names".to_owned()) };
        if hello.version.len().max(hello.public_url.len()) > MAX_TEXT_BYTES {
            return Err("its release or URL is too long".to_owned());
        }
        if hello.cluster_id == self.settings.cluster.as_str() && hello.region == self.settings.region.as_str() {
            return Err(
                "it is this very cluster, or has its name: give each a RELAY_CLUSTER_ID or RELAY_REGION of its \
                own"
                .to_owned(),
            );
        }
        Ok(relay)
    }

    /// Counts somebody of another cluster who is refused, and logs it once a minute.
    fn refuse(&self, reason: &'static str, detail: &str) {
        count(&self.metrics.federation.refused, reason);
        if let Some(left_out) = self.may_log(reason) {
            tracing::warn!(reason, detail, left_out, "refused another cluster");
        }
    }

    /// How many times this was left out since it was last to be logged; `None` if it is to be left out.
    fn may_log(&self, what: &'static str) -> Option<u64> {
        self.log.lock().pass(what, Instant::now())
    }
}
