//! What other nodes say about requests and vaults.

use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::cluster::proto::{self, Adopted, Done, PollResult, frame::Body, poll_result::State, reply};
use crate::cluster::view::View;
use crate::cluster::{Frames, convert};
use crate::domain::clock::Epoch;
use crate::domain::ids::{NodeRun, RequestId};

use super::frames;
use super::record::Submitter;
use super::service::VaultService;
use super::session_mode::Word;
use super::state::{AdoptAnswer, AnswerVerdict};

/// More hops than this are refused: a frame is forwarded once inside a cluster.
const MAX_HOPS: u32 = 1;

impl Frames for VaultService {
    fn frame(&self, from: &NodeRun, ask: u64, body: Body) {
        let reply = |body| self.inner.cluster.links.reply(from, ask, body);
        match body {
            Body::Deliver(deliver) => self.delivered(from, *deliver),
            Body::Accepted(accepted) => {
                if let Some(id) = frames::id_from(accepted.record_id.as_ref()) {
                    let request = RequestId::from(accepted.request_id.as_str());
                    self.with_known(&accepted.vault_id, |state, context| {
                        state.accepted(&request, id, accepted.remaining, context);
                    });
                }
            }
            Body::Refused(refused) => {
                self.with_known(&refused.vault_id, |state, context| state.refused(from, &refused, context));
            }
            Body::Answer(answer) => {
                if let (Some(id), Some(frame)) =
                    (frames::id_from(answer.record_id.as_ref()), frames::text(answer.frame))
                {
                    let request = RequestId::from(answer.request_id.as_str());
                    self.with_known(&answer.vault_id, |state, context| state.answered(&request, id, frame, context));
                    self.make_room();
                }
            }
            Body::Adopt(adopt) => {
                self.has_come(&adopt.vault_id.as_str().into());
                let (standing, epoch) = (convert::standing_from(adopt.standing()), Epoch(adopt.epoch));
                let answer =
                    self.with_known(&adopt.vault_id, |state, context| state.adopt(from, standing, epoch, context));
                reply(reply::Body::Adopted(match answer {
                    None => Adopted::default(),
                    Some(AdoptAnswer::Sent(delivered)) => Adopted { delivered, ..Adopted::default() },
                    Some(AdoptAnswer::Outranked((standing, epoch))) => {
                        let standing = convert::standing(standing).into();
                        Adopted { delivered: 0, newer_here: true, epoch: epoch.0, standing }
                    }
                }));
            }
            Body::Find(find) => {
                let (request, id) =
                    (RequestId::from(find.request_id.as_str()), frames::id_from(find.record_id.as_ref()));
                let kept = id.and_then(|id| {
                    let kept = self.with_known(&find.vault_id, |state, _| state.kept_answer(&request, id).cloned());
                    Some(frames::answer(&find.vault_id.as_str().into(), &request, id, &kept??))
                });
                if let Some(answer) = kept {
                    // Lost only with the link, and then the asker hears of that.
                    self.inner.cluster.links.send(from, answer).unwrap_or_default();
                }
                reply(reply::Body::Done(Done::default()));
            }
            Body::Poll(poll) => reply(reply::Body::Poll(self.polled(&poll))),
            Body::ForwardAnswer(answer) => {
                let verdict = self.forwarded(answer);
                let (asked, stray) = (verdict == AnswerVerdict::Stored, verdict == AnswerVerdict::Stray);
                reply(reply::Body::Done(Done { yes: asked || stray, count: u64::from(asked) }));
            }
            Body::Notify(notify) => {
                if let Some(frame) = frames::text(notify.frame) {
                    self.notify_here(&notify.vault_id, &frame);
                }
            }
            body => match Word::read(body) {
                Some(word) => self.in_session_mode(|table, context| table.hear(from, word, context)),
                // Another service's, or a newer version's.
                None => self.inner.metrics.drop_one("vault", "unknown_frame"),
            },
        }
    }

    fn link_up(&self, peer: &NodeRun) {
        self.for_each(|state, context| state.repeat_to(peer, context));
        self.in_session_mode(|table, context| table.link_up(peer, context));
    }

    fn view_changed(&self, before: &View, now: &View) {
        for member in before.others().filter(|member| !now.is_live(&member.run)) {
            self.for_each(|state, context| state.node_lost(&member.run, context));
            self.in_session_mode(|table, context| table.node_lost(&member.run, context));
        }
    }
}

impl VaultService {
    fn delivered(&self, from: &NodeRun, deliver: proto::Deliver) {
        let vault = deliver.vault_id.clone();
        match frames::delivered(deliver, from) {
            Some(delivered) => self.with(&vault, |state, context| state.deliver(from, delivered, context)),
            None => self.inner.metrics.drop_one("vault", "malformed_frame"),
        }
    }

    fn polled(&self, poll: &proto::Poll) -> PollResult {
        let found = frames::submitter(poll.address.as_ref(), poll.token.as_ref())
            .and_then(|asker| self.poll_here(&poll.request_id, &asker));
        match found {
            None => PollResult { state: State::Unknown.into(), ..PollResult::default() },
            Some(None) => PollResult { state: State::Pending.into(), ..PollResult::default() },
            Some(Some(frame)) => PollResult { state: State::Answered.into(), frame: frame.into() },
        }
    }

    /// What this node knows of a request that `asker` submitted: nothing, that it is pending, or its answer.
    pub(super) fn poll_here(&self, request: &str, asker: &Submitter) -> Option<Option<Utf8Bytes>> {
        let id = RequestId::from(request);
        let mut pending = None;
        for vault in self.vaults_of(request) {
            match self.with_known(vault.as_str(), |state, context| state.poll(&id, asker, context.now)).flatten() {
                Some(Some(answer)) => return Some(Some(answer)),
                Some(None) => pending = Some(None),
                None => {}
            }
        }
        pending
    }

    fn forwarded(&self, answer: proto::ForwardAnswer) -> AnswerVerdict {
        let Some(frame) = frames::text(answer.frame).filter(|_| answer.hops <= MAX_HOPS) else {
            return AnswerVerdict::Unknown;
        };
        let request = RequestId::from(answer.request_id.as_str());
        let verdict = self.with_known(&answer.vault_id, |state, context| state.answer(&request, frame, context));
        verdict.unwrap_or(AnswerVerdict::Unknown)
    }

    /// Sends a frame to every socket that the vault has on this node; whether there is one.
    pub(super) fn notify_here(&self, vault: &str, frame: &Utf8Bytes) -> bool {
        let newest = self.with_known(vault, |state, _| state.sockets().last().map(|(_, outbox)| outbox.clone()));
        newest.flatten().is_some_and(|outbox| outbox.text(frame.clone()).is_ok())
    }
}
