//! Circuit relay version 2: peers that cannot be reached keep a place here, and others are connected to them.
//!
//! A place is presence: the node says that it holds the peer. A circuit is asked for at any node. Its other half is at
//! this one, or is connected by one call to the node that holds the peer ([`crate::cluster::links`]), or by one to a cluster
//! in which that node is ([`crate::cluster::regions`]).

mod afar;
mod budget;
mod connect;
mod hop;
mod limits;
mod quota;
mod reservations;
mod splice;
mod voucher;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use governor::clock::DefaultClock;
use libp2p::identity::Keypair;
use libp2p::swarm::ConnectionId;
use libp2p::{PeerId, Stream, StreamProtocol};
use parking_lot::Mutex;

use crate::cluster::Cluster;
use crate::domain::principal::{Principal, Standing};
use crate::observe::metrics::Metrics;
use crate::runtime::sessions::Relayed;
use crate::runtime::supervisor::Supervisor;
use crate::runtime::time;
use crate::security::address::AddressKey;
use crate::security::limiter::AddressLimiter;

use super::addresses::Addresses;
use super::gauge;
use super::streams::{Carried, Connection, Serving, Work};

pub use limits::CircuitLimits;

use afar::Afar;
use quota::{CircuitQuota, Ends, Origin};
use reservations::Reservations;

/// The protocol that peers speak to their relay.
pub const HOP: StreamProtocol = StreamProtocol::new("/libp2p/circuit/relay/0.2.0/hop");

/// The protocol that a relay speaks to the peer that is reached.
pub const STOP: StreamProtocol = StreamProtocol::new("/libp2p/circuit/relay/0.2.0/stop");

/// Requests of one connection that are worked on at once.
const MAX_SERVING: usize = 64;

/// How often places that have ended are given up.
const TICK: Duration = Duration::from_secs(1);

/// How often rates that no longer limit anybody are forgotten.
const SWEEP: Duration = Duration::from_secs(60);

/// What circuits need of their node.
pub struct CircuitParts {
    /// The relay's key.
    pub key: Keypair,
    /// What peers may use.
    pub limits: CircuitLimits,
    /// Peers that are bound only by what the node as a whole may serve.
    pub trusted: HashSet<PeerId>,
    /// The node's part in its cluster.
    pub cluster: Cluster,
    /// Where peers reach the relay.
    pub addresses: Arc<Addresses>,
    /// Its figures.
    pub metrics: Arc<Metrics>,
    /// Who runs its tasks.
    pub supervisor: Supervisor,
}

/// The places and circuits of one node; clones share them.
#[derive(Clone)]
pub struct Circuits {
    inner: Arc<Inner>,
}

struct Inner {
    key: Keypair,
    limits: CircuitLimits,
    trusted: HashSet<PeerId>,
    cluster: Cluster,
    addresses: Arc<Addresses>,
    reservations: Mutex<Reservations>,
    quota: CircuitQuota,
    requests: AddressLimiter<DefaultClock>,
    afar: Afar,
    draining: AtomicBool,
    metrics: Arc<Metrics>,
    supervisor: Supervisor,
}

impl Circuits {
    /// None yet.
    #[must_use]
    pub fn new(parts: CircuitParts) -> Self {
        let CircuitParts { key, limits, trusted, cluster, addresses, metrics, supervisor } = parts;
        let requests =
            AddressLimiter::new(limits.requests_per_minute, limits.tracked_addresses, DefaultClock::default());
        Self {
            inner: Arc::new(Inner {
                key,
                cluster,
                addresses,
                reservations: Mutex::new(Reservations::new(&limits)),
                quota: CircuitQuota::new(metrics.p2p.circuits.clone()),
                requests,
                afar: Afar::default(),
                limits,
                trusted,
                draining: AtomicBool::new(false),
                metrics,
                supervisor,
            }),
        }
    }

    /// Has other nodes connect circuits here, and gives up places that have ended, until the node stops.
    pub fn start(&self) {
        self.inner.cluster.links.exchange_with(Arc::new(self.clone()));
        let (this, stop) = (self.clone(), self.inner.supervisor.token());
        self.inner.supervisor.spawn("circuit upkeep", async move {
            let mut swept = Instant::now();
            while stop.run_until_cancelled(tokio::time::sleep(TICK)).await.is_some() {
                this.give_up_what_has_ended();
                if swept.elapsed() >= SWEEP {
                    this.inner.requests.sweep();
                    swept = Instant::now();
                }
            }
            Ok::<(), std::convert::Infallible>(())
        });
    }

    /// A peer has opened a stream of [`HOP`].
    pub fn serve(&self, connection: &Arc<Connection>, stream: Stream) {
        let Some(serving) = Serving::begin(connection, Work::Circuit, MAX_SERVING) else {
            return self.inner.metrics.p2p.refuse_stream("busy");
        };
        let (this, connection, stop) = (self.clone(), connection.clone(), self.inner.supervisor.token());
        self.inner.supervisor.spawn_quiet(async move {
            stop.run_until_cancelled(this.hop(&connection, stream, serving)).await;
        });
    }

    /// Has the task of a connection carry a circuit, or, if the connection has ended, one of the circuit's own.
    fn carry_on(&self, connection: &Connection, work: Carried) {
        if let Err(work) = connection.carry(work) {
            self.go_on_with(work);
        }
    }

    /// Carries a circuit whose connection has ended to its own end: what was said on it before has still to arrive.
    pub fn go_on_with(&self, work: Carried) {
        let stop = self.inner.supervisor.token();
        self.inner.supervisor.spawn_quiet(async move { stop.run_until_cancelled(work).await.unwrap_or_default() });
    }

    /// A connection has ended, and the place on it.
    pub fn closed(&self, connection: &Connection) {
        let mut reservations = self.inner.reservations.lock();
        if reservations.release(&connection.peer, connection.id) {
            self.released(&connection.peer);
        }
        self.inner.metrics.p2p.reservations.set(gauge(reservations.peers()));
    }

    /// Gives no places any more, renewals included: peers shall have theirs at another node. Or does again. What was so
    /// before.
    pub fn drain(&self, on: bool) -> bool {
        self.inner.draining.swap(on, Ordering::Relaxed)
    }

    /// Whether places are given.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.inner.draining.load(Ordering::Relaxed)
    }

    /// Connections that have a place and no circuit.
    #[must_use]
    pub fn at_rest(&self) -> Vec<ConnectionId> {
        let reservations = self.inner.reservations.lock();
        let at_rest = reservations.connections().filter(|connection| self.inner.quota.of(&connection.peer) == 0);
        at_rest.map(|connection| connection.id).collect()
    }

    /// What the peer of that connection has.
    #[must_use]
    pub fn of(&self, connection: &Connection) -> Relayed {
        let reserved = self.inner.reservations.lock().has(&connection.peer, connection.id);
        Relayed { reserved, circuits: self.inner.quota.of(&connection.peer) }
    }

    /// Circuits that have a half here.
    #[must_use]
    pub fn open(&self) -> usize {
        self.inner.quota.open()
    }

    fn give_up_what_has_ended(&self) {
        let mut reservations = self.inner.reservations.lock();
        let now = time::now();
        while let Some((peer, connection)) = reservations.ended(now) {
            if reservations.release(&peer, connection) {
                tracing::debug!(total = reservations.peers(), "relay reservation expired for peer {peer}");
                self.released(&peer);
            }
        }
        self.inner.metrics.p2p.reservations.set(gauge(reservations.peers()));
    }

    /// What a circuit between these peers may carry, and how many there may be.
    fn limits_between(&self, source: &PeerId, target: &PeerId) -> CircuitLimits {
        let trusted = self.inner.trusted.contains(source) || self.inner.trusted.contains(target);
        if trusted { self.inner.limits.of_trusted() } else { self.inner.limits }
    }

    /// The ends of a circuit that is asked for there.
    fn ends(&self, source: PeerId, target: PeerId, origin: Origin) -> Ends {
        let trusted = (self.inner.trusted.contains(&source), self.inner.trusted.contains(&target));
        Ends { source, target, trusted, origin }
    }

    /// Where that peer's use of the relay is counted; nowhere, if it is trusted.
    fn account(&self, connection: &Connection) -> Option<AddressKey> {
        connection.address.filter(|_| !self.inner.trusted.contains(&connection.peer))
    }

    /// This node holds the peer, by a connection that is newer than all others of it.
    fn holds(&self, peer: &PeerId) {
        let Cluster { presence, claims, .. } = &self.inner.cluster;
        let principal = principal(peer);
        let epoch = claims.next_epoch(presence.newest_epoch(&principal));
        presence.hold(&principal, epoch, Standing::Live);
    }

    /// This node does not hold the peer any more.
    fn released(&self, peer: &PeerId) {
        let presence = &self.inner.cluster.presence;
        let principal = principal(peer);
        if let Some((epoch, _)) = presence.held(&principal) {
            presence.release(&principal, epoch);
        }
    }
}

/// A peer among all that can be addressed.
fn principal(peer: &PeerId) -> Principal {
    Principal::peer(&peer.to_base58())
}
