//! The vault's and the agents' sockets of a [`Cluster`], and what each may expect.

mod agents;
mod http;
mod lost;
mod vaults;

use super::Cluster;

pub use agents::AgentSockets;
pub use vaults::VaultSockets;

impl Cluster {
    /// Whether no node has died and no link has broken.
    fn has_never_broken(&self) -> bool {
        self.buried.is_empty() && self.links_held
    }
}

/// The number in a text that begins with `r` and a number.
fn number_in(text: &str) -> usize {
    let digits = text.trim_start_matches('r').split(' ').next().unwrap_or_default();
    digits.parse().unwrap_or_else(|_| panic!("no request in {text:?}"))
}
