//! Figures of the links to other clusters.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::Reason;

/// Which peer, as a label: only those that the operator lists or adds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PeerLabel {
    /// Its URL.
    pub peer: String,
}

/// Links to other clusters, and what crosses them.
#[derive(Debug)]
pub struct FederationMetrics {
    /// Whether the link to a peer stands: 1 or 0.
    pub up: Family<PeerLabel, Gauge>,
    /// Links to peers that have ended, or were not made.
    pub failed: Family<PeerLabel, Counter>,
    /// Nodes of other clusters that have called.
    pub callers: Gauge,
    /// Nodes of other clusters that were refused, whoever called, by why.
    pub refused: Family<Reason, Counter>,
    /// Frames sent to other clusters.
    pub frames_sent: Counter,
    /// Frames from other clusters.
    pub frames_received: Counter,
    /// Bytes of frames that wait to be sent to other clusters.
    pub queued_bytes: Gauge,
    /// Vaults that peers were asked for, by what came of it: `found`, `absent`, `known` to be absent, or `busy`: one had
    /// too much to do to say, and no other has it.
    pub lookups: Family<Reason, Counter>,
    /// Peers that did not say in time whether they have a vault.
    pub silent: Counter,
    /// Requests that a peer took and did not answer in their time, or before another that was asked later.
    pub lapsed: Family<PeerLabel, Counter>,
    /// Registrations refused because a peer says that another key owns the name.
    pub names_refused: Family<PeerLabel, Counter>,
    /// Vaults that callers asked for.
    pub lookups_answered: Counter,
    /// Requests sent to other clusters, repeats included.
    pub requests_sent: Counter,
    /// Requests of other clusters, repeats included.
    pub requests_received: Counter,
    /// Requests of other clusters that have not ended.
    pub requests_open: Gauge,
    /// Seconds from a word to a peer until its answer.
    pub round_trip_seconds: Histogram,
}

impl FederationMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let m = Self {
            up: Family::default(),
            failed: Family::default(),
            callers: Gauge::default(),
            refused: Family::default(),
            frames_sent: Counter::default(),
            frames_received: Counter::default(),
            queued_bytes: Gauge::default(),
            lookups: Family::default(),
            silent: Counter::default(),
            lapsed: Family::default(),
            names_refused: Family::default(),
            lookups_answered: Counter::default(),
            requests_sent: Counter::default(),
            requests_received: Counter::default(),
            requests_open: Gauge::default(),
            // 0.5 ms to 16 s.
            round_trip_seconds: Histogram::new(exponential_buckets(0.000_5, 2.0, 16)),
        };
        let r = registry.sub_registry_with_prefix("federation");
        r.register("up", "Whether the link to a peer stands", m.up.clone());
        r.register("failed", "Links to peers that ended or were not made", m.failed.clone());
        r.register("callers", "Nodes of other clusters that have called", m.callers.clone());
        r.register("refused", "Nodes of other clusters refused, by reason", m.refused.clone());
        r.register("frames_sent", "Frames sent to other clusters", m.frames_sent.clone());
        r.register("frames_received", "Frames from other clusters", m.frames_received.clone());
        r.register("queued_bytes", "Bytes that wait for other clusters", m.queued_bytes.clone());
        r.register("lookups", "Vaults and libp2p peers that peers were asked for, by outcome", m.lookups.clone());
        r.register("silent", "Peers that did not say in time whether they have somebody", m.silent.clone());
        r.register("lapsed", "Requests that a peer took and did not answer", m.lapsed.clone());
        r.register("names_refused", "Registrations refused on a peer's word", m.names_refused.clone());
        r.register("lookups_answered", "Vaults and libp2p peers that callers asked for", m.lookups_answered.clone());
        r.register("requests_sent", "Requests sent to other clusters", m.requests_sent.clone());
        r.register("requests_received", "Requests of other clusters", m.requests_received.clone());
        r.register("requests_open", "Requests of other clusters that have not ended", m.requests_open.clone());
        r.register("round_trip_seconds", "Seconds to a peer and back", m.round_trip_seconds.clone());
        m
    }
}
