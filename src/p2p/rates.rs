//! How often peers may ask, by their addresses and by their ids: an id costs nothing, and an address may be that of many.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::DefaultClock;

use crate::runtime::supervisor::Supervisor;
use crate::security::limiter::{AddressLimiter, DigestKey, KeyedLimiter};

use super::streams::Connection;

/// How often rates that no longer limit anybody are forgotten.
const SWEEP: Duration = Duration::from_secs(60);

/// How often peers may ask; clones share it.
#[derive(Debug, Clone)]
pub struct Rates {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    addresses: AddressLimiter<DefaultClock>,
    peers: KeyedLimiter<DigestKey>,
}

impl Rates {
    /// So many requests a minute from one address, and of one peer; `tracked` of each are known one by one. Runs until the node
    /// stops, as a task of that name.
    pub fn start(
        name: &'static str,
        (of_address, of_peer): (NonZeroU32, NonZeroU32),
        tracked: usize,
        supervisor: &Supervisor,
    ) -> Self {
        let addresses = AddressLimiter::new(of_address, tracked, DefaultClock::default());
        let peers = KeyedLimiter::new(of_peer, tracked, DefaultClock::default());
        let this = Self { inner: Arc::new(Inner { addresses, peers }) };
        let (swept, stop) = (this.clone(), supervisor.token());
        supervisor.spawn(name, async move {
            while stop.run_until_cancelled(tokio::time::sleep(SWEEP)).await.is_some() {
                swept.inner.addresses.sweep();
                swept.inner.peers.sweep();
            }
            Ok::<(), std::convert::Infallible>(())
        });
        this
    }

    /// Takes one request of the peer of that connection from what it may ask.
    ///
    /// # Errors
    /// What is used up, in one word for figures.
    pub fn check(&self, connection: &Connection) -> Result<(), &'static str> {
        let inner = &self.inner;
        inner.peers.check(connection.peer_key()).map_err(|_| "peer_rate")?;
        connection.address.map_or(Ok(()), |address| inner.addresses.check(address)).map_err(|_| "address_rate")
    }
}
