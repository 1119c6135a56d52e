//! Settings of the service for libp2p peers.

use super::kinds::{KIB, MIB, TIB, bytes, count, per_minute, seconds};
use crate::config::setting::{Alias, Kind, Setting, Unit};

settings! {
    P2P_ENABLED = Setting::new("RELAY_P2P_ENABLED", Kind::Boolean, "Whether libp2p peers are served").or("true");
    P2P_PORT = Setting::new(
        "RELAY_P2P_PORT",
        Kind::integer(0, 65_535, Unit::Count),
        "The port for libp2p peers, over TCP and over QUIC, on all addresses of the machine; 0 picks free ones",
    )
    .or("4001")
    .aliases(&[Alias::whole("DUSK_RELAY_PORT")]);
    P2P_LISTEN = Setting::new(
        "RELAY_P2P_LISTEN",
        Kind::Multiaddrs,
        "Where libp2p peers connect, over TCP, QUIC (/quic-v1) or WebSocket (/ws), instead of RELAY_P2P_PORT",
    );
    P2P_EXTERNAL_ADDRS = Setting::new(
        "RELAY_P2P_EXTERNAL_ADDRS",
        Kind::Multiaddrs,
        "Where libp2p peers reach this node from outside; unset: where it listens, and where peers say that they reach it",
    )
    .aliases(&[Alias::whole("DUSK_RELAY_EXTERNAL_ADDR")]);
    P2P_MAX_CONNECTIONS = Setting::new(
        "RELAY_P2P_MAX_CONNECTIONS",
        count(1, 10_000_000),
        "Connections of libp2p peers on this node at one time",
    )
    .or("10000")
    .aliases(&[Alias::whole("DUSK_MAX_CONNECTIONS")]);
    P2P_PEER_MAX_CONNECTIONS = Setting::new(
        "RELAY_P2P_PEER_MAX_CONNECTIONS",
        count(1, 10_000),
        "Connections of one libp2p peer at one time",
    )
    .or("8");
    P2P_ADDRESS_MAX_CONNECTIONS = Setting::new(
        "RELAY_P2P_ADDRESS_MAX_CONNECTIONS",
        count(1, 10_000_000),
        "Connections of libp2p peers from one address at one time",
    )
    .or("1000");
    P2P_ADDRESS_RATE_LIMIT = Setting::new(
        "RELAY_P2P_ADDRESS_RATE_LIMIT",
        per_minute(100_000_000),
        "Connections of libp2p peers from one address; and as many requests to each service",
    )
    .or("6000");
    P2P_TRUSTED_PEERS = Setting::new(
        "RELAY_P2P_TRUSTED_PEERS",
        Kind::PeerIds,
        "libp2p peers whose reservations, and circuits from and to whom, are bound only by what the node as a whole may serve",
    );
    P2P_IDLE_TIMEOUT_SECS = Setting::new(
        "RELAY_P2P_IDLE_TIMEOUT_SECS",
        seconds(5, 86_400),
        "After how long a connection of a libp2p peer that has neither a reservation nor a stream, but for gossip, is closed",
    )
    .or("300");
    P2P_MAX_RESERVATIONS = Setting::new(
        "RELAY_P2P_MAX_RESERVATIONS",
        count(1, 10_000_000),
        "Peers that have a reservation at this node; whoever has one may renew it",
    )
    .or("10000");
    P2P_ADDRESS_MAX_RESERVATIONS = Setting::new(
        "RELAY_P2P_ADDRESS_MAX_RESERVATIONS",
        count(1, 10_000_000),
        "Reservations of peers behind one address",
    )
    .or("1000");
    P2P_RESERVATION_SECS = Setting::new(
        "RELAY_P2P_RESERVATION_SECS",
        seconds(60, 86_400),
        "How long a reservation lasts unless it is renewed",
    )
    .or("3600");
    P2P_MAX_CIRCUITS = Setting::new(
        "RELAY_P2P_MAX_CIRCUITS",
        count(1, 10_000_000),
        "Circuits with a half at this node at one time",
    )
    .or("10000");
    P2P_PEER_MAX_CIRCUITS = Setting::new(
        "RELAY_P2P_PEER_MAX_CIRCUITS",
        count(1, 1_000),
        "Circuits of one peer on this node, from it and to it together",
    )
    .or("256");
    P2P_ADDRESS_MAX_CIRCUITS = Setting::new(
        "RELAY_P2P_ADDRESS_MAX_CIRCUITS",
        count(1, 10_000_000),
        "Circuits that peers behind one address have opened",
    )
    .or("1000");
    P2P_CIRCUIT_SECS = Setting::new(
        "RELAY_P2P_CIRCUIT_SECS",
        seconds(0, 31_536_000),
        "How long a circuit may last; 0 for no limit",
    )
    .or("0");
    P2P_CIRCUIT_BYTES = Setting::new(
        "RELAY_P2P_CIRCUIT_BYTES",
        bytes(0, 1024 * TIB),
        "What a circuit may carry each way; 0 for no limit",
    )
    .or("0");
    P2P_CIRCUIT_RATE = Setting::new(
        "RELAY_P2P_CIRCUIT_RATE",
        bytes(0, 4_095 * MIB),
        "What a circuit may carry each way in a second, more waits; 0 for no limit",
    )
    .or("0");
    P2P_PEER_MAX_REGISTRATIONS = Setting::new(
        "RELAY_P2P_PEER_MAX_REGISTRATIONS",
        count(1, 1_000_000),
        "Namespaces in which one libp2p peer may be registered",
    )
    .or("1000");
    P2P_NAMESPACE_MAX_REGISTRATIONS = Setting::new(
        "RELAY_P2P_NAMESPACE_MAX_REGISTRATIONS",
        count(1, 10_000_000),
        "Peers that may be registered in one namespace; whoever is may register again",
    )
    .or("100000");
    P2P_REGISTRATIONS_BYTES = Setting::new(
        "RELAY_P2P_REGISTRATIONS_BYTES",
        bytes(4 * KIB, TIB),
        "Memory for all registrations, 768 bytes each included",
    )
    .or("67108864");
    P2P_LIST_ALL_NAMESPACES = Setting::new(
        "RELAY_P2P_LIST_ALL_NAMESPACES",
        Kind::Boolean,
        "Whether the peers of all namespaces are told to whoever asks without naming one",
    )
    .or("false");
    P2P_DIRECTORY_BYTES = Setting::new(
        "RELAY_P2P_DIRECTORY_BYTES",
        bytes(4 * KIB, TIB),
        "Memory for all profiles of the directory, 768 bytes each and 104 for each part of a name included",
    )
    .or("134217728");
    P2P_DIRECTORY_TTL_SECS = Setting::new(
        "RELAY_P2P_DIRECTORY_TTL_SECS",
        seconds(1, 31_536_000),
        "How long a profile in the directory lasts unless its peer registers again",
    )
    .or("2592000");
    P2P_DIRECTORY_RELAYS = Setting::new(
        "RELAY_P2P_DIRECTORY_RELAYS",
        Kind::Multiaddrs,
        "Relays outside of the cluster through which peers of the directory may be reached, each ending in /p2p/ and its id",
    )
    .aliases(&[Alias::whole("DUSK_PEER_RELAYS")]);
    P2P_PEER_RATE_LIMIT = Setting::new(
        "RELAY_P2P_PEER_RATE_LIMIT",
        per_minute(1_000_000),
        "Requests of one libp2p peer to the directory; and as many for TURN credentials",
    )
    .or("300");
}
