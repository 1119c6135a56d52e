//! Answers that die with the node that stored them.

use crate::vault::record::{Place, Record};
use crate::vault::state::tests::support::Agent;

use super::{Cluster, VaultSockets, number_in};

impl VaultSockets {
    /// A node has stored an answer.
    pub fn is_stored(&mut self, node: usize, answer: &str) {
        self.stored.push((node, answer.to_owned()));
    }
}

impl Cluster {
    /// Answers that a node stored and had told nobody of when it died. A request that is out on another socket of the
    /// vault is not delivered there again: no rule can save it before it expires, unless the vault answers again.
    pub fn lose_stored(&mut self, dead: usize) {
        let (lost, kept) = std::mem::take(&mut self.vaults.stored).into_iter().partition(|(node, _)| *node == dead);
        self.vaults.stored = kept;
        let lost: Vec<(usize, String)> = lost;
        for (_, answer) in lost {
            let request = number_in(answer.trim_start_matches("answer to "));
            let name = format!("r{request}");
            let id = Agent::new(self.agents.requests[request].agent).id(&name);
            let records = || self.hosts.values().filter_map(|host| host.node.state.find(&name.as_str().into(), id));
            let is_out = records().any(|record| record.is_open() && matches!(record.place, Place::Home(Some(_))));
            if is_out && records().all(Record::is_open) {
                self.vaults.answers_again(self.federation.region_of(dead), &answer);
            }
        }
    }
}
