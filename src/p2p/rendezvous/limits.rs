//! How many registrations are kept.

use std::num::NonZeroU32;
use std::time::Duration;

/// The least and the most that a registration may last, and how long it does if its peer does not say
/// (specs/rendezvous, "Interaction").
pub const MIN_TTL: Duration = Duration::from_secs(2 * 3600);
/// See [`MIN_TTL`].
pub const MAX_TTL: Duration = Duration::from_secs(72 * 3600);
/// See [`MIN_TTL`].
pub const DEFAULT_TTL: Duration = Duration::from_secs(2 * 3600);

/// Most that one answer tells of (specification, "Recommendations").
pub const MAX_FOUND: usize = 1_000;

/// Most bytes that all registrations of one peer are charged.
pub const PEER_BYTES: usize = 256 << 10;

/// The bounds on registrations of a node.
#[derive(Debug, Clone, Copy)]
pub struct RendezvousLimits {
    /// Of one peer.
    pub per_peer: usize,
    /// In one namespace.
    pub per_namespace: usize,
    /// Bytes of memory for all.
    pub bytes: usize,
    /// Requests from one address, per minute.
    pub requests_per_minute: NonZeroU32,
    /// Addresses whose rates are known one by one.
    pub tracked_addresses: usize,
    /// Whether all namespaces are told to whoever asks without one.
    pub lists_all: bool,
}
