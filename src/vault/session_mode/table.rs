//! Both halves of session mode on one node: the ends at its vaults' sockets and those at its agents'.
//!
//! The halves know nothing of each other. They speak in [`Word`]s, which go to another node or straight back to
//! this one, so that a session within a node follows the same rules as one across two.

use std::collections::VecDeque;

use crate::domain::clock::{Epoch, Millis};
use crate::domain::ids::{NodeRun, VaultId};
use crate::observe::metrics::Metrics;
use crate::wire::dcp::session::SessionId;

use super::agents::Agents;
use super::vaults::Vaults;
use super::words::{Outcome, Side, Word};

/// Most words kept for nodes whose link is full: one for each session that ends meanwhile, and then some.
const MAX_OWED: usize = 65_536;

/// Why a session is over.
pub mod reason {
    /// The link between the nodes lost something that was said.
    pub const INTERRUPTED: &str = "messages were lost between relay nodes";
    /// The other side's node has died or left.
    pub const NODE_LOST: &str = "the other side's relay node is gone";
    /// The vault has ended it.
    pub const BY_VAULT: &str = "closed by the vault";
    /// The agent has ended it.
    pub const BY_AGENT: &str = "closed by the agent";
    /// The vault's socket has ended, or stands for the vault no longer.
    pub const VAULT_GONE: &str = "the vault has disconnected";
    /// The agent's socket has ended.
    pub const AGENT_GONE: &str = "the agent has disconnected";
    /// The vault took too long to accept or refuse.
    pub const TIMEOUT: &str = "the pair was not answered in time";
}

/// What the rules ask the node to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Tell a node, which may be this one.
    Tell(NodeRun, Word),
    /// This node has the vault since that epoch.
    Hold(VaultId, Epoch),
    /// It has it no longer.
    Release(VaultId, Epoch),
    /// Find the vault's node; `anew` if what was found before was wrong.
    Look {
        /// For this session.
        session: SessionId,
        /// The vault.
        vault: VaultId,
        /// Whether to ask every node.
        anew: bool,
    },
}

/// What a rule works with.
pub struct Context<'a> {
    /// The moment.
    pub now: Millis,
    /// The node's figures.
    pub metrics: &'a Metrics,
    /// What is to be done, in this order.
    pub effects: &'a mut VecDeque<Effect>,
}

impl Context<'_> {
    /// Tells `node` something.
    pub fn tell(&mut self, node: &NodeRun, word: Word) {
        self.effects.push_back(Effect::Tell(node.clone(), word));
    }

    /// Tells `node` that the session is over.
    pub fn close(&mut self, node: &NodeRun, session: SessionId, to: Side, reason: &'static str) {
        self.tell(node, Word::Close { session, to, reason: reason.into() });
    }
}

/// Session mode on one node.
#[derive(Debug, Default)]
pub struct Table {
    /// The ends at vaults' sockets.
    pub vaults: Vaults,
    /// The ends at agents' sockets.
    pub agents: Agents,
    owed: VecDeque<(NodeRun, Word)>,
}

impl Table {
    /// A word from `from`, for one of the ends here.
    pub fn hear(&mut self, from: &NodeRun, word: Word, context: &mut Context<'_>) {
        match word {
            Word::Open { session, vault, token } => self.vaults.open(from, session, &vault, &token, context),
            Word::Verdict { session, outcome } => self.agents.verdict(from, session, outcome, context),
            Word::Data { session, to: Side::Vault, seq, frame } => {
                self.vaults.data(from, session, seq, frame, context);
            }
            Word::Data { session, to: Side::Agent, seq, frame } => {
                self.agents.data(from, session, seq, frame, context);
            }
            Word::Close { session, to: Side::Vault, reason } => self.vaults.closed(from, session, &reason),
            Word::Close { session, to: Side::Agent, reason } => self.agents.closed(from, session, &reason, context),
            Word::Sync { session, to: Side::Vault, sent, open } => {
                self.vaults.compare(from, session, sent, open, context);
            }
            Word::Sync { session, to: Side::Agent, sent, open } => {
                self.agents.compare(from, session, sent, open, context);
            }
        }
    }

    /// A word could not be sent: whatever it leaves untrue is set right here, and there as soon as possible.
    pub fn unsent(&mut self, node: NodeRun, word: Word, context: &mut Context<'_>) {
        match word {
            Word::Open { session, .. } => self.agents.unreachable(session, context),
            Word::Verdict { session, outcome: Outcome::Accepted } | Word::Data { session, to: Side::Agent, .. } => {
                self.vaults.interrupted(session, context);
            }
            Word::Data { session, .. } => self.agents.interrupted(session, context),
            word if self.owed.len() < MAX_OWED => self.owed.push_back((node, word)),
            _ => context.metrics.drop_one("session", "owed"),
        }
    }

    /// Says again what could not be said to nodes that are still there.
    pub fn say_owed(&mut self, is_live: impl Fn(&NodeRun) -> bool, context: &mut Context<'_>) {
        let owed = self.owed.drain(..).filter(|(node, _)| is_live(node));
        context.effects.extend(owed.map(|(node, word)| Effect::Tell(node, word)));
    }

    /// A link to or from `peer` is new: what either end believes is compared.
    pub fn link_up(&self, peer: &NodeRun, context: &mut Context<'_>) {
        self.vaults.sync(peer, context);
        self.agents.sync(peer, context);
    }

    /// That run of that node is gone, and with it the other end of each session that it had a part in.
    pub fn node_lost(&mut self, node: &NodeRun, context: &mut Context<'_>) {
        self.vaults.node_lost(node);
        self.agents.node_lost(node, context);
    }
}
