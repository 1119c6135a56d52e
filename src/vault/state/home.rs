//! The home's part: the vault's sockets here, delivering to them, and passing answers back.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::domain::clock::Millis;
use crate::domain::ids::{NodeRun, RequestId};
use crate::domain::principal::Standing;
use crate::vault::frames::{self, Delivered};
use crate::vault::record::{Origin, Place, Record, Waiter};
use crate::vault::refusal::Refusal;
use crate::wire::dcp::envelope::RecordId;

use super::desk::accept;
use super::{Context, Effect, Route, Session, VaultState};

/// How often it is looked at whether a vault's socket has room for more of what waits for it.
const BACKLOG_LOOK: Duration = Duration::from_millis(20);

/// What became of a vault's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnswerVerdict {
    /// Kept, and handed to whoever waits.
    Stored,
    /// The request is at that node.
    Elsewhere(NodeRun),
    /// This node knows no such request.
    Unknown,
}

impl VaultState {
    /// Whether requests are delivered here rather than sent elsewhere: the vault is here, and nowhere newer.
    pub(super) fn takes_requests(&self) -> bool {
        self.is_home() && !matches!(self.route, Route::At(_))
    }

    /// A socket of the vault has registered (or the vault polls). Unless this node is alone, nothing is delivered
    /// before [`VaultState::adopted`] is called.
    pub fn session_opened(&mut self, session: Session, context: &mut Context<'_>) {
        self.touched = context.now;
        self.last_life = context.now;
        self.sessions.retain(|known| known.number != session.number);
        let at = self.sessions.partition_point(|known| known.epoch < session.epoch);
        self.epoch = self.epoch.max(session.epoch);
        self.sessions.insert(at, session);
        (self.waiting_until, self.lost_until, self.route) = (None, None, Route::Unknown);
        context.effects.push(Effect::Hold(self.epoch, self.standing()));
        for record in self.records.values_mut().flatten() {
            if record.is_open() && !matches!(record.place, Place::Home(_)) {
                record.place = Place::Home(None);
            }
        }
        self.adopting = !context.alone;
        self.flush(context);
    }

    /// The other nodes have handed over what they had: deliveries begin.
    pub fn adopted(&mut self, context: &mut Context<'_>) {
        self.adopting = false;
        self.flush(context);
    }

    /// A session has ended. `for_good`: the vault has unregistered, so nothing waits for it.
    pub fn session_closed(&mut self, number: u64, for_good: bool, context: &mut Context<'_>) {
        let Some(at) = self.sessions.iter().position(|session| session.number == number) else { return };
        self.touched = context.now;
        self.sessions.remove(at);
        self.parting.retain(|parting| *parting != number);
        for record in self.records.values_mut().flatten() {
            if record.place == Place::Home(Some(number)) {
                record.place = Place::Home(None);
            }
        }
        if let Some(newest) = self.newest().map(|session| session.epoch) {
            if newest < self.epoch {
                context.effects.push(Effect::Release(self.epoch));
                self.epoch = newest;
            }
            context.effects.push(Effect::Hold(newest, self.standing()));
            return self.flush(context);
        }
        let grace = if for_good { Duration::ZERO } else { context.bounds.grace };
        self.adopting = false;
        self.waiting_until = Some(context.now.plus(grace));
        context.effects.push(Effect::Hold(self.epoch, Standing::Waiting));
        if grace.is_zero() {
            return self.wake(context);
        }
        context.effects.push(Effect::Wake(grace));
        if !context.alone {
            // An older socket may be open on another node: what is not answered goes there.
            self.route = Route::Unknown;
            self.locate(true, context);
        }
    }

    /// Time has passed: ends the grace, delivers more of a backlog, or tries again to find the vault.
    pub fn wake(&mut self, context: &mut Context<'_>) {
        if self.backlog {
            self.flush(context);
        }
        if self.sessions.is_empty() && self.waiting_until.is_some_and(|until| until <= context.now) {
            self.waiting_until = None;
            self.route = Route::Unknown;
            context.effects.push(Effect::Release(self.epoch));
            for (request, id) in self.open_ones(|record| matches!(record.place, Place::Home(_))) {
                self.give_up(&request, id, &Refusal::NotConnected(self.vault.clone()), context);
            }
        }
        if self.has_nowhere() {
            if self.takes_requests() {
                return self.settle(context);
            }
            let waited = self.lost_until.is_some_and(|until| until <= context.now);
            if waited {
                self.lost_until = None;
            }
            if let Route::At(_) = self.route {
                self.settle(context);
            } else {
                self.locate(waited, context);
            }
        }
    }

    /// A sign of life on a socket registered here.
    pub fn alive(&mut self, now: Millis) {
        self.last_life = now;
    }

    /// When a socket of this vault last gave a sign of life, if this node is the one that would notice: a newer
    /// socket elsewhere gets the heartbeats.
    #[must_use]
    pub fn silent_since(&self) -> Option<Millis> {
        (self.has_socket() && !matches!(self.route, Route::At(_))).then_some(self.last_life)
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
                None => self.keep(delivered, context),
            };
        }
        if delivered.guard {
            if self.find(&request, id).is_none() {
                self.keep(delivered, context);
            }
            return;
        }
        match self.find(&request, id) {
            Some(Record { answer: Some(answer), .. }) => {
                let body = frames::answer(&self.vault, &request, id, answer);
                context.effects.push(Effect::Send(from.clone(), body));
            }
            Some(_) => self.deliver_again(delivered, context),
            None if !self.is_home() => {
                context.effects.push(Effect::Send(from.clone(), frames::not_here(&self.vault, &request, id)));
            }
            None if !delivered.accepted && self.has_no_room(delivered.frame.len(), context) => {
                self.refuse_to(from, &request, id, &Refusal::Full, context);
            }
            None => {
                self.insert(record(delivered, context), context);
                self.take(&request, id, context);
            }
        }
    }

    /// The vault answers a request.
    pub fn answer(&mut self, request: &RequestId, answer: Utf8Bytes, context: &mut Context<'_>) -> AnswerVerdict {
        self.last_life = context.now;
        let Some(records) = self.records.get(request) else {
            return match &self.route {
                Route::At(node) => AnswerVerdict::Elsewhere(node.clone()),
                _ => AnswerVerdict::Unknown,
            };
        };
        let at_home = |r: &&Box<Record>| matches!(r.place, Place::Home(_));
        let open = records.iter().filter(at_home).filter(|r| r.is_open());
        // Delivered ones first: an answer to what has not been delivered yet is one to an earlier delivery of it.
        match open.min_by_key(|r| (r.place == Place::Home(None), r.seq)).map(|r| r.id) {
            Some(id) => {
                self.fill(request, id, answer, context);
                AnswerVerdict::Stored
            }
            None => match records.iter().find_map(|r| match &r.place {
                Place::Away(node) if r.is_open() => Some(node),
                _ => None,
            }) {
                Some(node) => AnswerVerdict::Elsewhere(node.clone()),
                // Answered before: the first answer stands.
                None => AnswerVerdict::Stored,
            },
        }
    }

    /// For a vault that polls: what has not been delivered; with `again`, also what has been and is unanswered.
    pub fn fetch(&mut self, again: bool, limit: usize, context: &mut Context<'_>) -> Vec<(RequestId, Utf8Bytes)> {
        if self.adopting {
            return Vec::new();
        }
        let Some(number) = self.newest().map(|session| session.number) else { return Vec::new() };
        let wanted = |r: &Record| {
            r.expires > context.now && (r.place == Place::Home(None) || (again && matches!(r.place, Place::Home(_))))
        };
        let mut fetched = Vec::new();
        for (request, id) in self.open_ones(wanted).into_iter().take(limit) {
            if let Some(record) = self.find_mut(&request, id) {
                delivered_to(record, number, context);
                fetched.push((request, record.frame.clone()));
            }
        }
        fetched
    }

    /// The name belongs to `key` now: sessions of another key are ended, and told.
    pub fn rebound(&mut self, key: &[u8], refusal: &Utf8Bytes, context: &mut Context<'_>) {
        let strangers: Vec<u64> = self.sessions.iter().filter(|s| s.key != key).map(|s| s.number).collect();
        for number in strangers {
            if let Some(outbox) =
                self.sessions.iter().find(|s| s.number == number).and_then(|session| session.outbox.as_ref())
            {
                outbox.text(refusal.clone()).unwrap_or_default();
            }
            self.session_closed(number, true, context);
        }
    }

    /// Whether requests wait here for a vault that has no session.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.waiting_until.is_some()
    }

    /// Whether the socket of that number stands for the vault.
    #[must_use]
    pub fn is_registered(&self, number: u64) -> bool {
        self.sessions.iter().any(|session| session.number == number)
    }

    /// The outboxes of the vault's sockets here, newest last.
    pub fn sockets(&self) -> impl Iterator<Item = (u64, &crate::runtime::outbox::Outbox)> {
        self.sessions.iter().filter_map(|session| Some((session.number, session.outbox.as_ref()?)))
    }

    /// Whether the socket of that number has been sent something that it has not answered.
    #[must_use]
    pub fn owes(&self, number: u64) -> bool {
        self.records.values().flatten().any(|r| r.is_open() && r.place == Place::Home(Some(number)))
    }

    /// The session of that number gets nothing more, so that it comes to owe nothing however busy the vault is;
    /// whether it still does. What it does not get waits for where the vault turns up next.
    pub fn run_dry(&mut self, number: u64) -> bool {
        if self.is_registered(number) && !self.parting.contains(&number) {
            self.parting.push(number);
        }
        self.owes(number)
    }

    /// Takes a record of this node into delivery, if the vault's limit has room.
    pub(super) fn take(&mut self, request: &RequestId, id: RecordId, context: &mut Context<'_>) {
        let Some(record) = self.find(request, id) else { return };
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
            record.place = Place::Home(None);
        }
        if !self.backlog {
            self.flush_one(request, id, context);
        }
        if remaining.is_some() {
            context.effects.push(Effect::Push(request.clone()));
        }
        let vault = self.vault.clone();
        if let (Some(remaining), Some(record)) = (remaining, self.find_mut(request, id)) {
            if let Origin::There(node) = &record.origin {
                let body = frames::accepted(&vault, request, id, remaining);
                context.effects.push(Effect::Send(node.clone(), body));
                record.accepted = true;
            } else {
                accept(record, Some(remaining), context);
            }
        }
    }

    /// Delivers everything that has not been delivered to the newest socket, oldest first. What its outbox has no
    /// room for follows: a vault that comes back to much must not be taken for a slow reader.
    fn flush(&mut self, context: &mut Context<'_>) {
        self.backlog = false;
        if self.open == 0 || self.adopting {
            return;
        }
        for (request, id) in self.open_ones(|record| record.place == Place::Home(None)) {
            if !self.has_outbox_room(&request, id) {
                self.backlog = true;
                return context.effects.push(Effect::Wake(BACKLOG_LOOK));
            }
            self.flush_one(&request, id, context);
        }
    }

    fn has_outbox_room(&self, request: &RequestId, id: RecordId) -> bool {
        let bytes = self.find(request, id).map_or(0, |record| record.frame.len());
        let newest = self.sessions.iter().rev().find_map(|session| session.outbox.as_ref());
        newest.is_none_or(|outbox| outbox.has_room(bytes))
    }

    fn flush_one(&mut self, request: &RequestId, id: RecordId, context: &mut Context<'_>) {
        if self.adopting {
            return;
        }
        let mut staying = self.sessions.iter().rev().filter(|s| !self.parting.contains(&s.number));
        let Some((number, outbox)) = staying.find_map(|s| Some((s.number, s.outbox.clone()?))) else { return };
        if let Some(record) = self.find_mut(request, id)
            && record.expires > context.now
            && outbox.text(record.frame.clone()).is_ok()
        {
            delivered_to(record, number, context);
        }
    }

    /// A request that this node has already comes again, from its origin or from where the vault was.
    fn deliver_again(&mut self, delivered: Delivered, context: &mut Context<'_>) {
        let (home, vault) = (self.is_home(), self.vault.clone());
        let (request, id) = (delivered.request, delivered.id);
        let Some(record) = self.find_mut(&request, id) else { return };
        let awaited_here = matches!(record.origin, Origin::Here(Waiter::Socket(_) | Waiter::Http(_)));
        if !awaited_here && delivered.origin != *context.me {
            record.origin = Origin::There(delivered.origin.clone());
        }
        if delivered.accepted {
            accept(record, None, context);
        } else if record.accepted
            && let Origin::There(node) = &record.origin
        {
            context.effects.push(Effect::Send(node.clone(), frames::accepted(&vault, &request, id, 0)));
        }
        if home && !matches!(record.place, Place::Home(_)) {
            self.take(&request, id, context);
        }
    }

    /// Keeps a request for another node that may die, or the answer of one.
    fn keep(&mut self, delivered: Delivered, context: &mut Context<'_>) {
        let (request, id) = (delivered.request.clone(), delivered.id);
        let place = delivered.home.clone().map_or(Place::Nowhere, Place::Away);
        let (answered, expires) = (delivered.answer.is_some(), delivered.expires);
        let mut record = record(delivered, context);
        (record.origin, record.place, record.accepted) = (Origin::Here(Waiter::Nobody), place, true);
        self.insert(record, context);
        if answered {
            context.effects.push(Effect::Keep(request, id, expires));
        } else {
            self.settle(context);
        }
    }

    /// Puts the answer into a record and hands it to whoever waits.
    pub(super) fn fill(&mut self, request: &RequestId, id: RecordId, answer: Utf8Bytes, context: &mut Context<'_>) {
        let vault = self.vault.clone();
        let Some(record) = self.find_mut(request, id) else { return };
        let before = record.weight();
        record.frame = Utf8Bytes::default();
        record.answer = Some(answer.clone());
        let (after, guardian) = (record.weight(), record.guardian.take());
        let undelivered = record.deliveries == 0;
        let figures = &context.metrics.vault;
        let told = match &mut record.origin {
            Origin::Here(waiter) => waiter.answer(&answer),
            Origin::There(node) => {
                let body = frames::answer(&vault, request, id, &answer);
                context.effects.push(Effect::Send(node.clone(), body));
                false
            }
        };
        if told {
            figures.answered.inc();
            figures.latency.observe(context.now.since(record.begun).as_secs_f64());
        }
        context.effects.push(Effect::Keep(request.clone(), id, record.expires));
        if let Some(guardian) = guardian {
            context.effects.push(Effect::Send(guardian, frames::answer(&vault, request, id, &answer)));
        }
        self.open -= 1;
        figures.pending.dec();
        if undelivered {
            figures.undelivered.dec();
        }
        context.usage.open_bytes.fetch_sub(before, Ordering::Relaxed);
        context.usage.bytes.fetch_add(after, Ordering::Relaxed);
        context.usage.bytes.fetch_sub(before, Ordering::Relaxed);
    }

    fn standing(&self) -> Standing {
        if self.has_socket() { Standing::Live } else { Standing::Polling }
    }

    fn refuse_to(
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

fn delivered_to(record: &mut Record, number: u64, context: &Context<'_>) {
    record.place = Place::Home(Some(number));
    if record.deliveries == 0 {
        context.metrics.vault.undelivered.dec();
    } else {
        context.metrics.vault.redelivered.inc();
    }
    record.deliveries = record.deliveries.saturating_add(1);
}

fn record(delivered: Delivered, context: &Context<'_>) -> Record {
    let here = delivered.origin == *context.me;
    Record {
        id: delivered.id,
        request: delivered.request,
        seq: 0,
        frame: delivered.frame,
        answer: delivered.answer,
        expires: delivered.expires,
        begun: context.now,
        submitter: delivered.submitter,
        origin: if here { Origin::Here(Waiter::Nobody) } else { Origin::There(delivered.origin) },
        place: Place::Nowhere,
        accepted: delivered.accepted,
        guardian: None,
        misses: 0,
        deliveries: 0,
    }
}
