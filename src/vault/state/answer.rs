//! Answers: from the vault into a record, from there to whoever waits, and kept for whoever asks again.

use std::sync::atomic::Ordering;

use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::cluster::proto::{self, frame::Body};
use crate::domain::clock::Millis;
use crate::domain::ids::{NodeRun, RequestId};
use crate::vault::frames;
use crate::vault::record::{Origin, Place, Record, Submitter};
use crate::wire::dcp::envelope::RecordId;

use super::search::RETRY;
use super::{Context, Effect, Route, VaultState, tell_others};

/// How often an answer is offered to a node that does not take it: its link is full, or it has just died.
const MAX_OFFERS: u8 = 10;

/// What became of a vault's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnswerVerdict {
    /// Kept, and handed to whoever waits.
    Stored,
    /// Kept and handed on likewise, or it was answered before, and the first answer stands. But it was not this node
    /// that asked the vault, or not this time: whoever did may have the request open, so all others are to be told.
    Stray,
    /// The request is at that node.
    Elsewhere(NodeRun),
    /// This node knows no such request.
    Unknown,
}

impl VaultState {
    /// The vault answers a request. Of several with that name the one delivered first is meant.
    pub fn answer(&mut self, request: &RequestId, answer: Utf8Bytes, context: &mut Context<'_>) -> AnswerVerdict {
        self.last_life = context.now;
        let records = self.records.get(request).map(|records| records.as_slice()).unwrap_or_default();
        let open = || records.iter().filter(|record| record.is_open());
        // Delivered ones first: an answer to what has not been delivered yet is one to another delivery of it.
        let home = open().filter(|r| matches!(r.place, Place::Home(_)));
        let here = home.min_by_key(|r| (r.place == Place::Home(None), r.delivered)).map(|record| record.id);
        let nowhere = || open().filter(|r| r.place == Place::Nowhere).min_by_key(|r| r.order).map(|record| record.id);
        let away = open().find_map(|r| if let Place::Away(node) = &r.place { Some(node) } else { None });
        match (here, away, nowhere(), &self.route) {
            (Some(id), ..) | (None, None, Some(id), _) => {
                let was_asked_here = self.find(request, id).is_some_and(|record| record.deliveries > 0);
                self.fill(request, id, answer, context);
                if was_asked_here { AnswerVerdict::Stored } else { AnswerVerdict::Stray }
            }
            (None, Some(node), ..) | (None, None, None, Route::At(node, _)) => AnswerVerdict::Elsewhere(node.clone()),
            _ if !records.is_empty() => {
                // Perhaps what was said of it was lost.
                for record in records {
                    if let Some(answer) = &record.answer {
                        tell_all(record, context, || frames::answer(&self.vault, request, record.id, answer));
                    }
                }
                AnswerVerdict::Stray
            }
            _ => AnswerVerdict::Unknown,
        }
    }

    /// A request of this node, or one that it keeps for another, has been answered.
    pub fn answered(&mut self, request: &RequestId, id: RecordId, answer: Utf8Bytes, context: &mut Context<'_>) {
        if self.find(request, id).is_some_and(Record::is_open) {
            self.fill(request, id, answer, context);
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
        let mine = |record: &&Record| record.submitter.admits(asker) && record.expires > now;
        self.records.get(request)?.iter().map(|record| &**record).find(mine).map(|record| record.answer.clone())
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

    /// Puts the answer into a record and hands it to whoever waits.
    pub(super) fn fill(&mut self, request: &RequestId, id: RecordId, answer: Utf8Bytes, context: &mut Context<'_>) {
        let vault = self.vault.clone();
        let Some(record) = self.find_mut(request, id) else { return };
        let before = record.weight();
        record.frame = Utf8Bytes::default();
        record.answer = Some(answer.clone());
        record.misses = 0;
        record.span = tracing::Span::none();
        let figures = &context.metrics.vault;
        if let Origin::Here(waiter) = &mut record.origin
            && waiter.answer(&answer)
        {
            figures.answered.inc();
            figures.latency.observe(context.now.since(record.begun).as_secs_f64());
        }
        tell_all(record, context, || frames::answer(&vault, request, id, &answer));
        record.sharers.clear();
        context.effects.push(Effect::Keep(request.clone(), id, record.expires));
        let (after, undelivered) = (record.weight(), record.deliveries == 0);
        self.open -= 1;
        figures.pending.dec();
        if undelivered {
            figures.undelivered.dec();
        }
        context.usage.open_bytes.fetch_sub(before, Ordering::Relaxed);
        context.usage.bytes.fetch_add(after, Ordering::Relaxed);
        context.usage.bytes.fetch_sub(before, Ordering::Relaxed);
    }

    /// An answer could not be sent to `node`: it is offered again, a few times.
    pub(super) fn answer_unsent(&mut self, node: &NodeRun, answer: &proto::Answer, context: &mut Context<'_>) {
        let request = RequestId::from(answer.request_id.as_str());
        let Some(id) = frames::id_from(answer.record_id.as_ref()) else { return };
        let Some(record) = self.find_mut(&request, id) else { return };
        if record.misses < MAX_OFFERS {
            record.misses += 1;
            record.sharers.push(node.clone());
            self.offer_at.get_or_insert(context.now.plus(RETRY));
            self.wake_within(RETRY, context);
        }
    }

    /// Offers answers again to nodes that could not be told, if it is time.
    pub(super) fn offer_answers(&mut self, context: &mut Context<'_>) {
        match self.offer_at {
            None => return,
            Some(at) if at > context.now => return self.wake_within(at.since(context.now), context),
            Some(_) => self.offer_at = None,
        }
        for record in self.records.values_mut().flatten() {
            let Some(answer) = &record.answer else { continue };
            for node in record.sharers.drain(..) {
                let body = frames::answer(&self.vault, &record.request, record.id, answer);
                context.effects.push(Effect::Send(node, body));
            }
        }
    }
}

/// Sends an answer to the other nodes that want to hear of it, and to those that may still have the request open.
fn tell_all(record: &Record, context: &mut Context<'_>, body: impl Fn() -> Body) {
    tell_others(record, context, &body);
    let hears = |node: &NodeRun| {
        record.sharers.contains(node) || matches!(&record.origin, Origin::There(origin) if origin == node)
    };
    for node in record.former.iter().filter(|node| !hears(node)) {
        context.effects.push(Effect::Send(node.clone(), body()));
    }
}
