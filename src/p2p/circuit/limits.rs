//! What peers may use of the relay.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::wire::p2p::circuit::Limit;

/// The bounds on places and circuits of one node.
#[derive(Debug, Clone, Copy)]
pub struct CircuitLimits {
    /// Places at one time. Whoever has one keeps it: a renewal is never refused for it.
    pub reservations: usize,
    /// Places of peers behind one address.
    pub reservations_per_address: usize,
    /// How long a place is kept.
    pub reservation_life: Duration,
    /// Circuits at one time.
    pub circuits: usize,
    /// Circuits of one peer, from it and to it together.
    pub circuits_per_peer: usize,
    /// Circuits that were opened from one address.
    pub circuits_per_address: usize,
    /// Places and circuits asked for from one address, per minute.
    pub requests_per_minute: NonZeroU32,
    /// Addresses whose rates are known one by one.
    pub tracked_addresses: usize,
    /// How long a circuit may last; `None`: as long as its peers want.
    pub duration: Option<Duration>,
    /// What it may carry each way; `None`: no bound.
    pub bytes: Option<u64>,
    /// Bytes a second that it may carry each way; more waits. `None`: no bound.
    pub rate: Option<NonZeroU32>,
    /// After how long without a byte it ends; `None`: never.
    pub idle: Option<Duration>,
}

impl CircuitLimits {
    /// The same for circuits from and to peers that are trusted: they carry what they like.
    #[must_use]
    pub fn of_trusted(&self) -> Self {
        Self { duration: None, bytes: None, rate: None, ..*self }
    }

    /// What clients are told of a circuit.
    #[must_use]
    pub fn told(&self) -> Limit {
        let seconds = self.duration.map(|duration| u32::try_from(duration.as_secs()).unwrap_or(u32::MAX));
        Limit { seconds, bytes: self.bytes }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Bounds that bind nobody in a test.
    pub fn limits() -> CircuitLimits {
        CircuitLimits {
            reservations: 100,
            reservations_per_address: 100,
            reservation_life: Duration::from_secs(3600),
            circuits: 100,
            circuits_per_peer: 100,
            circuits_per_address: 100,
            requests_per_minute: NonZeroU32::MAX,
            tracked_addresses: 100,
            duration: None,
            bytes: None,
            rate: None,
            idle: None,
        }
    }

    #[test]
    fn clients_are_told_only_of_what_is_limited() {
        assert_eq!(limits().told(), Limit::default());
        let limited = CircuitLimits { duration: Some(Duration::from_secs(120)), bytes: Some(9), ..limits() };
        assert_eq!(limited.told(), Limit { seconds: Some(120), bytes: Some(9) });
    }
}
