//! Entries among nodes.

use std::time::{Duration, Instant};

use crate::cluster::Frames;
use crate::cluster::proto::frame::Body;
use crate::cluster::view::View;
use crate::domain::clock::{Epoch, Millis};
use crate::domain::ids::NodeRun;
use crate::runtime::time;

use super::Spread;
use super::book::Entry;
use super::keeper::NotKept;
use super::kind::{Kind, Said};
use super::timely::{Untimely, latest};

/// Entries in one page for another node: of the largest, half of what a frame may be.
pub(super) const PAGE: usize = 256;

/// Between two pages: keeps the link free for traffic.
pub(super) const PACE: Duration = Duration::from_millis(10);

/// How long another node may take for a page.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often a node that does not answer is asked, and how long apart.
const TRIES: (usize, Duration) = (10, Duration::from_millis(500));

impl<K: Kind> Spread<K> {
    /// Makes durable what this node has taken, and tells the others. Those that miss it fetch it when their link is new.
    ///
    /// # Errors
    /// When the store fails: nobody was told.
    pub async fn keep_and_tell(&self, entry: &K::Entry) -> Result<(), NotKept> {
        self.inner.keeper.keep(entry.key()).await?;
        let cluster = &self.inner.parts.cluster;
        for other in cluster.nodes().others() {
            if cluster.links.send(&other.run, K::put(vec![K::tell(entry)])).is_err() {
                self.told_too_little(&other.run, entry.stamp());
            }
        }
        Ok(())
    }

    /// Takes note of what another node tells.
    fn take(&self, from: &NodeRun, told: Vec<K::Told>) {
        let now = time::now();
        let heard: Vec<_> = told.into_iter().filter_map(|told| self.heard(from, told, now)).collect();
        let mut new = Vec::new();
        {
            let mut book = self.book();
            for entry in heard {
                let key = entry.key();
                book.forget_beyond(&key, latest(now));
                if book.put(entry) {
                    new.push(key);
                }
            }
        }
        if !new.is_empty() {
            self.inner.keeper.mark(new);
        }
    }

    /// What was told, if it can be: what a wild clock has made must not stand before all that comes after it.
    fn heard(&self, from: &NodeRun, told: K::Told, now: Millis) -> Option<K::Entry> {
        let entry = K::heard(told).ok_or(Untimely::Malformed);
        match entry.and_then(|entry| Untimely::check(&entry, K::LONGEST, now).map(|()| entry)) {
            Ok(entry) => Some(entry),
            Err(why) => {
                self.inner.parts.metrics.drop_one(K::NAME, why.word());
                // Every node forgets what has ended in its own time.
                if why != Untimely::Ended
                    && let Some(left_out) = self.inner.untimely.lock().pass(why.word(), Instant::now())
                {
                    tracing::warn!(%from, left_out, "what a node told is not taken ({}): {why}", K::NAME);
                }
                None
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
            self.take(from, page);
            tokio::time::sleep(PACE).await;
        }
    }
}

impl<K: Kind> Frames for Spread<K> {
    fn frame(&self, from: &NodeRun, ask: u64, body: Body) {
        match K::said(body) {
            Some(Said::Put(entries)) => self.take(from, entries),
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
