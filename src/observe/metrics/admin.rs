//! Figures of the port for operators.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Reason;

/// Which call, as a label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Call {
    /// Its name.
    pub call: &'static str,
}

/// The port for operators.
#[derive(Debug, Default)]
pub struct AdminMetrics {
    /// Calls that were let in, by name.
    pub calls: Family<Call, Counter>,
    /// Connections and calls turned away, by reason.
    pub refused: Family<Reason, Counter>,
    /// Connections open now.
    pub connections: Gauge,
}

impl AdminMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let m = Self::default();
        let r = registry.sub_registry_with_prefix("admin");
        r.register("calls", "Calls of operators, by name", m.calls.clone());
        r.register("refused", "Connections and calls of operators turned away, by reason", m.refused.clone());
        r.register("connections", "Connections of operators open now", m.connections.clone());
        m
    }
}
