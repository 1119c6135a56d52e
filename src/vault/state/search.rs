//! Finding the vault: requests whose vault is elsewhere are sent there; those whose vault is nowhere wait, as long
//! as somebody knows that it may come back.
//!
//! Wherever a request is nowhere, something is under way that will look at it again: a lookup, a question to
//! all nodes, or a timer.

use std::time::Duration;

use crate::cluster::proto;
use crate::domain::clock::Epoch;
use crate::domain::ids::{NodeRun, RequestId};
use crate::domain::principal::Standing;
use crate::vault::frames;
use crate::vault::record::{Origin, Place, Record, Waiter};
use crate::vault::refusal::Refusal;
use crate::wire::dcp::envelope::RecordId;

use super::desk::accept;
use super::further::SLOW;
use super::{Context, Effect, Route, VaultState};

/// How often a request may be sent to a node that turns out not to have the vault.
const MAX_MISSES: u8 = 4;

/// How long until the next attempt to find a vault whose requests have been accepted.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// How long until a node that takes no frames is tried again.
const RESEND: Duration = Duration::from_millis(500);

/// How often a request may fail to be sent: for four seconds, as long as a lookup asks silent nodes. A node that has
/// just died is in the view for up to two seconds, and twice as long if its last heartbeats were slow.
const MAX_UNSENT: u8 = 8;

/// What looking a vault up gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whereabouts {
    /// Another node has it, so firmly and since then.
    At(NodeRun, Standing, Epoch),
    /// Its node has died; it may come back within this time.
    Lost(Duration),
    /// No live node has it.
    Absent,
    /// A node did not answer.
    Unreachable,
}

impl VaultState {
    /// The vault was looked up.
    pub fn located(&mut self, whereabouts: Whereabouts, context: &mut Context<'_>) {
        self.touched = context.now;
        if !self.route.is_sought() {
            // Something newer has been learnt since this was asked. But nothing in another cluster outranks this one.
            if let (Route::At(known, _), Whereabouts::At(node, standing, since)) = (&self.route, &whereabouts)
                && known.is_afar()
            {
                self.outranked_by(node, (*standing, *since), context);
            }
            return self.settle(context);
        }
        self.route = Route::Unknown;
        if self.waiting_until.is_some() && self.sessions.is_empty() {
            match whereabouts {
                Whereabouts::At(node, standing, since) => self.move_to(node, (standing, since), context),
                _ => self.look_beyond(context),
            }
            return;
        }
        if !self.sessions.is_empty() {
            if let Whereabouts::At(node, standing, since) = whereabouts {
                self.outranked_by(&node, (standing, since), context);
            }
            self.settle(context);
            return self.flush(context);
        }
        let whereabouts = match (whereabouts, self.lost_until) {
            // The owners have forgotten; this node remembers that the vault's node died.
            (Whereabouts::Absent, Some(until)) if until > context.now => Whereabouts::Lost(until.since(context.now)),
            (other, _) => other,
        };
        match whereabouts {
            Whereabouts::At(node, standing, since) => {
                self.lost_until = None;
                self.route = Route::At(node, (standing, since));
                self.settle(context);
            }
            Whereabouts::Lost(wait) => self.await_return(wait, context),
            Whereabouts::Absent => self.seek_answers(context),
            Whereabouts::Unreachable => self.postpone(context),
        }
    }

    /// No node has an answer for this request, whose vault is connected nowhere.
    pub fn not_found(&mut self, request: &RequestId, id: RecordId, context: &mut Context<'_>) {
        if self.takes_requests() {
            return self.settle(context);
        }
        if self.lost_until.is_some_and(|until| until > context.now) {
            // Meanwhile it has been seen, and its node has died.
            return self.wake_within(RETRY, context);
        }
        // While it is looked for, what comes of that decides.
        let is_lost = |r: &Record| r.is_open() && r.place == Place::Nowhere;
        if !self.route.is_sought() && self.find(request, id).is_some_and(is_lost) {
            self.seek_afar(request, id, context);
        }
    }

    /// A node says that it does not have the vault, so every request sent there is nowhere.
    pub(super) fn not_here(&mut self, from: &NodeRun, request: &RequestId, id: RecordId, context: &mut Context<'_>) {
        self.take_back(from);
        let Some(record) = self.find_mut(request, id) else { return };
        record.misses = record.misses.saturating_add(1);
        let (patient, accepted) = (record.misses <= MAX_MISSES, record.accepted);
        if !self.sessions.is_empty() && self.route == Route::Unknown {
            // The newest socket may be here, or on a third node.
            return self.verify(from, context);
        }
        if self.takes_requests() || matches!(self.route, Route::At(..)) {
            return self.settle(context);
        }
        match (patient, accepted) {
            (true, _) => return self.locate(true, context),
            (false, true) => self.wake_within(RETRY, context),
            (false, false) => self.give_up(request, id, &Refusal::Unavailable, context),
        }
        if self.has_nowhere() {
            self.wake_within(RETRY, context);
        }
    }

    /// A node has left the view: its requests are without origin, and vaults that were there may come back.
    pub fn node_lost(&mut self, run: &NodeRun, context: &mut Context<'_>) {
        for record in self.records.values_mut().flatten() {
            record.sharers.retain(|sharer| sharer != run);
            if matches!(&record.origin, Origin::There(node) if node == run) {
                let heir = if record.is_open() { record.sharers.pop() } else { None };
                record.origin = heir.map_or(Origin::Here(Waiter::Nobody), Origin::There);
            }
        }
        let was_there = self.take_back(run);
        self.records.values_mut().flatten().for_each(|record| record.former.retain(|former| former != run));
        if was_there {
            if self.takes_requests() {
                self.settle(context);
                return self.look_for_better(context);
            }
            self.lost_until = Some(context.now.plus(context.bounds.grace));
            if self.has_nowhere() {
                self.locate(false, context);
            }
        }
    }

    /// The stream to, or from, a node is new: what was sent to it may have been lost, and what it has said too.
    pub fn repeat_to(&mut self, run: &NodeRun, context: &mut Context<'_>) {
        for (request, id) in self.open_ones(|record| Self::is_away_at(record, run)) {
            self.send_to(&request, id, run.clone(), context);
        }
        // It may have answered what it was sent before the vault came here.
        let was_there = |r: &Record| matches!(r.place, Place::Home(_)) && r.former.contains(run);
        for (request, id) in self.open_ones(was_there) {
            context.effects.push(Effect::Find(request, id));
        }
        if self.open > 0 && self.sessions.is_empty() && self.waiting_until.is_some() {
            // It may have said that the vault is there now.
            self.locate(true, context);
        }
    }

    /// A frame of this vault could not be sent to `node`.
    pub fn unsent(&mut self, node: &NodeRun, body: &proto::frame::Body, context: &mut Context<'_>) {
        match body {
            proto::frame::Body::Deliver(deliver) if !deliver.guard && deliver.answer.is_empty() => {
                let request = RequestId::from(deliver.request_id.as_str());
                if let Some(id) = frames::id_from(deliver.record_id.as_ref()) {
                    self.request_unsent(node, &request, id, context);
                }
            }
            proto::frame::Body::Answer(answer) => self.answer_unsent(node, answer, context),
            _ => {}
        }
    }

    fn request_unsent(&mut self, node: &NodeRun, request: &RequestId, id: RecordId, context: &mut Context<'_>) {
        if self.route.leads_to(node) {
            self.route = Route::Unknown;
        }
        let Some(record) = self.find_mut(request, id).filter(|r| r.is_open() && Self::is_away_at(r, node)) else {
            return;
        };
        record.moves_to(Place::Nowhere);
        record.misses = record.misses.saturating_add(1);
        if node.is_afar() {
            // As if that cluster had just been lost: its link has gone, or carries no more.
            self.lost_until = Some(context.now.plus(context.bounds.grace));
            return self.wake_within(RESEND, context);
        }
        if !record.accepted && record.misses > MAX_UNSENT {
            self.give_up(request, id, &Refusal::Unavailable, context);
        } else if let Route::At(..) = self.route {
            self.settle(context);
        } else {
            self.wake_within(RESEND, context);
        }
    }

    /// Time has passed: ends the grace, delivers more of a backlog, or tries again to find the vault.
    pub fn wake(&mut self, context: &mut Context<'_>) {
        self.timers = self.timers.saturating_sub(1);
        let Some(at) = self.wake_at else { return };
        if at > context.now {
            // A nearer time was asked for later, or the wall clock is behind the timer.
            if self.timers == 0 {
                self.wake_at = None;
                self.wake_within(at.since(context.now), context);
            }
            return;
        }
        self.wake_at = None;
        self.offer_answers(context);
        self.end_adoption(context);
        self.flush_backlog(context);
        self.look_further(context);
        if let Some(until) = self.waiting_until.filter(|_| self.sessions.is_empty()) {
            if until <= context.now {
                return self.leave(context);
            }
            self.wake_within(until.since(context.now), context);
            self.look_beyond(context);
        }
        if !self.has_nowhere() {
            return;
        }
        let waited = self.lost_until.is_some_and(|until| until <= context.now);
        if waited {
            self.lost_until = None;
        }
        if self.takes_requests() || matches!(self.route, Route::At(..)) {
            self.settle(context);
        } else {
            self.locate(waited, context);
        }
    }

    /// Asks to be woken within this time. One timer is enough for all requests.
    pub(super) fn wake_within(&mut self, after: Duration, context: &mut Context<'_>) {
        let at = context.now.plus(after);
        if self.wake_at.is_none_or(|known| known > at) {
            self.wake_at = Some(at);
            self.timers = self.timers.saturating_add(1);
            context.effects.push(Effect::Wake(after));
        }
    }

    /// Sends every request that is nowhere to where the vault is, or delivers it here.
    pub(super) fn settle(&mut self, context: &mut Context<'_>) {
        for (request, id) in self.open_ones(|record| record.place == Place::Nowhere) {
            if self.takes_requests() {
                self.take(&request, id, context);
            } else {
                self.send_on(&request, id, context);
            }
        }
    }

    pub(super) fn send_on(&mut self, request: &RequestId, id: RecordId, context: &mut Context<'_>) {
        match self.route.clone() {
            Route::At(node, _) if self.is_outdated(&node, context.now) => {
                self.route = Route::Unknown;
                self.locate(false, context);
            }
            Route::At(node, _) => self.send_to(request, id, node, context),
            Route::Unknown => self.locate(false, context),
            Route::Locating | Route::Verifying => {}
        }
    }

    pub(super) fn send_to(&mut self, request: &RequestId, id: RecordId, node: NodeRun, context: &mut Context<'_>) {
        if node.is_afar() && self.find(request, id).is_some_and(|record| record.crossed) {
            return self.turn_back(request, id, context);
        }
        if let Some(record) = self.find_mut(request, id) {
            record.moves_to(Place::Away(node.clone()));
            if node.is_afar() {
                record.goes_abroad(&node, context.now);
            }
        }
        if let Some(record) = self.find(request, id) {
            let (body, is_afar) = (self.deliver_body(record), node.is_afar());
            context.effects.push(Effect::Send(node, body));
            if is_afar {
                // What is looked for then is found then: a walk over all requests for each one that is sent would not be
                // worth it.
                self.wake_within(SLOW, context);
            }
        }
    }

    pub(super) fn has_nowhere(&self) -> bool {
        self.open > 0 && self.records.values().flatten().any(|r| r.is_open() && r.place == Place::Nowhere)
    }

    pub(super) fn locate(&mut self, anew: bool, context: &mut Context<'_>) {
        if !self.route.is_sought() {
            self.route = Route::Locating;
            context.effects.push(Effect::Locate { anew });
        }
    }

    /// The vault has sessions here, and it is not certain that `node` has a better one: until that is known, what is
    /// for the vault waits here.
    pub(super) fn verify(&mut self, node: &NodeRun, context: &mut Context<'_>) {
        self.take_back(node);
        self.route = Route::Verifying;
        context.effects.push(Effect::Locate { anew: true });
        self.settle(context);
    }

    /// A session that ranks above those here may be elsewhere: the one that counted has gone, or not all nodes have
    /// been heard. Those here are served meanwhile.
    pub fn look_for_better(&mut self, context: &mut Context<'_>) {
        if !context.alone && !self.sessions.is_empty() {
            self.locate(true, context);
        }
    }

    /// Requests sent to `node` are nowhere again, in their order. Whether there were any, or would have been.
    pub(super) fn take_back(&mut self, node: &NodeRun) -> bool {
        let mut any = self.route.leads_to(node);
        if any {
            self.route = Route::Unknown;
        }
        for record in self.records.values_mut().flatten() {
            if record.is_open() && Self::is_away_at(record, node) {
                record.moves_to(Place::Nowhere);
                any = true;
            }
        }
        any
    }

    /// The vault's node has died: requests are accepted, and wait for the vault to come back.
    fn await_return(&mut self, wait: Duration, context: &mut Context<'_>) {
        self.lost_until = Some(context.now.plus(wait));
        for record in self.records.values_mut().flatten() {
            if record.is_open() && record.place == Place::Nowhere {
                accept(&self.vault, record, None, context);
            }
        }
        self.look_beyond(context);
        self.wake_within(wait.min(RETRY), context);
    }

    /// The vault is connected nowhere: only an answer that another node keeps can save a request.
    fn seek_answers(&mut self, context: &mut Context<'_>) {
        self.lost_until = None;
        for (request, id) in self.open_ones(|record| record.place == Place::Nowhere) {
            if context.alone {
                self.seek_afar(&request, id, context);
            } else {
                context.effects.push(Effect::Find(request, id));
            }
        }
    }

    /// Nobody can say where the vault is: what has been accepted is tried again, what has not is refused.
    fn postpone(&mut self, context: &mut Context<'_>) {
        for (request, id) in self.open_ones(|record| record.place == Place::Nowhere && !record.accepted) {
            self.give_up(&request, id, &Refusal::Unavailable, context);
        }
        if self.has_nowhere() {
            self.wake_within(RETRY, context);
        }
    }
}
