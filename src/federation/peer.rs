//! What is known of a peer.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tonic::transport::Channel;

use super::proto::{Capacity, Hello, frame::Body};
use super::queue::Queue;
use crate::cluster::links::LinkRefused;
use crate::cluster::regions::PeerName;
use crate::config::PeerUrl;
use crate::domain::offload::Room;
use crate::observe::metrics::{Metrics, PeerLabel};

/// A cluster that this node calls.
pub struct Peer {
    pub name: PeerName,
    pub url: PeerUrl,
    /// Where its mailboxes are asked for, once they are.
    pub pulls: OnceLock<Channel>,
    /// Where blobs are offered to it, once they are.
    pub offers: OnceLock<Channel>,
    state: Mutex<State>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct State {
    /// Where frames for it go, while its link stands.
    queue: Option<Queue>,
    hello: Option<Hello>,
    capacity: Option<Capacity>,
    round_trip: Option<Duration>,
    last_error: Option<String>,
}

/// What is known of a peer, to be shown.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerStatus {
    /// Its URL, as it is listed.
    pub url: String,
    /// Whether its link stands.
    pub up: bool,
    /// Which node answered last, of which cluster, region and version; empty before any has.
    pub relay_id: String,
    /// Its cluster.
    pub cluster_id: String,
    /// Where it is.
    pub region: String,
    /// Its release.
    pub version: String,
    /// Where clients reach it; may be empty.
    pub public_url: String,
    /// How much it stores, as far as it says.
    pub capacity: Option<Capacity>,
    /// How long a word to it and back took last.
    pub round_trip: Option<Duration>,
    /// Why its link ended, or was not made, the last time.
    pub last_error: Option<String>,
}

impl Peer {
    pub fn new(url: PeerUrl, metrics: Arc<Metrics>) -> Self {
        let name = PeerName(url.to_string().into());
        let this =
            Self { name, url, pulls: OnceLock::new(), offers: OnceLock::new(), state: Mutex::default(), metrics };
        this.metrics.federation.up.get_or_create(&this.label()).set(0);
        this
    }

    fn label(&self) -> PeerLabel {
        PeerLabel { peer: self.name.to_string() }
    }

    /// Its link stands.
    pub fn up(&self, queue: Queue, hello: Hello) {
        let mut state = self.state.lock();
        (state.queue, state.hello) = (Some(queue), Some(hello));
        self.metrics.federation.up.get_or_create(&self.label()).set(1);
    }

    /// Its link has ended, or was not made.
    pub fn down(&self, why: String) {
        let mut state = self.state.lock();
        (state.queue, state.last_error) = (None, Some(why));
        self.metrics.federation.up.get_or_create(&self.label()).set(0);
        self.metrics.federation.failed.get_or_create(&self.label()).inc();
    }

    pub fn is_up(&self) -> bool {
        self.state.lock().queue.is_some()
    }

    /// How much it stores, if its link stands and it does not leave service.
    pub fn room(&self) -> Option<Room> {
        let state = self.state.lock();
        let capacity = state.capacity.filter(|capacity| !capacity.draining && state.queue.is_some())?;
        Some(Room { used: capacity.used, max: capacity.max })
    }

    /// Says something to it.
    ///
    /// # Errors
    /// [`LinkRefused`], at once.
    pub fn push(&self, ask: u64, body: Body) -> Result<(), LinkRefused> {
        let queue = self.state.lock().queue.clone();
        queue.ok_or(LinkRefused::Gone)?.push(ask, body)
    }

    pub fn holds(&self, capacity: Capacity) {
        self.state.lock().capacity = Some(capacity);
    }

    pub fn answered_after(&self, time: Duration) {
        self.state.lock().round_trip = Some(time);
        self.metrics.federation.round_trip_seconds.observe(time.as_secs_f64());
    }

    pub fn status(&self) -> PeerStatus {
        let state = self.state.lock();
        let hello = state.hello.clone().unwrap_or_default();
        PeerStatus {
            url: self.name.to_string(),
            up: state.queue.is_some(),
            relay_id: hello.relay_id,
            cluster_id: hello.cluster_id,
            region: hello.region,
            version: hello.version,
            public_url: hello.public_url,
            capacity: state.capacity,
            round_trip: state.round_trip,
            last_error: state.last_error.clone(),
        }
    }
}
