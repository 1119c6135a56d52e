//! Settings of the service for libp2p peers.

use std::num::NonZeroU32;
use std::time::Duration;

use multiaddr::{Multiaddr, PeerId};

use super::error::ConfigError;
use super::gossip::GossipConfig;
use super::parse;
use super::table;
use super::values::Values;

/// Settings of the service for libp2p peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct P2pConfig {
    /// Whether they are served.
    pub enabled: bool,
    /// Where they connect.
    pub listen: Vec<Multiaddr>,
    /// Where they reach this node from outside; empty: it finds out.
    pub external: Vec<Multiaddr>,
    /// Connections at one time.
    pub max_connections: usize,
    /// Connections of one peer.
    pub peer_max_connections: usize,
    /// Connections from one address.
    pub address_max_connections: usize,
    /// Connections made, and things asked for, from one address, per minute.
    pub address_rate: NonZeroU32,
    /// Peers that are bound only by what the node may serve.
    pub trusted: Vec<PeerId>,
    /// After how long an idle connection is closed.
    pub idle_timeout: Duration,
    /// Peers that have a reservation.
    pub max_reservations: usize,
    /// Reservations of peers behind one address.
    pub address_max_reservations: usize,
    /// How long a reservation lasts.
    pub reservation_life: Duration,
    /// Circuits at one time.
    pub max_circuits: usize,
    /// Circuits of one peer.
    pub peer_max_circuits: usize,
    /// Circuits that were opened from one address.
    pub address_max_circuits: usize,
    /// How long a circuit may last; `None`: no limit.
    pub circuit_duration: Option<Duration>,
    /// What a circuit may carry each way; `None`: no limit.
    pub circuit_bytes: Option<u64>,
    /// What it may carry each way in a second; `None`: no limit.
    pub circuit_rate: Option<NonZeroU32>,
    /// Registrations of one peer.
    pub peer_max_registrations: usize,
    /// Registrations in one namespace.
    pub namespace_max_registrations: usize,
    /// Memory for all registrations, in bytes.
    pub registrations_bytes: usize,
    /// Whether all namespaces are told to whoever asks without one.
    pub lists_all: bool,
    /// Gossip.
    pub gossip: GossipConfig,
    /// Memory for all profiles of the directory, in bytes.
    pub directory_bytes: usize,
    /// How long a profile lasts.
    pub directory_life: Duration,
    /// Relays outside of the cluster through which peers of the directory may be reached.
    pub directory_relays: Vec<Multiaddr>,
    /// Things asked for by one peer, per minute.
    pub peer_rate: NonZeroU32,
}

impl P2pConfig {
    pub(super) fn read(values: &Values) -> Result<Self, ConfigError> {
        let port: u16 = values.integer(&table::P2P_PORT)?;
        let listen = values.optional(&table::P2P_LISTEN, parse::multiaddrs)?;
        let duration = values.duration(&table::P2P_CIRCUIT_SECS)?;
        let bytes = values.integer(&table::P2P_CIRCUIT_BYTES)?;
        Ok(Self {
            enabled: values.required(&table::P2P_ENABLED, parse::boolean)?,
            listen: listen.unwrap_or_else(|| everywhere(port)),
            external: values.optional(&table::P2P_EXTERNAL_ADDRS, parse::multiaddrs)?.unwrap_or_default(),
            max_connections: values.integer(&table::P2P_MAX_CONNECTIONS)?,
            peer_max_connections: values.integer(&table::P2P_PEER_MAX_CONNECTIONS)?,
            address_max_connections: values.integer(&table::P2P_ADDRESS_MAX_CONNECTIONS)?,
            address_rate: values.non_zero(&table::P2P_ADDRESS_RATE_LIMIT)?,
            trusted: values.optional(&table::P2P_TRUSTED_PEERS, parse::peer_ids)?.unwrap_or_default(),
            idle_timeout: values.duration(&table::P2P_IDLE_TIMEOUT_SECS)?,
            max_reservations: values.integer(&table::P2P_MAX_RESERVATIONS)?,
            address_max_reservations: values.integer(&table::P2P_ADDRESS_MAX_RESERVATIONS)?,
            reservation_life: values.duration(&table::P2P_RESERVATION_SECS)?,
            max_circuits: values.integer(&table::P2P_MAX_CIRCUITS)?,
            peer_max_circuits: values.integer(&table::P2P_PEER_MAX_CIRCUITS)?,
            address_max_circuits: values.integer(&table::P2P_ADDRESS_MAX_CIRCUITS)?,
            circuit_duration: (!duration.is_zero()).then_some(duration),
            circuit_bytes: (bytes > 0).then_some(bytes),
            peer_max_registrations: values.integer(&table::P2P_PEER_MAX_REGISTRATIONS)?,
            namespace_max_registrations: values.integer(&table::P2P_NAMESPACE_MAX_REGISTRATIONS)?,
            registrations_bytes: values.integer(&table::P2P_REGISTRATIONS_BYTES)?,
            lists_all: values.required(&table::P2P_LIST_ALL_NAMESPACES, parse::boolean)?,
            circuit_rate: NonZeroU32::new(values.integer(&table::P2P_CIRCUIT_RATE)?),
            gossip: GossipConfig::read(values)?,
            directory_bytes: values.integer(&table::P2P_DIRECTORY_BYTES)?,
            directory_life: values.duration(&table::P2P_DIRECTORY_TTL_SECS)?,
            directory_relays: values.optional(&table::P2P_DIRECTORY_RELAYS, parse::multiaddrs)?.unwrap_or_default(),
            peer_rate: values.non_zero(&table::P2P_PEER_RATE_LIMIT)?,
        })
    }
}

/// TCP and QUIC on all addresses of the machine.
fn everywhere(port: u16) -> Vec<Multiaddr> {
    use multiaddr::Protocol::{Ip4, Ip6, QuicV1, Tcp, Udp};
    use std::net::{Ipv4Addr, Ipv6Addr};

    let hosts = [Ip4(Ipv4Addr::UNSPECIFIED), Ip6(Ipv6Addr::UNSPECIFIED)];
    let over = |host: &multiaddr::Protocol<'static>| {
        let host = Multiaddr::from(host.clone());
        [host.clone().with(Tcp(port)), host.with(Udp(port)).with(QuicV1)]
    };
    hosts.iter().flat_map(over).collect()
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn one_port_is_for_tcp_and_quic_on_all_addresses_unless_others_are_given() {
        let listen = |pairs: &[(&str, &str)]| {
            let config = Config::from_pairs(pairs.iter().copied()).unwrap();
            config.p2p.listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            listen(&[("DUSK_RELAY_PORT", "9")]),
            "/ip4/0.0.0.0/tcp/9 /ip4/0.0.0.0/udp/9/quic-v1 /ip6/::/tcp/9 /ip6/::/udp/9/quic-v1"
        );
        let given = [("RELAY_P2P_PORT", "9"), ("RELAY_P2P_LISTEN", "/ip4/127.0.0.1/tcp/1/ws, /ip4/127.0.0.1/tcp/2")];
        assert_eq!(listen(&given), "/ip4/127.0.0.1/tcp/1/ws /ip4/127.0.0.1/tcp/2");
        assert!(Config::from_pairs([("RELAY_P2P_LISTEN", "127.0.0.1:4001")]).is_err());
        assert!(Config::from_pairs([("RELAY_P2P_TRUSTED_PEERS", "nobody")]).is_err());
    }

    #[test]
    fn nought_is_no_limit() {
        let config = |pairs: &[(&str, &str)]| Config::from_pairs(pairs.iter().copied()).unwrap().p2p;
        let none = config(&[]);
        assert_eq!((none.circuit_duration, none.circuit_bytes, none.circuit_rate), (None, None, None));
        let some = config(&[("RELAY_P2P_CIRCUIT_SECS", "120"), ("RELAY_P2P_CIRCUIT_BYTES", "131072")]);
        assert_eq!(some.circuit_duration.map(|d| d.as_secs()), Some(120));
        assert_eq!(some.circuit_bytes, Some(131_072));
    }
}
