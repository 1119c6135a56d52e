//! Rendezvous: peers register under a namespace, and others discover them there, at whichever node.
//!
//! Every node knows all registrations of the cluster ([`super::spread`]), so nobody waits for another node.

mod book;
mod cookie;
mod kept;
mod limits;
mod record;
mod serve;

use std::sync::Arc;
use std::time::Duration;

use governor::clock::DefaultClock;
use libp2p::{Stream, StreamProtocol};
use tokio::sync::Semaphore;

use crate::observe::metrics::Metrics;
use crate::runtime::supervisor::Supervisor;
use crate::security::limiter::AddressLimiter;
use crate::store::StoreError;

use super::spread::{Spread, SpreadParts};
use super::streams::{Connection, Serving, Work};

pub use limits::RendezvousLimits;

use kept::Registrations;

/// The protocol.
pub const RENDEZVOUS: StreamProtocol = StreamProtocol::new("/rendezvous/1.0.0");

/// Requests of one connection that are worked on at once: stock clients open no more than 100 streams.
const MAX_SERVING: usize = 128;

/// Answers to discoveries that are under way at once, in KiB. More are asked for again later.
const ANSWERS_KIB: usize = 64 << 10;

/// How often rates that no longer limit anybody are forgotten.
const SWEEP: Duration = Duration::from_secs(60);

/// The registrations of a node; clones share them.
#[derive(Clone)]
pub struct Rendezvous {
    inner: Arc<Inner>,
}

struct Inner {
    limits: RendezvousLimits,
    spread: Spread<Registrations>,
    requests: AddressLimiter<DefaultClock>,
    answers: Arc<Semaphore>,
    metrics: Arc<Metrics>,
    supervisor: Supervisor,
}

impl Rendezvous {
    /// With what was made durable before.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn open(limits: RendezvousLimits, parts: SpreadParts) -> Result<Self, StoreError> {
        let (metrics, supervisor) = (parts.metrics.clone(), parts.supervisor.clone());
        let spread = Spread::open(parts).await?;
        let requests =
            AddressLimiter::new(limits.requests_per_minute, limits.tracked_addresses, DefaultClock::default());
        let answers = Arc::new(Semaphore::new(ANSWERS_KIB));
        let this = Self { inner: Arc::new(Inner { limits, spread, requests, answers, metrics, supervisor }) };
        this.start();
        Ok(this)
    }

    fn start(&self) {
        let (this, stop) = (self.clone(), self.inner.supervisor.token());
        self.inner.supervisor.spawn("rendezvous rates", async move {
            while stop.run_until_cancelled(tokio::time::sleep(SWEEP)).await.is_some() {
                this.inner.requests.sweep();
            }
            Ok::<(), std::convert::Infallible>(())
        });
    }

    /// A peer has opened a stream of [`RENDEZVOUS`].
    pub fn serve(&self, connection: &Arc<Connection>, stream: Stream) {
        let (this, asker) = (self.clone(), connection.clone());
        let answering = async move { this.answer(&asker, stream).await };
        if !Serving::spawn(connection, (Work::Rendezvous, MAX_SERVING), &self.inner.supervisor, answering) {
            self.inner.metrics.p2p.refuse_stream("busy");
        }
    }
}
