//! The vault's sockets at this node: they open, show life, close; and what happens to requests when the last one
//! has closed.

use std::time::Duration;

use smallvec::SmallVec;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::domain::clock::Millis;
use crate::domain::limits::HEARTBEAT_TIMEOUT;
use crate::domain::principal::Standing;
use crate::runtime::outbox::Outbox;
use crate::vault::frames;
use crate::vault::record::{Origin, Place};
use crate::vault::refusal::Refusal;

use super::afar::is_of_caller;
use super::{Context, Effect, Route, Session, VaultState, tell_others};

/// How long other nodes are waited for before deliveries begin; they are asked for less than that.
const ADOPTION_LIMIT: Duration = Duration::from_secs(2);

impl VaultState {
    /// A socket of the vault has registered (or the vault polls). Unless this node is alone, nothing is delivered
    /// before [`VaultState::adopted`] is called, or two seconds have passed.
    pub fn session_opened(&mut self, session: Session, context: &mut Context<'_>) {
        self.touched = context.now;
        self.last_life = context.now;
        self.sessions.retain(|known| known.number != session.number);
        // A vault that comes back may have lost them without a word; then what they hold is for the new one.
        self.sockets().for_each(|(_, outbox)| outbox.probe());
        let at = self.sessions.partition_point(|known| known.rank() < session.rank());
        self.sessions.insert(at, session);
        (self.waiting_until, self.lost_until, self.route) = (None, None, Route::Unknown);
        self.announce(context);
        for record in self.records.values_mut().flatten() {
            if record.is_open() && !matches!(record.place, Place::Home(_)) {
                record.moves_to(Place::Home(None));
            }
        }
        if !context.alone {
            self.adopting = self.adopting.saturating_add(1);
            self.adopting_until = context.now.plus(ADOPTION_LIMIT);
            self.wake_within(ADOPTION_LIMIT, context);
        }
        self.flush(context);
    }

    /// The other nodes have handed over what they had: deliveries begin, unless another session still asks.
    pub fn adopted(&mut self, context: &mut Context<'_>) {
        self.adopting = self.adopting.saturating_sub(1);
        self.flush(context);
    }

    /// Deliveries begin, however long other nodes may take.
    pub(super) fn end_adoption(&mut self, context: &mut Context<'_>) {
        if self.adopting == 0 {
            return;
        }
        if self.adopting_until > context.now {
            return self.wake_within(self.adopting_until.since(context.now), context);
        }
        self.adopting = 0;
        self.flush(context);
    }

    /// A session has ended. `for_good`: the vault has unregistered, so nothing waits for it.
    pub fn session_closed(&mut self, number: u64, for_good: bool, context: &mut Context<'_>) {
        self.end_sessions(&[number], for_good, context);
    }

    /// The name belongs to `key` now: sessions of another key are ended, and told.
    pub fn rebound(&mut self, key: &[u8], refusal: &Utf8Bytes, context: &mut Context<'_>) {
        let strangers: SmallVec<[u64; 4]> = self.sessions.iter().filter(|s| s.key != key).map(|s| s.number).collect();
        for outbox in self.sessions.iter().filter(|s| s.key != key).filter_map(|s| s.outbox.as_ref()) {
            // One that takes nothing more is closing, and needs no word.
            outbox.text(refusal.clone()).unwrap_or_default();
        }
        self.end_sessions(&strangers, true, context);
    }

    /// Ends sessions at once, so that none of them gets what another has not answered.
    fn end_sessions(&mut self, numbers: &[u64], for_good: bool, context: &mut Context<'_>) {
        let (before, rank) = (self.sessions.len(), self.rank());
        self.sessions.retain(|session| !numbers.contains(&session.number));
        if self.sessions.len() == before {
            return;
        }
        self.touched = context.now;
        self.parting.retain(|parting| !numbers.contains(parting));
        for record in self.records.values_mut().flatten() {
            if matches!(record.place, Place::Home(Some(at)) if numbers.contains(&at)) {
                record.place = Place::Home(None);
            }
        }
        if !self.sessions.is_empty() {
            self.announce(context);
            self.flush(context);
            if self.rank() < rank {
                self.look_for_better(context);
            }
            return;
        }
        if for_good || context.bounds.grace.is_zero() {
            return self.leave(context);
        }
        self.waiting_until = Some(context.now.plus(context.bounds.grace));
        context.effects.push(Effect::Hold(self.epoch, Standing::Waiting));
        self.wake_within(context.bounds.grace, context);
        self.route = Route::Unknown;
        self.flush(context);
        if !context.alone || context.peers {
            // An older socket may be open on another node, or in another cluster: what is not answered goes there.
            self.locate(true, context);
        }
    }

    /// Tells the owners of the session here that counts.
    fn announce(&mut self, context: &mut Context<'_>) {
        let Some((standing, epoch)) = self.rank() else { return };
        if epoch < self.epoch {
            context.effects.push(Effect::Release(self.epoch));
        }
        self.epoch = epoch;
        context.effects.push(Effect::Hold(epoch, standing));
    }

    /// The vault is no longer here, and nothing waits here for it. It may be elsewhere all the same: whoever
    /// awaits an answer looks for it once more, and only then gives up.
    pub(super) fn leave(&mut self, context: &mut Context<'_>) {
        self.waiting_until = None;
        self.route = Route::Unknown;
        context.effects.push(Effect::Release(self.epoch));
        if context.alone && !context.peers {
            for (request, id) in self.open_ones(|record| matches!(record.place, Place::Home(_))) {
                self.give_up(&request, id, &Refusal::NotConnected(self.vault.clone()), context);
            }
        }
        self.give_back(context);
        if self.has_nowhere() {
            self.locate(true, context);
        }
    }

    /// Requests that were to be delivered here are nowhere again: a request is forwarded once, so those of other
    /// nodes go back there.
    pub(super) fn give_back(&mut self, context: &mut Context<'_>) {
        for (request, id) in self.open_ones(|record| matches!(record.place, Place::Home(_))) {
            match self.find_mut(&request, id) {
                Some(record) if matches!(record.origin, Origin::Here(_)) || is_of_caller(record) => {
                    record.place = Place::Nowhere;
                }
                _ => {
                    if let Some(record) = self.remove(&request, id, context) {
                        tell_others(&record, context, || frames::not_here(&self.vault, &request, id));
                    }
                }
            }
        }
    }

    /// A sign of life on the socket of that number, which counts only while it stands for the vault.
    pub fn alive(&mut self, number: u64, now: Millis) {
        if self.is_registered(number) {
            self.last_life = now;
        }
    }

    /// Whether the vault's sockets here have been silent for too long, if this node is the one that would notice:
    /// a newer socket elsewhere gets the heartbeats.
    #[must_use]
    pub fn is_silent(&self, now: Millis) -> bool {
        let notices = self.has_socket() && !matches!(self.route, Route::At(..));
        notices && self.last_life.plus(HEARTBEAT_TIMEOUT) < now
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

    /// The vault's sessions here, newest last.
    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.sessions.iter()
    }

    /// The outboxes of the vault's sockets here, newest last.
    pub fn sockets(&self) -> impl Iterator<Item = (u64, &Outbox)> {
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

    /// All sessions get what comes again: their node stays.
    pub fn stay(&mut self, context: &mut Context<'_>) {
        if !self.parting.is_empty() {
            self.parting.clear();
            self.flush(context);
        }
    }
}
