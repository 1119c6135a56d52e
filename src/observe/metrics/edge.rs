//! Figures of the public port.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Reason;

/// The public port: connections and what was refused at the door.
#[derive(Debug, Default)]
pub struct EdgeMetrics {
    /// TCP connections accepted since start.
    pub accepted: Counter,
    /// TCP connections open now.
    pub connections: Gauge,
    /// WebSockets open now.
    pub websockets: Gauge,
    /// Connections and requests turned away, by reason.
    pub refused: Family<Reason, Counter>,
    /// WebSockets that this node closed, by reason.
    pub closed: Family<Reason, Counter>,
    /// Bytes of messages received.
    pub received_bytes: Counter,
    /// Bytes of messages sent.
    pub sent_bytes: Counter,
    /// Bytes waiting in the queues of slow readers now.
    pub queued_bytes: Gauge,
}

impl EdgeMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let m = Self::default();
        let r = registry.sub_registry_with_prefix("edge");
        r.register("accepted", "TCP connections accepted", m.accepted.clone());
        r.register("connections", "TCP connections open now", m.connections.clone());
        r.register("websockets", "WebSockets open now", m.websockets.clone());
        r.register("refused", "Connections and requests turned away, by reason", m.refused.clone());
        r.register("closed", "WebSockets closed by this node, by reason", m.closed.clone());
        r.register("received_bytes", "Bytes of WebSocket messages received", m.received_bytes.clone());
        r.register("sent_bytes", "Bytes of WebSocket messages sent", m.sent_bytes.clone());
        r.register("queued_bytes", "Bytes waiting for slow readers now", m.queued_bytes.clone());
        m
    }
}
