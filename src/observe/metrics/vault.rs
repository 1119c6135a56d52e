//! Figures of the vault service.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::Reason;

/// Requests, answers and the sockets they travel on.
#[derive(Debug)]
pub struct VaultMetrics {
    /// Vaults with a registered socket on this node.
    pub vaults: Gauge,
    /// Registered vault sockets on this node.
    pub sockets: Gauge,
    /// Agent sockets on this node.
    pub agent_sockets: Gauge,
    /// Requests accepted (acknowledged or answered 202).
    pub accepted: Counter,
    /// Answers handed to whoever asked.
    pub answered: Counter,
    /// Requests delivered again after a vault came back.
    pub redelivered: Counter,
    /// Errors sent to clients, by code.
    pub errors: Family<Reason, Counter>,
    /// All of them together, for the figures of the original relay; not registered.
    pub errors_told: Counter,
    /// All refusals by a limit together; not registered.
    pub limits_hit: Counter,
    /// Requests that no vault has been sent yet.
    pub undelivered: Gauge,
    /// Requests refused by a limit, by which: `vault`, `address`, `connection`.
    pub rate_limited: Family<Reason, Counter>,
    /// Records (requests waiting and answers kept) now.
    pub records: Gauge,
    /// Their bytes.
    pub record_bytes: Gauge,
    /// Requests waiting for an answer now.
    pub pending: Gauge,
    /// Seconds from request to answer.
    pub latency: Histogram,
    /// Frames of unknown type, malformed ones, and errors that rule 4 of the wire keeps unsaid.
    pub malformed: Counter,
    /// Vault sockets of this node that are registered in session mode.
    pub session_vaults: Gauge,
    /// Open sessions whose agent is on this node.
    pub sessions: Gauge,
    /// What became of the pairs that agents of this node asked for: `accepted`, or why not.
    pub pairs: Family<Reason, Counter>,
}

impl VaultMetrics {
    /// Counts an error that a client is told.
    pub fn error(&self, code: &'static str) {
        super::count(&self.errors, code);
        self.errors_told.inc();
    }

    /// Counts a request that a limit refused.
    pub fn limited(&self, which: &'static str) {
        super::count(&self.rate_limited, which);
        self.limits_hit.inc();
    }

    pub(super) fn register(registry: &mut Registry) -> Self {
        let m = Self {
            vaults: Gauge::default(),
            sockets: Gauge::default(),
            agent_sockets: Gauge::default(),
            accepted: Counter::default(),
            answered: Counter::default(),
            redelivered: Counter::default(),
            errors: Family::default(),
            rate_limited: Family::default(),
            errors_told: Counter::default(),
            limits_hit: Counter::default(),
            undelivered: Gauge::default(),
            records: Gauge::default(),
            record_bytes: Gauge::default(),
            pending: Gauge::default(),
            // 0.25 ms to 4 minutes.
            latency: Histogram::new(exponential_buckets(0.000_25, 2.0, 21)),
            malformed: Counter::default(),
            session_vaults: Gauge::default(),
            sessions: Gauge::default(),
            pairs: Family::default(),
        };
        let r = registry.sub_registry_with_prefix("vault");
        r.register("vaults", "Vaults with a socket on this node", m.vaults.clone());
        r.register("sockets", "Registered vault sockets on this node", m.sockets.clone());
        r.register("agent_sockets", "Agent sockets on this node", m.agent_sockets.clone());
        r.register("accepted", "Requests accepted", m.accepted.clone());
        r.register("answered", "Answers handed over", m.answered.clone());
        r.register("redelivered", "Requests delivered again", m.redelivered.clone());
        r.register("errors", "Errors sent to clients, by code", m.errors.clone());
        r.register("rate_limited", "Requests refused by a limit", m.rate_limited.clone());
        r.register("records", "Requests waiting and answers kept", m.records.clone());
        r.register("record_bytes", "Bytes of requests waiting and answers kept", m.record_bytes.clone());
        r.register("pending", "Requests waiting for an answer", m.pending.clone());
        r.register("latency_seconds", "Seconds from request to answer", m.latency.clone());
        r.register("undelivered", "Requests that no vault has been sent yet", m.undelivered.clone());
        r.register("malformed", "Malformed frames", m.malformed.clone());
        r.register("session_vaults", "Vault sockets in session mode on this node", m.session_vaults.clone());
        r.register("sessions", "Open sessions whose agent is on this node", m.sessions.clone());
        r.register("pairs", "What became of agents' pairs", m.pairs.clone());
        m
    }
}
