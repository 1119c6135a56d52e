//! The origin's part: taking requests from agents, sending them to where the vault is, and telling agents what
//! became of them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::cluster::proto::{self, refused::Reason};
use crate::domain::clock::Millis;
use crate::domain::ids::{NodeRun, RequestId};
use crate::vault::frames;
use crate::vault::record::{Origin, Outcome, Place, Record, Submitter, Waiter};
use crate::vault::refusal::Refusal;
use crate::wire::dcp::envelope::RecordId;

use super::{Context, Effect, Route, VaultState};

/// How often a request may be sent to a node that turns out not to have the vault.
const MAX_MISSES: u8 = 4;

/// How long until the next attempt to find a vault whose requests have been accepted.
const RETRY: Duration = Duration::from_secs(1);

/// A request as it comes from an agent.
#[derive(Debug)]
pub struct NewRequest {
    /// Submitter and envelope.
    pub id: RecordId,
    /// The agent's name for it.
    pub request: RequestId,
    /// The text for the vault.
    pub frame: Utf8Bytes,
    /// When it ends.
    pub expires: Millis,
    /// Who submits it.
    pub submitter: Submitter,
    /// Who is told.
    pub waiter: Waiter,
}

/// What looking a vault up gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whereabouts {
    /// Another node has it.
    At(NodeRun),
    /// Its node has died; it may come back within this time.
    Lost(Duration),
    /// No live node has it.
    Absent,
    /// A node did not answer.
    Unreachable,
}

impl VaultState {
    /// Takes a request from an agent of this node. Its waiter is told of everything.
    pub fn submit(&mut self, new: NewRequest, context: &mut Context<'_>) {
        self.touched = context.now;
        let NewRequest { id, request, frame, expires, submitter, mut waiter } = new;
        if self.find(&request, id).is_some_and(|known| known.expires <= context.now) {
            self.give_up(&request, id, &Refusal::Expired, context);
        }
        if let Some(known) = self.find_mut(&request, id) {
            return repeat(known, waiter, context);
        }
        if self.has_no_room(frame.len(), context) {
            return waiter.refuse(&request, Refusal::Full, context.now);
        }
        let record = Record {
            id,
            request: request.clone(),
            seq: 0,
            frame,
            answer: None,
            expires,
            begun: context.now,
            submitter,
            origin: Origin::Here(waiter),
            place: Place::Nowhere,
            accepted: false,
            guardian: None,
            misses: 0,
            deliveries: 0,
        };
        self.insert(record, context);
        if self.takes_requests() {
            self.take(&request, id, context);
        } else {
            self.send_on(&request, id, context);
        }
    }

    /// The address that submitted `request` with the token that `asker` shows, if one did.
    #[must_use]
    pub fn submitted_with_token(&self, request: &RequestId, asker: &Submitter) -> Option<std::net::IpAddr> {
        let token = asker.token?;
        let records = self.records.get(request)?;
        records.iter().find(|r| r.submitter.token == Some(token)).map(|r| r.submitter.address)
    }

    /// For a poll: the answer of a request that `asker` submitted, or that it is pending.
    #[must_use]
    pub fn poll(&self, request: &RequestId, asker: &Submitter, now: Millis) -> Option<Option<Utf8Bytes>> {
        let mine = |record: &&Box<Record>| record.submitter.admits(asker) && record.expires > now;
        self.records.get(request)?.iter().find(mine).map(|record| record.answer.clone())
    }

    /// Whether that very request is known here.
    #[must_use]
    pub fn is_known(&self, request: &RequestId, id: RecordId) -> bool {
        self.find(request, id).is_some()
    }

    /// The answer of that very request, if it is kept here.
    #[must_use]
    pub fn kept_answer(&self, request: &RequestId, id: RecordId) -> Option<&Utf8Bytes> {
        self.find(request, id)?.answer.as_ref()
    }

    /// The vault was looked up.
    pub fn located(&mut self, whereabouts: Whereabouts, context: &mut Context<'_>) {
        self.touched = context.now;
        if self.route == Route::Locating {
            self.route = Route::Unknown;
        }
        if self.waiting_until.is_some() && self.sessions.is_empty() {
            if let Whereabouts::At(node) = whereabouts {
                self.move_to(node, context);
            }
            return;
        }
        if self.takes_requests() {
            return self.settle(context);
        }
        let whereabouts = match (whereabouts, self.lost_until) {
            // The owners have forgotten; this node remembers that the vault's node died.
            (Whereabouts::Absent, Some(until)) if until > context.now => Whereabouts::Lost(until.since(context.now)),
            (other, _) => other,
        };
        match whereabouts {
            Whereabouts::At(node) => {
                self.lost_until = None;
                self.route = Route::At(node);
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
        if self.find(request, id).is_some_and(|r| r.is_open() && r.place == Place::Nowhere) {
            self.give_up(request, id, &Refusal::NotConnected(self.vault.clone()), context);
        }
    }

    /// The home has accepted a request of this node.
    pub fn accepted(&mut self, request: &RequestId, id: RecordId, remaining: u32, context: &mut Context<'_>) {
        if let Some(record) = self.find_mut(request, id) {
            accept(record, Some(remaining), context);
        }
    }

    /// The home has refused a request of this node, or given it up.
    pub fn refused(&mut self, from: &NodeRun, refused: &proto::Refused, context: &mut Context<'_>) {
        let (request, vault) = (RequestId::from(refused.request_id.as_str()), self.vault.clone());
        let Some(id) = frames::id_from(&refused.record_id) else { return };
        let Some(record) = self.find_mut(&request, id).filter(|r| r.is_open() && Self::is_away_at(r, from)) else {
            return;
        };
        let refusal = match refused.reason() {
            Reason::RateLimited => Refusal::VaultLimit(vault, Duration::from_millis(refused.retry_after_ms)),
            Reason::Full => Refusal::Full,
            Reason::Expired => Refusal::Expired,
            Reason::NotConnected => Refusal::NotConnected(vault),
            Reason::NotHere | Reason::Unspecified => {
                record.place = Place::Nowhere;
                record.misses = record.misses.saturating_add(1);
                let lost_patience = record.misses > MAX_MISSES;
                if self.route == Route::At(from.clone()) {
                    self.route = Route::Unknown;
                }
                return match (self.takes_requests(), lost_patience) {
                    (true, _) => self.settle(context),
                    (false, false) => self.locate(true, context),
                    (false, true) => self.postpone(context),
                };
            }
        };
        self.give_up(&request, id, &refusal, context);
    }

    /// A request of this node, or one that it keeps for another, has been answered.
    pub fn answered(&mut self, request: &RequestId, id: RecordId, answer: Utf8Bytes, context: &mut Context<'_>) {
        if self.find(request, id).is_some_and(Record::is_open) {
            self.fill(request, id, answer, context);
        }
    }

    /// A node has left the view: its requests are without origin, and vaults that were there may come back.
    pub fn node_lost(&mut self, run: &NodeRun, context: &mut Context<'_>) {
        let mut lost = self.route == Route::At(run.clone());
        for record in self.records.values_mut().flatten() {
            if matches!(&record.origin, Origin::There(node) if node == run) {
                record.origin = Origin::Here(Waiter::Nobody);
            }
            if record.guardian.as_ref() == Some(run) {
                record.guardian = None;
            }
            if record.is_open() && Self::is_away_at(record, run) {
                record.place = Place::Nowhere;
                lost = true;
            }
        }
        if lost {
            self.route = Route::Unknown;
            self.lost_until.get_or_insert(context.now.plus(context.bounds.grace));
            if self.has_nowhere() {
                self.locate(false, context);
            }
        }
    }

    /// The stream to, or from, a node is new: what was sent to it may have been lost.
    pub fn repeat_to(&mut self, run: &NodeRun, context: &mut Context<'_>) {
        for (request, id) in self.open_ones(|record| Self::is_away_at(record, run)) {
            self.send_to(&request, id, run.clone(), context);
        }
    }

    /// Sends every request that is nowhere to where the vault is, or delivers it here.
    pub(super) fn settle(&mut self, context: &mut Context<'_>) {
        let nowhere = self.open_ones(|record| record.place == Place::Nowhere);
        for (request, id) in nowhere {
            if self.takes_requests() {
                self.take(&request, id, context);
            } else {
                self.send_on(&request, id, context);
            }
        }
    }

    pub(super) fn send_to(&mut self, request: &RequestId, id: RecordId, node: NodeRun, context: &mut Context<'_>) {
        if let Some(record) = self.find_mut(request, id) {
            record.place = Place::Away(node.clone());
        }
        if let Some(record) = self.find(request, id) {
            let body = self.deliver_body(record, context);
            context.effects.push(Effect::Send(node, body));
        }
    }

    /// A frame of this vault could not be sent to `node`: the requests there are nowhere again.
    pub fn unsent(&mut self, node: &NodeRun, body: &proto::frame::Body, context: &mut Context<'_>) {
        let proto::frame::Body::Deliver(deliver) = body else { return };
        if self.route == Route::At(node.clone()) {
            self.route = Route::Unknown;
        }
        let request = RequestId::from(deliver.request_id.as_str());
        let Some(id) = frames::id_from(&deliver.record_id) else { return };
        if let Some(record) = self.find_mut(&request, id).filter(|r| r.is_open() && Self::is_away_at(r, node)) {
            record.place = Place::Nowhere;
            record.misses = record.misses.saturating_add(1);
            match (record.accepted, record.misses > MAX_MISSES) {
                (false, true) => self.give_up(&request, id, &Refusal::Unavailable, context),
                // A node that has just died leaves the view within two seconds.
                _ => context.effects.push(Effect::Wake(Duration::from_millis(500))),
            }
        }
    }

    pub(super) fn has_nowhere(&self) -> bool {
        self.records.values().flatten().any(|r| r.is_open() && r.place == Place::Nowhere)
    }

    pub(super) fn locate(&mut self, anew: bool, context: &mut Context<'_>) {
        if self.route != Route::Locating {
            self.route = Route::Locating;
            context.effects.push(Effect::Locate { anew });
        }
    }

    pub(super) fn has_no_room(&self, bytes: usize, context: &Context<'_>) -> bool {
        let used = context.usage.open_bytes.load(Ordering::Relaxed);
        self.open >= context.bounds.max_pending || used + bytes > context.bounds.pending_bytes
    }

    fn send_on(&mut self, request: &RequestId, id: RecordId, context: &mut Context<'_>) {
        match self.route.clone() {
            Route::At(node) => self.send_to(request, id, node, context),
            Route::Unknown => self.locate(false, context),
            Route::Locating => {}
        }
    }

    /// The vault's node has died: requests are accepted, and wait for the vault to come back.
    fn await_return(&mut self, wait: Duration, context: &mut Context<'_>) {
        self.lost_until = Some(context.now.plus(wait));
        for record in self.records.values_mut().flatten() {
            if record.is_open() && record.place == Place::Nowhere {
                accept(record, None, context);
            }
        }
        context.effects.push(Effect::Wake(wait.min(RETRY)));
    }

    /// The vault is connected nowhere: only an answer that another node keeps can save a request.
    fn seek_answers(&mut self, context: &mut Context<'_>) {
        self.lost_until = None;
        for (request, id) in self.open_ones(|record| record.place == Place::Nowhere) {
            if context.alone {
                self.give_up(&request, id, &Refusal::NotConnected(self.vault.clone()), context);
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
            context.effects.push(Effect::Wake(RETRY));
        }
    }
}

/// The same request again, from the same submitter.
fn repeat(known: &mut Record, mut waiter: Waiter, context: &mut Context<'_>) {
    match (&known.answer, waiter) {
        (Some(answer), mut waiter) => {
            waiter.answer(answer);
        }
        (None, Waiter::Http(http)) => drop(http.send(Outcome::Duplicate)),
        (None, socket) => {
            waiter = socket;
            if known.accepted {
                waiter.accept(&known.request, None, context.now);
            }
            match &mut known.origin {
                Origin::Here(old) => old.replace(waiter),
                Origin::There(_) => known.origin = Origin::Here(waiter),
            }
        }
    }
}

/// Tells the agent, once, that its request is accepted.
pub(super) fn accept(record: &mut Record, remaining: Option<u32>, context: &Context<'_>) {
    if !std::mem::replace(&mut record.accepted, true) {
        context.metrics.vault.accepted.inc();
        if let Origin::Here(waiter) = &mut record.origin {
            waiter.accept(&record.request, remaining, context.now);
        }
    }
}
