//! The node and its cluster at this moment.

use std::collections::HashMap;

use super::leaving::phase;
use super::proto::{ClusterStatusResponse, NodeStatusResponse};
use super::service::Service;

impl Service {
    /// This node now.
    pub(super) async fn node(&self) -> NodeStatusResponse {
        let parts = &self.parts;
        let metrics = &parts.metrics;
        let gauge = |value: i64| u64::try_from(value).unwrap_or(0);
        let (usage, store_error) = match parts.mailbox.usage().await {
            Ok(usage) => (usage, String::new()),
            Err(error) => (Default::default(), error.to_string()),
        };
        let (held, most) = usage;
        NodeStatusResponse {
            node_id: parts.cluster.me.node.to_string(),
            generation: parts.cluster.me.generation.0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cluster_id: parts.about.cluster.to_string(),
            region: parts.about.region.to_string(),
            uptime_secs: metrics.uptime_secs() as u64,
            listen: parts.about.listen.to_string(),
            phase: phase(parts.leaving.now().phase).into(),
            websockets: gauge(metrics.edge.websockets.get()),
            vaults: gauge(metrics.vault.vaults.get()),
            mailbox_sessions: gauge(metrics.mailbox.sessions.get()),
            pending_requests: gauge(metrics.vault.pending.get()),
            blobs: held.blobs,
            blob_bytes: held.bytes,
            blob_bytes_max: most,
            store_error,
            p2p_connections: gauge(metrics.p2p.connections.get()),
            reservations: gauge(metrics.p2p.reservations.get()),
            circuits: gauge(metrics.p2p.circuits.get()),
        }
    }

    /// The cluster as this node sees it.
    pub(super) fn cluster(&self) -> ClusterStatusResponse {
        let view = self.parts.membership.view();
        let draining = view.members.values().filter(|member| member.facts.draining).count();
        let count = |of: &dyn Fn(&crate::cluster::view::Member) -> String| {
            let mut counts = HashMap::<String, u32>::new();
            view.members.values().for_each(|member| *counts.entry(of(member)).or_default() += 1);
            counts
        };
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        ClusterStatusResponse {
            cluster_id: self.parts.about.cluster.to_string(),
            node_id: view.me.node.to_string(),
            serving: number(view.members.len() - draining),
            draining: number(draining),
            links_up: u32::try_from(self.parts.metrics.cluster.links_up.get()).unwrap_or(0),
            secured: self.parts.about.secured,
            regions: count(&|member| member.facts.region.to_string()),
            versions: count(&|member| member.facts.version.clone()),
        }
    }
}
