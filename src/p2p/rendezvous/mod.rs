//! Rendezvous: peers register under a namespace, and others discover them there, at whichever node.
//!
//! Every node knows all registrations of the cluster, so nobody waits for another node. Who takes one makes it durable,
//! answers, and tells the others, which make it durable too. Over a new link each node fetches what the other knows:
//! that is what a node missed, or all of it.

mod book;
mod cookie;
mod kept;
mod limits;
mod record;
mod serve;
mod spread;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use governor::clock::DefaultClock;
use libp2p::{Stream, StreamProtocol};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::cluster::Cluster;
use crate::domain::clock::Epoch;
use crate::domain::ids::NodeRun;
use crate::observe::metrics::Metrics;
use crate::runtime::supervisor::Supervisor;
use crate::runtime::time;
use crate::security::limiter::AddressLimiter;
use crate::store::{Records, StoreError};

use super::streams::{Connection, Serving, Work};

pub use limits::RendezvousLimits;

use book::Book;

/// The protocol.
pub const RENDEZVOUS: StreamProtocol = StreamProtocol::new("/rendezvous/1.0.0");

/// Requests of one connection that are worked on at once: stock clients open no more than 100 streams.
const MAX_SERVING: usize = 128;

/// Answers to discoveries that are under way at once, in KiB. More are asked for again later.
const ANSWERS_KIB: usize = 64 << 10;

/// How often registrations that have ended are forgotten, and how many at once.
const TICK: (Duration, usize) = (Duration::from_secs(1), 1_000);

/// How often rates that no longer limit anybody are forgotten.
const SWEEP: Duration = Duration::from_secs(60);

/// What rendezvous needs of its node.
pub struct RendezvousParts {
    /// What is kept.
    pub limits: RendezvousLimits,
    /// Where.
    pub records: Arc<dyn Records>,
    /// The node's part in its cluster.
    pub cluster: Cluster,
    /// Its figures.
    pub metrics: Arc<Metrics>,
    /// Who runs its tasks.
    pub supervisor: Supervisor,
}

/// The registrations of a node; clones share them.
#[derive(Clone)]
pub struct Rendezvous {
    inner: Arc<Inner>,
}

struct Inner {
    limits: RendezvousLimits,
    records: Arc<dyn Records>,
    book: Mutex<Book>,
    cluster: Cluster,
    requests: AddressLimiter<DefaultClock>,
    answers: Arc<Semaphore>,
    /// Nodes that are being asked for what they know.
    fetching: Mutex<HashSet<NodeRun>>,
    /// Nodes whose link was full, and since when they have not been told everything.
    missed: Mutex<HashMap<NodeRun, Epoch>>,
    metrics: Arc<Metrics>,
    supervisor: Supervisor,
}

impl Rendezvous {
    /// With what was made durable before.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn open(parts: RendezvousParts) -> Result<Self, StoreError> {
        let RendezvousParts { limits, records, cluster, metrics, supervisor } = parts;
        let mut book = Book::default();
        let mut after = None;
        loop {
            let page = records.scan(kept::PREFIX, after.as_deref(), usize::MAX, time::now()).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for registration in page.iter().filter_map(|(_, record)| kept::read(record, time::now())) {
                book.put(registration);
            }
        }
        let requests =
            AddressLimiter::new(limits.requests_per_minute, limits.tracked_addresses, DefaultClock::default());
        let (book, fetching, missed) = (Mutex::new(book), Mutex::default(), Mutex::default());
        let answers = Arc::new(Semaphore::new(ANSWERS_KIB));
        let this = Self {
            inner: Arc::new(Inner {
                limits,
                records,
                book,
                cluster,
                requests,
                answers,
                fetching,
                missed,
                metrics,
                supervisor,
            }),
        };
        this.start();
        Ok(this)
    }

    fn start(&self) {
        let cluster = &self.inner.cluster;
        cluster.services.rendezvous.fill(Arc::new(self.clone()));
        // Links that stood before this did.
        for other in cluster.nodes().others() {
            self.fetch(&other.run);
        }
        let (this, stop) = (self.clone(), self.inner.supervisor.token());
        self.inner.supervisor.spawn("rendezvous upkeep", async move {
            let mut swept = Instant::now();
            while stop.run_until_cancelled(tokio::time::sleep(TICK.0)).await.is_some() {
                this.inner.book.lock().expire(time::now(), TICK.1);
                this.report();
                if swept.elapsed() >= SWEEP {
                    this.inner.requests.sweep();
                    swept = Instant::now();
                }
            }
            Ok::<(), std::convert::Infallible>(())
        });
    }

    /// A peer has opened a stream of [`RENDEZVOUS`].
    pub fn serve(&self, connection: &Arc<Connection>, stream: Stream) {
        let Some(serving) = Serving::begin(connection, Work::Rendezvous, MAX_SERVING) else {
            return self.inner.metrics.p2p.refuse_stream("busy");
        };
        let (this, connection, stop) = (self.clone(), connection.clone(), self.inner.supervisor.token());
        self.inner.supervisor.spawn_quiet(async move {
            stop.run_until_cancelled(this.answer(&connection, stream)).await;
            drop(serving);
        });
    }

    fn report(&self) {
        let (registrations, bytes) = self.inner.book.lock().size();
        let gauge = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.inner.metrics.p2p.registrations.set(gauge(registrations));
        self.inner.metrics.p2p.registration_bytes.set(gauge(bytes));
    }
}
