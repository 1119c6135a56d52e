//! Every bound in the system that is no setting, by name, with its arithmetic.

use std::time::Duration;

/// Longest vault, request, invite or claim id, in bytes. Shipped clients use 36 at most.
pub const MAX_ID_BYTES: usize = 256;

/// Longest life of a request, and how long its answer is kept for a repeat.
pub const REQUEST_TTL: Duration = Duration::from_secs(300);

/// How far an agent's clock may be ahead: agents always ask for exactly [`REQUEST_TTL`].
pub const REQUEST_TTL_MARGIN: Duration = Duration::from_secs(60);

/// How far a signed time may be from ours, either way.
pub const SIGNED_TIME_SKEW: Duration = Duration::from_secs(300);

/// Shortest registration nonce, in bytes.
pub const MIN_NONCE_BYTES: usize = 32;

/// Longest registration nonce, in bytes: clients send 32.
pub const MAX_NONCE_BYTES: usize = 256;

/// How long a nonce is remembered past the signed time it came with: the skew, and a minute for clocks of
/// nodes that differ.
pub const NONCE_MEMORY: Duration = Duration::from_secs(SIGNED_TIME_SKEW.as_secs() + 60);

/// How often a shipped vault sends a heartbeat.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(30);

/// Silence after which a vault is dropped: two heartbeats missed, and half of one for delay.
pub const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(75);

/// Topics of the gossip of libp2p peers: a bit for each is kept of a peer.
pub const MAX_TOPICS: usize = 32;

/// Longest name of such a topic, in bytes.
pub const MAX_TOPIC_BYTES: usize = 255;
