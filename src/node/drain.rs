//! Leaving service without losing anything.
//!
//! 1. The node says that it drains: to its cluster (which gives it no more keys to own), on `/ready` and `/health`, and
//!    to the nodes of other clusters that have called it, which call again.
//! 2. It closes the sockets on which nothing is awaited with 1012, and takes no new ones; the others follow when
//!    they are answered. What arrives from other nodes is still handled, so vaults that are gone are waited for.
//!    libp2p peers that have a place are sent away to other nodes; circuits go on until they end.
//! 3. What agents may still poll for is handed to another node.
//! 4. At the drain time-out, whoever still waits is told, and everything ends.
//!
//! If it is to be emptied, all its blobs are moved away from 1 on, until the sockets are closed and none is left, or
//! nobody takes what is.
//!
//! Up to 3, an operator who began it may have the node return.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::Node;
use crate::cluster::links::Links;
use crate::cluster::membership::Membership;
use crate::federation::Federation;
use crate::mailbox::MailboxService;
use crate::observe::metrics::Metrics;
use crate::p2p::Host;
use crate::runtime::leaving::{Leaving, Look};
use crate::vault::VaultService;

/// How often it is looked at what still runs.
const LOOK: Duration = Duration::from_millis(50);

/// How long to wait before what is left is tried to be moved away again.
const AGAIN: Duration = Duration::from_millis(500);

/// How long nobody may take any before it is given up: longer than somebody who is full, or was cut off, is left alone.
const STUCK: Duration = Duration::from_secs(12);

/// How often the log says what still runs.
const REPORT: Duration = Duration::from_secs(5);

/// How long frames on their way to other nodes may take once nothing else is left.
const LAST_FRAMES: Duration = Duration::from_secs(2);

/// Who is named when a signal, or the program around the node, has it leave.
const SIGNAL: &str = "the process";

impl Node {
    /// Leaves service; returns when nothing is left to wait for, after the drain time-out at the latest. If somebody
    /// else has begun it, that goes on, and cannot be undone any more.
    pub async fn drain(&self) {
        while let Err(refused) = self.leaving.begin(SIGNAL, self.drain_timeout, false) {
            if refused == crate::runtime::leaving::NotNow::Gone {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        self.leaving.gone().await;
    }

    /// Waits until it has left service, whoever told it to.
    pub async fn has_left(&self) {
        self.leaving.gone().await;
    }
}

/// What has to be told when a node leaves service.
pub(super) struct Drain {
    pub leaving: Leaving,
    pub membership: Membership,
    pub vault: VaultService,
    pub mailbox: MailboxService,
    pub p2p: Option<Host>,
    pub federation: Option<Federation>,
    pub links: Links,
    pub metrics: std::sync::Arc<Metrics>,
    pub closing: CancellationToken,
}

impl Drain {
    /// Leaves service when it is told to; ends when that is done.
    pub(super) async fn run(self) {
        loop {
            self.leaving.told().await;
            self.set_draining(true).await;
            self.vault.drain();
            self.mailbox.drain();
            self.p2p.iter().for_each(Host::drain);
            if self.wait().await {
                break;
            }
            self.vault.undrain();
            self.mailbox.undrain();
            self.p2p.iter().for_each(Host::undrain);
            self.set_draining(false).await;
            self.leaving.returned();
            tracing::info!("back in service");
        }
        self.vault.hand_over();
        self.vault.abandon();
        self.closing.cancel();
        self.vault.settle_links(LAST_FRAMES).await;
        if let Some(federation) = &self.federation {
            federation.leave(LAST_FRAMES).await;
        }
        self.links.leave();
        self.membership.shutdown().await;
        self.leaving.left();
    }

    async fn set_draining(&self, draining: bool) {
        self.membership.set_draining(draining).await;
        if let Some(federation) = &self.federation {
            federation.set_draining(draining);
        }
    }

    /// Waits until nothing is left to wait for, or the time is over; false if it is to return.
    async fn wait(&self) -> bool {
        let mut reported = Instant::now();
        let (mut emptying, mut is_empty) = (std::pin::pin!(self.empty()), false);
        loop {
            let open = self.metrics.edge.websockets.get();
            let pending = self.metrics.vault.pending.get();
            let empties = self.leaving.now().evacuates && !is_empty;
            let circuits = self.p2p.as_ref().map_or(0, Host::circuits);
            let busy = open > 0 || circuits > 0 || self.vault.is_awaited() || empties;
            match self.leaving.look(open.unsigned_abs(), pending.unsigned_abs(), busy) {
                Look::Wait => {}
                Look::Return => return false,
                Look::Close => return true,
            }
            if reported.elapsed() >= REPORT {
                reported = Instant::now();
                tracing::info!(websockets = open, requests = pending, circuits, "still leaving service");
            }
            tokio::select! {
                () = &mut emptying, if empties => is_empty = true,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Moves all blobs away, until no more can come, and none is left or nobody takes what is.
    async fn empty(&self) {
        let (mut before, mut progress) = (u64::MAX, Instant::now());
        loop {
            // What is put through a socket that is still open is moved as well.
            let is_closed = self.metrics.edge.websockets.get() == 0;
            match self.mailbox.evacuate(|left| self.leaving.blobs_left(left)).await {
                Ok(0) if is_closed => return tracing::info!("all blobs have moved away"),
                Ok(left) if is_closed && left >= before && progress.elapsed() >= STUCK => {
                    return tracing::warn!(left, "blobs stay here: nobody takes them");
                }
                Ok(left) if left < before => (before, progress) = (left, Instant::now()),
                Ok(_) => {}
                Err(error) => tracing::error!(%error, "blobs could not be moved away"),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}
