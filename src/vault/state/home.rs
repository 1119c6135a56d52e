//! The home's part: requests from this node and others, on their way to the vault's sockets here.

use std::time::Duration;

use smallvec::SmallVec;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::domain::clock::Millis;
use crate::domain::ids::{NodeRun, RequestId};
use crate::domain::principal::Standing;
use crate::runtime::outbox::Outbox;
use crate::vault::frames::{self, Delivered};
use crate::vault::record::{Origin, Place, Record, Waiter};
use crate::vault::refusal::Refusal;
use crate::vault::span;
use crate::wire::dcp::envelope::RecordId;

use super::desk::accept;
use super::{Context, Effect, Route, VaultState};

/// How often it is looked at whether a vault's socket has room for more of what waits for it.
const BACKLOG_LOOK: Duration = Duration::from_millis(20);

impl VaultState {
    /// Whether requests are delivered here rather than sent elsewhere: the vault is here, and nowhere newer.
    pub(super) fn takes_requests(&self) -> bool {
        self.is_home() && !matches!(self.route, Route::At(..))
    }

    /// Another node has sent a request for this vault, or an answer to keep.
    pub fn deliver(&mut self, from: &NodeRun, delivered: Delivered, context: &mut Context<'_>) {
        self.touched = context.now;
        let (request, id) = (delivered.request.clone(), delivered.id);
        if delivered.expires <= context.now {
            return self.refuse_to(from, &request, id, &Refusal::Expired, context);
        }
        if let Some(answer) = delivered.answer.clone() {
            return match self.find(&request, id) {
                Some(known) if known.is_open() => self.fill(&request, id, answer, context),
                Some(_) => {}
                None => self.keep(from, delivered, context),
            };
        }
        if delivered.guard {
            match self.find_mut(&request, id) {
                Some(known) => known.crossed &= delivered.crossed,
                None => self.keep(from, delivered, context),
            }
            return;
        }
        if self.route.leads_to(from) && !self.sessions.is_empty() {
            // Whoever sends a request here does not have the vault, or does not count what it has.
            self.take_back(from);
            self.settle(context);
            if self.rank().is_some_and(|(standing, _)| standing < Standing::Live) {
                self.look_for_better(context);
            }
        }
        if let Route::At(node, _) = self.route.clone()
            && !self.sessions.is_empty()
            && self.find(&request, id).is_none_or(Record::is_open)
        {
            // Whoever still sends here may know more than this node: the newer socket may be gone again.
            self.verify(&node, context);
        }
        match self.find(&request, id) {
            Some(Record { answer: Some(answer), .. }) => {
                for node in [Some(from), Some(&delivered.origin).filter(|origin| *origin != from)].into_iter().flatten()
                {
                    if node != context.me {
                        let body = frames::answer(&self.vault, &request, id, answer);
                        context.effects.push(Effect::Send(node.clone(), body));
                    }
                }
            }
            _ if !self.is_home() => {
                context.effects.push(Effect::Send(from.clone(), frames::not_here(&self.vault, &request, id)));
                if self.find(&request, id).is_some_and(|known| Self::is_away_at(known, from)) {
                    // Neither has the vault: each took the other for its home.
                    self.not_here(from, &request, id, context);
                }
            }
            Some(_) => self.deliver_again(delivered, context),
            None if !delivered.accepted && self.has_no_room(delivered.frame.len(), context) => {
                self.refuse_to(from, &request, id, &Refusal::Full, context);
            }
            None => {
                self.insert(record(delivered, context), context);
                self.take(&request, id, context);
            }
        }
    }

    /// For a vault that polls: what has not been delivered; with `again`, also what has been and is unanswered.
    pub fn fetch(&mut self, again: bool, limit: usize, context: &mut Context<'_>) -> Vec<(RequestId, Utf8Bytes)> {
        if self.adopting > 0 || self.route == Route::Verifying {
            return Vec::new();
        }
        let poll = self.sessions.iter().rev().find(|session| session.outbox.is_none());
        let Some(number) = poll.map(|session| session.number) else { return Vec::new() };
        let wanted = |r: &Record| {
            r.expires > context.now && (r.place == Place::Home(None) || (again && matches!(r.place, Place::Home(_))))
        };
        let mut fetched = Vec::new();
        for (request, id) in self.open_ones(wanted).into_iter().take(limit) {
            if let Some(frame) = self.find(&request, id).map(|record| record.frame.clone()) {
                self.delivered_to(&request, id, number, context);
                fetched.push((request, frame));
            }
        }
        fetched
    }

    /// Takes a record of this node into delivery, if the vault's limit has room.
    pub(super) fn take(&mut self, request: &RequestId, id: RecordId, context: &mut Context<'_>) {
        let verifying = self.route == Route::Verifying;
        let Some(record) = self.find_mut(request, id) else { return };
        if verifying {
            record.moves_to(Place::Home(None));
            return;
        }
        let remaining = match record.accepted {
            true => None,
            false => match self.limit.take() {
                Ok(remaining) => Some(remaining),
                Err(wait) => {
                    context.metrics.vault.limited("vault");
                    let refusal = Refusal::VaultLimit(self.vault.clone(), wait);
                    return self.give_up(request, id, &refusal, context);
                }
            },
        };
        if let Some(record) = self.find_mut(request, id) {
            record.moves_to(Place::Home(None));
        }
        self.flush_one(request, id, context);
        if remaining.is_some() {
            context.effects.push(Effect::Push(request.clone()));
        }
        let vault = self.vault.clone();
        if let (Some(_), Some(record)) = (remaining, self.find_mut(request, id)) {
            if let Origin::There(node) = &record.origin {
                let body = frames::accepted(&vault, request, id, remaining);
                context.effects.push(Effect::Send(node.clone(), body));
                record.accepted = true;
            } else {
                accept(&vault, record, remaining, context);
            }
        }
        if self.waiting_until.is_some() {
            self.look_beyond(context);
        }
    }

    /// Delivers everything that has not been delivered to the newest socket, oldest first. What its outbox has no
    /// room for follows: a vault that comes back to much must not be taken for a slow reader.
    pub(super) fn flush(&mut self, context: &mut Context<'_>) {
        self.backlog = false;
        let waits = (self.adopting > 0 && !self.sessions.is_empty()) || self.route == Route::Verifying;
        if self.open == 0 || waits {
            return;
        }
        for (request, id) in self.open_ones(|record| record.place == Place::Home(None)) {
            let Some(record) = self.find(&request, id) else { continue };
            let (bytes, accepted) = (record.frame.len(), record.accepted);
            if !self.backlog && self.receiver().is_some_and(|(_, outbox)| !outbox.has_room(bytes)) {
                self.backlog = true;
                self.wake_within(BACKLOG_LOOK, context);
            }
            if accepted {
                self.flush_one(&request, id, context);
            } else {
                self.take(&request, id, context);
            }
        }
    }

    /// Delivers more of a backlog, if there is one.
    pub(super) fn flush_backlog(&mut self, context: &mut Context<'_>) {
        if self.backlog {
            self.flush(context);
        }
    }

    /// The newest socket that still gets requests.
    fn receiver(&self) -> Option<(u64, &Outbox)> {
        let mut staying = self.sessions.iter().rev().filter(|session| !self.parting.contains(&session.number));
        staying.find_map(|session| Some((session.number, session.outbox.as_ref()?)))
    }

    fn flush_one(&mut self, request: &RequestId, id: RecordId, context: &mut Context<'_>) {
        if self.adopting > 0 || self.backlog {
            return;
        }
        let fresh = self.find(request, id).filter(|record| record.expires > context.now);
        let (Some(record), Some((number, outbox))) = (fresh, self.receiver()) else { return };
        if outbox.text(record.frame.clone()).is_ok() {
            self.delivered_to(request, id, number, context);
        }
    }

    fn delivered_to(&mut self, request: &RequestId, id: RecordId, number: u64, context: &Context<'_>) {
        self.deliveries += 1;
        let delivery = self.deliveries;
        let Some(record) = self.find_mut(request, id) else { return };
        if record.deliveries == 0 {
            context.metrics.vault.undelivered.dec();
        } else {
            context.metrics.vault.redelivered.inc();
        }
        record.place = Place::Home(Some(number));
        record.deliveries = record.deliveries.saturating_add(1);
        record.delivered = delivery;
    }

    /// A request that this node has already comes again, from its origin or from where the vault was.
    fn deliver_again(&mut self, delivered: Delivered, context: &mut Context<'_>) {
        let vault = self.vault.clone();
        let (request, id) = (delivered.request, delivered.id);
        let Some(record) = self.find_mut(&request, id) else { return };
        let foreign = delivered.origin != *context.me;
        record.crossed &= delivered.crossed;
        if foreign {
            await_at(record, delivered.origin.clone());
        }
        if delivered.accepted {
            accept(&vault, record, None, context);
        } else if record.accepted && foreign {
            let body = frames::accepted(&vault, &request, id, None);
            context.effects.push(Effect::Send(delivered.origin.clone(), body));
        }
        if !matches!(record.place, Place::Home(_)) {
            self.take(&request, id, context);
        }
    }

    /// Keeps a request for another node that may die, or the answer of one.
    fn keep(&mut self, from: &NodeRun, delivered: Delivered, context: &mut Context<'_>) {
        let (request, id) = (delivered.request.clone(), delivered.id);
        let home = delivered.home.clone().filter(|home| home != context.me);
        let place = home.map_or(Place::Nowhere, Place::Away);
        let (answered, expires) = (delivered.answer.is_some(), delivered.expires);
        let mut record = record(delivered, context);
        (record.origin, record.place, record.accepted) = (Origin::Here(Waiter::Nobody), place, true);
        self.insert(record, context);
        if answered {
            context.effects.push(Effect::Keep(request, id, expires));
        } else {
            if let Some(record) = self.find_mut(&request, id) {
                record.share_with(from.clone());
            }
            self.settle(context);
        }
    }

    pub(super) fn refuse_to(
        &self,
        node: &NodeRun,
        request: &RequestId,
        id: RecordId,
        refusal: &Refusal,
        context: &mut Context<'_>,
    ) {
        let body = frames::refused(&self.vault, request, id, refusal);
        context.effects.push(Effect::Send(node.clone(), body));
    }
}

/// The answer is awaited at that node, beside wherever it is awaited already.
pub(super) fn await_at(record: &mut Record, node: NodeRun) {
    if let Origin::Here(Waiter::Nobody) = record.origin {
        record.sharers.retain(|sharer| *sharer != node);
        record.origin = Origin::There(node);
    } else {
        record.share_with(node);
    }
}

pub(super) fn record(delivered: Delivered, context: &Context<'_>) -> Record {
    let here = delivered.origin == *context.me;
    Record {
        id: delivered.id,
        request: delivered.request,
        order: delivered.order,
        frame: delivered.frame,
        answer: delivered.answer,
        expires: delivered.expires,
        begun: context.now,
        submitter: delivered.submitter,
        span: span::delivered(&delivered.traceparent),
        origin: if here { Origin::Here(Waiter::Nobody) } else { Origin::There(delivered.origin) },
        place: Place::Nowhere,
        accepted: delivered.accepted,
        crossed: delivered.crossed,
        abroad: SmallVec::new(),
        abroad_since: Millis::default(),
        sharers: SmallVec::new(),
        former: SmallVec::new(),
        misses: 0,
        deliveries: 0,
        delivered: 0,
    }
}
