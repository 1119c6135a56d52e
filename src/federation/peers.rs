//! The peers there are, and how that changes while the node runs.

use std::sync::Arc;

use tokio::sync::watch;

use super::peer::Peer;
use super::{Federation, PeerStatus, call};
use crate::cluster::regions::PeerName;
use crate::config::PeerUrl;

/// Peers that there may be when one is added.
const MAX_PEERS: usize = 256;

/// Why a peer was not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAdded {
    /// There is one at that URL.
    #[error("there is a peer at that URL")]
    Known,
    /// There are as many as there may be.
    #[error("there are 256 peers; remove one first")]
    TooMany,
    /// The link would go farther than it may with what clusters prove themselves by.
    #[error("without RELAY_FEDERATION_TLS_CERT or RELAY_FEDERATION_SECRET, a peer must be on loopback and without TLS")]
    TooFar,
}

impl Federation {
    /// What is known of each peer, by its URL.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.inner.peers.read().values().map(|peer| peer.status()).collect()
    }

    /// Changes whenever that does.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.inner.changes.subscribe()
    }

    /// Calls one more peer, until the node stops or the peer is removed.
    ///
    /// # Errors
    /// [`NotAdded`].
    pub fn add(&self, url: &PeerUrl) -> Result<(), NotAdded> {
        if !self.inner.settings.reach.allows(url) {
            return Err(NotAdded::TooFar);
        }
        if self.inner.peers.read().len() >= MAX_PEERS {
            return Err(NotAdded::TooMany);
        }
        self.call(url, true).then_some(()).ok_or(NotAdded::Known)
    }

    /// Ends the link to a peer, and forgets what it was to be told. False if there is none at that URL.
    pub async fn remove(&self, url: &PeerUrl) -> bool {
        let name = PeerName(url.to_string().into());
        let Some(peer) = self.inner.peers.read().get(&name).cloned() else { return false };
        peer.end().await;
        // Only one of those who remove it at a time does.
        {
            let mut peers = self.inner.peers.write();
            if !peers.get(&name).is_some_and(|there| Arc::ptr_eq(there, &peer)) {
                return false;
            }
            peers.remove(&name);
        }
        if let Some(service) = self.inner.cluster.afar.mailbox.get() {
            service.peer_gone(&name);
        }
        if let Some(service) = self.inner.cluster.afar.vault.get() {
            service.peer_gone(&name);
        }
        self.inner.changes.send_replace(());
        true
    }

    /// Keeps a link to a peer, from now on. False if there is one at that URL.
    pub(super) fn call(&self, url: &PeerUrl, added: bool) -> bool {
        let inner = &self.inner;
        let mut peers = inner.peers.write();
        let name = PeerName(url.to_string().into());
        if peers.contains_key(&name) {
            return false;
        }
        let peer = Arc::new(Peer::new(name.clone(), url.clone(), added, inner.changes.clone(), inner.metrics.clone()));
        peers.insert(name, peer.clone());
        drop(peers);
        inner.changes.send_replace(());
        inner.supervisor.spawn_quiet(call::run(inner.clone(), peer));
        true
    }
}
