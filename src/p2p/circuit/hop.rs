//! What a peer asks of its relay: a place, or a circuit (circuit relay version 2, "Hop protocol").

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use libp2p::{PeerId, Stream};

use crate::observe::metrics::P2pMetrics;
use crate::p2p::framing;
use crate::p2p::gauge;
use crate::p2p::streams::{Connection, Serving};
use crate::runtime::time;
use crate::wire::p2p::circuit::{
    Granted, HopRequest, Limit, MAX_MESSAGE_BYTES, Status, hop_granted, hop_status, read_hop,
};

use super::Circuits;
use super::connect::Connected;
use super::reservations::NoPlace;
use super::voucher::voucher;

/// How long a peer may take to say what it wants, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(10);

impl Circuits {
    /// Serves one stream, until its request is answered, or the circuit that it has become has ended.
    pub(super) async fn hop(&self, connection: &Arc<Connection>, mut stream: Stream, serving: Serving) {
        let request = match framing::request(framing::read(&mut stream, MAX_MESSAGE_BYTES), PATIENCE).await {
            Ok(Ok(message)) => read_hop(&message),
            Ok(Err(_)) => Err(Status::MalformedMessage),
            Err(why) => return self.inner.metrics.p2p.refuse_stream(why),
        };
        match request {
            Ok(HopRequest::Reserve) => {
                let answer = match self.reserve(connection) {
                    Ok(granted) => hop_granted(&granted),
                    Err((status, reason)) => {
                        self.inner.metrics.p2p.refuse_reservation(reason);
                        hop_status(status, Limit::default())
                    }
                };
                framing::finish(stream, Some(&answer), PATIENCE).await;
            }
            Ok(HopRequest::Connect { target }) => match self.connect(connection, &target).await {
                Ok(connected) => {
                    // From here on the bounds on circuits hold, not those on requests.
                    drop(serving);
                    let this = self.clone();
                    self.carry_on(connection, Box::pin(async move { this.carry(stream, connected).await }));
                }
                Err((status, reason)) => {
                    self.inner.metrics.p2p.refuse_circuit(reason);
                    framing::finish(stream, Some(&hop_status(status, Limit::default())), PATIENCE).await;
                }
            },
            Err(status) => {
                self.inner.metrics.p2p.refuse_stream(status.word());
                framing::finish(stream, Some(&hop_status(status, Limit::default())), PATIENCE).await;
            }
        }
    }

    fn reserve(&self, connection: &Arc<Connection>) -> Result<Granted, (Status, &'static str)> {
        let inner = &self.inner;
        if connection.relayed {
            return Err((Status::PermissionDenied, "relayed"));
        }
        if inner.draining.load(Ordering::Relaxed) {
            return Err((Status::ReservationRefused, "draining"));
        }
        let account = self.account(connection);
        if account.is_some_and(|address| inner.requests.check(address).is_err()) {
            return Err((Status::ResourceLimitExceeded, "address_rate"));
        }
        let addresses: Vec<_> = inner.addresses.of_cluster().iter().map(libp2p::Multiaddr::to_vec).collect();
        if addresses.is_empty() {
            // Clients take a place without an address for a broken one.
            return Err((Status::ReservationRefused, "no_address"));
        }
        let given = {
            let mut reservations = inner.reservations.lock();
            // Looked at under the lock: what ends a connection gives up its place under it, after it was closed.
            if connection.is_closed() {
                return Err((Status::ReservationRefused, "gone"));
            }
            let given = reservations.reserve(connection, account, time::now()).map_err(|no| match no {
                NoPlace::Full => (Status::ResourceLimitExceeded, "full"),
                NoPlace::AddressFull => (Status::ResourceLimitExceeded, "address_full"),
            })?;
            if given.new {
                self.holds(&connection.peer);
            }
            let total = reservations.peers();
            inner.metrics.p2p.reservations.set(gauge(total));
            tracing::debug!("relay reservation accepted for peer {} (total: {total})", connection.peer);
            given
        };
        inner.metrics.p2p.reservations_granted.inc();
        let expire = given.until.0 / 1000;
        let voucher = voucher(&inner.key, connection.peer, expire).unwrap_or_default();
        let limit = self.limits_between(&connection.peer, &connection.peer).told();
        Ok(Granted { expire, addresses, voucher, limit })
    }

    /// Says that the circuit stands, and carries it to its end.
    async fn carry(&self, mut stream: Stream, connected: Connected) {
        let metrics = &self.inner.metrics.p2p;
        let ending = Ending::of(metrics);
        let Connected { half, source, target, limits, place: _place } = connected;
        let answer = hop_status(Status::Ok, limits.told());
        if !matches!(tokio::time::timeout(PATIENCE, framing::write(&mut stream, &answer)).await, Ok(Ok(()))) {
            return;
        }
        metrics.opened(half.word());
        tracing::debug!("circuit opened: {source} -> {target} (through relay)");
        let end = half.splice(stream, &limits, &metrics.circuit_bytes).await;
        ending.by(end.word());
        tracing::debug!("circuit closed: {source} -> {target}");
    }
}

/// Counts a circuit that ends: how it says, or, if it does not, as one whose connection went before it.
pub(super) struct Ending<'a>(&'a P2pMetrics, &'static str);

impl<'a> Ending<'a> {
    /// Of one that is being carried.
    pub fn of(metrics: &'a P2pMetrics) -> Self {
        Self(metrics, "gone")
    }

    /// It ends because of that.
    pub fn by(mut self, word: &'static str) {
        self.1 = word;
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.ended(self.1);
    }
}

/// Why a peer is not connected: the status that it is told, and one word for figures.
pub(super) type NotConnected = (Status, &'static str);

/// The peer of that id, if it is one.
pub(super) fn peer(id: &[u8]) -> Result<PeerId, NotConnected> {
    PeerId::from_bytes(id).map_err(|_| (Status::MalformedMessage, "malformed"))
}
