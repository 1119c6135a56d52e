//! The swarm: transports, and what is spoken on every connection.

use std::sync::Arc;
use std::time::Duration;

use libp2p::core::Transport;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::swarm::NetworkBehaviour;
use libp2p::{Swarm, SwarmBuilder, autonat, identify, noise, ping, tcp, tls, yamux};

use super::boxed::Boxed;
use super::multiplex::Multiplex;
use super::served::Served;
use super::streams::{Door, Streams};

/// What identify says that is spoken: the name that the Dusk relay gives itself.
const PROTOCOL_VERSION: &str = "/dusk/relay/1.0.0";

/// What this is.
const AGENT_VERSION: &str = concat!("waystation/", env!("CARGO_PKG_VERSION"));

/// Connections that may wait to be accepted on a port.
const BACKLOG: u32 = 1024;

/// Streams that one connection may have. The windows of a connection grow to 1 GiB less 256 KiB for each of these, and that is
/// what it can keep in memory if nobody reads what it sent: so few that this stays at 32 MiB, though far fewer streams are
/// ever served.
const MAX_STREAMS: usize = 3968;

/// Streams on one QUIC connection, and bytes that a stream and a connection may have sent that nobody has read.
const QUIC: (u32, u32, u32) = (1024, 1 << 20, 8 << 20);

/// Largest WebSocket message: a whole one is in memory before anybody has proven an id.
const MAX_WEBSOCKET_BYTES: usize = 256 << 10;

/// How long a connection may take for its handshakes.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What is spoken on every connection.
#[derive(NetworkBehaviour)]
pub struct Spoken {
    /// First, so that who may not come in costs nothing else.
    pub(super) streams: Streams,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    reached: autonat::v2::server::Behaviour,
    reached_v1: autonat::v1::Behaviour,
}

/// Why there is no swarm.
#[derive(Debug, thiserror::Error)]
pub enum SwarmError {
    /// Noise could not be set up.
    #[error("Noise for libp2p could not be set up: {0}")]
    Noise(#[from] noise::Error),
    /// TLS could not be set up.
    #[error("TLS for libp2p could not be set up: {0}")]
    Tls(String),
}

/// A swarm that listens nowhere yet. Connections on which nothing happens are closed after `idle`.
pub fn swarm(key: &Keypair, door: Door, served: Served, idle: Duration) -> Result<Swarm<Boxed<Spoken>>, SwarmError> {
    let tcp = || tcp::Config::default().nodelay(true).listen_backlog(BACKLOG);
    let mut websocket = libp2p_websocket::Config::new(tcp::tokio::Transport::new(tcp()));
    websocket.set_max_data_size(MAX_WEBSOCKET_BYTES);
    let for_browsers = websocket.upgrade(Version::V1Lazy).authenticate(noise::Config::new(key)?).multiplex(multiplex());
    let spoken = Boxed(Spoken {
        streams: Streams::new(door, served.offered(), Arc::new(served)),
        identify: identify::Behaviour::new(
            identify::Config::new(PROTOCOL_VERSION.to_owned(), key.public())
                .with_agent_version(AGENT_VERSION.to_owned())
                .with_cache_size(0)
                .with_hide_listen_addrs(true),
        ),
        ping: ping::Behaviour::default(),
        reached: autonat::v2::server::Behaviour::default(),
        reached_v1: autonat::v1::Behaviour::new(key.public().to_peer_id(), only_as_server()),
    });
    let swarm = SwarmBuilder::with_existing_identity(key.clone())
        .with_tokio()
        .with_tcp(tcp(), (noise::Config::new, tls::Config::new), multiplex)
        .map_err(|error| SwarmError::Tls(error.to_string()))?
        .with_quic_config(|mut config| {
            (config.max_concurrent_stream_limit, config.max_stream_data, config.max_connection_data) = QUIC;
            config
        })
        .with_other_transport(move |_| for_browsers)
        .map_err(|error| SwarmError::Tls(error.to_string()))?
        .with_behaviour(move |_| spoken)
        .map_err(|error| SwarmError::Tls(error.to_string()))?
        .with_swarm_config(|config| config.with_idle_connection_timeout(idle))
        .with_connection_timeout(HANDSHAKE)
        .build();
    Ok(swarm)
}

fn multiplex() -> Multiplex {
    let mut config = yamux::Config::default();
    config.set_max_num_streams(MAX_STREAMS);
    Multiplex(config)
}

/// Tells peers whether they can be reached, and asks nobody whether this relay can.
fn only_as_server() -> autonat::v1::Config {
    autonat::v1::Config { use_connected: false, boot_delay: Duration::from_secs(365 * 86_400), ..Default::default() }
}
