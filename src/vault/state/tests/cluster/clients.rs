//! The vault's and the agents' sockets of a [`Cluster`], and what each may expect.

mod lost;

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::oneshot;

use crate::domain::clock::{Epoch, Millis};
use crate::domain::ids::RequestId;
use crate::vault::record::{Outcome, Waiter};
use crate::vault::refusal::Refusal;
use crate::vault::state::tests::support::{Agent, Client, Heard, TTL, number_of, run, session};
use crate::vault::state::{AnswerVerdict, Session};

use super::Cluster;
use super::network::Question;

/// The sockets and polls of the vault, and what it has read and not answered.
#[derive(Default)]
pub struct VaultSockets {
    sockets: Vec<VaultSocket>,
    /// Each with the cluster that it came from.
    unanswered: Vec<(usize, String)>,
    /// Its answers, and the nodes that stored them.
    stored: Vec<(usize, String)>,
}

struct VaultSocket {
    node: usize,
    number: u64,
    epoch: Epoch,
    /// Nothing for one that polls.
    client: Option<Client>,
    open: bool,
    /// How many requests had been submitted when it was opened.
    since: usize,
    /// The newest request that it has been sent of each agent socket.
    newest: BTreeMap<usize, usize>,
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

/// The sockets of all agents, and what they have been promised.
#[derive(Default)]
pub struct AgentSockets {
    sockets: Vec<AgentSocket>,
    requests: Vec<Request>,
    /// The first request since the cluster came to rest after the last fault and the last change of the vault's
    /// sockets.
    pub calm_since: Option<usize>,
    http: Vec<HttpRequest>,
}

struct AgentSocket {
    agent: Agent,
    node: usize,
    open: bool,
    /// Requests that have no end yet, and when they were sent.
    waiting: BTreeSet<usize>,
}

struct Request {
    agent: u8,
    socket: usize,
    expires: Millis,
    repeated: bool,
}

struct HttpRequest {
    request: usize,
    node: usize,
    told: Option<oneshot::Receiver<Outcome>>,
    accepted: bool,
}

impl AgentSockets {
    pub fn node_died(&mut self, node: usize) {
        for socket in self.sockets.iter_mut().filter(|socket| socket.node == node) {
            socket.open = false;
            socket.waiting.clear();
        }
        self.http.retain(|http| http.node != node || http.accepted);
    }

    /// The cluster has come to rest.
    pub fn calm(&mut self) {
        self.calm_since.get_or_insert(self.requests.len());
    }

    /// Requests of open sockets that have not ended.
    pub fn waiting(&self) -> Vec<usize> {
        self.sockets.iter().flat_map(|socket| socket.waiting.iter().copied()).collect()
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
            Some(AnswerVerdict::Stored) => self.vaults.is_stored(node, &stored),
            None => {}
        }
        true
    }

    /// An agent connects to a node; its other sockets close, or are forgotten by everybody but their nodes.
    pub fn connect_agent(&mut self, agent: u8, node: usize, close: bool) {
        if close {
            for socket in self.agents.sockets.iter_mut().filter(|s| s.agent.submitter == Agent::new(agent).submitter) {
                socket.open = false;
                socket.waiting.clear();
                socket.agent.client.outbox.abandon();
            }
        }
        let live = self.live();
        let node = live[node % live.len()];
        let socket = AgentSocket { agent: Agent::new(agent), node, open: true, waiting: BTreeSet::new() };
        self.agents.sockets.push(socket);
    }

    fn socket_of(&mut self, agent: u8) -> usize {
        let submitter = Agent::new(agent).submitter;
        let newest = |c: &Self| c.agents.sockets.iter().rposition(|s| s.open && s.agent.submitter == submitter);
        newest(self).unwrap_or_else(|| {
            self.connect_agent(agent, agent as usize, true);
            self.agents.sockets.len() - 1
        })
    }

    /// An agent sends a request on its newest socket.
    pub fn submit(&mut self, agent: u8) {
        let (socket, expires) = (self.socket_of(agent), self.now.plus(TTL));
        self.agents.requests.push(Request { agent, socket, expires, repeated: false });
        self.send_request(socket, self.agents.requests.len() - 1);
    }

    /// An agent sends one of its requests again.
    pub fn repeat(&mut self, agent: u8, pick: usize) {
        let mine: Vec<usize> =
            (0..self.agents.requests.len()).filter(|r| self.agents.requests[*r].agent == agent).collect();
        let Some(request) = mine.get(pick % mine.len().max(1)) else { return };
        self.agents.requests[*request].repeated = true;
        if self.agents.requests[*request].expires > self.now {
            let socket = self.socket_of(agent);
            self.send_request(socket, *request);
        }
    }

    fn send_request(&mut self, socket: usize, request: usize) {
        let expires = self.agents.requests[request].expires;
        let node = self.agents.sockets[socket].node;
        // Whoever sends it again at the same node takes the place of whoever waited there.
        for other in self.agents.sockets.iter_mut().filter(|other| other.node == node) {
            self.story.extend(other.waiting.remove(&request).then(|| format!("r{request} is waited for anew")));
        }
        let sender = &mut self.agents.sockets[socket];
        sender.waiting.insert(request);
        let mut new = sender.agent.request(&format!("r{request}"));
        new.expires = expires;
        self.story.push(format!("{} agent socket {socket} at node {node} sends r{request}", self.clock()));
        self.call(node, |state, context| state.submit(new, context));
    }

    /// An agent sends a request over HTTP.
    pub fn post(&mut self, agent: u8, node: usize) {
        let live = self.live();
        let (node, expires) = (live[node % live.len()], self.now.plus(TTL));
        let (told, outcome) = oneshot::channel();
        let request = self.agents.requests.len();
        let socket = self.socket_of(agent);
        self.agents.requests.push(Request { agent, socket, expires, repeated: true });
        let mut new = Agent::new(agent).request_by(&format!("r{request}"), Waiter::Http(told));
        new.expires = expires;
        self.agents.http.push(HttpRequest { request, node, told: Some(outcome), accepted: false });
        self.story.push(format!("{} agent {agent} posts r{request} at node {node}", self.clock()));
        self.call(node, |state, context| state.submit(new, context));
    }

    /// The agents read what they have been told, and check it.
    pub fn agents_read(&mut self) {
        for socket in 0..self.agents.sockets.len() {
            if self.agents.sockets[socket].open {
                for heard in self.agents.sockets[socket].agent.heard() {
                    self.check_heard(socket, &heard);
                }
            }
        }
        self.http_agents_read();
    }

    fn check_heard(&mut self, socket: usize, heard: &Heard) {
        self.story.push(format!("{} agent socket {socket} hears {heard:?}", self.clock()));
        let story = || format!("socket {socket} hears {heard:?}:\n{}", self.story.join("\n"));
        let waiting = |request: &usize| self.agents.sockets[socket].waiting.contains(request);
        let request = match heard {
            Heard::Accepted(name) => {
                assert!(waiting(&number_in(name)), "{}", story());
                return;
            }
            Heard::Answer(text) => {
                let request = number_in(text.strip_prefix("answer to ").expect("an answer"));
                let address = Agent::new(self.agents.requests[request].agent).submitter.address;
                assert!(text.ends_with(&format!("from {address}")), "{}", story());
                request
            }
            Heard::Error(code, name) => {
                let request = number_in(name);
                assert!(!self.is_refused_wrongly(request, code), "{}", story());
                request
            }
        };
        assert!(waiting(&request), "{}", story());
        self.agents.sockets[socket].waiting.remove(&request);
    }

    /// A vault that was connected before the request and still is cannot be said to be absent.
    fn is_refused_wrongly(&self, request: usize, code: &str) -> bool {
        let region = |node| self.federation.region_of(node);
        let asked_in = region(self.agents.sockets[self.agents.requests[request].socket].node);
        // While links to another cluster break, its vaults may be said to be absent.
        let counts = |s: &VaultSocket| region(s.node) == asked_in || self.has_never_broken();
        let stayed = |s: &VaultSocket| s.open && s.since <= request && counts(s);
        match code {
            "RELAY_VAULT_NOT_CONNECTED" => {
                self.vaults.sockets.iter().any(stayed) && !self.agents.requests[request].repeated
            }
            "RELAY_MESSAGE_EXPIRED" => self.agents.requests[request].expires > self.now,
            "RELAY_UNAVAILABLE" => self.has_never_broken(),
            _ => true,
        }
    }

    /// Whether no node has died and no link has broken.
    fn has_never_broken(&self) -> bool {
        self.buried.is_empty() && self.links_held
    }

    fn http_agents_read(&mut self) {
        let mut accepted = Vec::new();
        for http in &mut self.agents.http {
            let Some(Ok(outcome)) = http.told.as_mut().map(oneshot::Receiver::try_recv) else { continue };
            http.told = None;
            if let Outcome::Accepted { .. } = outcome {
                http.accepted = true;
                accepted.push((http.request, http.node));
            } else if let Outcome::Refused(Refusal::Full | Refusal::VaultLimit(..)) = outcome {
                panic!("nothing is full: {outcome:?}");
            }
        }
        for (request, node) in accepted {
            let agent = Agent::new(self.agents.requests[request].agent);
            let name = format!("r{request}");
            let guardian = self.hosts.get(&node).and_then(|h| h.view.iter().copied().find(|other| *other != node));
            self.story.push(format!("{} r{request} is accepted over HTTP, guarded by {guardian:?}", self.clock()));
            if let Some(guardian) = guardian {
                let (request, id) = (RequestId::from(name.as_str()), agent.id(&name));
                self.call(node, |state, context| state.guard(&request, id, &run(guardian), context));
            }
        }
    }

    /// Requests accepted over HTTP that some node says are pending, and no node has an answer to; and those still
    /// without a verdict.
    pub fn http_waiting(&self) -> Vec<usize> {
        let unended = |http: &&HttpRequest| {
            if !http.accepted {
                return http.told.as_ref().is_some_and(|told| !told.is_terminated());
            }
            let submitter = Agent::new(self.agents.requests[http.request].agent).submitter;
            let name = RequestId::from(format!("r{}", http.request).as_str());
            let polls: Vec<_> =
                self.hosts.values().filter_map(|host| host.node.state.poll(&name, &submitter, self.now)).collect();
            polls.iter().any(Option::is_none) && !polls.iter().any(Option::is_some)
        };
        self.agents.http.iter().filter(unended).map(|http| http.request).collect()
    }
}

/// The number in a text that begins with `r` and a number.
fn number_in(text: &str) -> usize {
    let digits = text.trim_start_matches('r').split(' ').next().unwrap_or_default();
    digits.parse().unwrap_or_else(|_| panic!("no request in {text:?}"))
}
