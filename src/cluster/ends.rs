//! Ends of links to other clusters, where a service tells them what it tells nodes: the rules of requests know one
//! kind of other party. The name of an end is no node's, and is never on the wire.

use super::regions::{Caller, PeerName};
use crate::cluster::proto::frame::Body;
use crate::domain::ids::{Generation, NodeId, NodeRun};

/// What stands before a peer's name, and is the whole of a caller's.
const PEER: &str = "peer ";
const CALLER: &str = "caller";

/// The far end of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// A cluster that this node calls, however often its link is made anew.
    Peer(PeerName),
    /// One call of a node of another cluster.
    Caller(Caller),
}

impl End {
    /// The end of that name; nothing if it is a node of this cluster.
    #[must_use]
    pub fn of(run: &NodeRun) -> Option<Self> {
        if !run.is_afar() {
            return None;
        }
        let name = &run.node.as_str()[1..];
        match name.strip_prefix(PEER) {
            Some(peer) => Some(Self::Peer(PeerName(peer.into()))),
            None => Some(Self::Caller(Caller(run.generation.0))),
        }
    }

    /// Its name among runs of nodes.
    #[must_use]
    pub fn run(&self) -> NodeRun {
        let (node, generation) = match self {
            Self::Peer(peer) => (NodeId::afar(&format!("{PEER}{peer}")), 0),
            Self::Caller(caller) => (NodeId::afar(CALLER), caller.0),
        };
        NodeRun { node, generation: Generation(generation) }
    }
}

/// The service of vaults, as other clusters speak to it. Called in the order of arrival; must not block.
pub trait VaultsAfar: Send + Sync {
    /// A caller says something, or asks if `ask` is not zero.
    fn asked(&self, caller: Caller, ask: u64, body: Body);

    /// A call has ended.
    fn hung_up(&self, caller: Caller);

    /// A peer tells what became of something, or of a vault.
    fn told(&self, peer: &PeerName, body: Body);

    /// A link to a peer stands.
    fn peer_up(&self, peer: &PeerName);

    /// That link has ended: what was under way there may be lost.
    fn peer_down(&self, peer: &PeerName);

    /// A peer is none any more.
    fn peer_gone(&self, peer: &PeerName);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_known_by_its_run_and_a_node_is_none() {
        for end in [End::Peer(PeerName("http://127.0.0.1:7402".into())), End::Caller(Caller(7))] {
            assert_eq!(End::of(&end.run()), Some(end));
        }
        let node = NodeRun { node: "caller".parse().unwrap(), generation: Generation(7) };
        assert_eq!(End::of(&node), None);
    }
}
