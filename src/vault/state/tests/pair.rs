//! Two nodes, one with the vault and one with an agent: what most tests between nodes begin with.

use super::support::*;
use crate::cluster::proto::frame::Body;
use crate::domain::clock::Epoch;
use crate::domain::principal::Standing;
use crate::vault::state::{Effect, VaultState, Whereabouts};

/// Two nodes, the vault at the second, and an agent at the first.
pub struct Pair {
    pub origin: Node,
    pub home: Node,
    pub vault: Client,
    pub agent: Agent,
}

impl Pair {
    pub fn new() -> Self {
        let (mut home, vault) = (Node::new(1), Client::new());
        open(&mut home, 1, &vault);
        home.call(VaultState::adopted);
        Self { origin: Node::new(0), home, vault, agent: Agent::new(1) }
    }

    /// With requests of the agent at the vault.
    pub fn with(names: &[&str]) -> Self {
        let mut pair = Self::new();
        for name in names {
            let effects = pair.submit(name);
            pair.carry(0, effects);
        }
        pair
    }

    /// What comes of a request, before any frame is carried.
    pub fn submit(&mut self, name: &str) -> Vec<Effect> {
        let mut effects = self.origin.call(|state, context| state.submit(self.agent.request(name), context));
        if effects.contains(&Effect::Locate { anew: false }) {
            effects.extend(self.origin.call(|state, context| state.located(at(1, 1), context)));
        }
        effects
    }

    /// Carries frames between the two, as [`carry`] does.
    pub fn carry(&mut self, at: usize, effects: Vec<Effect>) -> Vec<(usize, Effect)> {
        carry(&mut [&mut self.origin, &mut self.home], at, effects)
    }

    /// What comes of the vault's answer.
    pub fn answer(&mut self, name: &str) -> Vec<Effect> {
        self.home.call(|state, context| drop(state.answer(&name.into(), format!("answer to {name}").into(), context)))
    }
}

/// The vault is connected to that node since that epoch.
pub fn at(node: usize, epoch: u64) -> Whereabouts {
    Whereabouts::At(run(node), Standing::Live, Epoch(epoch))
}

/// The vault opens a socket whose number is its epoch.
pub fn open(node: &mut Node, epoch: u64, vault: &Client) -> Vec<Effect> {
    node.call(|state, context| state.session_opened(session(epoch, epoch, vault), context))
}

pub fn accepted(name: &str) -> Heard {
    Heard::Accepted(name.to_owned())
}

pub fn answered(name: &str) -> Heard {
    Heard::Answer(format!("answer to {name}"))
}

pub fn not_connected(name: &str) -> Heard {
    Heard::Error("RELAY_VAULT_NOT_CONNECTED".to_owned(), name.to_owned())
}

/// The requests that are sent to that node.
pub fn delivers(effects: &[Effect], to: usize) -> Vec<String> {
    let names = effects.iter().filter_map(|effect| match effect {
        Effect::Send(node, Body::Deliver(deliver)) if *node == run(to) => Some(deliver.request_id.clone()),
        _ => None,
    });
    names.collect()
}
