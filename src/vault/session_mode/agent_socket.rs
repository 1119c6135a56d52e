//! An agent's socket in session mode.

use serde_json::value::RawValue;

use crate::observe::metrics::count;
use crate::runtime::time;
use crate::vault::agent::AgentProtocol;
use crate::wire::dcp::frame::Frame;
use crate::wire::dcp::session::{self, Pair, SessionId};

use super::agents::NewPair;
use super::reason;
use super::refusal::NoSession;

impl AgentProtocol {
    /// `{"type":"pair","vault_id":…,"token":…}`: `text` is the whole frame.
    pub(in crate::vault) fn pair(&mut self, text: &[u8]) {
        let pair = match Pair::parse(text) {
            Ok(pair) => pair,
            Err(error) => return self.complain_plainly("RELAY_INVALID_ENVELOPE", &error.to_string(), None),
        };
        if self.has_session() {
            let message = "This connection has a session already: close it first";
            return self.complain_plainly("RELAY_INVALID_ENVELOPE", message, None);
        }
        if let Err(refusal) = self.service.may_name(&pair.vault_id, self.key) {
            count(&self.service.inner.metrics.vault.pairs, refusal.label());
            self.service.inner.metrics.vault.error(refusal.code());
            return self.say(refusal.frame(&pair.vault_id));
        }
        let session = SessionId(rand::random());
        let pair = NewPair { session, vault: &pair.vault_id, token: &pair.token, outbox: &self.socket.outbox };
        self.service.in_session_mode(|table, context| table.agents.begin(&pair, context));
        self.session = Some(session);
    }

    /// Whether `kind` is a frame of session mode, other than the pair, and session mode is served.
    pub(in crate::vault) fn takes_plainly(&self, kind: &str) -> bool {
        self.service.inner.settings.session_mode && matches!(kind, "message" | "close" | "ping")
    }

    /// A frame for which [`AgentProtocol::takes_plainly`] holds. It may leave out which session it belongs to.
    pub(in crate::vault) fn plain_frame(&mut self, frame: &Frame<'_>) {
        if frame.kind == "ping" {
            return self.say(session::heartbeat(time::now()));
        }
        let named = frame.session_id.map(SessionId::read);
        let Some(id) = self.session.filter(|id| named.is_none_or(|named| named == Some(*id))) else {
            return self.complain_plainly(NoSession::CODE, &NoSession.to_string(), None);
        };
        if frame.kind == "close" {
            return self.leave_session(reason::BY_AGENT);
        }
        let message = session::message(&id, frame.payload.map_or("null", RawValue::get));
        let done = self.service.in_session_mode(|table, context| table.agents.message(id, message, context));
        if let Err(error) = done {
            let about = id.to_string();
            self.complain_plainly(NoSession::CODE, &error.to_string(), Some(("session_id", &about)));
        }
    }

    /// Whether the agent is paired, or waits to be.
    pub(in crate::vault) fn has_session(&self) -> bool {
        self.session.is_some_and(|id| self.service.in_session_mode(|table, _| table.agents.has(id)))
    }

    /// Gives up a pair that has not been answered in time.
    pub(in crate::vault) fn expire_pair(&self) {
        if let Some(id) = self.session {
            self.service.in_session_mode(|table, context| table.agents.expire(id, context));
        }
    }

    /// Ends the agent's session, if it has one; `why` is for the vault.
    pub(in crate::vault) fn leave_session(&mut self, why: &'static str) {
        if let Some(id) = self.session.take() {
            self.service.in_session_mode(|table, context| table.agents.leave(id, why, context));
        }
    }

    fn complain_plainly(&self, code: &'static str, message: &str, about: Option<(&str, &str)>) {
        self.service.inner.metrics.vault.error(code);
        self.say(session::error(code, message, about));
    }
}
