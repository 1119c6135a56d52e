//! Registrations among nodes.

use std::time::Duration;

use crate::cluster::Frames;
use crate::cluster::proto::{RendezvousPage, RendezvousPull, RendezvousPut, frame::Body, reply};
use crate::cluster::view::View;
use crate::domain::clock::Epoch;
use crate::domain::ids::NodeRun;
use crate::runtime::time;
use crate::store::{Applied, StoreError, Write};

use super::book::Registration;
use super::{Rendezvous, kept};

/// Registrations in one page for another node: with the largest records half of what a frame may be.
const PAGE: usize = 256;

/// Between two pages: keeps the link free for traffic.
const PACE: Duration = Duration::from_millis(10);

/// How long another node may take for a page.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest wait for room on a link.
const LONGEST_WAIT: Duration = Duration::from_secs(8);

/// How often a node that does not answer is asked, and how long apart.
const TRIES: (usize, Duration) = (10, Duration::from_millis(500));

impl Rendezvous {
    /// Makes durable what this node has taken, and tells the others. Those that miss it fetch it when their link is new.
    pub(super) async fn keep_and_tell(&self, registration: &Registration) -> Result<(), StoreError> {
        self.keep(vec![kept::write(registration)]).await?;
        for other in self.inner.cluster.nodes().others() {
            let put = RendezvousPut { entries: vec![kept::entry(registration)] };
            if self.inner.cluster.links.send(&other.run, Body::RendezvousPut(put)).is_err() {
                self.told_too_little(&other.run, registration.stamp);
            }
        }
        Ok(())
    }

    /// Takes note of what another node tells.
    fn take(&self, entries: Vec<crate::cluster::proto::RendezvousEntry>) -> Vec<Write> {
        let now = time::now();
        let mut book = self.inner.book.lock();
        let registrations = entries.into_iter().filter_map(|entry| kept::registration(entry, now));
        let live = registrations.filter(|registration| registration.until > now);
        live.filter(|registration| book.put(registration.clone())).map(|new| kept::write(&new)).collect()
    }

    async fn keep(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        match self.inner.records.apply(writes, time::now()).await? {
            Applied::Done | Applied::Refused { .. } => Ok(()),
        }
    }

    /// Keeps, beside the link, what another node told.
    fn keep_later(&self, writes: Vec<Write>) {
        if writes.is_empty() {
            return;
        }
        let this = self.clone();
        self.inner.supervisor.spawn_quiet(async move {
            if let Err(error) = this.keep(writes).await {
                // The node that took it has it durably.
                tracing::warn!(%error, "registrations of another node were not made durable here");
            }
        });
    }

    /// That node did not hear of what has this stamp: it is told, with all that came after it, once there is room. Only one
    /// task does so for each node.
    fn told_too_little(&self, to: &NodeRun, stamp: Epoch) {
        self.inner.metrics.drop_one("rendezvous", "link");
        {
            let mut missed = self.inner.missed.lock();
            if let Some(since) = missed.get_mut(to) {
                *since = stamp.min(*since);
                return;
            }
            missed.insert(to.clone(), stamp);
        }
        let (this, to) = (self.clone(), to.clone());
        let stop = self.inner.supervisor.token();
        self.inner.supervisor.spawn_quiet(async move {
            stop.run_until_cancelled(this.tell_again(&to)).await;
        });
    }

    /// Ends, and says so under the lock, once there is nothing left to tell.
    async fn tell_again(&self, to: &NodeRun) {
        let (mut most, mut wait) = (PAGE, TRIES.1);
        loop {
            tokio::time::sleep(wait).await;
            // One that has left the view fetches all when it is back.
            let is_live = self.inner.cluster.nodes().is_live(to);
            let Some(since) = self.inner.missed.lock().get(to).copied() else { return };
            let recent = self.inner.book.lock().after(Epoch(since.0.saturating_sub(1)), most);
            let Some(last) = recent.last().filter(|_| is_live).map(|registration| registration.stamp) else {
                let mut missed = self.inner.missed.lock();
                if !is_live || missed.get(to) == Some(&since) {
                    missed.remove(to);
                    return;
                }
                continue;
            };
            let put = RendezvousPut { entries: recent.iter().map(|registration| kept::entry(registration)).collect() };
            if self.inner.cluster.links.send(to, Body::RendezvousPut(put)).is_err() {
                // Where a page has no room, a part of it may have.
                (most, wait) = ((most / 2).max(1), (wait * 2).min(LONGEST_WAIT));
                continue;
            }
            wait = TRIES.1;
            // Unless something older was missed meanwhile.
            let mut missed = self.inner.missed.lock();
            if let Some(at) = missed.get_mut(to).filter(|at| **at >= since) {
                *at = Epoch(last.0.saturating_add(1));
            }
        }
    }

    /// Fetches all that this node knows and this one may not.
    pub(super) fn fetch(&self, from: &NodeRun) {
        if !self.inner.fetching.lock().insert(from.clone()) {
            return;
        }
        let (this, from, stop) = (self.clone(), from.clone(), self.inner.supervisor.token());
        self.inner.supervisor.spawn_quiet(async move {
            stop.run_until_cancelled(this.fetch_all(&from)).await;
            this.inner.fetching.lock().remove(&from);
        });
    }

    async fn fetch_all(&self, from: &NodeRun) {
        let (mut after, mut tries) = (Epoch::default(), 0);
        while tries < TRIES.0 && self.inner.cluster.nodes().is_live(from) {
            let pull = Body::RendezvousPull(RendezvousPull { after: after.0 });
            let Ok(reply::Body::Rendezvous(page)) = self.inner.cluster.links.ask(from, pull, PATIENCE).await else {
                tries += 1;
                tokio::time::sleep(TRIES.1).await;
                continue;
            };
            let Some(last) = page.entries.last().map(|entry| Epoch(entry.stamp)).filter(|last| *last > after) else {
                return;
            };
            (after, tries) = (last, 0);
            self.keep_later(self.take(page.entries));
            tokio::time::sleep(PACE).await;
        }
    }
}

impl Frames for Rendezvous {
    fn frame(&self, from: &NodeRun, ask: u64, body: Body) {
        match body {
            Body::RendezvousPut(put) => self.keep_later(self.take(put.entries)),
            Body::RendezvousPull(pull) => {
                let page = self.inner.book.lock().after(Epoch(pull.after), PAGE);
                let entries = page.iter().map(|registration| kept::entry(registration)).collect();
                self.inner.cluster.links.reply(from, ask, reply::Body::Rendezvous(RendezvousPage { entries }));
            }
            _ => {}
        }
    }

    fn link_up(&self, peer: &NodeRun) {
        self.fetch(peer);
    }

    fn view_changed(&self, _before: &View, _now: &View) {}
}
