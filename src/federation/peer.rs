//! What is known of a peer.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::proto::{Capacity, Hello, frame::Body};
use super::queue::Queue;
use crate::cluster::links::LinkRefused;
use crate::cluster::links::asks::Asks;
use crate::cluster::regions::PeerName;
use crate::config::PeerUrl;
use crate::domain::clock::Millis;
use crate::domain::offload::Room;
use crate::observe::metrics::{Metrics, PeerLabel};
use crate::runtime::time;

/// How long a link that is missing is expected to stand again at once: another node of the peer may answer.
const MOMENT: Duration = Duration::from_secs(5);

/// A cluster that this node calls.
pub struct Peer {
    pub name: PeerName,
    pub url: PeerUrl,
    /// Cancelled when it is not to be called any more.
    pub ending: CancellationToken,
    /// Cancelled when it is not called any more.
    pub ended: CancellationToken,
    /// Cancelled, and replaced, when what it showed on its link is no longer good.
    trust: Mutex<CancellationToken>,
    /// What it was asked: nobody else can answer that.
    pub asks: Asks,
    added: bool,
    state: Mutex<State>,
    changes: Arc<watch::Sender<()>>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct State {
    /// Where frames for it go, while its link stands.
    queue: Option<Queue>,
    /// Where its mailboxes are asked for, once they are, while its link stands.
    pulls: Option<Channel>,
    /// Where blobs are offered to it, likewise.
    offers: Option<Channel>,
    /// Where circuits are connected, likewise.
    circuits: Option<Channel>,
    hello: Option<Hello>,
    capacity: Option<Capacity>,
    round_trip: Option<Duration>,
    last_error: Option<(String, Millis)>,
    /// Since when it is up, or down.
    since: Millis,
}

/// What is known of a peer, to be shown.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerStatus {
    /// Its URL, as it is listed.
    pub url: String,
    /// Whether an operator added it while the node ran.
    pub added: bool,
    /// Whether its link stands.
    pub up: bool,
    /// Since when it does, or does not.
    pub since: Millis,
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
    /// When that was.
    pub last_error_at: Millis,
}

impl State {
    /// Its link does not stand.
    fn unlink(&mut self) {
        (self.queue, self.pulls, self.offers, self.circuits) = (None, None, None, None);
    }

    /// A connection that lasts as long as the link.
    fn of_link(
        &mut self,
        which: impl FnOnce(&mut Self) -> &mut Option<Channel>,
        make: impl FnOnce() -> Channel,
    ) -> Result<Channel, LinkRefused> {
        match self.queue {
            Some(_) => Ok(which(self).get_or_insert_with(make).clone()),
            None => Err(LinkRefused::Gone),
        }
    }
}

impl Peer {
    pub fn new(
        name: PeerName,
        url: PeerUrl,
        added: bool,
        changes: Arc<watch::Sender<()>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (ending, ended) = (CancellationToken::new(), CancellationToken::new());
        let state = Mutex::new(State { since: time::now(), ..State::default() });
        let (trust, asks) = (Mutex::default(), Asks::default());
        let this = Self { name, url, ending, ended, trust, asks, added, state, changes, metrics };
        this.metrics.federation.up.get_or_create(&this.label()).set(0);
        this
    }

    fn label(&self) -> PeerLabel {
        PeerLabel { peer: self.name.to_string() }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
        self.changes.send_replace(());
    }

    /// Its link stands.
    pub fn up(&self, queue: Queue, hello: Hello) {
        self.change(|state| {
            (state.queue, state.hello, state.since) = (Some(queue), Some(hello), time::now());
            // Whoever answers now may be of a cluster that has restarted.
            state.capacity = None;
        });
        self.metrics.federation.up.get_or_create(&self.label()).set(1);
    }

    /// Its link has ended.
    pub fn unlink(&self) {
        self.change(|state| {
            if state.queue.is_some() {
                state.since = time::now();
            }
            state.unlink();
        });
        self.metrics.federation.up.get_or_create(&self.label()).set(0);
    }

    /// Cancelled once what it shows now is no longer good.
    pub fn trust(&self) -> CancellationToken {
        self.trust.lock().clone()
    }

    /// What it showed is no longer good.
    pub fn distrust(&self) {
        std::mem::take(&mut *self.trust.lock()).cancel();
    }

    /// Why its link has ended, or was not made.
    pub fn failed(&self, why: String) {
        self.change(|state| state.last_error = Some((why, time::now())));
        self.metrics.federation.failed.get_or_create(&self.label()).inc();
    }

    /// Has it called no more; returns when it is not.
    pub async fn end(&self) {
        self.ending.cancel();
        self.ended.cancelled().await;
    }

    /// It is not called any more.
    pub fn note_ended(&self) {
        self.change(|state| state.unlink());
        let figures = &self.metrics.federation;
        figures.up.remove(&self.label());
        figures.failed.remove(&self.label());
        self.ended.cancel();
    }

    pub fn is_up(&self) -> bool {
        self.state.lock().queue.is_some()
    }

    /// Whether its link stands, or has been missing for a moment only, and its cluster does not leave service.
    pub fn serves(&self) -> bool {
        let state = self.state.lock();
        let is_near = state.queue.is_some() || time::now().since(state.since) < MOMENT;
        is_near && !state.capacity.is_some_and(|capacity| capacity.draining)
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

    /// Where its mailboxes are asked for; made by `make` if it is the first time on this link.
    ///
    /// # Errors
    /// [`LinkRefused::Gone`] without a link.
    pub fn pulls(&self, make: impl FnOnce() -> Channel) -> Result<Channel, LinkRefused> {
        self.state.lock().of_link(|state| &mut state.pulls, make)
    }

    /// Where blobs are offered to it, likewise.
    ///
    /// # Errors
    /// [`LinkRefused::Gone`] without a link.
    pub fn offers(&self, make: impl FnOnce() -> Channel) -> Result<Channel, LinkRefused> {
        self.state.lock().of_link(|state| &mut state.offers, make)
    }

    /// Where circuits are connected, likewise.
    ///
    /// # Errors
    /// [`LinkRefused::Gone`] without a link.
    pub fn circuits(&self, make: impl FnOnce() -> Channel) -> Result<Channel, LinkRefused> {
        self.state.lock().of_link(|state| &mut state.circuits, make)
    }

    pub fn holds(&self, capacity: Capacity) {
        self.change(|state| state.capacity = Some(capacity));
    }

    pub fn answered_after(&self, time: Duration) {
        self.change(|state| state.round_trip = Some(time));
        self.metrics.federation.round_trip_seconds.observe(time.as_secs_f64());
    }

    pub fn status(&self) -> PeerStatus {
        let state = self.state.lock();
        let hello = state.hello.clone().unwrap_or_default();
        let (last_error, last_error_at) = state.last_error.clone().map_or((None, Millis(0)), |(e, at)| (Some(e), at));
        PeerStatus {
            url: self.name.to_string(),
            added: self.added,
            up: state.queue.is_some(),
            since: state.since,
            relay_id: hello.relay_id,
            cluster_id: hello.cluster_id,
            region: hello.region,
            version: hello.version,
            public_url: hello.public_url,
            capacity: state.capacity,
            round_trip: state.round_trip,
            last_error,
            last_error_at,
        }
    }
}
