//! Other clusters: requests whose vault is in one of them, and requests that one of them has sent.
//!
//! A peer, and a caller, stand among the other nodes under runs that are no node's ([`NodeRun::is_afar`]). A peer is
//! asked once nobody in this cluster has the vault or an answer, and then has requests as a node has them; a session
//! in this cluster ranks above it. The node at which a caller's request arrives is its origin here: it looks for the
//! vault in this cluster only, and the request follows the vault in this cluster only.

use std::time::Duration;

use crate::domain::clock::{Epoch, Millis};
use crate::domain::ids::{NodeRun, RequestId};
use crate::domain::principal::Standing;
use crate::vault::frames::{self, Delivered};
use crate::vault::record::{Origin, Place, Record};
use crate::vault::refusal::Refusal;
use crate::wire::dcp::envelope::RecordId;

use super::home::{await_at, record};
use super::search::RETRY;
use super::{Context, Effect, Rank, Route, VaultState};

/// How long requests go to a peer on its word that it has the vault, before it is looked for anew.
const TRUST: Duration = Duration::from_secs(30);

/// What a session in another cluster counts for here: less than any in this one.
const ABROAD: Rank = (Standing::Waiting, Epoch(0));

/// What is being looked for in other clusters.
#[derive(Debug, Default)]
pub(super) struct Sought {
    under_way: bool,
    /// The requests that end if no other cluster has the vault.
    requests: Vec<(RequestId, RecordId)>,
    /// Since when requests go to the peer that the route leads to.
    found: Millis,
    /// When what a peer does not answer was looked for at others.
    pub(super) further: Millis,
}

impl VaultState {
    /// Nobody in this cluster has the vault, or an answer to this request: the peers are asked, or it ends.
    pub(super) fn seek_afar(&mut self, request: &RequestId, id: RecordId, context: &mut Context<'_>) {
        let may_leave = self.find(request, id).is_some_and(|record| !record.crossed);
        if !context.peers || !may_leave {
            return self.give_up(request, id, &Refusal::NotConnected(self.vault.clone()), context);
        }
        self.sought.requests.push((request.clone(), id));
        self.look_afar(context);
    }

    /// Something waits here for a vault that has gone: it may have come to another cluster. Looked at again and again.
    pub(super) fn look_beyond(&mut self, context: &mut Context<'_>) {
        let waits = |r: &Record| r.is_open() && !r.crossed && !matches!(r.place, Place::Away(_));
        if context.peers && self.sessions.is_empty() && self.records.values().flatten().any(|record| waits(record)) {
            self.look_afar(context);
            self.wake_within(RETRY, context);
        }
    }

    fn look_afar(&mut self, context: &mut Context<'_>) {
        if !std::mem::replace(&mut self.sought.under_way, true) {
            context.effects.push(Effect::LookAfar);
        }
    }

    /// The peers have been asked: that one has the vault, so firmly, or none has.
    pub fn found_afar(&mut self, found: Option<(NodeRun, Standing)>, context: &mut Context<'_>) {
        self.sought.under_way = false;
        let sought = std::mem::take(&mut self.sought.requests);
        // Two clusters that both only wait for the vault must not send requests to each other.
        let waits = self.waiting_until.is_some() || self.lost_until.is_some_and(|until| until > context.now);
        let found = found.filter(|(_, standing)| !waits || *standing > Standing::Waiting);
        if !self.sessions.is_empty() || matches!(self.route, Route::At(..)) {
            return self.settle(context);
        }
        if let Some((peer, _)) = found {
            (self.lost_until, self.sought.found) = (None, context.now);
            if self.waiting_until.is_some() {
                return self.move_to(peer, ABROAD, context);
            }
            self.route = Route::At(peer, ABROAD);
            return self.settle(context);
        }
        for (request, id) in sought {
            self.absent_afar(&request, id, context);
        }
    }

    fn absent_afar(&mut self, request: &RequestId, id: RecordId, context: &mut Context<'_>) {
        if self.takes_requests() {
            self.settle(context);
        } else if self.lost_until.is_some_and(|until| until > context.now) {
            self.wake_within(RETRY, context);
        } else if self.find(request, id).is_some_and(|r| r.is_open() && r.place == Place::Nowhere) {
            self.give_up(request, id, &Refusal::NotConnected(self.vault.clone()), context);
        }
    }

    /// A peer says that the vault has come to it: what waits here for it may go there.
    pub fn seen_afar(&mut self, context: &mut Context<'_>) {
        if !matches!(self.route, Route::At(..)) {
            self.look_beyond(context);
        }
    }

    /// Whether a peer's word has been acted on for long enough.
    pub(super) fn is_outdated(&self, peer: &NodeRun, now: Millis) -> bool {
        peer.is_afar() && self.sought.found.plus(TRUST) <= now
    }

    /// Whether the request was sent to that peer, which has not refused it: nobody else of another cluster has a say.
    #[must_use]
    pub fn is_with(&self, request: &RequestId, id: RecordId, peer: &NodeRun) -> bool {
        self.find(request, id).is_some_and(|record| record.abroad.contains(peer))
    }

    /// A caller has sent a request for a vault of this cluster. What it says of earlier acceptance counts for nothing:
    /// it is a home of this cluster that knows.
    pub fn deliver_from_afar(&mut self, caller: &NodeRun, delivered: Delivered, context: &mut Context<'_>) {
        self.touched = context.now;
        let (vault, request, id) = (self.vault.clone(), delivered.request.clone(), delivered.id);
        if delivered.expires <= context.now {
            return self.refuse_to(caller, &request, id, &Refusal::Expired, context);
        }
        if let Some(known) = self.find_mut(&request, id) {
            let body = match (&known.answer, &known.place) {
                (Some(answer), _) => Some(frames::answer(&vault, &request, id, answer)),
                // Each would wait for the other, or for a third: what is asked of this cluster, it has not.
                (None, Place::Away(node)) if node.is_afar() => Some(frames::not_here(&vault, &request, id)),
                (None, _) => {
                    await_at(known, caller.clone());
                    known.accepted.then(|| frames::accepted(&vault, &request, id, None))
                }
            };
            return context.effects.extend(body.map(|body| Effect::Send(caller.clone(), body)));
        }
        if self.has_no_room(delivered.frame.len(), context) {
            return self.refuse_to(caller, &request, id, &Refusal::Full, context);
        }
        self.insert(record(Delivered { accepted: false, ..delivered }, context), context);
        if self.takes_requests() {
            self.take(&request, id, context);
        } else {
            self.send_on(&request, id, context);
        }
    }

    /// A caller's request would have to leave this cluster again: its own must look elsewhere.
    pub(super) fn turn_back(&mut self, request: &RequestId, id: RecordId, context: &mut Context<'_>) {
        if let Some(record) = self.remove(request, id, context) {
            super::tell_others(&record, context, || frames::not_here(&self.vault, request, id));
        }
    }
}

/// Whether its answer is awaited in another cluster.
pub(super) fn is_of_caller(record: &Record) -> bool {
    matches!(&record.origin, Origin::There(node) if node.is_afar())
}
