//! Links that are cut on purpose: in tests, and in drills on a running cluster.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

/// The addresses that this node neither sends to nor hears from. Clones share them; asking costs next to
/// nothing while none is cut.
#[derive(Debug, Clone, Default)]
pub struct Cut {
    addresses: Arc<ArcSwap<HashSet<SocketAddr>>>,
}

impl Cut {
    /// Cuts the node at `address` off.
    pub fn cut(&self, address: SocketAddr) {
        self.addresses.rcu(|old| {
            let mut new = HashSet::clone(old);
            new.insert(address);
            new
        });
    }

    /// Lets the node at `address` through again.
    pub fn mend(&self, address: SocketAddr) {
        self.addresses.rcu(|old| {
            let mut new = HashSet::clone(old);
            new.remove(&address);
            new
        });
    }

    /// Whether nothing may pass to or from `address`.
    #[must_use]
    pub fn is_cut(&self, address: SocketAddr) -> bool {
        let addresses = self.addresses.load();
        !addresses.is_empty() && addresses.contains(&address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_what_is_cut_and_mended() {
        let (cut, address) = (Cut::default(), ([127, 0, 0, 1], 1).into());
        let other = cut.clone();
        cut.cut(address);
        assert!(other.is_cut(address));
        assert!(!other.is_cut(([127, 0, 0, 1], 2).into()));
        other.mend(address);
        assert!(!cut.is_cut(address));
    }
}
