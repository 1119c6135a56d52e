//! Requests follow their vault: what this node has for a vault goes to the node at which it is now.

use crate::cluster::proto::frame::Body;
use crate::domain::clock::Epoch;
use crate::domain::ids::{NodeRun, RequestId};
use crate::domain::principal::Standing;
use crate::vault::frames;
use crate::vault::record::{Origin, Place, Waiter};
use crate::wire::dcp::envelope::RecordId;

use super::afar::is_of_caller;
use super::{Context, Effect, Rank, Route, VaultState, tell_others};

/// Most kept answers that are handed over: a repeat of an older request is delivered to the vault again.
const MAX_ANSWERS: usize = 100;

/// What a node says to one that has the vault now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdoptAnswer {
    /// So many records were sent.
    Sent(u64),
    /// A session of the vault is here that ranks above that node's.
    Outranked(Rank),
}

impl VaultState {
    /// The vault is at `node`, so firmly and since `epoch`: sends it everything, unless a firmer or newer session is
    /// known. A node that does not say how firmly is compared by its epoch alone.
    pub fn adopt(
        &mut self,
        node: &NodeRun,
        standing: Option<Standing>,
        epoch: Epoch,
        context: &mut Context<'_>,
    ) -> AdoptAnswer {
        self.touched = context.now;
        let outranks = |known: &Rank| *known > (standing.unwrap_or(known.0), epoch);
        if let Some(here) = self.rank().filter(outranks) {
            return AdoptAnswer::Outranked(here);
        }
        if matches!(&self.route, Route::At(known, rank) if known != node && outranks(rank)) {
            // A late word: the vault has been at another node since. Or only a poll.
            return AdoptAnswer::Sent(0);
        }
        let before = context.effects.len();
        self.send_answers(node, context);
        for (request, id) in self.open_ones(|_| true) {
            self.hand_on(&request, id, node, context);
        }
        let sent = context.effects[before..].iter().filter(|effect| matches!(effect, Effect::Send(..))).count();
        if self.sessions.is_empty() && self.waiting_until.take().is_some() {
            context.effects.push(Effect::Release(self.epoch));
        }
        self.lost_until = None;
        self.route = Route::At(node.clone(), (standing.unwrap_or(Standing::Live), epoch));
        AdoptAnswer::Sent(sent as u64)
    }

    /// Sends a request to where the vault is now. One of another node is sent there by its origin as well, which is
    /// told in case it has not heard of the vault's move; here it is forgotten. One that only waited here to hear
    /// where the vault is goes there by its origin alone.
    fn hand_on(&mut self, request: &RequestId, id: RecordId, node: &NodeRun, context: &mut Context<'_>) {
        let Some(record) = self.find(request, id) else { return };
        let foreign = matches!(record.origin, Origin::There(_)) && !is_of_caller(record);
        let accepted = record.accepted;
        if accepted || !foreign {
            self.send_to(request, id, node.clone(), context);
        }
        if foreign && let Some(mut record) = self.remove(request, id, context) {
            if accepted {
                record.sharers.retain(|sharer| sharer != node);
                if matches!(&record.origin, Origin::There(origin) if origin == node) {
                    record.origin = Origin::Here(Waiter::Nobody);
                }
            }
            tell_others(&record, context, || frames::not_here(&self.vault, request, id));
        }
    }

    /// A session of that rank is at `node`: if none here ranks above it, what is here goes there.
    pub fn outranked_by(&mut self, node: &NodeRun, rank: Rank, context: &mut Context<'_>) {
        if self.rank().is_none_or(|here| here < rank) {
            self.adopt(node, Some(rank.0), rank.1, context);
        }
    }

    /// The vault's last socket here has closed, and another one is open at `node`.
    pub(super) fn move_to(&mut self, node: NodeRun, rank: Rank, context: &mut Context<'_>) {
        self.waiting_until = None;
        context.effects.push(Effect::Release(self.epoch));
        self.route = Route::At(node, rank);
        self.give_back(context);
        self.settle(context);
    }

    /// This node is stopping: `node` takes over what agents may still poll for.
    pub fn hand_over(&mut self, node: &NodeRun, context: &mut Context<'_>) {
        for record in self.records.values().flatten() {
            let unattended = record.accepted && matches!(record.origin, Origin::Here(Waiter::Nobody));
            if !record.is_open() || unattended {
                let mut body = frames::guard(&self.vault, record, context.me);
                body.origin_node.clear();
                context.effects.push(Effect::Send(node.clone(), Body::Deliver(Box::new(body))));
            }
        }
    }

    /// Has `node` keep a request as well, in case this one dies; nothing if the vault's node has it anyway, in this
    /// cluster.
    pub fn guard(&mut self, request: &RequestId, id: RecordId, node: &NodeRun, context: &mut Context<'_>) {
        let vault = self.vault.clone();
        if let Some(record) =
            self.find_mut(request, id).filter(|r| !matches!(&r.place, Place::Away(node) if !node.is_afar()))
        {
            if record.is_open() {
                record.share_with(node.clone());
            }
            let body = frames::guard(&vault, record, context.me);
            context.effects.push(Effect::Send(node.clone(), Body::Deliver(Box::new(body))));
        }
    }

    fn send_answers(&self, node: &NodeRun, context: &mut Context<'_>) {
        let mut kept: Vec<_> =
            self.records.values().flatten().filter(|r| !r.is_open() && r.expires > context.now).collect();
        kept.sort_unstable_by_key(|record| std::cmp::Reverse(record.order));
        for record in kept.into_iter().take(MAX_ANSWERS) {
            let body = self.deliver_body(record);
            context.effects.push(Effect::Send(node.clone(), body));
        }
    }
}
