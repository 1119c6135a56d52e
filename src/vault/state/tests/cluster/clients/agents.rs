//! The agents' sockets, and what each agent may expect to hear.

use std::collections::BTreeSet;

use crate::domain::clock::Millis;
use crate::vault::state::tests::cluster::Cluster;
use crate::vault::state::tests::support::{Agent, Heard, TTL};

use super::http::HttpRequest;
use super::number_in;
use super::vaults::VaultSocket;

/// The sockets of all agents, and what they have been promised.
#[derive(Default)]
pub struct AgentSockets {
    pub(super) sockets: Vec<AgentSocket>,
    pub(super) requests: Vec<Request>,
    /// The first request since the cluster came to rest after the last fault and the last change of the vault's
    /// sockets.
    pub calm_since: Option<usize>,
    pub(super) http: Vec<HttpRequest>,
}

pub(super) struct AgentSocket {
    pub(super) agent: Agent,
    pub(super) node: usize,
    pub(super) open: bool,
    /// Requests that have no end yet, and when they were sent.
    pub(super) waiting: BTreeSet<usize>,
}

pub(super) struct Request {
    pub(super) agent: u8,
    pub(super) socket: usize,
    pub(super) expires: Millis,
    pub(super) repeated: bool,
    /// The clusters in which its agent has sent it.
    pub(super) regions: BTreeSet<usize>,
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

    pub(super) fn socket_of(&mut self, agent: u8) -> usize {
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
        self.agents.requests.push(Request { agent, socket, expires, repeated: false, regions: BTreeSet::new() });
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
        self.agents.requests[request].regions.insert(self.federation.region_of(node));
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

    /// Whether an agent has sent that request in the cluster of that node.
    pub fn is_asked_at(&self, request: &str, node: usize) -> bool {
        self.agents.requests[number_in(request)].regions.contains(&self.federation.region_of(node))
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
}
