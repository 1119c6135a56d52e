//! Leaving service without losing anything.
//!
//! 1. The node says that it drains: to its cluster (which gives it no more keys to own), on `/ready` and `/health`.
//! 2. It closes the sockets on which nothing is awaited with 1012, and takes no new ones; the others follow when
//!    they are answered. What arrives from other nodes is still handled, so vaults that are gone are waited for.
//! 3. What agents may still poll for is handed to another node.
//! 4. At the drain time-out, whoever still waits is told, and everything ends.

use std::time::{Duration, Instant};

use super::Node;

/// How often it is looked at what still runs.
const LOOK: Duration = Duration::from_millis(50);

/// How often the log says what still runs.
const REPORT: Duration = Duration::from_secs(5);

/// How long frames on their way to other nodes may take once nothing else is left.
const LAST_FRAMES: Duration = Duration::from_secs(2);

impl Node {
    /// Leaves service; returns when nothing is left to wait for, after the drain time-out at the latest.
    pub async fn drain(&self) {
        let begun = Instant::now();
        self.membership.set_draining(true).await;
        self.vault.drain();
        self.mailbox.drain();
        let mut reported = begun;
        while begun.elapsed() < self.drain_timeout && self.is_busy() {
            if reported.elapsed() >= REPORT {
                reported = Instant::now();
                let open = self.metrics.edge.websockets.get();
                let pending = self.metrics.vault.pending.get();
                tracing::info!(websockets = open, requests = pending, "still leaving service");
            }
            tokio::time::sleep(LOOK).await;
        }
        self.vault.hand_over();
        self.vault.abandon();
        self.closing.cancel();
        self.vault.settle_links(LAST_FRAMES).await;
        self.cluster.links.leave();
        self.membership.shutdown().await;
    }

    fn is_busy(&self) -> bool {
        self.metrics.edge.websockets.get() > 0 || self.vault.is_awaited()
    }
}
