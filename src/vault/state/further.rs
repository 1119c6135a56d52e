//! What a peer has taken and does not answer: whether it is slow or lies cannot be told, so others that say that they
//! have the vault are sent the request as well. The first answer counts.

use std::time::Duration;

use smallvec::SmallVec;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::domain::clock::Millis;
use crate::domain::ids::{NodeRun, RequestId};
use crate::vault::record::{MAX_ABROAD, Place, Record};
use crate::wire::dcp::envelope::RecordId;

use super::{Context, Effect, VaultState};

/// How long a peer has a request for itself.
pub(super) const SLOW: Duration = Duration::from_secs(10);

/// How long after that look the next one is.
const AGAIN: Duration = Duration::from_secs(30);

impl VaultState {
    /// Looks at other peers for what one has not answered for a while; wakes this vault when it is time to.
    pub(super) fn look_further(&mut self, context: &mut Context<'_>) {
        let waiting = || self.records.values().flatten().filter(|record| may_go_further(record));
        let Some(oldest) = waiting().map(|record| record.abroad_since).min() else { return };
        let due = oldest.plus(SLOW).max(self.sought.further.plus(AGAIN));
        if due > context.now {
            return self.wake_within(due.since(context.now), context);
        }
        let mut asked = SmallVec::<[NodeRun; 1]>::new();
        for peer in waiting().filter(|record| is_slow(record, context.now)).flat_map(|record| &record.abroad) {
            if !asked.contains(peer) {
                asked.push(peer.clone());
            }
        }
        self.sought.further = context.now;
        context.effects.push(Effect::LookFurther(asked));
        self.wake_within(AGAIN, context);
    }

    /// Another peer has the vault, too: it is sent what the first one does not answer.
    pub fn found_further(&mut self, peer: &NodeRun, context: &mut Context<'_>) {
        let now = context.now;
        let goes = |record: &Record| may_go_further(record) && is_slow(record, now) && !record.abroad.contains(peer);
        for (request, id) in self.open_ones(goes) {
            let Some(record) = self.find_mut(&request, id) else { continue };
            record.goes_abroad(peer, now);
            if let Some(record) = self.find(&request, id) {
                let body = self.deliver_body(record);
                context.effects.push(Effect::Send(peer.clone(), body));
            }
        }
    }

    /// A peer that was sent this request answers it. Those that had it longer have lapsed.
    pub fn answered_afar(
        &mut self,
        peer: &NodeRun,
        request: &RequestId,
        id: RecordId,
        answer: Utf8Bytes,
        context: &mut Context<'_>,
    ) -> bool {
        let open = self.find(request, id).filter(|record| record.is_open());
        let is_first = open.is_some();
        if let Some(record) = open {
            let longer = record.abroad.iter().take_while(|known| *known != peer);
            context.effects.extend(longer.cloned().map(Effect::Lapsed));
        }
        self.answered(request, id, answer, context);
        is_first
    }

    /// A request's time is over: who has it in another cluster has lapsed.
    pub(super) fn note_lapses(&self, request: &RequestId, id: RecordId, context: &mut Context<'_>) {
        if let Some(record) = self.find(request, id).filter(|record| is_abroad(record)) {
            context.effects.extend(record.abroad.iter().cloned().map(Effect::Lapsed));
        }
    }
}

fn is_abroad(record: &Record) -> bool {
    record.is_open() && matches!(&record.place, Place::Away(node) if node.is_afar())
}

fn may_go_further(record: &Record) -> bool {
    is_abroad(record) && record.abroad.len() < MAX_ABROAD
}

fn is_slow(record: &Record, now: Millis) -> bool {
    record.abroad_since.plus(SLOW) <= now
}
