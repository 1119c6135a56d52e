//! The vault's half of session mode: who is registered, and the ends of sessions at their sockets.

use std::collections::{HashMap, HashSet};

use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::domain::clock::Epoch;
use crate::domain::ids::{NodeRun, VaultId};
use crate::runtime::outbox::Outbox;
use crate::wire::dcp::session::{self, SessionId};

use super::passed::Passed;
use super::refusal::{NoSession, Refusal};
use super::table::{Context, Effect, reason};
use super::words::{Outcome, Side, Word};

/// Most sessions of one socket, pairs that wait for its word included: what one desk of agents may need.
pub const MAX_SESSIONS: usize = 1_000;

/// Most pairs that wait for the word of one socket.
pub const MAX_PENDING: usize = 100;

/// Registrations and vault ends.
#[derive(Debug, Default)]
pub struct Vaults {
    sockets: HashMap<u64, Socket>,
    /// The sockets of each vault, the newest last. One that is still being checked has no epoch and stands first.
    by_vault: HashMap<VaultId, Vec<u64>>,
    ends: HashMap<SessionId, End>,
}

/// A socket that is registered, or asks to be.
#[derive(Debug)]
struct Socket {
    vault: VaultId,
    outbox: Outbox,
    epoch: Option<Epoch>,
    sessions: HashSet<SessionId>,
    pending: usize,
}

/// The vault's end of a session.
#[derive(Debug)]
struct End {
    socket: u64,
    agent: NodeRun,
    open: bool,
    passed: Passed,
}

impl Vaults {
    /// A socket asks to stand for `vault`. Known from here on, so that a key that is bound while the claim is
    /// being checked turns it away.
    pub fn enter(&mut self, socket: u64, vault: &VaultId, outbox: &Outbox, context: &mut Context<'_>) {
        if self.sockets.get(&socket).is_some_and(|known| known.vault == *vault) {
            return;
        }
        self.leave(socket, reason::VAULT_GONE, context);
        let entry =
            Socket { vault: vault.clone(), outbox: outbox.clone(), epoch: None, sessions: HashSet::new(), pending: 0 };
        self.sockets.insert(socket, entry);
        self.by_vault.entry(vault.clone()).or_default().insert(0, socket);
    }

    /// The claim has been checked: the socket stands for its vault since `epoch`, and gets its new pairs until a
    /// newer one comes. Without effect if a key has been bound meanwhile: the vault has been told then.
    pub fn admit(&mut self, socket: u64, epoch: Epoch, context: &mut Context<'_>) {
        let Some(entry) = self.sockets.get_mut(&socket) else { return };
        say(&entry.outbox, session::registered(entry.vault.as_str()));
        if entry.epoch.replace(epoch).is_none() {
            context.metrics.vault.session_vaults.inc();
        }
        let vault = entry.vault.clone();
        if let Some(others) = self.by_vault.get_mut(&vault) {
            others.sort_by_key(|other| self.sockets.get(other).and_then(|entry| entry.epoch));
        }
        let newest = self.newest(&vault).unwrap_or(epoch);
        context.effects.push_back(Effect::Hold(vault, newest));
    }

    /// Whether the socket stands for a vault.
    #[must_use]
    pub fn is_registered(&self, socket: u64) -> bool {
        self.sockets.get(&socket).is_some_and(|entry| entry.epoch.is_some())
    }

    /// The sockets that stand for a vault: number, vault, since when, and where frames go.
    pub fn registered(&self) -> impl Iterator<Item = (u64, &VaultId, Epoch, &Outbox)> {
        self.sockets.iter().filter_map(|(number, entry)| Some((*number, &entry.vault, entry.epoch?, &entry.outbox)))
    }

    /// The socket stands for no vault any more, and its sessions are over.
    pub fn leave(&mut self, socket: u64, why: &'static str, context: &mut Context<'_>) {
        let Some(entry) = self.sockets.remove(&socket) else { return };
        for session in entry.sessions {
            if let Some(end) = self.ends.remove(&session) {
                context.close(&end.agent, session, Side::Agent, why);
            }
        }
        if let Some(others) = self.by_vault.get_mut(&entry.vault) {
            others.retain(|other| *other != socket);
            if others.is_empty() {
                self.by_vault.remove(&entry.vault);
            }
        }
        let Some(epoch) = entry.epoch else { return };
        context.metrics.vault.session_vaults.dec();
        match self.newest(&entry.vault) {
            Some(newest) if newest > epoch => {}
            older => {
                context.effects.push_back(Effect::Release(entry.vault.clone(), epoch));
                context.effects.extend(older.map(|older| Effect::Hold(entry.vault, older)));
            }
        }
    }

    /// A key owns the vault's name now: whoever proved nothing stands for it no longer, and is told.
    pub fn bound(&mut self, vault: &str, context: &mut Context<'_>) {
        for socket in self.by_vault.get(vault).cloned().unwrap_or_default() {
            let told = self.sockets.get(&socket).map(|entry| (entry.outbox.clone(), entry.sessions.clone()));
            self.leave(socket, reason::VAULT_GONE, context);
            let Some((outbox, sessions)) = told else { continue };
            for session in sessions {
                say(&outbox, session::closed(&session, "vault_id belongs to a key"));
            }
            context.metrics.vault.error(Refusal::HasKey.code());
            say(&outbox, Refusal::HasKey.frame(vault));
        }
    }

    /// An agent of `from` wants to pair.
    pub fn open(&mut self, from: &NodeRun, id: SessionId, vault: &VaultId, token: &str, context: &mut Context<'_>) {
        let outcome = match self.by_vault.get(vault).and_then(|sockets| self.first_willing(sockets)) {
            None => Outcome::NotHere,
            Some(_) if self.ends.contains_key(&id) => Outcome::Full,
            Some(socket) => match self.sockets.get_mut(&socket) {
                Some(entry) if entry.pending < MAX_PENDING && entry.sessions.len() < MAX_SESSIONS => {
                    entry.pending += 1;
                    entry.sessions.insert(id);
                    say(&entry.outbox, session::pair(&id, vault.as_str(), token));
                    let end = End { socket, agent: from.clone(), open: false, passed: Passed::default() };
                    self.ends.insert(id, end);
                    return;
                }
                _ => Outcome::Full,
            },
        };
        context.tell(from, Word::Verdict { session: id, outcome });
    }

    /// The vault accepts a pair.
    ///
    /// # Errors
    /// When no pair of that name waits for this socket's word.
    pub fn accept(&mut self, socket: u64, session: SessionId, context: &mut Context<'_>) -> Result<(), NoSession> {
        let end = self.ends.get_mut(&session).filter(|end| end.socket == socket && !end.open).ok_or(NoSession)?;
        end.open = true;
        context.tell(&end.agent, Word::Verdict { session, outcome: Outcome::Accepted });
        if let Some(entry) = self.sockets.get_mut(&socket) {
            entry.pending -= 1;
        }
        Ok(())
    }

    /// The vault refuses a pair.
    ///
    /// # Errors
    /// When no pair of that name waits for this socket's word.
    pub fn refuse(
        &mut self,
        socket: u64,
        session: SessionId,
        why: Option<String>,
        context: &mut Context<'_>,
    ) -> Result<(), NoSession> {
        self.ends.get(&session).filter(|end| end.socket == socket && !end.open).ok_or(NoSession)?;
        if let Some(end) = self.remove(session) {
            context.tell(&end.agent, Word::Verdict { session, outcome: Outcome::Refused(why) });
        }
        Ok(())
    }

    /// The vault says something: `frame` is the text for the agent.
    ///
    /// # Errors
    /// When no open session of that name is this socket's.
    pub fn message(
        &mut self,
        socket: u64,
        session: SessionId,
        frame: Utf8Bytes,
        context: &mut Context<'_>,
    ) -> Result<(), NoSession> {
        let end = self.ends.get_mut(&session).filter(|end| end.socket == socket && end.open).ok_or(NoSession)?;
        let seq = end.passed.send();
        context.tell(&end.agent, Word::Data { session, to: Side::Agent, seq, frame });
        Ok(())
    }

    /// The vault ends a session.
    ///
    /// # Errors
    /// When no session of that name is this socket's.
    pub fn close(&mut self, socket: u64, session: SessionId, context: &mut Context<'_>) -> Result<(), NoSession> {
        self.ends.get(&session).filter(|end| end.socket == socket).ok_or(NoSession)?;
        if let Some(end) = self.remove(session) {
            context.close(&end.agent, session, Side::Agent, reason::BY_VAULT);
        }
        Ok(())
    }

    /// The agent says something.
    pub fn data(&mut self, from: &NodeRun, id: SessionId, seq: u64, frame: Utf8Bytes, context: &mut Context<'_>) {
        let Some(end) = self.ends.get_mut(&id).filter(|end| end.agent == *from) else {
            return context.close(from, id, Side::Agent, reason::VAULT_GONE);
        };
        if !end.open || !end.passed.hear(seq) {
            return self.interrupted(id, context);
        }
        if let Some(entry) = self.sockets.get(&end.socket) {
            say(&entry.outbox, frame);
        }
    }

    /// The agent's end is gone.
    pub fn closed(&mut self, from: &NodeRun, id: SessionId, why: &str) {
        if self.ends.get(&id).is_some_and(|end| end.agent == *from) {
            self.end(id, why);
        }
    }

    /// The agent's end says how it stands.
    pub fn compare(&mut self, from: &NodeRun, id: SessionId, sent: u64, open: bool, context: &mut Context<'_>) {
        match self.ends.get(&id).filter(|end| end.agent == *from) {
            None => context.close(from, id, Side::Agent, reason::VAULT_GONE),
            // The vault's consent may be on its way to an agent's end that is not open yet.
            Some(end) if end.passed.has_heard(sent) && (end.open || !open) => {}
            Some(_) => self.interrupted(id, context),
        }
    }

    /// Something that the session's ends said to each other is lost.
    pub fn interrupted(&mut self, id: SessionId, context: &mut Context<'_>) {
        if let Some(end) = self.end(id, reason::INTERRUPTED) {
            context.close(&end.agent, id, Side::Agent, reason::INTERRUPTED);
        }
    }

    /// Tells `peer` how each end stands that has its other end there.
    pub fn sync(&self, peer: &NodeRun, context: &mut Context<'_>) {
        for (session, end) in self.ends.iter().filter(|(_, end)| end.agent == *peer) {
            let (sent, open) = (end.passed.sent(), end.open);
            context.tell(peer, Word::Sync { session: *session, to: Side::Agent, sent, open });
        }
    }

    /// Whatever had its other end at `node` is over.
    pub fn node_lost(&mut self, node: &NodeRun) {
        let lost: Vec<_> = self.ends.iter().filter(|(_, end)| end.agent == *node).map(|(id, _)| *id).collect();
        for id in lost {
            self.end(id, reason::NODE_LOST);
        }
    }

    /// The newest registered socket that still takes something.
    fn first_willing(&self, sockets: &[u64]) -> Option<u64> {
        let willing = |socket: &&u64| {
            self.sockets.get(socket).is_some_and(|entry| entry.epoch.is_some() && !entry.outbox.is_closed())
        };
        sockets.iter().rev().find(willing).copied()
    }

    fn newest(&self, vault: &VaultId) -> Option<Epoch> {
        self.sockets.get(self.by_vault.get(vault)?.last()?)?.epoch
    }

    /// Ends a session and tells the vault why.
    fn end(&mut self, id: SessionId, why: &str) -> Option<End> {
        let end = self.remove(id)?;
        if let Some(entry) = self.sockets.get(&end.socket) {
            say(&entry.outbox, session::closed(&id, why));
        }
        Some(end)
    }

    fn remove(&mut self, id: SessionId) -> Option<End> {
        let end = self.ends.remove(&id)?;
        if let Some(entry) = self.sockets.get_mut(&end.socket) {
            entry.sessions.remove(&id);
            entry.pending -= usize::from(!end.open);
        }
        Some(end)
    }
}

/// A socket that takes nothing more is being closed, and ends its sessions then.
fn say(outbox: &Outbox, text: Utf8Bytes) {
    outbox.text(text).unwrap_or_default();
}

#[cfg(test)]
impl Vaults {
    /// The counts and indexes agree with each other.
    pub fn assert_sound(&self) {
        for (number, entry) in &self.sockets {
            let mine: Vec<_> = self.ends.iter().filter(|(_, end)| end.socket == *number).collect();
            assert_eq!(entry.sessions.len(), mine.len());
            assert!(mine.iter().all(|(id, _)| entry.sessions.contains(*id)));
            assert_eq!(entry.pending, mine.iter().filter(|(_, end)| !end.open).count());
            assert!(self.by_vault[&entry.vault].contains(number));
        }
        assert!(self.ends.values().all(|end| self.sockets.contains_key(&end.socket)));
        assert_eq!(self.by_vault.values().map(Vec::len).sum::<usize>(), self.sockets.len());
    }
}
