//! The directory of Dusk (`/dusk/directory/1.0.0`): peers say by which name they are to be found, and others look for them, at
//! whichever node.
//!
//! Every node knows all profiles of the cluster ([`super::spread`]), so nobody waits for another node.

mod limits;
mod name;
mod places;
mod profile;
mod relays;
mod search;
mod serve;

use std::sync::Arc;

use libp2p::{Stream, StreamProtocol};
use tokio::sync::Semaphore;

use crate::observe::metrics::Metrics;
use crate::runtime::supervisor::Supervisor;
use crate::store::StoreError;

use super::addresses::Addresses;
use super::rates::Rates;
use super::spread::{Spread, SpreadParts};
use super::streams::{Connection, Serving, Work};

pub use limits::{DirectoryLimits, MAX_LIFE};
pub use relays::relay_at;

use limits::MAX_SEARCHING;
use profile::Profiles;
use relays::Relays;

/// The protocol.
pub const DIRECTORY: StreamProtocol = StreamProtocol::new("/dusk/directory/1.0.0");

/// Requests of one connection that are read or worked on at once.
const MAX_SERVING: usize = 32;

/// Requests of all that have been read and are worked on: an answer is held until its peer has taken it.
const MAX_SERVING_IN_ALL: usize = 4096;

/// The directory of a node; clones share it.
#[derive(Clone)]
pub struct Directory {
    inner: Arc<Inner>,
}

struct Inner {
    limits: DirectoryLimits,
    spread: Spread<Profiles>,
    relays: Relays,
    rates: Rates,
    serving: Semaphore,
    /// Of those, who looks at profiles.
    searching: Semaphore,
    metrics: Arc<Metrics>,
    supervisor: Supervisor,
}

impl Directory {
    /// With what was made durable before.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn open(
        limits: DirectoryLimits,
        addresses: Arc<Addresses>,
        parts: SpreadParts,
    ) -> Result<Self, StoreError> {
        let (metrics, supervisor) = (parts.metrics.clone(), parts.supervisor.clone());
        let per_minute = (limits.requests_per_minute, limits.requests_of_peer);
        let inner = Inner {
            spread: Spread::open(parts).await?,
            relays: Relays::new(addresses, &limits.relays),
            rates: Rates::start("directory rates", per_minute, limits.tracked, &supervisor),
            serving: Semaphore::new(MAX_SERVING_IN_ALL),
            searching: Semaphore::new(MAX_SEARCHING),
            limits,
            metrics,
            supervisor,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A peer has opened a stream of [`DIRECTORY`].
    pub fn serve(&self, connection: &Arc<Connection>, stream: Stream) {
        let (this, asker) = (self.clone(), connection.clone());
        let answering = async move { this.answer(&asker, stream).await };
        if !Serving::spawn(connection, (Work::Directory, MAX_SERVING), &self.inner.supervisor, answering) {
            self.inner.metrics.p2p.refuse_stream("busy");
        }
    }
}
