//! The vault's sockets and polls, what it reads and what it answers.

use std::collections::BTreeMap;

use crate::domain::clock::Epoch;
use crate::domain::ids::RequestId;
use crate::vault::state::tests::support::{Client, number_of, session};
use crate::vault::state::{AnswerVerdict, Session};

use super::number_in;
use crate::vault::state::tests::cluster::Cluster;
use crate::vault::state::tests::cluster::network::Question;

/// The sockets and polls of the vault, and what it has read and not answered.
#[derive(Default)]
pub struct VaultSockets {
    pub(super) sockets: Vec<VaultSocket>,
    /// Each with the cluster that it came from.
    pub(super) unanswered: Vec<(usize, String)>,
    /// Its answers, and the nodes that stored them.
    pub(super) stored: Vec<(usize, String)>,
}

pub(super) struct VaultSocket {
    pub(super) node: usize,
    pub(super) number: u64,
    pub(super) epoch: Epoch,
    /// Nothing for one that polls.
    pub(super) client: Option<Client>,
    pub(super) open: bool,
    /// How many requests had been submitted when it was opened.
    pub(super) since: usize,
    /// The newest request that it has been sent of each agent socket.
    pub(super) newest: BTreeMap<usize, usize>,
}

impl VaultSockets {
    pub fn node_died(&mut self, node: usize) {
        self.sockets.iter_mut().filter(|socket| socket.node == node).for_each(|socket| socket.open = false);
    }

    fn open(&self) -> Vec<usize> {
        (0..self.sockets.len()).filter(|socket| self.sockets[*socket].open).collect()
    }

    /// The vault has not been told that this answer is stored, which it gave in that cluster.
    pub fn answers_again(&mut self, region: usize, answer: &str) {
        self.unanswered.extend(answer.strip_prefix("answer to ").map(|text| (region, text.to_owned())));
    }

    /// Whether a socket is open.
    pub fn is_connected(&self) -> bool {
        self.sockets.iter().any(|socket| socket.open)
    }
}

impl Cluster {
    /// The vault opens a socket, or begins to poll; with `late`, its claim is older than the newest one.
    pub fn open_vault(&mut self, node: usize, late: bool, polls: bool) {
        let polls_there = |s: &VaultSocket| s.open && s.node == node && s.client.is_none();
        if !self.hosts.contains_key(&node) || (polls && self.vaults.sockets.iter().any(polls_there)) {
            return;
        }
        self.next_epoch += 2;
        let epoch = if late { self.next_epoch - 3 } else { self.next_epoch };
        let (number, client) = (self.next_socket, Client::new());
        self.next_socket += 1;
        let how = if polls { "begins poll" } else { "opens socket" };
        let when = epoch & 0xfff;
        self.story.push(format!("{} vault {how} {number} at node {node}, epoch {when}", self.clock()));
        let client = (!polls).then_some(client);
        let outbox = client.as_ref().map(|client| client.outbox.clone());
        let opened = Session { outbox, ..session(number, epoch, &Client::new()) };
        let epoch = opened.epoch;
        let since = self.agents.requests.len();
        self.agents.calm_since = None;
        let newest = BTreeMap::new();
        self.vaults.sockets.push(VaultSocket { node, number, epoch, client, open: true, since, newest });
        let rank = self.call(node, |state, context| {
            state.session_opened(opened, context);
            state.rank()
        });
        if let Some(rank) = rank.flatten() {
            self.ask(node, Question::Adopt(epoch, rank), None);
        }
    }

    /// A socket of the vault closes, or unregisters.
    pub fn close_vault(&mut self, pick: usize, for_good: bool) {
        let open = self.vaults.open();
        let Some(socket) = open.get(pick % open.len().max(1)) else { return };
        let socket = &mut self.vaults.sockets[*socket];
        socket.open = false;
        self.agents.calm_since = None;
        let (node, number, epoch) = (socket.node, socket.number, socket.epoch);
        // Polling just ends.
        let for_good = for_good && socket.client.is_some();
        self.drop_adoption(node, epoch);
        let how = if for_good { "unregisters" } else { "closes" };
        self.story.push(format!("{} vault {how} socket {number} at node {node}", self.clock()));
        self.call(node, |state, context| state.session_closed(number, for_good, context));
    }

    /// The vault reads from all its sockets, and polls.
    pub fn vault_reads(&mut self) {
        for socket in self.vaults.open() {
            let VaultSocket { node, client, .. } = &self.vaults.sockets[socket];
            let texts = match client {
                Some(client) => client.received(),
                None => {
                    let fetched = self.call(*node, |state, context| state.fetch(false, usize::MAX, context));
                    fetched.unwrap_or_default().into_iter().map(|(_, text)| text.to_string()).collect()
                }
            };
            for text in texts {
                self.check_order(socket, &text);
                let region = self.federation.region_of(self.vaults.sockets[socket].node);
                self.vaults.unanswered.push((region, text));
            }
        }
    }

    /// While nothing breaks and the vault stays, requests of one agent come in the order in which they were sent; and
    /// if nothing has ever broken, none comes by a poll while there is a socket.
    fn check_order(&mut self, socket: usize, text: &str) {
        let request = number_in(text);
        let number = self.vaults.sockets[socket].number;
        self.story.push(format!("{} socket {number} is sent {text}", self.clock()));
        let sent = &self.agents.requests[request];
        let is_calm = self.agents.calm_since.is_some_and(|first| first <= request);
        if is_calm && self.has_never_broken() && self.vaults.sockets[socket].client.is_none() {
            let region = |node| self.federation.region_of(node);
            let here = region(self.vaults.sockets[socket].node);
            let is_better = |s: &VaultSocket| s.open && s.client.is_some() && region(s.node) == here;
            assert!(!self.vaults.sockets.iter().any(is_better), "{}", self.told());
        }
        if !sent.repeated && is_calm {
            let newest = self.vaults.sockets[socket].newest.insert(sent.socket, request);
            assert!(newest.is_none_or(|newest| newest < request), "{newest:?} before {request}:\n{}", self.told());
        }
    }

    /// The vault answers one of the requests that it has read, on whichever socket in the cluster that it came from.
    /// If there is none any more, the request comes again by another cluster.
    pub fn vault_answers(&mut self, pick: usize, via: usize) -> bool {
        if self.vaults.open().is_empty() || self.vaults.unanswered.is_empty() {
            return false;
        }
        let (region, text) = self.vaults.unanswered.remove(pick % self.vaults.unanswered.len());
        let mut open = self.vaults.open();
        open.retain(|socket| self.federation.region_of(self.vaults.sockets[*socket].node) == region);
        if open.is_empty() {
            self.story.push(format!("{} vault has no socket to answer {text} by", self.clock()));
            return true;
        }
        let node = self.vaults.sockets[open[via % open.len()]].node;
        let request = RequestId::from(format!("r{}", number_in(&text)).as_str());
        let answer = tokio_tungstenite::tungstenite::Utf8Bytes::from(format!("answer to {text}"));
        let verdict = self.call(node, |state, context| state.answer(&request, answer.clone(), context));
        self.story.push(format!("{} vault answers {request} at node {node}: {verdict:?}", self.clock()));
        let stored = answer.to_string();
        let question = Question::Forward(request, answer);
        match verdict {
            Some(AnswerVerdict::Elsewhere(home)) => self.ask(node, question, Some(number_of(&home))),
            Some(AnswerVerdict::Unknown) => self.ask(node, question, None),
            Some(AnswerVerdict::Stray) => {
                self.vaults.is_stored(node, &stored);
                self.ask(node, question, None);
            }
            Some(AnswerVerdict::Stored) => self.vaults.is_stored(node, &stored),
            None => {}
        }
        true
    }
}
