//! The limits at the door of one node: connections in all, connections per address, requests per address.
//!
//! Loopback is limited like everybody: a proxy on the same machine belongs into the list of trusted proxies.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use governor::clock::DefaultClock;
use parking_lot::Mutex;

use super::address::AddressKey;
use super::limiter::{AddressLimiter, RateLimited};

/// The bounds that [`Admission`] keeps.
#[derive(Debug, Clone, Copy)]
pub struct AdmissionLimits {
    /// Connections at one time.
    pub connections: usize,
    /// Connections at one time from one address.
    pub connections_per_address: usize,
    /// Requests, WebSocket handshakes included, from one address in a minute.
    pub requests_per_minute: NonZeroU32,
    /// Addresses whose request rates are remembered one by one.
    pub tracked_addresses: usize,
}

/// Why a connection is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The node is full.
    #[error("this node serves as many connections as it may; try again later or another node")]
    Full,
    /// The address has as many connections as it may.
    #[error("too many connections from this address; close some first")]
    AddressFull,
}

/// The door of one node.
#[derive(Debug)]
pub struct Admission {
    limits: AdmissionLimits,
    requests: AddressLimiter<DefaultClock>,
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_address: HashMap<AddressKey, usize>,
}

impl Admission {
    /// A door with nobody inside.
    #[must_use]
    pub fn new(limits: AdmissionLimits) -> Self {
        let clock = DefaultClock::default();
        let requests = AddressLimiter::new(limits.requests_per_minute, limits.tracked_addresses, clock);
        Self { limits, requests, open: Arc::default() }
    }

    /// Counts one request of an address.
    ///
    /// # Errors
    /// The wait until the next one would pass.
    pub fn request(&self, key: AddressKey) -> Result<(), RateLimited> {
        self.requests.check(key)
    }

    /// Lets a connection in. Without a key it counts only towards the total: that of a trusted proxy, whose
    /// clients are counted by [`Admission::behind_proxy`] once their addresses are known.
    ///
    /// # Errors
    /// Which bound is reached; nothing is counted then.
    pub fn connection(&self, key: Option<AddressKey>) -> Result<Permit, Refusal> {
        let mut open = self.open.lock();
        if open.total >= self.limits.connections {
            return Err(Refusal::Full);
        }
        if let Some(key) = key {
            open.enter(key, self.limits.connections_per_address)?;
        }
        open.total += 1;
        Ok(Permit { open: self.open.clone(), key, total: true })
    }

    /// Counts the client of a connection that a trusted proxy made, which is in the total already.
    ///
    /// # Errors
    /// [`Refusal::AddressFull`].
    pub fn behind_proxy(&self, key: AddressKey) -> Result<Permit, Refusal> {
        self.open.lock().enter(key, self.limits.connections_per_address)?;
        Ok(Permit { open: self.open.clone(), key: Some(key), total: false })
    }

    /// Connections inside now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.open.lock().total
    }

    /// Forgets what no longer limits anybody; to be called about once a minute.
    pub fn sweep(&self) {
        self.requests.sweep();
        let mut open = self.open.lock();
        if open.by_address.capacity() > 4 * open.by_address.len() {
            open.by_address.shrink_to_fit();
        }
    }
}

impl Open {
    fn enter(&mut self, key: AddressKey, most: usize) -> Result<(), Refusal> {
        let count = self.by_address.get(&key).copied().unwrap_or(0);
        if count >= most {
            return Err(Refusal::AddressFull);
        }
        self.by_address.insert(key, count + 1);
        Ok(())
    }

    fn leave(&mut self, key: AddressKey) {
        if let Some(count) = self.by_address.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&key);
            }
        }
    }
}

/// The right to be connected; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    open: Arc<Mutex<Open>>,
    key: Option<AddressKey>,
    total: bool,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        open.total -= usize::from(self.total);
        if let Some(key) = self.key {
            open.leave(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn key(n: u32) -> AddressKey {
        AddressKey::from(IpAddr::V4(Ipv4Addr::from_bits(n)))
    }

    fn admission(connections: usize, connections_per_address: usize) -> Admission {
        let requests_per_minute = NonZeroU32::new(60).unwrap();
        let limits =
            AdmissionLimits { connections, connections_per_address, requests_per_minute, tracked_addresses: 10 };
        Admission::new(limits)
    }

    #[test]
    fn connections_are_bounded_in_all_and_per_address() {
        let door = admission(3, 2);
        let first = door.connection(Some(key(1))).unwrap();
        let _second = door.connection(Some(key(1))).unwrap();
        assert_eq!(door.connection(Some(key(1))).unwrap_err(), Refusal::AddressFull);
        let _third = door.connection(Some(key(2))).unwrap();
        assert_eq!(door.connection(Some(key(3))).unwrap_err(), Refusal::Full);
        drop(first);
        assert!(door.connection(Some(key(1))).is_ok());
    }

    #[test]
    fn nothing_is_left_of_those_who_went() {
        let door = admission(3, 2);
        drop((door.connection(Some(key(1))), door.connection(None), door.behind_proxy(key(2))));
        assert_eq!(door.connections(), 0);
        assert!(door.open.lock().by_address.is_empty());
    }

    #[test]
    fn clients_of_a_proxy_count_by_their_own_address() {
        let door = admission(10, 1);
        let _one = (door.connection(None).unwrap(), door.behind_proxy(key(1)).unwrap());
        let _two = (door.connection(None).unwrap(), door.behind_proxy(key(2)).unwrap());
        assert_eq!(door.behind_proxy(key(1)).unwrap_err(), Refusal::AddressFull);
        assert_eq!(door.connections(), 2);
    }
}
