//! This node's part in the federation, and what it says of its load.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{StartError, identity};
use crate::cluster::Cluster;
use crate::cluster::facts::Load;
use crate::cluster::membership::Membership;
use crate::config::{Config, FederationProof};
use crate::domain::ids::{ClusterId, NodeId};
use crate::federation::{Capacity, Federation, FederationSettings, PeerProof};
use crate::observe::metrics::Metrics;
use crate::runtime::supervisor::Supervisor;
use crate::security::cluster_secret::ClusterSecret;
use crate::security::tls::ClusterTls;
use crate::store::{Mailboxes, Records};

/// How often a node looks at how much it stores, and says so if it has changed.
const REPORT: Duration = Duration::from_secs(1);

/// What the certificates of all clusters of a federation are made for.
const AUTHORITY: &str = "federation";

/// Calls the peers, and answers others on `listener`.
pub fn start(
    config: &Config,
    cluster: &Cluster,
    membership: &Membership,
    records: Arc<dyn Records>,
    listener: TcpListener,
    metrics: &Arc<Metrics>,
    supervisor: &Supervisor,
) -> Result<Federation, StartError> {
    let federation = &config.federation;
    let relay_id = identity::relay_id(config)?;
    let settings = FederationSettings {
        proof: proof(&federation.proof, &relay_id)?,
        reach: federation.proof.reach(),
        relay_id,
        cluster: config.cluster.cluster_id.clone(),
        region: config.cluster.region.clone(),
        public_url: federation.public_url.clone(),
        peers: federation.peers.clone(),
        timeout: federation.peer_timeout,
        capacity_interval: federation.capacity_interval,
        capacity: capacity(membership.clone()),
    };
    Ok(Federation::start(settings, cluster, records, listener, metrics, supervisor))
}

fn proof(given: &FederationProof, relay_id: &NodeId) -> Result<PeerProof, StartError> {
    Ok(match given {
        FederationProof::Nothing => PeerProof::Nothing,
        FederationProof::Insecure => {
            tracing::warn!(
                "RELAY_FEDERATION_INSECURE=true: whoever reaches the federation port may read and delete mail, and \
                 whoever is between clusters too"
            );
            PeerProof::Nothing
        }
        FederationProof::Secret(secret) => {
            let authority = AUTHORITY.parse::<ClusterId>().map_err(|error| StartError::Names(error.to_string()))?;
            PeerProof::Secret(ClusterTls::new(&ClusterSecret::from_text(secret.expose())?, &authority, relay_id)?)
        }
        FederationProof::Certificates { tls, pins } => PeerProof::Certificates(tls.clone(), pins.clone()),
    })
}

/// What all live nodes together store, as far as they say.
fn capacity(membership: Membership) -> Arc<dyn Fn() -> Capacity + Send + Sync> {
    Arc::new(move || {
        let view = membership.watch().borrow().clone();
        let loads = view.members.values().filter_map(|member| membership.load_of(&member.run));
        let sum = loads.fold(Capacity::default(), |sum, load| Capacity {
            used: sum.used + load.storage_used,
            max: sum.max + load.storage_max,
            ..sum
        });
        Capacity { draining: view.members.values().all(|member| member.facts.draining), ..sum }
    })
}

/// Says in gossip how much this node has to do and stores, whenever that has changed.
pub async fn report_load(
    (membership, mailboxes, metrics): (Membership, Arc<dyn Mailboxes>, Arc<Metrics>),
    storage_max: u64,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    let mut said = None;
    let report = async {
        loop {
            if let Ok(usage) = mailboxes.usage().await {
                let open = u64::try_from(metrics.edge.websockets.get()).unwrap_or_default();
                let load = Load { load: open, storage_used: usage.bytes, storage_max };
                if said.replace(load) != Some(load) {
                    membership.report_load(load).await;
                }
            }
            tokio::time::sleep(REPORT).await;
        }
    };
    stop.run_until_cancelled(report).await;
    Ok(())
}
