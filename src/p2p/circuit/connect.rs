//! The other half of a circuit: at this node, at the one that holds the peer, or in another cluster.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::{AsyncRead, AsyncWrite};
use libp2p::{PeerId, Stream};
use prometheus_client::metrics::counter::Counter;

use crate::cluster::links::{Exchange, FarHalf, Reach};
use crate::cluster::presence::Located;
use crate::cluster::proto::CircuitOpen;
use crate::p2p::framing::{self, FrameError};
use crate::p2p::streams::Connection;
use crate::wire::p2p::circuit::{MAX_MESSAGE_BYTES, Status, read_stop, stop_connect};

use super::hop::{Ending, NotConnected, peer};
use super::limits::CircuitLimits;
use super::quota::{Circuit, Origin};
use super::splice::{End, splice};
use super::{Circuits, STOP, principal};

/// How long the peer that is reached may take to agree.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// How long another node may take to reach it.
pub(super) const FAR_PATIENCE: Duration = Duration::from_secs(12);

/// After how long a circuit from another cluster ends on which nothing moves: those have so many places together, and peers
/// that have a use for one say something now and then.
const CROSSED_IDLE: Duration = Duration::from_secs(600);

/// Why a peer is not connected whose node has just gone.
const LOST: &str = "lost";

/// The half of a circuit that leads to the peer that is reached.
pub(super) enum Half {
    /// At this node, on that connection.
    Here(Stream, Arc<Connection>),
    /// At another.
    There(Box<FarHalf>),
    /// In another cluster.
    Afar(Box<FarHalf>),
}

/// A circuit whose other half agrees.
pub(super) struct Connected {
    /// That half.
    pub half: Half,
    /// Who asked for it.
    pub source: PeerId,
    /// Who is reached.
    pub target: PeerId,
    /// What holds of the circuit.
    pub limits: CircuitLimits,
    /// Its place among the others.
    pub place: Circuit,
}

impl Half {
    /// Where it is, in one word for figures.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Here(..) => "here",
            Self::There(_) => "node",
            Self::Afar(_) => "region",
        }
    }

    /// The connection of the target, if it is at this node.
    fn connection(&self) -> Option<Arc<Connection>> {
        match self {
            Self::Here(_, connection) => Some(connection.clone()),
            Self::There(_) | Self::Afar(_) => None,
        }
    }

    /// Carries what comes by `stream`, and back, to its end.
    pub async fn splice(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        limits: &CircuitLimits,
        carried: &Counter,
    ) -> End {
        match self {
            Self::Here(other, _) => splice(stream, other, limits, carried).await,
            Self::There(other) | Self::Afar(other) => splice(stream, *other, limits, carried).await,
        }
    }
}

impl Circuits {
    /// Connects the peer of `connection` to another, on whichever node that one has its place.
    pub(super) async fn connect(&self, connection: &Arc<Connection>, target: &[u8]) -> Result<Connected, NotConnected> {
        let inner = &self.inner;
        if connection.relayed {
            return Err((Status::PermissionDenied, "relayed"));
        }
        let (source, target) = (connection.peer, peer(target)?);
        if source == target {
            return Err((Status::PermissionDenied, "itself"));
        }
        let account = self.account(connection);
        if account.is_some_and(|address| inner.requests.check(address).is_err()) {
            return Err((Status::ResourceLimitExceeded, "address_rate"));
        }
        let limits = self.limits_between(&source, &target);
        if inner.draining.load(Ordering::Relaxed) {
            return Err((Status::ResourceLimitExceeded, "draining"));
        }
        let place =
            inner.quota.enter(&limits, self.ends(source, target, account.map_or(Origin::Counted, Origin::Address)));
        let place = place.map_err(|full| (Status::ResourceLimitExceeded, full.word()))?;
        let half = match self.in_cluster(open(source, target), source, target, &limits).await {
            // Who is about to come back may have come to another cluster.
            Err(not @ ((Status::NoReservation, _) | (_, LOST))) => self.afar(source, target).await.unwrap_or(Err(not)),
            connected => connected,
        };
        Ok(Connected { half: half?, source, target, limits, place })
    }

    /// The half that leads to the target, if it has its place in this cluster.
    async fn in_cluster(
        &self,
        open: CircuitOpen,
        source: PeerId,
        target: PeerId,
        limits: &CircuitLimits,
    ) -> Result<Half, NotConnected> {
        match self.stop(source, target, limits).await {
            Err((Status::NoReservation, _)) => self.elsewhere(&open, target).await,
            here => here,
        }
    }

    /// Has the target take the circuit, if it has its place here.
    async fn stop(&self, source: PeerId, target: PeerId, limits: &CircuitLimits) -> Result<Half, NotConnected> {
        let reached = self.inner.reservations.lock().of(&target);
        let reached = reached.ok_or((Status::NoReservation, "no_reservation"))?;
        let limit = limits.told();
        let agree = async {
            let unreachable = |_| (Status::ConnectionFailed, "stop_failed");
            let mut stream = reached.open(STOP).await.map_err(unreachable)?;
            let broken = |_| (Status::ConnectionFailed, "stop_broken");
            framing::write(&mut stream, &stop_connect(&source.to_bytes(), limit)).await.map_err(broken)?;
            let answer = framing::read(&mut stream, MAX_MESSAGE_BYTES).await.map_err(|error| match error {
                FrameError::Length(_) => (Status::MalformedMessage, "stop_malformed"),
                FrameError::Stream(_) => (Status::ConnectionFailed, "stop_broken"),
            })?;
            read_stop(&answer).map_err(|status| (status, "stop_refused"))?;
            Ok(stream)
        };
        let slow = |_| Err((Status::ConnectionFailed, "stop_slow"));
        let stream = tokio::time::timeout(STOP_PATIENCE, agree).await.unwrap_or_else(slow)?;
        Ok(Half::Here(stream, reached))
    }

    /// Has the node that holds the target connect the circuit. What presence says may have changed meanwhile: a node
    /// that does not hold it is believed, and the target looked up once more.
    async fn elsewhere(&self, open: &CircuitOpen, target: PeerId) -> Result<Half, NotConnected> {
        let presence = &self.inner.cluster.presence;
        let principal = principal(&target);
        let located = presence.locate(&principal).await;
        match self.at(located, open).await {
            Err((Status::NoReservation, "moved")) => {
                let located = presence.locate_anew(&principal).await;
                self.at(located, open).await
            }
            connected => connected,
        }
    }

    async fn at(&self, located: Located, open: &CircuitOpen) -> Result<Half, NotConnected> {
        let run = match located {
            Located::At { run, .. } => run,
            Located::Absent => return Err((Status::NoReservation, "no_reservation")),
            // It comes back to another node soon; whoever asks may ask again.
            Located::Lost(_) => return Err((Status::ConnectionFailed, LOST)),
            Located::Unreachable => return Err((Status::ConnectionFailed, "unreachable")),
        };
        match self.inner.cluster.links.circuit(&run, open.clone(), FAR_PATIENCE).await {
            Ok(answered) => answered.map(|half| Half::There(Box::new(half))).map_err(refused),
            Err(error) => {
                tracing::debug!(node = %run, %error, "a circuit was not connected");
                Err((Status::ConnectionFailed, "node_failed"))
            }
        }
    }

    /// Connects a half that is elsewhere to its target, as far as it may be handed on, and carries it to its end.
    async fn exchange(&self, reach: Reach, open: &CircuitOpen, mut half: FarHalf) {
        let metrics = &self.inner.metrics.p2p;
        match self.other_half(reach, open).await {
            Ok((target, limits, place)) => {
                half.answer(Status::Ok.code()).await;
                let connection = target.connection();
                let this = self.clone();
                let carrying = async move {
                    let (metrics, _place) = (&this.inner.metrics.p2p, place);
                    let ending = Ending::of(metrics);
                    ending.by(target.splice(half, &limits, &metrics.circuit_bytes).await.word());
                };
                match connection {
                    Some(connection) => self.carry_on(&connection, Box::pin(carrying)),
                    None => carrying.await,
                }
            }
            Err((status, reason)) => {
                metrics.refuse_circuit(reason);
                half.answer(status.code()).await;
            }
        }
    }

    async fn other_half(
        &self,
        reach: Reach,
        open: &CircuitOpen,
    ) -> Result<(Half, CircuitLimits, Circuit), NotConnected> {
        let (source, target) = (peer(&open.source)?, peer(&open.target)?);
        let (origin, crossed) = match &reach {
            Reach::Cluster(party) => (Origin::Cluster(party.clone()), true),
            Reach::Node if open.crossed => (Origin::Crossed, true),
            // It has been counted at the node that it asked.
            Reach::Node => (Origin::Counted, false),
        };
        // What another cluster says of its peers is no proof.
        let limits = match crossed {
            false => self.limits_between(&source, &target),
            true => CircuitLimits { idle: Some(CROSSED_IDLE), ..self.limits_between(&target, &target) },
        };
        if self.inner.draining.load(Ordering::Relaxed) {
            return Err((Status::ConnectionFailed, "draining"));
        }
        let place = self.inner.quota.enter(&limits, self.ends(source, target, origin));
        let place = place.map_err(|full| (Status::ResourceLimitExceeded, full.word()))?;
        let half = match reach {
            Reach::Node => self.stop(source, target, &limits).await?,
            Reach::Cluster(_) => {
                let open = CircuitOpen { crossed: true, ..self::open(source, target) };
                self.in_cluster(open, source, target, &limits).await?
            }
        };
        Ok((half, limits, place))
    }
}

/// A circuit between these.
pub(super) fn open(source: PeerId, target: PeerId) -> CircuitOpen {
    let bytes = |peer: PeerId| peer.to_bytes().into();
    CircuitOpen { hello: None, source: bytes(source), target: bytes(target), crossed: false }
}

/// What is told of a circuit that was refused elsewhere.
pub(super) fn refused(code: i32) -> NotConnected {
    match Status::from_code(code) {
        Some(Status::NoReservation) => (Status::NoReservation, "moved"),
        Some(status) => (status, "refused_there"),
        None => (Status::ConnectionFailed, "node_failed"),
    }
}

impl Exchange for Circuits {
    fn circuit(&self, reach: Reach, open: CircuitOpen, half: FarHalf) {
        let (this, stop) = (self.clone(), self.inner.supervisor.token());
        self.inner.supervisor.spawn_quiet(async move {
            stop.run_until_cancelled(this.exchange(reach, &open, half)).await;
        });
    }
}
