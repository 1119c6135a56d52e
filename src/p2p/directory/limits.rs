//! How many profiles are kept, and how much is looked at for an answer.

use std::num::NonZeroU32;
use std::time::Duration;

use libp2p::Multiaddr;

/// The longest that a profile may be set to last.
pub const MAX_LIFE: Duration = Duration::from_secs(366 * 86_400);

/// While a profile is younger than this, and than a quarter of its life, the same once more changes nothing: clients register every two minutes. So what is
/// told of when a peer was last seen may be as much behind.
pub const FRESH: Duration = Duration::from_secs(300);

/// Most that one answer tells of.
pub const MAX_FOUND: usize = 20;

/// Profiles that are looked at for one answer, the newest first, and how many of them before others have their turn.
pub const MAX_LOOKED_AT: usize = 1_000;
/// See [`MAX_LOOKED_AT`].
pub const LOOKED_AT_ONCE: usize = 50;

/// Searches that look at profiles at one time: others of the node's cores serve everything else.
pub const MAX_SEARCHING: usize = 2;

/// Longest address of a relay, in bytes as text.
pub const MAX_RELAY_BYTES: usize = 512;

/// The bounds on the directory of a node.
#[derive(Debug, Clone)]
pub struct DirectoryLimits {
    /// Bytes of memory for all profiles.
    pub bytes: usize,
    /// How long a profile lasts unless its peer registers again; at most [`MAX_LIFE`].
    pub life: Duration,
    /// Requests from one address, per minute.
    pub requests_per_minute: NonZeroU32,
    /// Requests of one peer, per minute.
    pub requests_of_peer: NonZeroU32,
    /// Addresses, and peers, whose rates are known one by one.
    pub tracked: usize,
    /// Relays of others through which peers may be reached.
    pub relays: Vec<Multiaddr>,
}
