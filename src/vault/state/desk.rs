//! The origin's part: taking requests from agents, and telling agents what becomes of them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use smallvec::SmallVec;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::cluster::proto::{self, refused::Reason};
use crate::domain::clock::Millis;
use crate::domain::ids::{NodeRun, RequestId, VaultId};
use crate::vault::frames;
use crate::vault::record::{Origin, Outcome, Place, Record, Submitter, Waiter};
use crate::vault::refusal::Refusal;
use crate::wire::dcp::envelope::RecordId;

use super::{Context, Effect, VaultState};

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
    /// What is traced of it.
    pub span: tracing::Span,
}

impl VaultState {
    /// Takes a request from an agent of this node. Its waiter is told of everything.
    pub fn submit(&mut self, new: NewRequest, context: &mut Context<'_>) {
        self.touched = context.now;
        let NewRequest { id, request, frame, expires, submitter, mut waiter, span } = new;
        match self.find(&request, id) {
            Some(known) if known.expires > context.now => {}
            Some(known) if known.is_open() => self.give_up(&request, id, &Refusal::Expired, context),
            _ => drop(self.remove(&request, id, context)),
        }
        if let Some(known) = self.find_mut(&request, id) {
            known.crossed = false;
            return repeat(known, waiter, context);
        }
        if self.has_no_room(frame.len(), context) {
            context.metrics.vault.error(Refusal::Full.code());
            return waiter.refuse(&request, Refusal::Full, context.now);
        }
        let record = Record {
            id,
            request: request.clone(),
            order: 0,
            frame,
            answer: None,
            expires,
            begun: context.now,
            submitter,
            span,
            origin: Origin::Here(waiter),
            place: Place::Nowhere,
            accepted: false,
            crossed: false,
            abroad: SmallVec::new(),
            abroad_since: Millis::default(),
            sharers: SmallVec::new(),
            former: SmallVec::new(),
            misses: 0,
            deliveries: 0,
            delivered: 0,
        };
        self.insert(record, context);
        if self.takes_requests() {
            self.take(&request, id, context);
        } else {
            self.send_on(&request, id, context);
        }
    }

    /// The home has accepted a request of this node.
    pub fn accepted(&mut self, request: &RequestId, id: RecordId, remaining: Option<u32>, context: &mut Context<'_>) {
        let vault = self.vault.clone();
        if let Some(record) = self.find_mut(request, id) {
            accept(&vault, record, remaining, context);
        }
    }

    /// The home has refused a request of this node, or given it up.
    pub fn refused(&mut self, from: &NodeRun, refused: &proto::Refused, context: &mut Context<'_>) {
        let (request, vault) = (RequestId::from(refused.request_id.as_str()), self.vault.clone());
        let Some(id) = frames::id_from(refused.record_id.as_ref()) else { return };
        if from.is_afar()
            && let Some(record) = self.find_mut(&request, id)
        {
            record.abroad.retain(|peer| peer != from);
        }
        if !self.find(&request, id).is_some_and(|r| r.is_open() && Self::is_away_at(r, from)) {
            return;
        }
        let refusal = match refused.reason() {
            Reason::RateLimited => Refusal::VaultLimit(vault, Duration::from_millis(refused.retry_after_ms)),
            Reason::Full => Refusal::Full,
            Reason::Expired => Refusal::Expired,
            // What another cluster has not, this one or a third may have.
            Reason::NotConnected if from.is_afar() => return self.not_here(from, &request, id, context),
            Reason::NotConnected => Refusal::NotConnected(vault),
            Reason::NotHere | Reason::Unspecified => return self.not_here(from, &request, id, context),
        };
        self.give_up(&request, id, &refusal, context);
    }

    pub(super) fn has_no_room(&self, bytes: usize, context: &Context<'_>) -> bool {
        let used = context.usage.open_bytes.load(Ordering::Relaxed);
        self.open >= context.bounds.max_pending || used + bytes > context.bounds.pending_bytes
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
                // Its agent may still wait there, too.
                Origin::There(_) => {
                    if let Origin::There(node) = std::mem::replace(&mut known.origin, Origin::Here(waiter)) {
                        known.share_with(node);
                    }
                }
            }
        }
    }
}

/// Tells the agent, or the other cluster that has it, once, that a request is accepted.
pub(super) fn accept(vault: &VaultId, record: &mut Record, remaining: Option<u32>, context: &mut Context<'_>) {
    if std::mem::replace(&mut record.accepted, true) {
        return;
    }
    if let Origin::There(caller) = &record.origin
        && caller.is_afar()
    {
        let body = frames::accepted(vault, &record.request, record.id, remaining);
        return context.effects.push(Effect::Send(caller.clone(), body));
    }
    context.metrics.vault.accepted.inc();
    if let Origin::Here(waiter) = &mut record.origin {
        waiter.accept(&record.request, remaining, context.now);
    }
}
