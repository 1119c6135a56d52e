//! Figures of what is written to disk.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Synced writes of the store. Clones count together.
#[derive(Debug, Clone)]
pub struct StoreMetrics {
    /// Changes that were written: by their number and that of the writes, how many share one.
    pub changes: Counter,
    /// Seconds that each write took with its sync: how fast the disk is.
    pub write_seconds: Histogram,
}

impl Default for StoreMetrics {
    fn default() -> Self {
        // 0.1 ms to 13 s.
        Self { changes: Counter::default(), write_seconds: Histogram::new(exponential_buckets(0.000_1, 2.0, 18)) }
    }
}

impl StoreMetrics {
    /// Counts one write of so many changes that has succeeded.
    pub fn wrote(&self, changes: usize, took: Duration) {
        self.changes.inc_by(changes as u64);
        self.write_seconds.observe(took.as_secs_f64());
    }

    pub(super) fn register(registry: &mut Registry) -> Self {
        let m = Self::default();
        let r = registry.sub_registry_with_prefix("store");
        r.register("changes", "Changes in synced writes of the store", m.changes.clone());
        r.register("write_seconds", "Seconds that each synced write of the store took", m.write_seconds.clone());
        m
    }
}
