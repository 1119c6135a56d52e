//! The owner's part of presence: which node holds which principal. Pure: time is passed in.
//!
//! Invariants, for each principal:
//! - a node has at most one entry, that of its newest run;
//! - an entry's epoch never falls, unless it is doubted: a claim that arrives late never undoes a newer one;
//! - an entry of a node that has left the view is not routed to; for the grace it says that requests wait;
//! - an entry that is doubted is not routed to, and says nothing unless its node leaves the view.

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
    /// Since when its node has been out of the view.
    lost: Option<Millis>,
    /// Since when its node has been saying everything again, but not this: a withdrawal may have been missed.
    doubted: Option<Millis>,
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
    /// `run` holds `principal` since `epoch`. Without effect if a newer claim of that node is known and not doubted.
    pub fn announce(&mut self, principal: &Principal, run: &NodeRun, epoch: Epoch, standing: Standing) {
        let entry = Entry { run: run.clone(), epoch, standing, lost: None, doubted: None };
        let holders = self.entries.entry(principal.clone()).or_default();
        match holders.iter_mut().find(|e| e.run.node == run.node) {
            Some(known) if *run == known.run && known.doubted.is_some() => *known = entry,
            Some(known) if (run.generation, epoch) >= (known.run.generation, known.epoch) => *known = entry,
            Some(_) => {}
            None => {
                holders.push(entry);
                holders.sort_by_key(|e| std::cmp::Reverse((e.lost.or(e.doubted).is_none(), e.standing, e.epoch)));
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
    /// longer, and those lost, or else doubted, for longer than `grace` are forgotten.
    pub fn settle(&mut self, is_alive: impl Fn(&NodeRun) -> bool, now: Millis, grace: Duration) {
        self.entries.retain(|_, holders| {
            holders.retain_mut(|e| {
                e.lost = if is_alive(&e.run) { None } else { Some(e.lost.unwrap_or(now)) };
                e.lost.or(e.doubted).is_none_or(|at| now < at.plus(grace))
            });
            !holders.is_empty()
        });
    }

    /// Forgets what this node does not own any more, but for what was lost: nobody announces that again, and if
    /// this node owns it once more within the grace, only its word makes requests wait.
    pub fn keep_owned(&mut self, is_owned: impl Fn(&Principal) -> bool) {
        self.entries.retain(|principal, holders| is_owned(principal) || holders.iter().any(|e| e.lost.is_some()));
    }

    /// What `run` has announced is doubted from `now` on, until it says it again. It is not forgotten: `run` may
    /// be dead to the others, or die before it has said everything, and then requests wait all the same.
    pub fn doubt(&mut self, run: &NodeRun, now: Millis) {
        for entry in self.entries.values_mut().flatten().filter(|e| e.run == *run) {
            entry.doubted.get_or_insert(now);
        }
    }

    /// Where `principal` is, if only those runs are alive; nothing if this directory has never heard of it, has
    /// forgotten, or is in doubt.
    #[must_use]
    pub fn find(
        &self,
        principal: &Principal,
        is_alive: impl Fn(&NodeRun) -> bool,
        now: Millis,
        grace: Duration,
    ) -> Option<Found> {
        let (alive, dead): (SmallVec<[_; 2]>, SmallVec<[_; 2]>) =
            self.entries.get(principal)?.iter().partition(|e| is_alive(&e.run));
        let certain = alive.into_iter().filter(|e| e.doubted.is_none()).max_by_key(|e| (e.standing, e.epoch));
        if let Some(Entry { run, epoch, standing, .. }) = certain {
            return Some(Found::At { run: run.clone(), epoch: *epoch, standing: *standing });
        }
        // One that has not been settled yet has been lost just now.
        let until = dead.into_iter().map(|e| e.lost.unwrap_or(now)).max()?.plus(grace);
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

    /// Where a directory finds a principal while all nodes are alive.
    fn at(directory: &Directory, principal: &Principal) -> Option<NodeRun> {
        match directory.find(principal, |_| true, Millis(0), GRACE) {
            Some(Found::At { run, .. }) => Some(run),
            _ => None,
        }
    }

    /// How long requests wait for a principal while no node is alive.
    fn waits(directory: &Directory, principal: &Principal, now: Millis) -> Option<Duration> {
        match directory.find(principal, |_| false, now, GRACE) {
            Some(Found::Lost(wait)) => Some(wait),
            _ => None,
        }
    }

    #[test]
    fn the_newest_session_is_routed_to_and_the_next_one_takes_over() {
        let (mut directory, vault) = (Directory::default(), Principal::vault("v"));
        directory.announce(&vault, &run(1, 1), Epoch(10), Standing::Live);
        directory.announce(&vault, &run(2, 1), Epoch(20), Standing::Live);
        assert_eq!(at(&directory, &vault), Some(run(2, 1)));
        directory.withdraw(&vault, &run(2, 1), Epoch(20));
        assert_eq!(at(&directory, &vault), Some(run(1, 1)));
        directory.withdraw(&vault, &run(1, 1), Epoch(10));
        assert_eq!(at(&directory, &vault), None);
        assert!(directory.is_empty());
    }

    #[test]
    fn a_live_session_beats_a_newer_poll_and_a_newer_wait() {
        let (mut directory, vault) = (Directory::default(), Principal::vault("v"));
        directory.announce(&vault, &run(1, 1), Epoch(10), Standing::Live);
        directory.announce(&vault, &run(2, 1), Epoch(20), Standing::Polling);
        directory.announce(&vault, &run(3, 1), Epoch(30), Standing::Waiting);
        assert_eq!(at(&directory, &vault), Some(run(1, 1)));
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
        assert_eq!(directory.find(&vault, |_| true, Millis(0), GRACE), Some(expected));
    }

    #[test]
    fn a_dead_node_makes_requests_wait_for_the_grace_and_may_return() {
        let (mut directory, vault) = (Directory::default(), Principal::vault("v"));
        directory.announce(&vault, &run(1, 1), Epoch(10), Standing::Live);
        directory.settle(|_| false, Millis(1_000), GRACE);
        assert_eq!(waits(&directory, &vault, Millis(6_000)), Some(Duration::from_secs(10)));
        directory.settle(|_| true, Millis(7_000), GRACE);
        assert_eq!(at(&directory, &vault), Some(run(1, 1)));
        directory.settle(|_| false, Millis(8_000), GRACE);
        directory.settle(|_| false, Millis(23_000), GRACE);
        assert_eq!(waits(&directory, &vault, Millis(23_000)), None);
    }

    #[test]
    fn what_others_own_is_forgotten_unless_it_was_lost() {
        let (mut directory, here, lost) = (Directory::default(), Principal::vault("here"), Principal::vault("lost"));
        directory.announce(&here, &run(1, 1), Epoch(10), Standing::Live);
        directory.announce(&lost, &run(2, 1), Epoch(10), Standing::Live);
        directory.settle(|r| *r == run(1, 1), Millis(0), GRACE);
        directory.keep_owned(|_| false);
        assert_eq!(waits(&directory, &here, Millis(0)), None);
        assert_eq!(waits(&directory, &lost, Millis(0)), Some(GRACE));
    }

    #[test]
    fn a_dead_node_is_not_routed_to_before_its_death_has_been_settled() {
        let (mut directory, vault) = (Directory::default(), Principal::vault("v"));
        directory.announce(&vault, &run(1, 1), Epoch(10), Standing::Live);
        directory.announce(&vault, &run(2, 1), Epoch(20), Standing::Live);
        let found = directory.find(&vault, |r| *r == run(1, 1), Millis(0), GRACE);
        assert!(matches!(found, Some(Found::At { epoch: Epoch(10), .. })), "{found:?}");
        assert_eq!(waits(&directory, &vault, Millis(0)), Some(GRACE));
    }

    #[test]
    fn what_a_node_has_not_said_again_is_not_routed_to_and_forgotten_after_the_grace() {
        let (mut directory, vault) = (Directory::default(), Principal::vault("v"));
        directory.announce(&vault, &run(1, 1), Epoch(10), Standing::Live);
        directory.announce(&vault, &run(2, 1), Epoch(20), Standing::Live);
        directory.doubt(&run(2, 1), Millis(0));
        assert_eq!(at(&directory, &vault), Some(run(1, 1)));
        directory.doubt(&run(1, 1), Millis(0));
        assert_eq!(at(&directory, &vault), None);
        directory.announce(&vault, &run(2, 1), Epoch(15), Standing::Live);
        assert_eq!(at(&directory, &vault), Some(run(2, 1)));
        directory.doubt(&run(2, 1), Millis(0));
        directory.settle(|_| true, Millis(14_999), GRACE);
        assert_eq!(directory.len(), 1);
        directory.settle(|_| true, Millis(15_000), GRACE);
        assert!(directory.is_empty());
    }

    #[test]
    fn requests_wait_for_a_dead_node_whose_stream_begins_again_or_began_just_before() {
        let (mut directory, after, before) =
            (Directory::default(), Principal::vault("after"), Principal::vault("before"));
        directory.announce(&after, &run(1, 1), Epoch(10), Standing::Live);
        directory.announce(&before, &run(2, 1), Epoch(10), Standing::Live);
        directory.doubt(&run(2, 1), Millis(0));
        directory.settle(|_| false, Millis(1_000), GRACE);
        directory.doubt(&run(1, 1), Millis(2_000));
        for vault in [&after, &before] {
            assert_eq!(waits(&directory, vault, Millis(6_000)), Some(Duration::from_secs(10)));
        }
        // Alive again, but nobody knows whether they withdrew it meanwhile.
        directory.settle(|_| true, Millis(7_000), GRACE);
        for vault in [&after, &before] {
            assert_eq!(at(&directory, vault), None);
        }
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
            let found: Vec<_> = owners.iter().map(|o| o.find(&vault, |_| true, Millis(0), GRACE)).collect();
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
                prop_assert!(at(&directory, &vault).is_some());
            }
        }
    }
}
