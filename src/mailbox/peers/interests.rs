//! Who else has sessions of which mailboxes: other nodes, and callers of other clusters. What they said on their links,
//! and void with these.

use std::collections::HashMap;

use parking_lot::{Mutex, RwLock};
use smallvec::SmallVec;

use crate::domain::mailbox::MailboxKey;

/// Parts of the table, each with a lock of its own; as many as the sessions have, by the same byte.
const SHARDS: usize = crate::mailbox::registry::SHARDS;

/// Most mailboxes that one node may have sessions of: about 64 MiB here.
const MAX_PER_NODE: usize = 1 << 20;

/// What others have sessions of: some 60 bytes for each of their mailboxes. `N` names one of them.
pub struct Interests<N> {
    nodes: RwLock<Nodes<N>>,
    shards: Vec<Mutex<HashMap<MailboxKey, SmallVec<[Mark; 2]>>>>,
}

struct Nodes<N> {
    /// By number; a number is used again when its node is gone.
    slots: Vec<Option<Node<N>>>,
    last_round: u32,
}

struct Node<N> {
    run: N,
    round: u32,
    mailboxes: usize,
}

/// That a node has sessions. Void if its node is in another round, or gone.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Mark {
    node: u32,
    round: u32,
}

impl<N: Clone + PartialEq> Nodes<N> {
    fn find(&self, run: &N) -> Option<usize> {
        self.slots.iter().position(|slot| slot.as_ref().is_some_and(|node| node.run == *run))
    }

    fn run_of(&self, mark: Mark) -> Option<&N> {
        let node = self.slots.get(mark.node as usize)?.as_ref()?;
        (node.round == mark.round).then_some(&node.run)
    }

    /// The place of a run, which is made if it has none.
    fn enter(&mut self, run: &N) -> usize {
        if let Some(at) = self.find(run) {
            return at;
        }
        self.last_round += 1;
        let node = Some(Node { run: run.clone(), round: self.last_round, mailboxes: 0 });
        match self.slots.iter().position(Option::is_none) {
            Some(free) => {
                self.slots[free] = node;
                free
            }
            None => {
                self.slots.push(node);
                self.slots.len() - 1
            }
        }
    }
}

impl<N: Clone + PartialEq> Interests<N> {
    /// Nobody has any.
    pub fn new() -> Self {
        Self {
            nodes: RwLock::new(Nodes { slots: Vec::new(), last_round: 0 }),
            shards: std::iter::repeat_with(Mutex::default).take(SHARDS).collect(),
        }
    }

    /// A node has sessions of a mailbox. False if it has too many to be remembered.
    pub fn add(&self, run: &N, mailbox: MailboxKey) -> bool {
        let mut nodes = self.nodes.write();
        let at = nodes.enter(run);
        let Some(node) = &mut nodes.slots[at] else { return false };
        let mark = Mark { node: at as u32, round: node.round };
        let mut shard = self.shard(&mailbox).lock();
        if shard.get(&mailbox).is_some_and(|marks| marks.contains(&mark)) {
            return true;
        }
        if node.mailboxes >= MAX_PER_NODE {
            return false;
        }
        node.mailboxes += 1;
        let marks = shard.entry(mailbox).or_default();
        marks.retain(|old| old.node != mark.node);
        marks.push(mark);
        true
    }

    /// A node has no sessions of a mailbox any more.
    pub fn remove(&self, run: &N, mailbox: &MailboxKey) {
        let mut nodes = self.nodes.write();
        let Some(at) = nodes.find(run) else { return };
        let mut shard = self.shard(mailbox).lock();
        let Some(marks) = shard.get_mut(mailbox) else { return };
        if let Some(node) = &mut nodes.slots[at] {
            let mark = Mark { node: at as u32, round: node.round };
            node.mailboxes -= usize::from(marks.contains(&mark));
        }
        marks.retain(|mark| mark.node as usize != at);
        if marks.is_empty() {
            shard.remove(mailbox);
        }
    }

    /// What a node said before is void: it says everything anew.
    pub fn begin(&self, run: &N) {
        let mut nodes = self.nodes.write();
        let at = nodes.enter(run);
        nodes.last_round += 1;
        let round = nodes.last_round;
        if let Some(node) = &mut nodes.slots[at] {
            (node.round, node.mailboxes) = (round, 0);
        }
    }

    /// Only these runs are there any more.
    pub fn keep(&self, is_live: impl Fn(&N) -> bool) {
        for slot in &mut self.nodes.write().slots {
            if slot.as_ref().is_some_and(|node| !is_live(&node.run)) {
                *slot = None;
            }
        }
    }

    /// The nodes that have sessions of a mailbox.
    pub fn of(&self, mailbox: &MailboxKey) -> SmallVec<[N; 2]> {
        let marks = match self.shard(mailbox).lock().get(mailbox) {
            Some(marks) => marks.clone(),
            None => return SmallVec::new(),
        };
        let nodes = self.nodes.read();
        marks.iter().filter_map(|mark| nodes.run_of(*mark).cloned()).collect()
    }

    /// Every mailbox that a node has sessions of, in parts.
    pub fn each_part_of(&self, run: &N) -> impl Iterator<Item = Vec<MailboxKey>> {
        self.shards.iter().map(|shard| {
            let (nodes, shard) = (self.nodes.read(), shard.lock());
            let has = |marks: &SmallVec<[Mark; 2]>| marks.iter().any(|mark| nodes.run_of(*mark) == Some(run));
            shard.iter().filter(|(_, marks)| has(marks)).map(|(mailbox, _)| *mailbox).collect()
        })
    }

    /// The mailboxes of a part, counted as those of [`Registry`](crate::mailbox::registry::Registry), that anybody has
    /// sessions of.
    pub fn part(&self, part: usize) -> Vec<MailboxKey> {
        let shard = &self.shards[part];
        let (nodes, shard) = (self.nodes.read(), shard.lock());
        let is_valid = |marks: &SmallVec<[Mark; 2]>| marks.iter().any(|mark| nodes.run_of(*mark).is_some());
        shard.iter().filter(|(_, marks)| is_valid(marks)).map(|(mailbox, _)| *mailbox).collect()
    }

    /// Forgets what is void; how much is left.
    pub fn sweep(&self) -> usize {
        let mut left = 0;
        for shard in &self.shards {
            let (nodes, mut shard) = (self.nodes.read(), shard.lock());
            shard.retain(|_, marks| {
                marks.retain(|mark| nodes.run_of(*mark).is_some());
                !marks.is_empty()
            });
            if shard.capacity() > 64 && shard.capacity() > 4 * shard.len() {
                shard.shrink_to_fit();
            }
            left += shard.len();
        }
        left
    }

    fn shard(&self, mailbox: &MailboxKey) -> &Mutex<HashMap<MailboxKey, SmallVec<[Mark; 2]>>> {
        &self.shards[usize::from(mailbox.0[0]) % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{Generation, NodeRun};

    fn run(node: &str, generation: u64) -> NodeRun {
        NodeRun { node: node.parse().unwrap(), generation: Generation(generation) }
    }

    fn held(interests: &Interests<NodeRun>, name: &str) -> Vec<String> {
        interests.of(&MailboxKey::blobs(name)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_node_is_told_while_it_has_sessions() {
        let (interests, a, b) = (Interests::new(), run("a", 1), run("b", 1));
        let mailbox = MailboxKey::blobs("x");
        for node in [&a, &b, &a] {
            assert!(interests.add(node, mailbox));
        }
        assert_eq!(held(&interests, "x"), ["b@1", "a@1"].map(str::to_owned).into_iter().rev().collect::<Vec<_>>());
        interests.remove(&a, &mailbox);
        interests.remove(&a, &mailbox);
        assert_eq!(held(&interests, "x"), ["b@1"]);
        interests.remove(&b, &mailbox);
        assert_eq!(interests.sweep(), 0);
    }

    #[test]
    fn what_was_said_before_is_void_once_it_is_said_anew() {
        let (interests, a) = (Interests::new(), run("a", 1));
        for name in ["x", "y"] {
            interests.add(&a, MailboxKey::blobs(name));
        }
        interests.begin(&a);
        interests.add(&a, MailboxKey::blobs("y"));
        assert_eq!((held(&interests, "x").len(), held(&interests, "y").len()), (0, 1));
        assert_eq!(interests.each_part_of(&a).flatten().collect::<Vec<_>>(), [MailboxKey::blobs("y")]);
        assert_eq!(interests.sweep(), 1);
    }

    #[test]
    fn what_a_run_said_is_void_with_it_even_if_another_takes_its_place() {
        let (interests, a, b) = (Interests::new(), run("a", 1), run("b", 1));
        interests.add(&a, MailboxKey::blobs("x"));
        interests.keep(|run| *run != a);
        interests.add(&b, MailboxKey::blobs("y"));
        interests.add(&run("a", 2), MailboxKey::blobs("z"));
        assert_eq!(held(&interests, "x"), [""; 0]);
        assert_eq!((held(&interests, "y"), held(&interests, "z")), (vec!["b@1".into()], vec!["a@2".into()]));
    }
}
