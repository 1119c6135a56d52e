//! What keeps a connection open, and what is served on it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Connection;

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

/// A request that is being served on a connection. They are bounded, so that one peer cannot have the relay work on any
/// number of them.
#[derive(Debug)]
pub struct Serving(Arc<Connection>);

impl Serving {
    /// One more on that connection, if it has fewer than `most`.
    #[must_use]
    pub fn begin(connection: &Arc<Connection>, most: usize) -> Option<Self> {
        let before = connection.serving.fetch_add(1, Ordering::Relaxed);
        // Made in any case, so that dropping it takes the count back.
        let this = Self(connection.clone());
        (before < most).then_some(this)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.serving.fetch_sub(1, Ordering::Relaxed);
    }
}
