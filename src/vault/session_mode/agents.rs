//! The agent's half of session mode: the ends of sessions at agents' sockets, one a socket at most.

use std::collections::HashMap;
use std::time::Duration;

use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::domain::clock::Millis;
use crate::domain::ids::{NodeRun, VaultId};
use crate::observe::metrics::count;
use crate::runtime::outbox::Outbox;
use crate::wire::dcp::session::{self, SessionId};

use super::passed::Passed;
use super::refusal::{NoSession, Refusal};
use super::table::{Context, Effect, reason};
use super::words::{Outcome, Side, Word};

/// How long an agent waits for the vault's word.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Agent ends. A session is known by its name alone here: only the socket that asked for it has learnt it.
#[derive(Debug, Default)]
pub struct Agents {
    ends: HashMap<SessionId, End>,
}

/// The agent's end of a session.
#[derive(Debug)]
struct End {
    outbox: Outbox,
    vault: VaultId,
    stage: Stage,
    passed: Passed,
}

/// How far a session has come.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    /// The vault's node is being looked for.
    Looking(Asking),
    /// That node has been asked.
    Asked(NodeRun, Asking),
    /// The vault, at that node, has accepted.
    Open(NodeRun),
}

/// What a pair needs until it is decided.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asking {
    token: String,
    until: Millis,
    /// Whether a node has said that the vault is not there.
    misled: bool,
}

/// An agent's pair.
#[derive(Debug)]
pub struct NewPair<'a> {
    /// The session that it is to be: fresh random bits.
    pub session: SessionId,
    /// With whom.
    pub vault: &'a str,
    /// What the vault judges it by.
    pub token: &'a str,
    /// Where the agent hears what becomes of it.
    pub outbox: &'a Outbox,
}

impl Agents {
    /// An agent asks for a session: the vault is looked for.
    pub fn begin(&mut self, pair: &NewPair<'_>, context: &mut Context<'_>) {
        let (session, vault) = (pair.session, VaultId::from(pair.vault));
        let asking = Asking { token: pair.token.to_owned(), until: context.now.plus(PATIENCE), misled: false };
        let end = End {
            outbox: pair.outbox.clone(),
            vault: vault.clone(),
            stage: Stage::Looking(asking),
            passed: Passed::default(),
        };
        self.ends.insert(session, end);
        context.effects.push_back(Effect::Look { session, vault, anew: false });
    }

    /// Whether the session is being asked for, or open.
    #[must_use]
    pub fn has(&self, session: SessionId) -> bool {
        self.ends.contains_key(&session)
    }

    /// Where the vault is, or why nobody is asked.
    pub fn found(&mut self, id: SessionId, found: Result<NodeRun, Refusal>, context: &mut Context<'_>) {
        let Some(end) = self.ends.get_mut(&id) else { return };
        let Stage::Looking(asking) = &end.stage else { return };
        match found {
            Err(refusal) => self.give_up(id, &refusal, context),
            Ok(node) => {
                let word = Word::Open { session: id, vault: end.vault.clone(), token: asking.token.clone() };
                end.stage = Stage::Asked(node.clone(), asking.clone());
                context.tell(&node, word);
            }
        }
    }

    /// What the vault, or its node, says to the pair.
    pub fn verdict(&mut self, from: &NodeRun, id: SessionId, outcome: Outcome, context: &mut Context<'_>) {
        let Some(end) = self.ends.get_mut(&id).filter(|end| end.node() == Some(from)) else {
            // An agent that has given up.
            return context.close(from, id, Side::Vault, reason::AGENT_GONE);
        };
        let Stage::Asked(_, asking) = &end.stage else { return };
        match outcome {
            Outcome::Accepted => {
                end.stage = Stage::Open(from.clone());
                say(&end.outbox, session::paired(&id, end.vault.as_str()));
                count(&context.metrics.vault.pairs, "accepted");
                context.metrics.vault.sessions.inc();
            }
            Outcome::NotHere if !asking.misled => {
                end.stage = Stage::Looking(Asking { misled: true, ..asking.clone() });
                context.effects.push_back(Effect::Look { session: id, vault: end.vault.clone(), anew: true });
            }
            Outcome::NotHere => {
                let refusal = Refusal::NotConnected(end.vault.clone());
                self.give_up(id, &refusal, context);
            }
            Outcome::Full => {
                let refusal = Refusal::Full(end.vault.clone());
                self.give_up(id, &refusal, context);
            }
            Outcome::Refused(why) => self.give_up(id, &Refusal::Refused(why), context),
        }
    }

    /// The agent says something: `frame` is the text for the vault.
    ///
    /// # Errors
    /// When the session is not open.
    pub fn message(&mut self, id: SessionId, frame: Utf8Bytes, context: &mut Context<'_>) -> Result<(), NoSession> {
        let end = self.ends.get_mut(&id).ok_or(NoSession)?;
        let Stage::Open(node) = &end.stage else { return Err(NoSession) };
        let seq = end.passed.send();
        context.tell(node, Word::Data { session: id, to: Side::Vault, seq, frame });
        Ok(())
    }

    /// The agent ends the session, or its pair; `why` is for the vault.
    pub fn leave(&mut self, id: SessionId, why: &'static str, context: &mut Context<'_>) {
        if let Some(end) = self.remove(id, context) {
            if !end.is_open() {
                count(&context.metrics.vault.pairs, "withdrawn");
            }
            if let Some(node) = end.node() {
                context.close(node, id, Side::Vault, why);
            }
        }
    }

    /// Gives up a pair that has not been answered in time.
    pub fn expire(&mut self, id: SessionId, context: &mut Context<'_>) {
        let Some(end) = self.ends.get(&id) else { return };
        let node = match &end.stage {
            Stage::Looking(asking) if asking.until <= context.now => None,
            Stage::Asked(node, asking) if asking.until <= context.now => Some(node.clone()),
            _ => return,
        };
        self.give_up(id, &Refusal::Timeout, context);
        if let Some(node) = node {
            context.close(&node, id, Side::Vault, reason::TIMEOUT);
        }
    }

    /// The vault says something.
    pub fn data(&mut self, from: &NodeRun, id: SessionId, seq: u64, frame: Utf8Bytes, context: &mut Context<'_>) {
        let Some(end) = self.ends.get_mut(&id).filter(|end| end.node() == Some(from)) else {
            return context.close(from, id, Side::Vault, reason::AGENT_GONE);
        };
        if !end.is_open() || !end.passed.hear(seq) {
            return self.interrupted(id, context);
        }
        say(&end.outbox, frame);
    }

    /// The vault's end is gone.
    pub fn closed(&mut self, from: &NodeRun, id: SessionId, why: &str, context: &mut Context<'_>) {
        if self.ends.get(&id).is_some_and(|end| end.node() == Some(from)) {
            self.end(id, why, context);
        }
    }

    /// The vault's end says how it stands.
    pub fn compare(&mut self, from: &NodeRun, id: SessionId, sent: u64, open: bool, context: &mut Context<'_>) {
        match self.ends.get(&id).filter(|end| end.node() == Some(from)) {
            None => context.close(from, id, Side::Vault, reason::AGENT_GONE),
            Some(end) if end.passed.has_heard(sent) && end.is_open() == open => {}
            Some(_) => self.interrupted(id, context),
        }
    }

    /// Something that the session's ends said to each other is lost.
    pub fn interrupted(&mut self, id: SessionId, context: &mut Context<'_>) {
        if let Some(node) = self.end(id, reason::INTERRUPTED, context) {
            context.close(&node, id, Side::Vault, reason::INTERRUPTED);
        }
    }

    /// The vault's node could not be asked.
    pub fn unreachable(&mut self, id: SessionId, context: &mut Context<'_>) {
        self.give_up(id, &Refusal::Unavailable, context);
    }

    /// Tells `peer` how each end stands that has its other end there.
    pub fn sync(&self, peer: &NodeRun, context: &mut Context<'_>) {
        for (session, end) in self.ends.iter().filter(|(_, end)| end.node() == Some(peer)) {
            let (sent, open) = (end.passed.sent(), end.is_open());
            context.tell(peer, Word::Sync { session: *session, to: Side::Vault, sent, open });
        }
    }

    /// Whatever had its other end at `node` is over.
    pub fn node_lost(&mut self, node: &NodeRun, context: &mut Context<'_>) {
        let lost: Vec<_> = self.ends.iter().filter(|(_, end)| end.node() == Some(node)).map(|(id, _)| *id).collect();
        for id in lost {
            self.end(id, reason::NODE_LOST, context);
        }
    }

    /// Ends a session, or the pair that it was to be, and tells the agent why. The node of its other end.
    fn end(&mut self, id: SessionId, why: &str, context: &mut Context<'_>) -> Option<NodeRun> {
        let end = self.ends.get(&id)?;
        let node = end.node().cloned();
        if end.is_open() {
            say(&end.outbox, session::closed(&id, why));
            self.remove(id, context);
        } else {
            let refusal = Refusal::NotConnected(end.vault.clone());
            self.give_up(id, &refusal, context);
        }
        node
    }

    /// Ends a pair, and tells the agent why.
    fn give_up(&mut self, id: SessionId, refusal: &Refusal, context: &mut Context<'_>) {
        if let Some(end) = self.remove(id, context) {
            count(&context.metrics.vault.pairs, refusal.label());
            context.metrics.vault.error(refusal.code());
            say(&end.outbox, refusal.frame(end.vault.as_str()));
        }
    }

    fn remove(&mut self, id: SessionId, context: &mut Context<'_>) -> Option<End> {
        let end = self.ends.remove(&id)?;
        if end.is_open() {
            context.metrics.vault.sessions.dec();
        }
        Some(end)
    }
}

impl End {
    fn node(&self) -> Option<&NodeRun> {
        match &self.stage {
            Stage::Looking(_) => None,
            Stage::Asked(node, _) | Stage::Open(node) => Some(node),
        }
    }

    fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open(_))
    }
}

/// A socket that takes nothing more is being closed, and ends its session then.
fn say(outbox: &Outbox, text: Utf8Bytes) {
    outbox.text(text).unwrap_or_default();
}
