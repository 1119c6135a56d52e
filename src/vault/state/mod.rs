//! All that one node knows of one vault: its sockets here, the requests for it, and where else it may be. Pure:
//! time and random numbers are passed in, and what has to be done elsewhere comes out as [`Effect`]s.
//!
//! A request has two ends. Its *origin* is the node at which the answer is awaited; its *home* is the node at
//! which the vault is. They may be one node. Both keep the request, so either may die:
//! - the home dies: the origin waits for the vault to come back, wherever, and sends the request there;
//! - the origin dies: the home keeps the answer for whoever polls or repeats the request.
//!
//! When a vault registers at a node, that node asks every other for what it has for that vault ([`adopt`]). So a
//! request follows its vault, and is delivered there once for each time that the vault comes back.

mod adopt;
mod afar;
mod answer;
mod desk;
mod further;
mod home;
mod search;
mod sessions;
mod sweep;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::cluster::proto::frame::Body;
use crate::domain::clock::{Epoch, Millis};
use crate::domain::ids::{NodeRun, RequestId, VaultId};
use crate::domain::principal::Standing;
use crate::observe::metrics::Metrics;
use crate::runtime::outbox::Outbox;
use crate::wire::dcp::envelope::RecordId;

use super::frames;
use super::limit::VaultLimit;
use super::record::{Origin, Place, Record};
use super::refusal::Refusal;

pub use adopt::AdoptAnswer;
pub use answer::AnswerVerdict;
pub use desk::NewRequest;
pub use search::Whereabouts;

/// What has to be done beyond this vault's state.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Send this to that node.
    Send(NodeRun, Body),
    /// Look the vault up; `anew`: trust no owner's word.
    Locate {
        /// Ask everybody.
        anew: bool,
    },
    /// Ask the peers whether they have the vault, then call [`VaultState::found_afar`].
    LookAfar,
    /// Ask the peers but for these, then call [`VaultState::found_further`] if one has the vault.
    LookFurther(SmallVec<[NodeRun; 1]>),
    /// A peer took a request, and did not answer it in its time, or before another did that was asked later.
    Lapsed(NodeRun),
    /// Ask every node for an answer to this request, then call [`VaultState::not_found`].
    Find(RequestId, RecordId),
    /// Tell the owners that this node holds the vault.
    Hold(Epoch, Standing),
    /// Tell the owners that it no longer does.
    Release(Epoch),
    /// Call [`VaultState::wake`] after this time.
    Wake(Duration),
    /// The request is known here from now on.
    Index(RequestId),
    /// The request is no longer known here.
    Unindex(RequestId),
    /// A request has been accepted here: the vault's phones are told, if that is configured.
    Push(RequestId),
    /// The answer of the request is kept until then.
    Keep(RequestId, RecordId, Millis),
}

/// The bounds that the operator sets.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// How long requests wait for a vault that has gone.
    pub grace: Duration,
    /// Most unanswered requests of one vault.
    pub max_pending: usize,
    /// Most bytes of unanswered requests of all vaults of this node.
    pub pending_bytes: usize,
}

/// What every call needs: who and when, and where effects go.
pub struct Context<'a> {
    /// Now.
    pub now: Millis,
    /// This run of this node.
    pub me: &'a NodeRun,
    /// Whether there are other nodes.
    pub alone: bool,
    /// Whether there are other clusters to ask.
    pub peers: bool,
    /// The bounds.
    pub bounds: &'a Bounds,
    /// What all vaults of this node use.
    pub usage: &'a Usage,
    /// Figures.
    pub metrics: &'a Metrics,
    /// What is to be done elsewhere.
    pub effects: &'a mut Vec<Effect>,
}

/// Memory that the records of all vaults use.
#[derive(Debug, Default)]
pub struct Usage {
    /// Bytes of all records.
    pub bytes: AtomicUsize,
    /// Bytes of those without an answer.
    pub open_bytes: AtomicUsize,
}

/// A socket of the vault at this node, or its polling.
#[derive(Debug)]
pub struct Session {
    /// Its number, unique on this node.
    pub number: u64,
    /// Orders it among all sessions of this vault.
    pub epoch: Epoch,
    /// The key that it proved.
    pub key: Bytes,
    /// Where frames go; nothing for one that polls.
    pub outbox: Option<Outbox>,
}

impl Session {
    fn rank(&self) -> Rank {
        (if self.outbox.is_some() { Standing::Live } else { Standing::Polling }, self.epoch)
    }
}

/// Orders all sessions of a vault, wherever they are: the greatest is routed to.
pub type Rank = (Standing, Epoch);

/// Where requests for a vault go that is not here.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Route {
    Unknown,
    /// It is being looked up. Sessions here are served meanwhile.
    Locating,
    /// It is being looked up because a session here was thought to be the lesser, and another node thinks otherwise:
    /// what comes waits, so that all of it goes to one place, in its order.
    Verifying,
    /// At that node, by a session of that rank.
    At(NodeRun, Rank),
}

impl Route {
    fn leads_to(&self, node: &NodeRun) -> bool {
        matches!(self, Self::At(at, _) if at == node)
    }

    fn is_sought(&self) -> bool {
        matches!(self, Self::Locating | Self::Verifying)
    }
}

/// One vault at one node.
#[derive(Debug)]
pub struct VaultState {
    vault: VaultId,
    limit: Arc<VaultLimit>,
    /// By rank, the one that counts last.
    sessions: Vec<Session>,
    /// Sessions that get nothing more: their node sends them away.
    parting: SmallVec<[u64; 1]>,
    /// The epoch of the claim that the owners have been told of.
    epoch: Epoch,
    /// The last sign of life on any socket registered here.
    last_life: Millis,
    /// No session, but requests wait here until then.
    waiting_until: Option<Millis>,
    /// How many sessions are still asking other nodes for what they have; nothing is delivered before.
    adopting: u32,
    /// When deliveries begin in any case: a session that ends while it asks does not say so.
    adopting_until: Millis,
    /// More waits for the newest socket than its outbox has room for; the rest is delivered as that drains.
    backlog: bool,
    route: Route,
    sought: afar::Sought,
    /// The vault's node has died: its return is awaited until then.
    lost_until: Option<Millis>,
    /// When [`VaultState::wake`] is wanted.
    wake_at: Option<Millis>,
    /// When answers that could not be sent are offered again.
    offer_at: Option<Millis>,
    /// Timers that have been asked for and have not called it yet.
    timers: u32,
    records: HashMap<RequestId, SmallVec<[Box<Record>; 1]>>,
    open: usize,
    last_order: u64,
    deliveries: u64,
    touched: Millis,
}

impl VaultState {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(vault: VaultId, limit: Arc<VaultLimit>) -> Self {
        Self {
            vault,
            limit,
            sessions: Vec::new(),
            parting: SmallVec::new(),
            epoch: Epoch::default(),
            last_life: Millis::default(),
            waiting_until: None,
            adopting: 0,
            adopting_until: Millis::default(),
            backlog: false,
            route: Route::Unknown,
            sought: afar::Sought::default(),
            lost_until: None,
            wake_at: None,
            offer_at: None,
            timers: 0,
            records: HashMap::new(),
            open: 0,
            last_order: 0,
            deliveries: 0,
            touched: Millis::default(),
        }
    }

    /// The vault's name.
    #[must_use]
    pub fn vault(&self) -> &VaultId {
        &self.vault
    }

    /// Whether a live socket of the vault is registered here.
    #[must_use]
    pub fn has_socket(&self) -> bool {
        self.sessions.iter().any(|session| session.outbox.is_some())
    }

    /// Whether requests for the vault are handled here.
    fn is_home(&self) -> bool {
        !self.sessions.is_empty() || self.waiting_until.is_some()
    }

    /// The rank of the session here that counts.
    #[must_use]
    pub fn rank(&self) -> Option<Rank> {
        self.sessions.last().map(Session::rank)
    }

    fn find(&self, request: &RequestId, id: RecordId) -> Option<&Record> {
        self.records.get(request)?.iter().find(|record| record.id == id).map(|record| &**record)
    }

    fn find_mut(&mut self, request: &RequestId, id: RecordId) -> Option<&mut Record> {
        self.records.get_mut(request)?.iter_mut().find(|record| record.id == id).map(|record| &mut **record)
    }

    /// The requests without an answer that `wanted` picks, oldest first.
    fn open_ones(&self, wanted: impl Fn(&Record) -> bool) -> Vec<(RequestId, RecordId)> {
        let mut found: Vec<_> = self
            .records
            .values()
            .flatten()
            .filter(|r| r.is_open() && wanted(r))
            .map(|r| (r.order, &r.request, r.id))
            .collect();
        found.sort_unstable_by_key(|(order, _, id)| (*order, *id));
        found.into_iter().map(|(_, request, id)| (request.clone(), id)).collect()
    }

    fn insert(&mut self, mut record: Record, context: &mut Context<'_>) {
        if record.order == 0 {
            self.last_order = (context.now.0 << 16).max(self.last_order + 1);
            record.order = self.last_order;
        }
        let weight = record.weight();
        context.usage.bytes.fetch_add(weight, Ordering::Relaxed);
        context.metrics.vault.records.inc();
        if record.is_open() {
            self.open += 1;
            context.usage.open_bytes.fetch_add(weight, Ordering::Relaxed);
            context.metrics.vault.pending.inc();
            context.metrics.vault.undelivered.inc();
        }
        context.effects.push(Effect::Index(record.request.clone()));
        self.records.entry(record.request.clone()).or_default().push(Box::new(record));
    }

    /// Forgets a record.
    pub fn remove(&mut self, request: &RequestId, id: RecordId, context: &mut Context<'_>) -> Option<Box<Record>> {
        let slot = self.records.get_mut(request)?;
        let record = slot.remove(slot.iter().position(|record| record.id == id)?);
        if slot.is_empty() {
            self.records.remove(request);
            context.effects.push(Effect::Unindex(request.clone()));
        }
        let weight = record.weight();
        context.usage.bytes.fetch_sub(weight, Ordering::Relaxed);
        context.metrics.vault.records.dec();
        if record.is_open() {
            self.open -= 1;
            context.usage.open_bytes.fetch_sub(weight, Ordering::Relaxed);
            context.metrics.vault.pending.dec();
            if record.deliveries == 0 {
                context.metrics.vault.undelivered.dec();
            }
        }
        Some(record)
    }

    /// Ends a request without an answer, and tells whoever waits for it.
    fn give_up(&mut self, request: &RequestId, id: RecordId, refusal: &Refusal, context: &mut Context<'_>) {
        let Some(mut record) = self.remove(request, id, context) else { return };
        if let Origin::Here(waiter) = &mut record.origin {
            context.metrics.vault.error(refusal.code());
            waiter.refuse(request, refusal.clone(), context.now);
        }
        tell_others(&record, context, || frames::refused(&self.vault, request, id, refusal));
    }

    /// Whether this state may be forgotten: nothing depends on it.
    #[must_use]
    pub fn is_idle(&self, now: Millis) -> bool {
        /// How long a route is remembered that nobody uses.
        const ROUTE_MEMORY: Duration = Duration::from_secs(60);
        !self.is_home() && self.records.is_empty() && now >= self.touched.plus(ROUTE_MEMORY)
    }

    fn deliver_body(&self, record: &Record) -> Body {
        Body::Deliver(Box::new(frames::deliver(&self.vault, record)))
    }

    /// Whether the record's vault was thought to be at `run`.
    fn is_away_at(record: &Record, run: &NodeRun) -> bool {
        matches!(&record.place, Place::Away(at) if at == run)
    }
}

/// Sends a frame to the other nodes that want to hear of a record.
fn tell_others(record: &Record, context: &mut Context<'_>, body: impl Fn() -> Body) {
    if let Origin::There(node) = &record.origin {
        context.effects.push(Effect::Send(node.clone(), body()));
    }
    for node in &record.sharers {
        context.effects.push(Effect::Send(node.clone(), body()));
    }
}
