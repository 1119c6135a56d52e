//! How much gossip is passed on.

use std::num::NonZeroU32;

use governor::clock::DefaultClock;
use libp2p::PeerId;
use sha2::{Digest, Sha256};

use crate::p2p::streams::Connection;
use crate::security::address::AddressKey;
use crate::security::limiter::{AddressLimiter, ConnectionLimiter, DigestKey, KeyedLimiter};

/// The part of what is sent to all peers that one source may use up.
const SHARE: u32 = 8;

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
    sent_of_source: KeyedLimiter<DigestKey>,
    sent_of_address: AddressLimiter,
    share: NonZeroU32,
}

/// Who is charged for what is sent.
#[derive(Debug, Clone, Copy)]
pub struct Payer {
    source: DigestKey,
    address: Option<AddressKey>,
}

impl Payer {
    /// Who brought a message: its peer, and whoever is at its address.
    pub fn of(connection: &Connection) -> Self {
        Self { source: connection.peer_key(), address: connection.address }
    }

    /// Who has signed a message that another node has brought.
    pub fn signer(source: &PeerId) -> Self {
        let digest: [u8; 32] = Sha256::digest(source.to_bytes()).into();
        Self { source: DigestKey(std::array::from_fn(|at| digest[at])), address: None }
    }
}

impl Rates {
    pub fn new(limits: &GossipLimits) -> Self {
        let clock = DefaultClock::default;
        let share = NonZeroU32::new(limits.sent_kib_per_minute.get() / SHARE).unwrap_or(NonZeroU32::MIN);
        Self {
            messages: KeyedLimiter::new(limits.messages_per_minute, limits.tracked, clock()),
            kib: KeyedLimiter::new(limits.kib_per_minute, limits.tracked, clock()),
            address_messages: AddressLimiter::new(limits.address_messages_per_minute, limits.tracked, clock()),
            address_kib: AddressLimiter::new(limits.address_kib_per_minute, limits.tracked, clock()),
            sent: ConnectionLimiter::new(limits.sent_kib_per_minute),
            sent_of_source: KeyedLimiter::new(share, limits.tracked, clock()),
            sent_of_address: AddressLimiter::new(share, limits.tracked, clock()),
            share,
        }
    }

    /// Takes a message of so many bytes from what the peer of `connection`, and whoever is at its address, may say. Whose
    /// it claims to be does not matter: anybody may pass on what others have signed. The peer comes first, so that what it may
    /// not say is not taken from others at its address.
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

    /// Takes so many bytes to so many peers from what may be sent, and from the share of who is to pay, if anybody is bound. No
    /// message costs more than a share, so each can be sent some time, however many want it.
    ///
    /// # Errors
    /// What is used up, in one word for figures.
    pub fn send(&self, payer: Option<Payer>, bytes: usize, peers: usize) -> Result<(), &'static str> {
        let peers = u32::try_from(peers).unwrap_or(u32::MAX);
        let Some(all) = NonZeroU32::new(kib(bytes).get().saturating_mul(peers)) else { return Ok(()) };
        let all = all.min(self.share);
        if let Some(Payer { source, address }) = payer
            && !(self.sent_of_source.check_many(source, all)
                && address.is_none_or(|address| self.sent_of_address.check_many(address, all)))
        {
            return Err("send_share");
        }
        if self.sent.check_many(all) { Ok(()) } else { Err("send_rate") }
    }

    /// Forgets rates that no longer limit anybody.
    pub fn sweep(&self) {
        self.messages.sweep();
        self.kib.sweep();
        self.address_messages.sweep();
        self.address_kib.sweep();
        self.sent_of_source.sweep();
        self.sent_of_address.sweep();
    }
}

/// So many bytes in KiB, at least one.
pub fn kib(bytes: usize) -> NonZeroU32 {
    u32::try_from(bytes.div_ceil(1024)).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
}

#[cfg(test)]
pub mod tests {
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

    fn connection(id: usize, at: &str) -> Connection {
        Connection::incoming(PeerId::random(), ConnectionId::new_unchecked(id), &at.parse().unwrap())
    }

    #[test]
    fn each_rate_bites_by_itself() {
        let few = NonZeroU32::new(2).unwrap();
        let connection = |id| connection(id, "/ip4/192.0.2.1/tcp/1");
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
    }

    #[test]
    fn what_a_peer_may_not_say_is_not_taken_from_others_at_its_address() {
        let [few, more] = [2, 3].map(|most| NonZeroU32::new(most).unwrap());
        let rates =
            Rates::new(&GossipLimits { messages_per_minute: few, address_messages_per_minute: more, ..limits() });
        let [loud, other] = [1, 2].map(|id| connection(id, "/ip4/192.0.2.1/tcp/1"));
        assert_eq!((0..10).filter(|_| rates.take(&loud, 1).is_ok()).count(), 2);
        assert_eq!([(); 2].map(|()| rates.take(&other, 1)), [Ok(()), Err("address_rate")]);
    }

    #[test]
    fn one_source_sends_no_more_than_its_share_and_all_no_more_than_there_is() {
        let rates = Rates::new(&GossipLimits { sent_kib_per_minute: NonZeroU32::new(32).unwrap(), ..limits() });
        let at = |nth: usize| Some(Payer::of(&connection(nth, &format!("/ip4/192.0.2.{nth}/tcp/1"))));
        let first = at(1);
        let sent = [0, 3, 2, 1, 1].map(|peers| rates.send(first, 1, peers));
        assert_eq!(sent, [Ok(()), Ok(()), Err("send_share"), Ok(()), Err("send_share")]);
        assert_eq!(rates.send(at(1), 1, 1), Err("send_share"), "another peer at its address");
        let signer = PeerId::random();
        let sent = [(); 2].map(|()| rates.send(Some(Payer::signer(&signer)), 1, 4));
        assert_eq!(sent, [Ok(()), Err("send_share")]);
        assert_eq!(rates.send(at(2), 1 << 20, usize::MAX), Ok(()), "more than there ever is costs a share");
        assert_eq!((3..10).filter(|nth| rates.send(at(*nth), 1, 4).is_ok()).count(), 5, "eight shares are all");
        assert_eq!((rates.send(at(10), 1, 4), rates.send(None, 1, 4)), (Err("send_rate"), Err("send_rate")));
    }
}
