//! Settings of the gossip of libp2p peers.

use super::kinds::{GIB, KIB, TIB, bytes, per_minute};
use crate::config::setting::{Kind, Setting};

settings! {
    P2P_GOSSIP_TOPICS = Setting::new(
        "RELAY_P2P_GOSSIP_TOPICS",
        Kind::Topics,
        "Topics on which what a libp2p peer publishes is passed on to all that have subscribed, at every node",
    )
    .or("dusk/directory,dusk/sync");
    P2P_GOSSIP_RATE_LIMIT = Setting::new(
        "RELAY_P2P_GOSSIP_RATE_LIMIT",
        per_minute(100_000_000),
        "Messages of gossip that are passed on from one libp2p peer",
    )
    .or("600");
    P2P_GOSSIP_BYTES = Setting::new(
        "RELAY_P2P_GOSSIP_BYTES",
        bytes(128 * KIB, TIB),
        "What they may amount to in a minute",
    )
    .or("8388608");
    P2P_GOSSIP_ADDRESS_RATE_LIMIT = Setting::new(
        "RELAY_P2P_GOSSIP_ADDRESS_RATE_LIMIT",
        per_minute(100_000_000),
        "Messages of gossip that are passed on from one address",
    )
    .or("6000");
    P2P_GOSSIP_ADDRESS_BYTES = Setting::new(
        "RELAY_P2P_GOSSIP_ADDRESS_BYTES",
        bytes(128 * KIB, TIB),
        "What they may amount to in a minute",
    )
    .or("67108864");
    P2P_GOSSIP_SEND_BYTES = Setting::new(
        "RELAY_P2P_GOSSIP_SEND_BYTES",
        bytes(128 * KIB, TIB),
        "What a node sends of gossip to all its peers together in a minute; more is dropped",
    )
    .or("8589934592");
    P2P_GOSSIP_QUEUE_BYTES = Setting::new(
        "RELAY_P2P_GOSSIP_QUEUE_BYTES",
        bytes(128 * KIB, 64 * GIB),
        "Memory for messages of gossip that wait to be sent, each counted once; more are dropped",
    )
    .or("67108864");
}
