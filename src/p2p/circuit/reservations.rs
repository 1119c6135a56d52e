//! Places that peers have at this node: who keeps one, on which connection, until when.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use libp2p::PeerId;
use libp2p::swarm::ConnectionId;

use crate::domain::clock::Millis;
use crate::p2p::streams::{Connection, Hold};
use crate::security::address::AddressKey;

use super::limits::CircuitLimits;

/// Why a place is not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPlace {
    /// All places of this node are taken.
    Full,
    /// All places of the peer's address are.
    AddressFull,
}

/// A place that was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Given {
    /// Until when.
    pub until: Millis,
    /// Whether the peer had none on that connection before.
    pub new: bool,
}

/// The places of one node. Nothing here waits; the caller says what time it is.
#[derive(Debug)]
pub struct Reservations {
    places: usize,
    per_address: usize,
    life: Duration,
    peers: HashMap<PeerId, Vec<Seat>>,
    addresses: HashMap<AddressKey, usize>,
    ends: BTreeSet<(Millis, ConnectionId, PeerId)>,
}

/// A place on one connection. A peer may have several: the newest connection is the one that is used.
#[derive(Debug)]
struct Seat {
    connection: Arc<Connection>,
    account: Option<AddressKey>,
    until: Millis,
    _hold: Hold,
}

impl Reservations {
    /// No places yet.
    #[must_use]
    pub fn new(limits: &CircuitLimits) -> Self {
        Self {
            places: limits.reservations,
            per_address: limits.reservations_per_address,
            life: limits.reservation_life,
            peers: HashMap::new(),
            addresses: HashMap::new(),
            ends: BTreeSet::new(),
        }
    }

    /// Gives the peer of `connection` a place on it, or keeps the one that it has for longer. Bounds are for peers that
    /// have none yet; `account` is the address to which a place is put down, if any.
    ///
    /// # Errors
    /// Which bound is reached.
    pub fn reserve(
        &mut self,
        connection: &Arc<Connection>,
        account: Option<AddressKey>,
        now: Millis,
    ) -> Result<Given, NoPlace> {
        let until = now.plus(self.life);
        let known = self.peers.get_mut(&connection.peer);
        if let Some(seat) = known.and_then(|seats| seats.iter_mut().find(|seat| seat.connection.id == connection.id)) {
            self.ends.remove(&(seat.until, connection.id, connection.peer));
            self.ends.insert((until, connection.id, connection.peer));
            seat.until = until;
            return Ok(Given { until, new: false });
        }
        if !self.peers.contains_key(&connection.peer) {
            self.has_room_for(account)?;
        }
        if let Some(address) = account {
            *self.addresses.entry(address).or_default() += 1;
        }
        self.ends.insert((until, connection.id, connection.peer));
        let seat = Seat { connection: connection.clone(), account, until, _hold: Hold::on(connection) };
        self.peers.entry(connection.peer).or_default().push(seat);
        Ok(Given { until, new: true })
    }

    /// The connection by which a peer that has a place is reached.
    #[must_use]
    pub fn of(&self, peer: &PeerId) -> Option<Arc<Connection>> {
        self.peers.get(peer)?.last().map(|seat| seat.connection.clone())
    }

    /// Whether there is a place on that connection of the peer.
    #[must_use]
    pub fn has(&self, peer: &PeerId, connection: ConnectionId) -> bool {
        self.peers.get(peer).is_some_and(|seats| seats.iter().any(|seat| seat.connection.id == connection))
    }

    /// The place on that connection is given up; whether the peer has none left.
    pub fn release(&mut self, peer: &PeerId, connection: ConnectionId) -> bool {
        let Some(seats) = self.peers.get_mut(peer) else { return false };
        let Some(at) = seats.iter().position(|seat| seat.connection.id == connection) else { return false };
        let seat = seats.remove(at);
        let last = seats.is_empty();
        if last {
            self.peers.remove(peer);
        }
        self.ends.remove(&(seat.until, connection, *peer));
        if let Some(address) = seat.account
            && let Some(count) = self.addresses.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                self.addresses.remove(&address);
            }
        }
        last
    }

    /// One place that has ended by `now`, if there is any.
    #[must_use]
    pub fn ended(&self, now: Millis) -> Option<(PeerId, ConnectionId)> {
        self.ends.first().filter(|(until, ..)| *until <= now).map(|(_, connection, peer)| (*peer, *connection))
    }

    /// Peers that have a place.
    #[must_use]
    pub fn peers(&self) -> usize {
        self.peers.len()
    }

    /// All connections on which there is a place.
    pub fn connections(&self) -> impl Iterator<Item = &Arc<Connection>> {
        self.peers.values().flatten().map(|seat| &seat.connection)
    }

    fn has_room_for(&self, account: Option<AddressKey>) -> Result<(), NoPlace> {
        if self.peers.len() >= self.places {
            return Err(NoPlace::Full);
        }
        let taken = account.and_then(|address| self.addresses.get(&address)).copied().unwrap_or(0);
        if taken >= self.per_address { Err(NoPlace::AddressFull) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::p2p::circuit::limits::tests::limits;

    fn connection(peer: PeerId, id: usize, host: u8) -> Arc<Connection> {
        let remote = format!("/ip4/192.0.2.{host}/tcp/4001").parse().unwrap();
        Arc::new(Connection::incoming(peer, ConnectionId::new_unchecked(id), &remote))
    }

    fn table(reservations: usize, reservations_per_address: usize) -> Reservations {
        let life = Duration::from_secs(1);
        Reservations::new(&CircuitLimits { reservations, reservations_per_address, reservation_life: life, ..limits() })
    }

    /// Put down to the connection's address.
    fn reserve(table: &mut Reservations, connection: &Arc<Connection>, now: Millis) -> Result<Given, NoPlace> {
        table.reserve(connection, connection.address, now)
    }

    #[test]
    fn whoever_has_a_place_keeps_it_when_all_are_taken() {
        let mut table = table(1, 9);
        let first = connection(PeerId::random(), 1, 1);
        assert_eq!(reserve(&mut table, &first, Millis(0)), Ok(Given { until: Millis(1000), new: true }));
        assert_eq!(reserve(&mut table, &connection(PeerId::random(), 2, 2), Millis(1)), Err(NoPlace::Full));
        assert_eq!(reserve(&mut table, &first, Millis(500)), Ok(Given { until: Millis(1500), new: false }));
        assert_eq!(table.ended(Millis(1499)), None);
        assert_eq!(table.ended(Millis(1500)), Some((first.peer, first.id)));
        let second = connection(first.peer, 3, 1);
        assert!(reserve(&mut table, &second, Millis(600)).is_ok(), "the peer has a place already");
    }

    #[test]
    fn the_places_of_one_address_are_bounded() {
        let mut table = table(9, 1);
        let first = connection(PeerId::random(), 1, 1);
        reserve(&mut table, &first, Millis(0)).unwrap();
        assert_eq!(reserve(&mut table, &connection(PeerId::random(), 2, 1), Millis(0)), Err(NoPlace::AddressFull));
        assert!(reserve(&mut table, &connection(PeerId::random(), 3, 2), Millis(0)).is_ok());
        assert!(table.release(&first.peer, first.id));
        assert!(reserve(&mut table, &connection(PeerId::random(), 4, 1), Millis(0)).is_ok());
    }

    #[test]
    fn a_peer_is_reached_by_its_newest_connection() {
        let mut table = table(9, 9);
        let peer = PeerId::random();
        let (older, newer) = (connection(peer, 1, 1), connection(peer, 2, 1));
        reserve(&mut table, &older, Millis(0)).unwrap();
        reserve(&mut table, &newer, Millis(0)).unwrap();
        reserve(&mut table, &older, Millis(9)).unwrap();
        assert_eq!(table.of(&peer).map(|c| c.id), Some(newer.id));
        assert!(!table.release(&peer, newer.id));
        assert_eq!(table.of(&peer).map(|c| c.id), Some(older.id));
        assert!(table.release(&peer, older.id) && table.of(&peer).is_none());
        assert!(!table.release(&peer, older.id), "it was given up already");
    }

    #[derive(Debug, Clone)]
    enum Step {
        Reserve(usize, u64),
        Release(usize),
        Expire(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0usize..8, 0u64..3000).prop_map(|(who, now)| Step::Reserve(who, now)),
            (0usize..8).prop_map(Step::Release),
            (0u64..3000).prop_map(Step::Expire),
        ];
        proptest::collection::vec(step, 0..60)
    }

    proptest! {
        #[test]
        fn bounds_hold_and_nothing_stays_behind(steps in steps()) {
            let mut table = table(3, 2);
            let peers: Vec<_> = (0..4).map(|_| PeerId::random()).collect();
            let connections: Vec<_> =
                (0..8).map(|n| connection(peers[n / 2], n, u8::try_from(n % 3).unwrap())).collect();
            let mut until = HashMap::new();
            for step in steps {
                match step {
                    Step::Reserve(who, now) => {
                        if let Ok(given) = reserve(&mut table, &connections[who], Millis(now)) {
                            until.insert(who, given.until);
                        }
                    }
                    Step::Release(who) => {
                        let was = until.remove(&who).is_some();
                        let others = until.keys().any(|other| other / 2 == who / 2);
                        prop_assert_eq!(table.release(&peers[who / 2], connections[who].id), was && !others);
                    }
                    Step::Expire(now) => {
                        while let Some((peer, id)) = table.ended(Millis(now)) {
                            let who = connections.iter().position(|c| c.id == id).unwrap();
                            prop_assert!(until.remove(&who).unwrap() <= Millis(now));
                            table.release(&peer, id);
                        }
                        prop_assert!(until.values().all(|end| *end > Millis(now)));
                    }
                }
                prop_assert_eq!(table.connections().count(), until.len());
                prop_assert!(table.peers() <= 3);
            }
            for connection in &connections {
                table.release(&connection.peer, connection.id);
            }
            prop_assert!(table.addresses.is_empty() && table.ends.is_empty() && table.peers.is_empty());
            prop_assert!(connections.iter().all(|connection| Arc::strong_count(connection) == 1));
        }
    }
}
