//! How much gossip is passed on.

use std::num::NonZeroU32;

use governor::clock::DefaultClock;

use crate::p2p::streams::Connection;
use crate::security::limiter::{AddressLimiter, ConnectionLimiter, DigestKey, KeyedLimiter};

/// The bounds on the gossip of a node.
#[derive(Debug, Clone, Copy)]
pub struct GossipLimits {
    /// Messages from one peer, per minute.
    pub messages_per_minute: NonZeroU32,
    /// What they may amount to, in KiB per minute.
    pub kib_per_minute: NonZeroU32,
    /// Messages from one address, per minute.
    pub address_messages_per_minute: NonZeroU32,
    /// What they may amount to, in KiB per minute.
    pub address_kib_per_minute: NonZeroU32,
    /// What is sent to all peers together, in KiB per minute.
    pub sent_kib_per_minute: NonZeroU32,
    /// Memory for messages that wait to be sent, in KiB; each counts once, to however many peers it is to go.
    pub waiting_kib: usize,
    /// Addresses, and peers, whose rates are known one by one.
    pub tracked: usize,
}

/// What has been used of them.
pub struct Rates {
    messages: KeyedLimiter<DigestKey>,
    kib: KeyedLimiter<DigestKey>,
    address_messages: AddressLimiter,
    address_kib: AddressLimiter,
    sent: ConnectionLimiter,
}

impl Rates {
    pub fn new(limits: &GossipLimits) -> Self {
        let clock = DefaultClock::default;
        Self {
            messages: KeyedLimiter::new(limits.messages_per_minute, limits.tracked, clock()),
            kib: KeyedLimiter::new(limits.kib_per_minute, limits.tracked, clock()),
            address_messages: AddressLimiter::new(limits.address_messages_per_minute, limits.tracked, clock()),
            address_kib: AddressLimiter::new(limits.address_kib_per_minute, limits.tracked, clock()),
            sent: ConnectionLimiter::new(limits.sent_kib_per_minute),
        }
    }

    /// Takes a message of so many bytes from what the peer of `connection`, and whoever is at its address, may say. Whose
    /// it claims to be does not matter: anybody may pass on what others have signed.
    ///
    /// # Errors
    /// Which rate is used up, in one word for figures.
    pub fn take(&self, connection: &Connection, bytes: usize) -> Result<(), &'static str> {
        let (peer, kib) = (connection.peer_key(), kib(bytes));
        // First, so that what one peer says too much is not taken from the others at its address.
        self.messages.check(peer).map_err(|_| "peer_rate")?;
        if !self.kib.check_many(peer, kib) {
            return Err("peer_bytes");
        }
        let Some(address) = connection.address else { return Ok(()) };
        self.address_messages.check(address).map_err(|_| "address_rate")?;
        if self.address_kib.check_many(address, kib) { Ok(()) } else { Err("address_bytes") }
    }

    /// Whether so many bytes may be sent to so many peers.
    pub fn send(&self, bytes: usize, peers: usize) -> bool {
        let peers = u32::try_from(peers).unwrap_or(u32::MAX);
        NonZeroU32::new(kib(bytes).get().saturating_mul(peers)).is_none_or(|all| self.sent.check_many(all))
    }

    /// Forgets rates that no longer limit anybody.
    pub fn sweep(&self) {
        self.messages.sweep();
        self.kib.sweep();
        self.address_messages.sweep();
        self.address_kib.sweep();
    }
}

/// So many bytes in KiB, at least one.
pub fn kib(bytes: usize) -> NonZeroU32 {
    u32::try_from(bytes.div_ceil(1024)).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
}

#[cfg(test)]
pub mod tests {
    use libp2p::PeerId;
    use libp2p::swarm::ConnectionId;

    use super::*;

    /// Bounds that bind nobody in a test.
    pub fn limits() -> GossipLimits {
        GossipLimits {
            messages_per_minute: NonZeroU32::MAX,
            kib_per_minute: NonZeroU32::MAX,
            address_messages_per_minute: NonZeroU32::MAX,
            address_kib_per_minute: NonZeroU32::MAX,
            sent_kib_per_minute: NonZeroU32::MAX,
            waiting_kib: 1 << 20,
            tracked: 100,
        }
    }

    #[test]
    fn each_rate_bites_by_itself() {
        let (few, at) = (NonZeroU32::new(2).unwrap(), "/ip4/192.0.2.1/tcp/1".parse().unwrap());
        let connection = |id| Connection::incoming(PeerId::random(), ConnectionId::new_unchecked(id), &at);
        for (limits, used_up, others_too) in [
            (GossipLimits { messages_per_minute: few, ..limits() }, "peer_rate", false),
            (GossipLimits { kib_per_minute: few, ..limits() }, "peer_bytes", false),
            (GossipLimits { address_messages_per_minute: few, ..limits() }, "address_rate", true),
            (GossipLimits { address_kib_per_minute: few, ..limits() }, "address_bytes", true),
        ] {
            let (rates, first, second) = (Rates::new(&limits), connection(1), connection(2));
            assert_eq!([(); 3].map(|()| rates.take(&first, 1)), [Ok(()), Ok(()), Err(used_up)]);
            assert_eq!(rates.take(&second, 1).is_err(), others_too, "{used_up}");
        }
        // What a peer is refused is not taken from the others at its address.
        let one = GossipLimits { messages_per_minute: NonZeroU32::MIN, address_messages_per_minute: few, ..limits() };
        let (rates, first, second) = (Rates::new(&one), connection(1), connection(2));
        assert_eq!(
            [&first, &first, &first, &second].map(|from| rates.take(from, 1).is_ok()),
            [true, false, false, true]
        );
        let rates = Rates::new(&GossipLimits { sent_kib_per_minute: few, ..limits() });
        assert!(rates.send(1, 0) && rates.send(1, 2) && !rates.send(1, 1));
    }
}
