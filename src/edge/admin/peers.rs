//! Other clusters that this node calls, and how that changes.

use futures::Stream;
use tokio::sync::watch;
use tonic::Status;

use super::changes::{Change, Entries, watch};
use super::proto::{Peer, PeerChange, PeerEvent, PeerState};
use super::service::Service;
use crate::config::{Kind, PeerUrl};
use crate::federation::{Federation, NotAdded, PeerStatus};

/// A URL that a peer may have.
pub(super) fn checked(url: &str) -> Result<PeerUrl, Status> {
    PeerUrl::parse(url.trim()).ok_or_else(|| Status::invalid_argument(format!("give one of {}", Kind::Peers)))
}

impl Service {
    fn federation(&self) -> Result<&Federation, Status> {
        let off = || Status::failed_precondition("this node speaks to no other cluster (RELAY_FEDERATION_ENABLED)");
        self.parts.federation.as_ref().ok_or_else(off)
    }

    /// The peers by URL.
    pub(super) fn peers(&self) -> Result<Vec<Peer>, Status> {
        Ok(shown(self.federation()?).into_values().collect())
    }

    /// The peers, then what changes.
    pub(super) fn peer_events(&self) -> Result<impl Stream<Item = Result<PeerEvent, Status>> + Send + use<>, Status> {
        let federation = self.federation()?.clone();
        let changes = federation.changes();
        let look = move |changes: &mut watch::Receiver<()>| {
            changes.mark_unchanged();
            shown(&federation)
        };
        Ok(watch(changes, look, event))
    }

    /// Calls one more.
    pub(super) fn add(&self, url: &PeerUrl) -> Result<(), Status> {
        self.federation()?.add(url).map_err(|refused| match refused {
            NotAdded::Known => Status::already_exists(refused.to_string()),
            NotAdded::TooMany => Status::resource_exhausted(refused.to_string()),
            NotAdded::TooFar => Status::failed_precondition(refused.to_string()),
        })
    }

    /// Calls one no more.
    pub(super) async fn remove(&self, url: &PeerUrl) -> Result<(), Status> {
        let removed = self.federation()?.remove(url).await;
        removed.then_some(()).ok_or_else(|| Status::not_found("there is no peer at that URL"))
    }
}

fn event(change: Change, peer: Peer) -> PeerEvent {
    let change = match change {
        Change::Present => PeerChange::Present,
        Change::New => PeerChange::Added,
        Change::Changed => PeerChange::Changed,
        Change::Gone => PeerChange::Removed,
    };
    PeerEvent { change: change.into(), peer: Some(peer) }
}

fn shown(federation: &Federation) -> Entries<Peer> {
    federation.peers().into_iter().map(|peer| (peer.url.clone(), show(peer))).collect()
}

fn show(peer: PeerStatus) -> Peer {
    let capacity = peer.capacity.unwrap_or_default();
    let state = match (peer.up, capacity.draining) {
        (false, _) => PeerState::Down,
        (true, true) => PeerState::Draining,
        (true, false) => PeerState::Up,
    };
    Peer {
        url: peer.url,
        state: state.into(),
        since_ms: peer.since.0,
        relay_id: peer.relay_id,
        cluster_id: peer.cluster_id,
        region: peer.region,
        version: peer.version,
        public_url: peer.public_url,
        round_trip_us: peer.round_trip.map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1)),
        bytes: capacity.used,
        bytes_max: capacity.max,
        last_error: peer.last_error.unwrap_or_default(),
        last_error_ms: peer.last_error_at.0,
        added: peer.added,
    }
}
