//! What the relay is made of as a libp2p peer.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use libp2p::{Multiaddr, PeerId};

use crate::cluster::Cluster;
use crate::cluster::membership::Membership;
use crate::observe::metrics::Metrics;
use crate::runtime::supervisor::Supervisor;
use crate::store::{Records, StoreError};

use super::circuit::CircuitLimits;
use super::directory::DirectoryLimits;
use super::gif::{GifLimits, ProviderParts};
use super::gossip::GossipLimits;
use super::identity::{KeyError, KeyPlace};
use super::rendezvous::RendezvousLimits;
use super::swarm::SwarmError;
use super::turn_credentials::TurnCredentialsSettings;

/// What the relay needs to know of its configuration.
#[derive(Debug, Clone)]
pub struct HostSettings {
    /// Where to listen.
    pub listen: Vec<Multiaddr>,
    /// Where peers reach the relay; if there are none, it finds out.
    pub external: Vec<Multiaddr>,
    /// Connections at one time.
    pub connections: usize,
    /// Connections of one peer.
    pub connections_per_peer: usize,
    /// Connections from one address.
    pub connections_per_address: usize,
    /// Connections made from one address, per minute.
    pub connections_per_minute: NonZeroU32,
    /// After how long a connection without streams is closed, if nothing holds it.
    pub idle: Duration,
    /// Peers that are bound only by what the node as a whole may serve.
    pub trusted: Vec<PeerId>,
    /// Places and circuits.
    pub circuits: CircuitLimits,
    /// Registrations.
    pub rendezvous: RendezvousLimits,
    /// Topics of gossip; if there are none, it is not spoken.
    pub topics: Vec<String>,
    /// Gossip.
    pub gossip: GossipLimits,
    /// Who is asked for GIFs; `None`: nobody.
    pub gif_provider: Option<ProviderParts>,
    /// Searches for GIFs.
    pub gifs: GifLimits,
    /// Profiles.
    pub directory: DirectoryLimits,
    /// Credentials for TURN, if there is a TURN server.
    pub turn_credentials: Option<TurnCredentialsSettings>,
}

/// Why the relay does not listen.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// There is no key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A transport could not be set up.
    #[error(transparent)]
    Swarm(#[from] SwarmError),
    /// What is kept could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Calls to the provider of GIFs could not be set up.
    #[error("TLS for calls to the provider of GIFs could not be set up: {0}")]
    Calls(#[from] rustls::Error),
    /// A port could not be opened.
    #[error("cannot listen on {address} (RELAY_P2P_LISTEN): {reason}")]
    Listen {
        /// Where.
        address: Multiaddr,
        /// Why not.
        reason: String,
    },
}

/// What the relay is made of.
pub struct HostParts {
    /// What is configured.
    pub settings: HostSettings,
    /// Where its key is.
    pub key: KeyPlace,
    /// Where registrations and profiles are kept.
    pub records: Arc<dyn Records>,
    /// The node's part in its cluster.
    pub cluster: Cluster,
    /// Its place in it.
    pub membership: Membership,
    /// Its figures.
    pub metrics: Arc<Metrics>,
    /// Who runs its tasks.
    pub supervisor: Supervisor,
}
