//! The owner's part of presence: which node holds which principal. Pure: time is passed in.
//!
//! Invariants, for each principal:
//! - a node has at most one entry, that of its newest run;
//! - an entry's epoch never falls: a claim that arrives late never undoes a newer one;
//! - an entry of a node that has left the view is not routed to; for the grace it says that requests wait.

use std::collections::HashMap;
use std::time::Duration;

use smallvec::SmallVec;

use crate::domain::clock::{Epoch, Millis};
use crate::domain::ids::NodeRun;
use crate::domain::principal::{Principal, Standing};

/// Most nodes remembered for one principal: more sessions than that are routed to by the newest ones.
const MAX_HOLDERS: usize = 8;

/// Which nodes hold the principals that this node owns.
#[derive(Debug, Default)]
pub struct Directory {
    entries: HashMap<Principal, SmallVec<[Entry; 1]>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    run: NodeRun,
    epoch: Epoch,
    standing: Standing,
    lost: Option<Millis>,
}

/// What the directory says of a principal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The node to route to.
    At {
        /// That node.
        run: NodeRun,
        /// Since when.
        epoch: Epoch,
        /// How firmly.
        standing: Standing,
    },
    /// Its node has left the view; it may come back elsewhere within this time.
    Lost(Duration),
}

impl Directory {
    /// `run` holds `principal` since `epoch`. Without effect if a newer claim of that node is known.
    pub fn announce(&mut self, principal: &Principal, run: &NodeRun, epoch: Epoch, standing: Standing) {
        let entry = Entry { run: run.clone(), epoch, standing, lost: None };
        let holders = self.entries.entry(principal.clone()).or_default();
        match holders.iter_mut().find(|e| e.run.node == run.node) {
            Some(known) if (run.generation, epoch) >= (known.run.generation, known.epoch) => *known = entry,
            Some(_) => {}
            None => {
                holders.push(entry);
                holders.sort_by_key(|e| std::cmp::Reverse((e.lost.is_none(), e.standing, e.epoch)));
                holders.truncate(MAX_HOLDERS);
            }
        }
    }

    /// `run` no longer holds `principal`. Without effect on a claim newer than `epoch`.
    pub fn withdraw(&mut self, principal: &Principal, run: &NodeRun, epoch: Epoch) {
        if let Some(holders) = self.entries.get_mut(principal) {
            holders.retain(|e| e.run != *run || e.epoch > epoch);
            if holders.is_empty() {
                self.entries.remove(principal);
            }
        }
    }

    /// Takes note of which runs are alive: entries of others are lost from `now` on, for those found again no
    /// longer, and those lost for longer than `grace` are forgotten.
    pub fn settle(&mut self, is_alive: impl Fn(&NodeRun) -> bool, now: Millis, grace: Duration) {
        self.entries.retain(|_, holders| {
            holders.retain_mut(|e| {
                e.lost = if is_alive(&e.run) { None } else { Some(e.lost.unwrap_or(now)) };
                e.lost.is_none_or(|at| now < at.plus(grace))
            });
            !holders.is_empty()
        });
    }

    /// Forgets what this node does not own any more, but for what was lost: nobody announces that again, and if
    /// this node owns it once more within the grace, only its word makes requests wait.
    pub fn keep_owned(&mut self, is_owned: impl Fn(&Principal) -> bool) {
        self.entries.retain(|principal, holders| is_owned(principal) || holders.iter().any(|e| e.lost.is_some()));
    }

    /// Forgets what `run` has announced.
    pub fn forget(&mut self, run: &NodeRun) {
        self.entries.retain(|_, holders| {
            holders.retain(|e| e.run != *run);
            !holders.is_empty()
        });
    }

    /// Where `principal` is; nothing if this directory has never heard of it, or has forgotten.
    #[must_use]
    pub fn find(&self, principal: &Principal, now: Millis, grace: Duration) -> Option<Found> {
        let holders = self.entries.get(principal)?;
        let alive = holders.iter().filter(|e| e.lost.is_none()).max_by_key(|e| (e.standing, e.epoch));
        if let Some(Entry { run, epoch, standing, .. }) = alive {
            return Some(Found::At { run: run.clone(), epoch: *epoch, standing: *standing });
        }
        let until = holders.iter().filter_map(|e| e.lost).max()?.plus(grace);
        (until > now).then(|| Found::Lost(until.since(now)))
    }

    /// The newest epoch known for `principal`, on whatever node.
    #[must_use]
    pub fn newest_epoch(&self, principal: &Principal) -> Epoch {
        self.entries.get(principal).into_iter().flatten().map(|e| e.epoch).max().unwrap_or_default()
    }

    /// How many principals are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::Generation;
    use proptest::prelude::*;

    const GRACE: Duration = Duration::from_secs(15);

    fn run(n: u8, generation: u64) -> NodeRun {
        NodeRun { node: format!("node-{n}").parse().unwrap(), generation: Generation(generation) }
    }

    fn at(found: Option<Found>) -> Option<NodeRun> {
        match found {
            Some(Found::At { run, .. }) => Some(run),
            _ => None,
        }
    }

    #[test]
    fn the_newest_session_is_routed_to_and_the_next_one_takes_over() {
        let (mut directory, vault) = (Directory::default(), Principal::vault("v"));
        directory.announce(&vault, &run(1, 1), Epoch(10), Standing::Live);
        directory.announce(&vault, &run(2, 1), Epoch(20), Standing::Live);
        assert_eq!(at(directory.find(&vault, Millis(0), GRACE)), Some(run(2, 1)));
        directory.withdraw(&vault, &run(2, 1), Epoch(20));
        assert_eq!(at(directory.find(&vault, Millis(0), GRACE)), Some(run(1, 1)));
        directory.withdraw(&vault, &run(1, 1), Epoch(10));
        assert_eq!(directory.find(&vault, Millis(0), GRACE), None);
        assert!(directory.is_empty());
    }

    #[test]
    fn a_live_session_beats_a_newer_poll_and_a_newer_wait() {
        let (mut directory, vault) = (Directory::default(), Principal::vault("v"));
        directory.announce(&vault, &run(1, 1), Epoch(10), Standing::Live);
        directory.announce(&vault, &run(2, 1), Epoch(20), Standing::Polling);
        directory.announce(&vault, &run(3, 1), Epoch(30), Standing::Waiting);
        assert_eq!(at(directory.find(&vault, Millis(0), GRACE)), Some(run(1, 1)));
    }

    #[test]
    fn a_late_claim_or_withdrawal_undoes_nothing_newer() {
        let (mut directory, vault) = (Directory::default(), Principal::vault("v"));
        directory.announce(&vault, &run(1, 2), Epoch(20), Standing::Live);
        directory.announce(&vault, &run(1, 2), Epoch(10), Standing::Waiting);
        directory.announce(&vault, &run(1, 1), Epoch(99), Standing::Live);
        directory.withdraw(&vault, &run(1, 2), Epoch(10));
        directory.withdraw(&vault, &run(1, 1), Epoch(99));
        let expected = Found::At { run: run(1, 2), epoch: Epoch(20), standing: Standing::Live };
        assert_eq!(directory.find(&vault, Millis(0), GRACE), Some(expected));
    }

    #[test]
    fn a_dead_node_makes_requests_wait_for_the_grace_and_may_return() {
        let (mut directory, vault) = (Directory::default(), Principal::vault("v"));
        directory.announce(&vault, &run(1, 1), Epoch(10), Standing::Live);
        directory.settle(|_| false, Millis(1_000), GRACE);
        assert_eq!(directory.find(&vault, Millis(6_000), GRACE), Some(Found::Lost(Duration::from_secs(10))));
        directory.settle(|_| true, Millis(7_000), GRACE);
        assert_eq!(at(directory.find(&vault, Millis(7_000), GRACE)), Some(run(1, 1)));
        directory.settle(|_| false, Millis(8_000), GRACE);
        directory.settle(|_| false, Millis(23_000), GRACE);
        assert_eq!(directory.find(&vault, Millis(23_000), GRACE), None);
    }

    #[test]
    fn what_others_own_is_forgotten_unless_it_was_lost() {
        let (mut directory, here, lost) = (Directory::default(), Principal::vault("here"), Principal::vault("lost"));
        directory.announce(&here, &run(1, 1), Epoch(10), Standing::Live);
        directory.announce(&lost, &run(2, 1), Epoch(10), Standing::Live);
        directory.settle(|r| *r == run(1, 1), Millis(0), GRACE);
        directory.keep_owned(|_| false);
        assert_eq!(directory.find(&here, Millis(0), GRACE), None);
        assert_eq!(directory.find(&lost, Millis(0), GRACE), Some(Found::Lost(GRACE)));
    }

    #[test]
    fn a_node_that_says_everything_again_is_forgotten_before() {
        let (mut directory, vault) = (Directory::default(), Principal::vault("v"));
        directory.announce(&vault, &run(1, 1), Epoch(10), Standing::Live);
        directory.announce(&vault, &run(2, 1), Epoch(20), Standing::Live);
        directory.forget(&run(2, 1));
        assert_eq!(at(directory.find(&vault, Millis(0), GRACE)), Some(run(1, 1)));
        directory.forget(&run(1, 1));
        assert!(directory.is_empty());
    }

    #[derive(Debug, Clone)]
    enum Op {
        Announce(u8, u64, u64, Standing),
        Withdraw(u8, u64, u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        let standing = prop_oneof![Just(Standing::Live), Just(Standing::Waiting), Just(Standing::Polling)];
        prop_oneof![
            (0u8..3, 1u64..3, 1u64..20, standing).prop_map(|(n, g, e, s)| Op::Announce(n, g, e, s)),
            (0u8..3, 1u64..3, 1u64..20).prop_map(|(n, g, e)| Op::Withdraw(n, g, e)),
        ]
    }

    proptest! {
        /// Two owners that hear the same claims, each claim of one epoch only once but in any order, agree.
        #[test]
        fn order_of_arrival_does_not_matter(
            claims in prop::collection::btree_map((0u8..4, 1u64..30), Just(()), 1..12), seed: u64,
        ) {
            // One claim a node matters: its newest. The others are late repeats.
            let claims: Vec<_> = claims.into_keys().collect();
            let mut shuffled = claims.clone();
            shuffled.sort_by_key(|(n, e)| (u64::from(*n) << 32 | e).wrapping_mul(seed | 1));
            let vault = Principal::vault("v");
            let mut owners = [Directory::default(), Directory::default()];
            for (owner, order) in owners.iter_mut().zip([&claims, &shuffled]) {
                for (n, e) in order {
                    owner.announce(&vault, &run(*n, 1), Epoch(*e), Standing::Live);
                }
            }
            let found: Vec<_> = owners.iter().map(|o| o.find(&vault, Millis(0), GRACE)).collect();
            let newest = claims.iter().map(|(_, e)| *e).max().unwrap();
            for found in found {
                let epoch = if let Some(Found::At { epoch, .. }) = found { epoch.0 } else { 0 };
                prop_assert_eq!(epoch, newest);
            }
        }

        /// A vault that stays connected is found, whatever others claim and withdraw.
        #[test]
        fn one_who_stays_is_never_absent(ops in prop::collection::vec(op(), 0..40)) {
            let (mut directory, vault) = (Directory::default(), Principal::vault("v"));
            directory.announce(&vault, &run(9, 1), Epoch(5), Standing::Live);
            for op in ops {
                match op {
                    Op::Announce(n, g, e, s) => directory.announce(&vault, &run(n, g), Epoch(e), s),
                    Op::Withdraw(n, g, e) => directory.withdraw(&vault, &run(n, g), Epoch(e)),
                }
                prop_assert!(at(directory.find(&vault, Millis(0), GRACE)).is_some());
            }
        }
    }
}
