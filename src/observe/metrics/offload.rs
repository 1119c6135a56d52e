//! Figures of blobs that move between clusters.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Reason, count};

/// Blobs that move to other clusters, and that come from them.
#[derive(Debug)]
pub struct OffloadMetrics {
    /// Blobs that lie at a peer now, and were deleted here.
    pub blobs_sent: Counter,
    /// The bytes that they were charged.
    pub bytes_sent: Counter,
    /// Blobs that a peer did not take, by why.
    pub refused_there: Family<Reason, Counter>,
    /// Blobs that were moved to other nodes of the cluster because this one is emptied.
    pub blobs_evacuated: Counter,
    /// Blobs that were taken in.
    pub blobs_taken: Counter,
    /// The bytes that they were charged.
    pub bytes_taken: Counter,
    /// Blobs that were offered and not taken in, by why.
    pub refused_here: Family<Reason, Counter>,
    /// Blobs that are known to lie at a peer, when it was looked last.
    pub hints: Gauge,
    /// Batches of which it is not known what became of them, when it was looked last.
    pub notes: Gauge,
}

impl OffloadMetrics {
    /// Counts a blob that a peer did not take.
    pub fn refuse_sent(&self, reason: &'static str) {
        count(&self.refused_there, reason);
    }

    /// Counts a blob that was not taken in.
    pub fn refuse_taken(&self, reason: &'static str) {
        count(&self.refused_here, reason);
    }

    pub(super) fn register(registry: &mut Registry) -> Self {
        let m = Self {
            blobs_sent: Counter::default(),
            bytes_sent: Counter::default(),
            refused_there: Family::default(),
            blobs_evacuated: Counter::default(),
            blobs_taken: Counter::default(),
            bytes_taken: Counter::default(),
            refused_here: Family::default(),
            hints: Gauge::default(),
            notes: Gauge::default(),
        };
        let r = registry.sub_registry_with_prefix("offload");
        r.register("blobs_sent", "Blobs moved to peers", m.blobs_sent.clone());
        r.register("bytes_sent", "Bytes that blobs moved to peers were charged", m.bytes_sent.clone());
        r.register("refused_there", "Blobs that peers did not take, by reason", m.refused_there.clone());
        r.register("blobs_evacuated", "Blobs moved to other nodes of this cluster", m.blobs_evacuated.clone());
        r.register("blobs_taken", "Blobs taken in from other clusters", m.blobs_taken.clone());
        r.register("bytes_taken", "Bytes that blobs taken in were charged", m.bytes_taken.clone());
        r.register("refused_here", "Blobs of other clusters not taken in, by reason", m.refused_here.clone());
        r.register("hints", "Blobs known to lie at peers", m.hints.clone());
        r.register("notes", "Batches offered to peers and not answered for", m.notes.clone());
        m
    }
}
