//! Entries that every node of the cluster knows, in memory and on disk, so that nobody who asks waits for another node.
//!
//! Who takes one makes it durable, answers, and tells the others, which make it durable too. Over a new link each node
//! fetches what the other knows: that is what a node missed, or all of it.

mod account;
pub mod book;
mod keeper;
mod kind;
mod missed;
mod nodes;
mod timely;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::cluster::Cluster;
use crate::domain::clock::Epoch;
use crate::domain::ids::NodeRun;
use crate::observe::log_gate::LogGate;
use crate::observe::metrics::Metrics;
use crate::runtime::supervisor::Supervisor;
use crate::runtime::time;
use crate::store::{Records, StoreError};

pub use account::Account;
pub use kind::{Kind, Said};
#[cfg(test)]
pub use kind::{read, write};

use keeper::Keeper;
use kind::KeyOf;
use timely::latest;

/// How often entries that have ended are forgotten, and how many at once.
const TICK: (Duration, usize) = (Duration::from_secs(1), 1_000);

/// All entries of that kind.
pub type BookOf<K> = book::Book<<K as Kind>::Entry, <K as Kind>::Index>;

/// What entries need of their node.
pub struct SpreadParts {
    /// Where they are kept.
    pub records: Arc<dyn Records>,
    /// The node's part in its cluster.
    pub cluster: Cluster,
    /// Its figures.
    pub metrics: Arc<Metrics>,
    /// Who runs its tasks.
    pub supervisor: Supervisor,
}

/// The entries of one kind; clones share them.
pub struct Spread<K: Kind> {
    inner: Arc<Inner<K>>,
}

impl<K: Kind> Clone for Spread<K> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

struct Inner<K: Kind> {
    parts: SpreadParts,
    book: Arc<Mutex<BookOf<K>>>,
    keeper: Keeper<KeyOf<K>>,
    /// Nodes that are being asked for what they know.
    fetching: Mutex<HashSet<NodeRun>>,
    /// Nodes whose link was full, and since when they have not been told everything.
    missed: Mutex<HashMap<NodeRun, Epoch>>,
    /// Lines about what was told and not taken.
    untimely: Mutex<LogGate>,
}

impl<K: Kind> Spread<K> {
    /// With what was made durable before. Hears from other nodes, and forgets what has ended, until the node stops.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn open(parts: SpreadParts) -> Result<Self, StoreError> {
        let mut book = BookOf::<K>::default();
        let mut after = None;
        loop {
            let page = parts.records.scan(K::PREFIX, after.as_deref(), usize::MAX, time::now()).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for entry in page.iter().filter_map(|(_, record)| kind::read::<K>(record)) {
                book.put(entry);
            }
        }
        let book = Arc::new(Mutex::new(book));
        let known = book.clone();
        let keeper = Keeper::new(K::NAME, parts.records.clone(), move |keys: &[KeyOf<K>]| {
            let book = known.lock();
            // What has ended meanwhile ends on disk as well.
            keys.iter().filter_map(|key| book.of(key)).map(|entry| kind::write::<K>(entry)).collect()
        });
        let (fetching, missed, untimely) = (Mutex::default(), Mutex::default(), Mutex::new(LogGate::once_a_minute()));
        let this = Self { inner: Arc::new(Inner { parts, book, keeper, fetching, missed, untimely }) };
        this.start();
        Ok(this)
    }

    fn start(&self) {
        let SpreadParts { cluster, supervisor, .. } = &self.inner.parts;
        K::slot(cluster).fill(Arc::new(self.clone()));
        // Links that stood before this did.
        for other in cluster.nodes().others() {
            self.fetch(&other.run);
        }
        let (keeping, stop) = (self.clone(), supervisor.token());
        supervisor.spawn(K::NAME, async move {
            keeping.inner.keeper.run(&stop).await;
            Ok::<(), std::convert::Infallible>(())
        });
        let (this, stop) = (self.clone(), supervisor.token());
        supervisor.spawn(K::NAME, async move {
            while stop.run_until_cancelled(tokio::time::sleep(TICK.0)).await.is_some() {
                let (entries, bytes) = {
                    let mut book = this.book();
                    book.expire(time::now(), TICK.1);
                    book.size()
                };
                K::report(&this.inner.parts.metrics.p2p, entries, bytes);
            }
            Ok::<(), std::convert::Infallible>(())
        });
    }

    /// All that are known. Not to be held across an await.
    pub fn book(&self) -> MutexGuard<'_, BookOf<K>> {
        self.inner.book.lock()
    }

    /// A stamp for what is to be known under `key`: larger than all in the book that can be. What a wild clock has left under
    /// that key is forgotten, or nothing could take its place.
    pub fn next_stamp(&self, book: &mut BookOf<K>, key: &KeyOf<K>) -> Epoch {
        let latest = latest(time::now());
        book.forget_beyond(key, latest);
        self.inner.parts.cluster.claims.next_epoch(book.newest(latest))
    }
}
