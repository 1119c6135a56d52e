//! What keeps a connection open, and what is served on it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Connection;
use crate::runtime::supervisor::Supervisor;

/// While one of these lives, its connection is not closed for being idle.
#[derive(Debug)]
pub struct Hold(Arc<Connection>);

impl Hold {
    /// On that connection.
    #[must_use]
    pub fn on(connection: &Arc<Connection>) -> Self {
        connection.holds.fetch_add(1, Ordering::Relaxed);
        Self(connection.clone())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.holds.fetch_sub(1, Ordering::Relaxed);
        // Whether the connection may close is looked at when its task runs.
        self.0.wake();
    }
}

/// What is served on a connection; each is bounded by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Requests for places and circuits.
    Circuit,
    /// Requests about registrations.
    Rendezvous,
    /// Streams of gossip.
    Gossip,
    /// Searches for GIFs.
    Gif,
    /// Requests to the directory.
    Directory,
    /// Requests for credentials for TURN.
    TurnCredentials,
}

impl Work {
    pub(super) const COUNT: usize = 6;
}

/// A request that is being served on a connection. They are bounded, so that one peer cannot have the relay work on any
/// number of them.
#[derive(Debug)]
pub struct Serving(Arc<Connection>, Work);

impl Serving {
    /// One more on that connection, if it has fewer than `most` of its kind.
    #[must_use]
    pub fn begin(connection: &Arc<Connection>, work: Work, most: usize) -> Option<Self> {
        let before = connection.serving[work as usize].fetch_add(1, Ordering::Relaxed);
        // Made in any case, so that dropping it takes the count back.
        let this = Self(connection.clone(), work);
        (before < most).then_some(this)
    }

    /// Has `work` done in a task of its own, until it is done or the node stops. False, and nothing is done, if the connection has
    /// `most` of its kind.
    #[must_use]
    pub fn spawn(
        connection: &Arc<Connection>,
        (kind, most): (Work, usize),
        supervisor: &Supervisor,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> bool {
        let Some(serving) = Self::begin(connection, kind, most) else { return false };
        let stop = supervisor.token();
        supervisor.spawn_quiet(async move {
            stop.run_until_cancelled(work).await;
            drop(serving);
        });
        true
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.serving[self.1 as usize].fetch_sub(1, Ordering::Relaxed);
    }
}
