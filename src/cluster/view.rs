//! The cluster as one node sees it: who is live, and who owns what.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::facts::Facts;
use crate::domain::ids::{Generation, NodeId, NodeRun};
use crate::domain::placement::{self, KeyHash};

/// A live node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Which node, and which run of it.
    pub run: NodeRun,
    /// Where its gossip comes from.
    pub gossip: SocketAddr,
    /// What it says of itself.
    pub facts: Facts,
    /// The hash of its id, for placement.
    pub hash: KeyHash,
}

impl Member {
    /// A node that gossip tells of.
    #[must_use]
    pub fn new(run: NodeRun, gossip: SocketAddr, facts: Facts) -> Self {
        let hash = KeyHash::of(&[run.node.as_str().as_bytes()]);
        Self { run, gossip, facts, hash }
    }

    /// The larger is the one to believe when two claim one node id: the later run; of one run, whichever
    /// every other node picks too.
    fn rank(&self) -> (Generation, SocketAddr) {
        (self.run.generation, self.gossip)
    }
}

/// All live nodes, this one included. Replaced as a whole when anything in it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// This node.
    pub me: NodeRun,
    /// The live nodes by id, this one included.
    pub members: BTreeMap<NodeId, Member>,
}

/// Another process runs under this node's id, and the cluster believes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "another process at {gossip} runs under this node's id ({run}): give each node an id of its own, \
     and let a node stop before it is started again"
)]
pub struct Superseded {
    /// The other's run.
    pub run: NodeRun,
    /// Where it gossips.
    pub gossip: SocketAddr,
}

impl View {
    /// Sorts out who is live: one run for each node id, nobody who has left. `mine` is always in the view.
    ///
    /// Besides, tells of a run that supersedes `mine`: a later one, or the same one elsewhere.
    #[must_use]
    pub fn assemble(mine: Member, live: impl IntoIterator<Item = Member>) -> (Self, Option<Superseded>) {
        let mut members = BTreeMap::<NodeId, Member>::new();
        let mut superseded = None;
        for other in live.into_iter().filter(|m| !m.facts.left) {
            if other.run.node == mine.run.node {
                let elsewhere = other.run.generation == mine.run.generation && other.gossip != mine.gossip;
                if elsewhere || other.run.generation > mine.run.generation {
                    superseded = Some(Superseded { run: other.run, gossip: other.gossip });
                }
                continue;
            }
            match members.get(&other.run.node) {
                Some(known) if known.rank() >= other.rank() => {}
                _ => {
                    members.insert(other.run.node.clone(), other);
                }
            }
        }
        let me = mine.run.clone();
        members.insert(me.node.clone(), mine);
        (Self { me, members }, superseded)
    }

    /// The nodes that own `key`, heaviest first. A node that drains owns nothing, unless all drain.
    pub fn owners(&self, key: KeyHash) -> impl Iterator<Item = &Member> {
        self.owners_without(key, &[])
    }

    /// As [`View::owners`], if these nodes were not there.
    pub fn owners_without<'a>(&'a self, key: KeyHash, gone: &'a [NodeId]) -> impl Iterator<Item = &'a Member> {
        let all_drain = self.members.values().all(|m| m.facts.draining);
        let is_fit = move |m: &&Member| (all_drain || !m.facts.draining) && !gone.contains(&m.run.node);
        let fit = self.members.values().filter(is_fit);
        placement::owners(key, fit.map(|m| (m, m.hash)))
    }

    /// Every live node but this one.
    pub fn others(&self) -> impl Iterator<Item = &Member> {
        self.members.values().filter(|m| m.run.node != self.me.node)
    }

    /// Whether exactly this run of a node is live.
    #[must_use]
    pub fn is_live(&self, run: &NodeRun) -> bool {
        self.members.get(&run.node).is_some_and(|m| m.run.generation == run.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(node: &str, generation: u64, port: u16) -> Member {
        let run = NodeRun { node: node.parse().unwrap(), generation: Generation(generation) };
        let facts = Facts::new(format!("127.0.0.1:{port}"), "here".parse().unwrap());
        Member::new(run, ([127, 0, 0, 1], port).into(), facts)
    }

    fn draining(mut member: Member) -> Member {
        member.facts.draining = true;
        member
    }

    fn owners(view: &View, key: u64) -> Vec<String> {
        view.owners(KeyHash(key)).map(|m| m.run.node.to_string()).collect()
    }

    #[test]
    fn the_later_run_of_a_node_is_believed() {
        for order in [[1, 2], [2, 1]] {
            let live = order.map(|generation| member("b", generation, 2));
            let (view, superseded) = View::assemble(member("a", 1, 1), live);
            assert!(view.is_live(&member("b", 2, 2).run) && !view.is_live(&member("b", 1, 2).run));
            assert_eq!(superseded, None);
            assert_eq!(view.others().count(), 1);
        }
    }

    #[test]
    fn who_has_left_is_not_in_the_view() {
        let mut gone = member("b", 1, 2);
        gone.facts.left = true;
        let (view, _) = View::assemble(member("a", 1, 1), [gone]);
        assert_eq!(view.others().count(), 0);
    }

    #[test]
    fn a_later_run_or_the_same_elsewhere_supersedes_and_an_earlier_does_not() {
        let told = |other: Member| View::assemble(member("a", 5, 1), [other]).1.map(|s| s.gossip.port());
        assert_eq!(told(member("a", 5, 1)), None, "that is this node itself");
        assert_eq!(told(member("a", 4, 2)), None);
        assert_eq!(told(member("a", 6, 1)), Some(1));
        assert_eq!(told(member("a", 5, 2)), Some(2));
    }

    #[test]
    fn owners_can_be_found_as_if_a_node_were_not_there() {
        let (view, _) = View::assemble(member("a", 1, 1), [member("b", 1, 2), member("c", 1, 3)]);
        let gone = ["b".parse().unwrap()];
        for key in 0..100 {
            let mut owners: Vec<_> = view.owners_without(KeyHash(key << 32), &gone).collect();
            owners.sort_by_key(|owner| &owner.run);
            assert_eq!(owners.iter().map(|owner| owner.run.node.as_str()).collect::<Vec<_>>(), ["a", "c"]);
        }
    }

    #[test]
    fn a_draining_node_owns_nothing_unless_all_drain() {
        let (view, _) = View::assemble(member("a", 1, 1), [draining(member("b", 1, 2)), member("c", 1, 3)]);
        for key in 0..100 {
            let mut owners = owners(&view, key << 32);
            owners.sort();
            assert_eq!(owners, ["a", "c"]);
        }
        let (view, _) = View::assemble(draining(member("a", 1, 1)), [draining(member("b", 1, 2))]);
        assert_eq!(owners(&view, 7).len(), 2);
    }
}
