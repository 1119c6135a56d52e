//! Links, frames and questions between the nodes of a [`Cluster`].

use std::collections::BTreeSet;
use std::time::Duration;

use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::cluster::proto::frame::Body;
use crate::domain::clock::{Epoch, Millis};
use crate::domain::ids::RequestId;
use crate::vault::frames;
use crate::vault::state::tests::support::{VAULT, received, run};
use crate::vault::state::{AdoptAnswer, AnswerVerdict, Rank};
use crate::wire::dcp::envelope::RecordId;

use super::{Cluster, FAR};

/// What travels on a link.
#[derive(Debug, Clone)]
pub enum Item {
    Frame(Box<Body>),
    Ask(u64, Question),
    Reply(u64, Reply),
}

/// What a node asks others.
#[derive(Debug, Clone)]
pub enum Question {
    /// For the socket of the first epoch, at a node whose best session has that rank.
    Adopt(Epoch, Rank),
    Find(RequestId, RecordId),
    Forward(RequestId, Utf8Bytes),
}

#[derive(Debug, Clone, Copy)]
pub enum Reply {
    Outranked(Rank),
    Done(bool),
    /// It is stored, but another node may have asked the vault.
    Stray,
}

/// A question that has not been answered by all.
pub struct Ask {
    pub asker: usize,
    question: Question,
    waiting: BTreeSet<usize>,
    until: Millis,
    better: Option<(Rank, usize)>,
    taken: bool,
    /// Whether only one node was asked at first.
    one: bool,
}

impl Cluster {
    pub(super) fn send(&mut self, from: usize, to: usize, body: Body) -> Result<(), Box<Body>> {
        if !self.hosts.get(&from).is_some_and(|host| host.view.contains(&to)) {
            return Err(Box::new(body));
        }
        self.put(from, to, Item::Frame(Box::new(body)));
        Ok(())
    }

    fn put(&mut self, from: usize, to: usize, item: Item) {
        if self.hosts.contains_key(&to) {
            self.links.entry((from, to)).or_default().push_back(item);
        }
    }

    /// The next frame on a link is handled.
    pub(super) fn arrive(&mut self, from: usize, to: usize) {
        let Some(item) = self.links.get_mut(&(from, to)).and_then(|queue| queue.pop_front()) else { return };
        match item {
            Item::Frame(body) if from >= FAR || to >= FAR => self.arrive_far(from, to, *body),
            Item::Frame(body) => drop(self.call(to, received(&run(from), *body))),
            Item::Ask(number, question) => {
                let reply = self.reply_to(from, to, question);
                self.put(to, from, Item::Reply(number, reply));
            }
            Item::Reply(number, reply) => {
                let Some(ask) = self.asks.get_mut(&number) else { return };
                ask.waiting.remove(&from);
                match reply {
                    Reply::Outranked(rank) => ask.better = ask.better.max(Some((rank, from))),
                    Reply::Done(taken) => ask.taken |= taken,
                    Reply::Stray => {}
                }
                if ask.waiting.is_empty() {
                    self.finish(number);
                }
            }
        }
    }

    fn reply_to(&mut self, from: usize, to: usize, question: Question) -> Reply {
        match question {
            Question::Adopt(_, (standing, epoch)) => {
                let adopt = self.call(to, |state, context| state.adopt(&run(from), Some(standing), epoch, context));
                match adopt {
                    Some(AdoptAnswer::Outranked(rank)) => Reply::Outranked(rank),
                    Some(AdoptAnswer::Sent(_)) | None => Reply::Done(true),
                }
            }
            Question::Find(request, id) => {
                let kept = self.hosts.get(&to).and_then(|host| host.node.state.kept_answer(&request, id).cloned());
                if let Some(answer) = kept {
                    self.send(to, from, frames::answer(&VAULT.into(), &request, id, &answer)).unwrap_or_default();
                }
                Reply::Done(true)
            }
            Question::Forward(request, answer) => {
                let text = answer.to_string();
                let verdict = self.call(to, |state, context| state.answer(&request, answer, context));
                if matches!(verdict, Some(AnswerVerdict::Stored | AnswerVerdict::Stray)) {
                    self.vaults.is_stored(to, &text);
                }
                if verdict == Some(AnswerVerdict::Stray) {
                    return Reply::Stray;
                }
                Reply::Done(verdict == Some(AnswerVerdict::Stored))
            }
        }
    }

    /// Puts a question to `one` node, or to all.
    pub(super) fn ask(&mut self, asker: usize, question: Question, one: Option<usize>) {
        let Some(host) = self.hosts.get(&asker) else { return };
        let others = host.view.iter().copied().filter(|other| *other != asker);
        let waiting: BTreeSet<_> = others.filter(|other| one.is_none_or(|one| one == *other)).collect();
        let patience = if let Question::Find(..) = question { 500 } else { 1_000 };
        let (number, until) = (self.next_ask, self.now.plus(Duration::from_millis(patience)));
        self.next_ask += 1;
        for other in &waiting {
            self.put(asker, *other, Item::Ask(number, question.clone()));
        }
        let nobody = waiting.is_empty();
        let ask = Ask { asker, question, waiting, until, better: None, taken: false, one: one.is_some() };
        self.asks.insert(number, ask);
        if nobody {
            self.finish(number);
        }
    }

    /// The socket of that claim has closed: nobody is left to hear what was asked for it.
    pub(super) fn drop_adoption(&mut self, asker: usize, of: Epoch) {
        let dropped =
            |ask: &Ask| ask.asker == asker && matches!(ask.question, Question::Adopt(epoch, _) if epoch == of);
        self.asks.retain(|_, ask| !dropped(ask));
    }

    pub(super) fn find(&mut self, asker: usize, request: RequestId, id: RecordId) {
        self.ask(asker, Question::Find(request, id), None);
    }

    /// Questions that have been waited for long enough are over.
    pub(super) fn end_asks(&mut self) {
        let now = self.now;
        let over: Vec<u64> = self.asks.iter().filter(|(_, ask)| ask.until <= now).map(|(number, _)| *number).collect();
        for number in over {
            self.finish(number);
        }
    }

    /// A node that is dead answers no question.
    pub(super) fn forget_asked(&mut self, asker: usize, dead: usize) {
        let mut over = Vec::new();
        for (number, ask) in self.asks.iter_mut().filter(|(_, ask)| ask.asker == asker) {
            if ask.waiting.remove(&dead) && ask.waiting.is_empty() {
                over.push(*number);
            }
        }
        for number in over {
            self.finish(number);
        }
    }

    /// Answers that a dying node was handing on are lost. The vault, which was not told that they are stored, gives
    /// them again.
    pub(super) fn lose_answers(&mut self, dying: usize) {
        for ask in self.asks.values().filter(|ask| ask.asker == dying && !ask.taken) {
            if let Question::Forward(_, answer) = &ask.question {
                self.vaults.answers_again(self.federation.region_of(dying), answer.as_str());
            }
        }
    }

    fn finish(&mut self, number: u64) {
        let Some(ask) = self.asks.remove(&number) else { return };
        match ask.question {
            Question::Adopt(..) => {
                self.call(ask.asker, |state, context| {
                    match ask.better {
                        Some((rank, node)) => state.outranked_by(&run(node), rank, context),
                        None if !ask.waiting.is_empty() => state.look_for_better(context),
                        None => {}
                    }
                    state.adopted(context);
                });
            }
            Question::Find(request, id) => {
                self.call(ask.asker, |state, context| state.not_found(&request, id, context));
            }
            Question::Forward(..) if ask.taken => {}
            // Who did not answer is asked again: the link may have lost the question.
            Question::Forward(..) if ask.one || !ask.waiting.is_empty() => self.ask(ask.asker, ask.question, None),
            Question::Forward(request, _) => {
                self.story.push(format!("{} nobody takes the answer to {request}", self.clock()));
            }
        }
    }

    /// A link breaks. What was on its way is lost; what is sent from now on waits for [`Cluster::mend`].
    pub fn cut(&mut self, from: usize, to: usize) {
        let near = self.federation.region_of(from) == self.federation.region_of(to);
        if self.hosts.contains_key(&from) && self.hosts.contains_key(&to) && from != to && near {
            let lost = self.links.remove(&(from, to)).unwrap_or_default();
            self.down.insert((from, to));
            self.links_held = false;
            self.agents.calm_since = None;
            self.story.push(format!("{} link {from} to {to} breaks, {} frames lost", self.clock(), lost.len()));
        }
    }

    /// All broken links stand again; both ends are told.
    pub fn mend(&mut self) {
        self.link_regions();
        for (from, to) in std::mem::take(&mut self.down) {
            self.story.push(format!("{} link {from} to {to} is up", self.clock()));
            for (at, peer) in [(from, to), (to, from)] {
                if self.hosts.contains_key(&peer) {
                    self.call(at, |state, context| state.repeat_to(&run(peer), context));
                }
            }
        }
    }
}

/// A frame in a word or two.
pub fn told(body: &Body) -> String {
    match body {
        Body::Deliver(d) if d.guard => format!("guard {}", d.request_id),
        Body::Deliver(d) if !d.answer.is_empty() => format!("keep the answer to {}", d.request_id),
        Body::Deliver(d) => format!("deliver {} for {}", d.request_id, d.origin_node),
        Body::Accepted(a) => format!("accepted {}", a.request_id),
        Body::Answer(a) => format!("answer to {}", a.request_id),
        Body::Refused(r) => format!("{:?} {}", r.reason(), r.request_id),
        other => format!("{other:?}"),
    }
}
