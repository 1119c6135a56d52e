//! Figures of the cluster: gossip, links, presence.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Reason;

/// A member's state, as a label: `live`, `draining` or `dead`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct MemberState {
    /// One of the three words.
    pub state: &'static str,
}

/// The cluster as this node sees it.
#[derive(Debug, Default)]
pub struct ClusterMetrics {
    /// Members by state, this node included.
    pub members: Family<MemberState, Gauge>,
    /// Gossip datagrams thrown away, by reason.
    pub gossip_rejected: Family<Reason, Counter>,
    /// Node-to-node connections refused, by reason.
    pub peer_rejected: Family<Reason, Counter>,
    /// Links to other nodes that are up.
    pub links_up: Gauge,
    /// Frames sent on links.
    pub frames_sent: Counter,
    /// Frames received on links.
    pub frames_received: Counter,
    /// Batches sent on links: frames over batches is how well batching works.
    pub batches_sent: Counter,
    /// Bytes waiting on links now.
    pub link_queued_bytes: Gauge,
    /// Presence entries that this node keeps as an owner.
    pub presence_entries: Gauge,
    /// Lookups by how they were answered: `local`, `cached`, `owner`, `asked_all`, `absent`, `unreachable`.
    pub lookups: Family<Reason, Counter>,
}

impl ClusterMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let m = Self::default();
        registry.register("cluster_members", "Members of the cluster by state", m.members.clone());
        registry.register("gossip_rejected", "Gossip datagrams thrown away, by reason", m.gossip_rejected.clone());
        registry.register("peer_rejected", "Node-to-node connections refused, by reason", m.peer_rejected.clone());
        registry.register("links_up", "Links to other nodes that are up", m.links_up.clone());
        registry.register("link_frames_sent", "Frames sent on links", m.frames_sent.clone());
        registry.register("link_frames_received", "Frames received on links", m.frames_received.clone());
        registry.register("link_batches_sent", "Batches sent on links", m.batches_sent.clone());
        registry.register("link_queued_bytes", "Bytes waiting on links now", m.link_queued_bytes.clone());
        registry.register("presence_entries", "Presence entries kept as an owner", m.presence_entries.clone());
        registry.register("presence_lookups", "Presence lookups, by how they were answered", m.lookups.clone());
        m
    }
}
