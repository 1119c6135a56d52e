//! The task that turns what gossip knows into the view.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use chitchat::{ChitchatId, NodeState};
use tokio::sync::watch;

use super::{INTERVAL, MembershipError, Shared};
use crate::cluster::facts::{FactError, Facts, LEFT, flag};
use crate::cluster::view::{Member, Superseded, View};
use crate::domain::ids::{Generation, NodeRun};
use crate::observe::metrics::{MemberState, Metrics, count};

/// How long a goodbye is gossiped: with three others or fewer, everybody is told in the first interval.
const GOODBYE: Duration = INTERVAL.saturating_mul(3);

/// How often the dead are counted again: a node can be dead to gossip without ever having been live.
const RECOUNT: Duration = Duration::from_secs(5);

pub(super) struct Keeper {
    shared: Arc<Shared>,
    /// This node as the view has it.
    mine: Member,
    view: watch::Sender<Arc<View>>,
    superseded: watch::Sender<Option<Superseded>>,
    metrics: Arc<Metrics>,
    /// Live, but not in the view because of their facts; each is counted once.
    refused: BTreeSet<ChitchatId>,
}

impl Keeper {
    pub fn new(
        shared: Arc<Shared>,
        mine: Member,
        view: watch::Sender<Arc<View>>,
        superseded: watch::Sender<Option<Superseded>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { shared, mine, view, superseded, metrics, refused: BTreeSet::new() }
    }

    /// Keeps the view until it is time to leave; then says goodbye.
    pub async fn run(mut self) -> Result<(), MembershipError> {
        let _left = self.shared.left.clone().drop_guard();
        let leave = self.shared.leave.clone();
        let mut live = self.shared.live.clone();
        let mut ended = pin!(self.shared.handle.termination_watcher());
        let mut recount = tokio::time::interval(RECOUNT);
        recount.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        live.mark_changed();
        loop {
            tokio::select! {
                () = leave.cancelled() => break,
                result = &mut ended => return Err(ended_by_itself(result)),
                changed = live.changed() => match changed {
                    Ok(()) => self.refresh(&mut live),
                    Err(error) => return Err(ended_by_itself(Err(error.into()))),
                },
                _ = recount.tick() => {}
            }
            self.count_members().await;
        }
        self.say_goodbye().await;
        match self.shared.handle.initiate_shutdown() {
            Ok(()) => ended.await.map_err(|error| ended_by_itself(Err(error))),
            Err(error) => Err(ended_by_itself(Err(error))),
        }
    }

    fn refresh(&mut self, live: &mut watch::Receiver<BTreeMap<ChitchatId, NodeState>>) {
        let mut members = Vec::new();
        let mut refused = BTreeSet::new();
        for (id, state) in live.borrow_and_update().iter() {
            match member(id, state) {
                Ok(member) if self.is_this_process(&member) => self.mine = member,
                Ok(member) => members.push(member),
                Err(FactError::Unknown) => {}
                Err(error) => {
                    self.refuse(id, error);
                    refused.insert(id.clone());
                }
            }
        }
        self.refused = refused;
        let (view, superseded) = View::assemble(self.mine.clone(), members);
        self.view.send_if_modified(|old| {
            let changed = **old != view;
            if changed {
                *old = Arc::new(view);
            }
            changed
        });
        if superseded.is_some() {
            self.superseded.send_if_modified(|known| {
                let first = known.is_none();
                if first {
                    *known = superseded;
                }
                first
            });
        }
    }

    fn is_this_process(&self, member: &Member) -> bool {
        member.run == self.mine.run && member.gossip == self.mine.gossip
    }

    fn refuse(&self, id: &ChitchatId, error: FactError) {
        if self.refused.contains(id) {
            return;
        }
        let reason = if matches!(error, FactError::Protocol(_)) { "version" } else { "facts" };
        count(&self.metrics.cluster.peer_rejected, reason);
        tracing::warn!(node = &*id.node_id, gossip = %id.gossip_advertise_addr, %error, "member left out");
    }

    /// The gauges: in the view, draining or not; and dead, which those who said goodbye are not.
    async fn count_members(&self) {
        let view = self.shared.view.borrow().clone();
        let dead = self.shared.handle.with_chitchat(|chitchat| {
            let silent = chitchat.dead_nodes().filter(|id| !view.members.contains_key(&*id.node_id));
            let unforeseen = silent.filter(|id| chitchat.node_state(id).is_none_or(|s| s.get(LEFT) != Some("1")));
            unforeseen.map(|id| id.node_id.clone()).collect::<BTreeSet<_>>().len()
        });
        let dead = dead.await;
        let draining = view.members.values().filter(|m| m.facts.draining).count();
        let live = view.members.len() - draining;
        for (state, number) in [("live", live), ("draining", draining), ("dead", dead)] {
            let number = i64::try_from(number).unwrap_or(i64::MAX);
            self.metrics.cluster.members.get_or_create(&MemberState { state }).set(number);
        }
    }

    async fn say_goodbye(&self) {
        if self.shared.view.borrow().others().next().is_none() {
            return;
        }
        self.shared.set(LEFT, flag(true)).await;
        tokio::time::sleep(GOODBYE).await;
    }
}

fn member(id: &ChitchatId, state: &NodeState) -> Result<Member, FactError> {
    let facts = Facts::from_pairs(state.key_values())?;
    let node = id.node_id.parse().map_err(|_| FactError::Bad("node id"))?;
    let run = NodeRun { node, generation: Generation(id.generation_id) };
    Ok(Member::new(run, id.gossip_advertise_addr, facts))
}

fn ended_by_itself(result: anyhow::Result<()>) -> MembershipError {
    MembershipError::Ended(match result {
        Ok(()) => "it was told to".to_owned(),
        Err(error) => format!("{error:#}"),
    })
}
