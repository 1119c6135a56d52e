//! Which nodes have just left the view: what only they knew is not known to be false.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cluster::view::{Member, View};
use crate::domain::clock::Millis;
use crate::domain::ids::NodeId;
use crate::domain::placement::{self, KeyHash};

/// The nodes that were lost within the grace. A principal whose owners are all among them may be connected, or
/// have been: nobody is left who could say.
#[derive(Debug, Default)]
pub struct LostNodes {
    live: BTreeMap<NodeId, Member>,
    lost: BTreeMap<NodeId, (Member, Millis)>,
}

impl LostNodes {
    /// Takes note of the view, which must not be older than the one before, and forgets who was lost before the
    /// grace.
    pub fn observe(&mut self, view: &View, now: Millis, grace: Duration) {
        let gone = |member: &&Member| !view.is_live(&member.run);
        // A node that drained has had nothing to know for a while: its keys have other owners.
        for member in self.live.values().filter(gone).filter(|member| !member.facts.draining) {
            self.lost.insert(member.run.node.clone(), (member.clone(), now));
        }
        self.lost.retain(|_, (member, at)| now < at.plus(grace) && !view.is_live(&member.run));
        if !self.live.values().eq(view.members.values()) {
            self.live.clone_from(&view.members);
        }
    }

    /// How long `key` must not be taken for unknown, because all who owned it have been lost.
    #[must_use]
    pub fn owned(&self, key: KeyHash, now: Millis, grace: Duration) -> Option<Duration> {
        if self.lost.is_empty() {
            return None;
        }
        let live = self.live.values().filter(|m| !m.facts.draining && !self.lost.contains_key(&m.run.node));
        let nodes = live.chain(self.lost.values().map(|(member, _)| member)).map(|m| (m, m.hash));
        let mut latest = None;
        for owner in placement::owners(key, nodes) {
            let (_, at) = self.lost.get(&owner.run.node)?;
            latest = latest.max(Some(*at));
        }
        let until = latest?.plus(grace);
        (until > now).then(|| until.since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::facts::Facts;
    use crate::domain::ids::{Generation, NodeRun};

    const GRACE: Duration = Duration::from_secs(15);

    fn member(node: &str, generation: u64) -> Member {
        let run = NodeRun { node: node.parse().unwrap(), generation: Generation(generation) };
        Member::new(run, ([127, 0, 0, 1], 1).into(), Facts::new("127.0.0.1:1".into(), "here".parse().unwrap()))
    }

    fn view(others: &[Member]) -> View {
        View::assemble(member("me", 1), others.to_vec()).0
    }

    fn lost(views: &[View]) -> LostNodes {
        let mut lost = LostNodes::default();
        for (n, view) in views.iter().enumerate() {
            lost.observe(view, Millis(1_000 * n as u64), GRACE);
        }
        lost
    }

    /// A key whose owners, of these three, are `b` and `c`, and one that `me` owns too.
    fn keys() -> (KeyHash, KeyHash) {
        let all = view(&[member("b", 1), member("c", 1)]);
        let mine = |key: &KeyHash| all.owners(*key).any(|owner| owner.run.node.as_str() == "me");
        let mut keys = (0..1_000u64).map(|n| KeyHash::of(&[&n.to_be_bytes()]));
        (keys.clone().find(|key| !mine(key)).unwrap(), keys.find(mine).unwrap())
    }

    #[test]
    fn a_key_all_of_whose_owners_were_lost_is_not_known_to_be_unknown() {
        let (theirs, mine) = keys();
        let lost = lost(&[view(&[member("b", 1), member("c", 1)]), view(&[])]);
        assert_eq!(lost.owned(theirs, Millis(1_000), GRACE), Some(GRACE));
        assert_eq!(lost.owned(mine, Millis(1_000), GRACE), None);
        assert_eq!(lost.owned(theirs, Millis(16_000), GRACE), None);
    }

    #[test]
    fn one_owner_that_is_left_knows() {
        let (theirs, _) = keys();
        let lost = lost(&[view(&[member("b", 1), member("c", 1)]), view(&[member("c", 1)])]);
        assert_eq!(lost.owned(theirs, Millis(1_000), GRACE), None);
    }

    #[test]
    fn an_owner_that_is_back_in_the_same_run_knows_and_in_another_does_not() {
        let (theirs, _) = keys();
        let (all, alone) = (view(&[member("b", 1), member("c", 1)]), view(&[]));
        let same = lost(&[all.clone(), alone.clone(), all.clone()]);
        assert_eq!(same.owned(theirs, Millis(2_000), GRACE), None);
        let others = lost(&[all, alone, view(&[member("b", 2), member("c", 2)])]);
        assert!(others.owned(theirs, Millis(2_000), GRACE).is_some());
    }

    #[test]
    fn who_drained_had_nothing_to_know() {
        let (theirs, _) = keys();
        let drained = ["b", "c"].map(|node| {
            let mut member = member(node, 1);
            member.facts.draining = true;
            member
        });
        let lost = lost(&[view(&[member("b", 1), member("c", 1)]), view(&drained), view(&[])]);
        assert_eq!(lost.owned(theirs, Millis(2_000), GRACE), None);
    }
}
