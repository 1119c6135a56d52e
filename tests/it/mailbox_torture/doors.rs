//! Which nodes there are to connect to, while they come and go.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tokio_util::sync::CancellationToken;

/// A node that serves, or did.
#[derive(Debug, Clone)]
pub struct Door {
    pub number: usize,
    pub address: SocketAddr,
    /// It is about to be killed: connections to it may end.
    pub killed: CancellationToken,
}

/// The nodes that serve now; clones share them.
#[derive(Debug, Clone)]
pub struct Doors(Arc<Mutex<Vec<Option<Door>>>>);

impl Doors {
    /// Of so many nodes, none of which serves.
    pub fn new(nodes: usize) -> Self {
        Self(Arc::new(Mutex::new(vec![None; nodes])))
    }

    /// A node serves.
    pub fn open(&self, number: usize, address: SocketAddr) {
        self.0.lock()[number] = Some(Door { number, address, killed: CancellationToken::new() });
    }

    /// A node is about to be killed.
    pub fn close(&self, number: usize) {
        if let Some(door) = self.0.lock()[number].take() {
            door.killed.cancel();
        }
    }

    /// One of them; `None` if none serves.
    pub fn pick(&self, rng: &mut StdRng) -> Option<Door> {
        let open: Vec<_> = self.0.lock().iter().flatten().cloned().collect();
        open.choose(rng).cloned()
    }
}
