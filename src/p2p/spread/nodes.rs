//! Entries among nodes.

use std::time::Duration;

use crate::cluster::Frames;
use crate::cluster::proto::frame::Body;
use crate::cluster::view::View;
use crate::domain::clock::Epoch;
use crate::domain::ids::NodeRun;
use crate::runtime::time;
use crate::store::{Applied, StoreError, Write};

use super::book::Entry;
use super::kind::{Kind, Said, write};
use super::{Spread, SpreadParts};

/// Entries in one page for another node: of the largest, half of what a frame may be.
const PAGE: usize = 256;

/// Between two pages: keeps the link free for traffic.
const PACE: Duration = Duration::from_millis(10);

/// How long another node may take for a page.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest wait for room on a link.
const LONGEST_WAIT: Duration = Duration::from_secs(8);

/// How often a node that does not answer is asked, and how long apart.
const TRIES: (usize, Duration) = (10, Duration::from_millis(500));

impl<K: Kind> Spread<K> {
    /// Makes durable what this node has taken, and tells the others. Those that miss it fetch it when their link is new.
    ///
    /// # Errors
    /// When the store fails: nobody was told.
    pub async fn keep_and_tell(&self, entry: &K::Entry) -> Result<(), StoreError> {
        self.keep(vec![write::<K>(entry)]).await?;
        let cluster = &self.inner.parts.cluster;
        for other in cluster.nodes().others() {
            if cluster.links.send(&other.run, K::put(vec![K::tell(entry)])).is_err() {
                self.told_too_little(&other.run, entry.stamp());
            }
        }
        Ok(())
    }

    /// Takes note of what another node tells.
    fn take(&self, told: Vec<K::Told>) -> Vec<Write> {
        let now = time::now();
        let heard = told.into_iter().filter_map(|told| K::heard(told, now)).filter(|entry| entry.until() > now);
        let mut book = self.book();
        let new = heard.filter_map(|entry| {
            let key = entry.key();
            if book.put(entry) { book.of(&key).map(|entry| write::<K>(entry)) } else { None }
        });
        new.collect()
    }

    async fn keep(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        match self.inner.parts.records.apply(writes, time::now()).await? {
            Applied::Done | Applied::Refused { .. } => Ok(()),
        }
    }

    /// Keeps, beside the link, what another node told.
    fn keep_later(&self, writes: Vec<Write>) {
        if writes.is_empty() {
            return;
        }
        let this = self.clone();
        self.inner.parts.supervisor.spawn_quiet(async move {
            if let Err(error) = this.keep(writes).await {
                // The node that took it has it durably.
                tracing::warn!(%error, "entries of another node were not made durable here: {}", K::NAME);
            }
        });
    }

    /// That node did not hear of what has this stamp: it is told, with all that came after it, once there is room. Only one
    /// task does so for each node.
    fn told_too_little(&self, to: &NodeRun, stamp: Epoch) {
        let SpreadParts { metrics, supervisor, .. } = &self.inner.parts;
        metrics.drop_one(K::NAME, "link");
        {
            let mut missed = self.inner.missed.lock();
            if let Some(since) = missed.get_mut(to) {
                *since = stamp.min(*since);
                return;
            }
            missed.insert(to.clone(), stamp);
        }
        let (this, to, stop) = (self.clone(), to.clone(), supervisor.token());
        supervisor.spawn_quiet(async move {
            stop.run_until_cancelled(this.tell_again(&to)).await;
        });
    }

    /// Ends, and says so under the lock, once there is nothing left to tell.
    async fn tell_again(&self, to: &NodeRun) {
        let cluster = &self.inner.parts.cluster;
        let (mut most, mut wait) = (PAGE, TRIES.1);
        loop {
            tokio::time::sleep(wait).await;
            // One that has left the view fetches all when it is back.
            let is_live = cluster.nodes().is_live(to);
            let Some(since) = self.inner.missed.lock().get(to).copied() else { return };
            let recent = self.book().after(Epoch(since.0.saturating_sub(1)), most);
            let Some(last) = recent.last().filter(|_| is_live).map(|entry| entry.stamp()) else {
                let mut missed = self.inner.missed.lock();
                if !is_live || missed.get(to) == Some(&since) {
                    missed.remove(to);
                    return;
                }
                continue;
            };
            let put = K::put(recent.iter().map(|entry| K::tell(entry)).collect());
            if cluster.links.send(to, put).is_err() {
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
        let supervisor = &self.inner.parts.supervisor;
        let (this, from, stop) = (self.clone(), from.clone(), supervisor.token());
        supervisor.spawn_quiet(async move {
            stop.run_until_cancelled(this.fetch_all(&from)).await;
            this.inner.fetching.lock().remove(&from);
        });
    }

    async fn fetch_all(&self, from: &NodeRun) {
        let cluster = &self.inner.parts.cluster;
        let (mut after, mut tries) = (Epoch::default(), 0);
        while tries < TRIES.0 && cluster.nodes().is_live(from) {
            let answer = cluster.links.ask(from, K::pull(after), PATIENCE).await;
            let Some(page) = answer.ok().and_then(K::answered) else {
                tries += 1;
                tokio::time::sleep(TRIES.1).await;
                continue;
            };
            let Some(last) = page.last().map(K::stamp).filter(|last| *last > after) else { return };
            (after, tries) = (last, 0);
            self.keep_later(self.take(page));
            tokio::time::sleep(PACE).await;
        }
    }
}

impl<K: Kind> Frames for Spread<K> {
    fn frame(&self, from: &NodeRun, ask: u64, body: Body) {
        match K::said(body) {
            Some(Said::Put(entries)) => self.keep_later(self.take(entries)),
            Some(Said::Pull(after)) => {
                let page = self.book().after(after, PAGE);
                let page = K::page(page.iter().map(|entry| K::tell(entry)).collect());
                self.inner.parts.cluster.links.reply(from, ask, page);
            }
            None => {}
        }
    }

    fn link_up(&self, peer: &NodeRun) {
        self.fetch(peer);
    }

    fn view_changed(&self, _before: &View, _now: &View) {}
}
