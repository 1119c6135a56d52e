//! Requests over HTTP: what their agents are told, and what they could poll for.

use std::collections::BTreeSet;

use tokio::sync::oneshot;

use crate::domain::ids::RequestId;
use crate::vault::record::{Outcome, Waiter};
use crate::vault::refusal::Refusal;
use crate::vault::state::tests::cluster::Cluster;
use crate::vault::state::tests::support::{Agent, TTL, run};

use super::agents::Request;

pub(super) struct HttpRequest {
    pub(super) request: usize,
    pub(super) node: usize,
    pub(super) told: Option<oneshot::Receiver<Outcome>>,
    pub(super) accepted: bool,
}

impl Cluster {
    /// An agent sends a request over HTTP.
    pub fn post(&mut self, agent: u8, node: usize) {
        let live = self.live();
        let (node, expires) = (live[node % live.len()], self.now.plus(TTL));
        let (told, outcome) = oneshot::channel();
        let request = self.agents.requests.len();
        let socket = self.socket_of(agent);
        self.agents.requests.push(Request {
            agent,
            socket,
            expires,
            repeated: true,
            regions: BTreeSet::from([self.federation.region_of(node)]),
        });
        let mut new = Agent::new(agent).request_by(&format!("r{request}"), Waiter::Http(told));
        new.expires = expires;
        self.agents.http.push(HttpRequest { request, node, told: Some(outcome), accepted: false });
        self.story.push(format!("{} agent {agent} posts r{request} at node {node}", self.clock()));
        self.call(node, |state, context| state.submit(new, context));
    }

    pub(super) fn http_agents_read(&mut self) {
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
