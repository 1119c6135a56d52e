//! The figures of a node, one struct an area, registered once and rendered as Prometheus text.

mod admin;
mod cluster;
mod edge;
mod federation;
mod mailbox;
mod offload;
mod p2p;
mod store;
mod text;
mod vault;

use std::sync::Arc;
use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

pub use admin::{AdminMetrics, Call};
pub use cluster::{ClusterMetrics, MemberState};
pub use edge::EdgeMetrics;
pub use federation::{FederationMetrics, PeerLabel};
pub use mailbox::MailboxMetrics;
pub use offload::OffloadMetrics;
pub use p2p::P2pMetrics;
pub use store::StoreMetrics;
pub use vault::VaultMetrics;

/// Why something was refused, as a label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reason {
    /// One word, chosen by us.
    pub reason: &'static str,
}

/// Which queue lost something, and why, as labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Dropped {
    /// The queue.
    pub queue: &'static str,
    /// One word, chosen by us.
    pub reason: &'static str,
}

/// Which files have changed, and whether they could be used, as labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reloads {
    /// What they hold.
    pub files: &'static str,
    /// `taken` or `broken`.
    pub outcome: &'static str,
}

/// All figures of one node.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Names that the relays of a protocol have, not prefixed with ours.
    borrowed: Registry,
    started: Instant,
    /// `waystation_dropped_total`: whatever was accepted into a queue, or offered to one, and lost.
    pub dropped: Family<Dropped, Counter>,
    /// Files that have changed while the node ran.
    pub reloads: Family<Reloads, Counter>,
    /// The public port.
    pub edge: EdgeMetrics,
    /// The port for operators.
    pub admin: AdminMetrics,
    /// Gossip, links, presence.
    pub cluster: ClusterMetrics,
    /// Other clusters.
    pub federation: FederationMetrics,
    /// Blobs that move between clusters.
    pub offload: OffloadMetrics,
    /// Vault requests.
    pub vault: VaultMetrics,
    /// What is written to disk.
    pub store: StoreMetrics,
    /// Mailboxes.
    pub mailbox: MailboxMetrics,
    /// libp2p peers.
    pub p2p: P2pMetrics,
}

impl Metrics {
    /// Registers everything.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let mut registry = Registry::with_prefix("waystation");
        let dropped = Family::default();
        registry.register("dropped", "Items lost by a queue, by queue and reason", dropped.clone());
        let reloads = Family::default();
        registry.register("reloads", "Changes of files of certificates and tokens, by outcome", reloads.clone());
        let edge = EdgeMetrics::register(&mut registry);
        let admin = AdminMetrics::register(&mut registry);
        let cluster = ClusterMetrics::register(&mut registry);
        let federation = FederationMetrics::register(&mut registry);
        let offload = OffloadMetrics::register(&mut registry);
        let vault = VaultMetrics::register(&mut registry);
        let p2p = P2pMetrics::register(&mut registry);
        let store = StoreMetrics::register(&mut registry);
        let mut borrowed = Registry::with_prefix("relay");
        let mailbox = MailboxMetrics::register(&mut registry, &mut borrowed);
        Arc::new(Self {
            registry,
            borrowed,
            started: Instant::now(),
            dropped,
            reloads,
            edge,
            admin,
            cluster,
            federation,
            offload,
            vault,
            store,
            mailbox,
            p2p,
        })
    }

    /// Counts one item that `queue` lost for `reason`.
    pub fn drop_one(&self, queue: &'static str, reason: &'static str) {
        self.dropped.get_or_create(&Dropped { queue, reason }).inc();
    }

    /// Everything as Prometheus text, version 0.0.4.
    #[must_use]
    pub fn prometheus(&self) -> String {
        text::render(&self.registry) + &text::render(&self.borrowed)
    }

    /// Seconds since this node's figures began.
    #[must_use]
    pub fn uptime_secs(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }
}

/// Counts one more under `reason`.
pub fn count(family: &Family<Reason, Counter>, reason: &'static str) {
    family.get_or_create(&Reason { reason }).inc();
}
