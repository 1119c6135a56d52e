//! An agent's socket, `/ws-client` (sheet section 6): requests in, what becomes of them out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::runtime::outbox::Outbox;
use crate::runtime::session::{Incoming, Protocol, Step};
use crate::runtime::time;
use crate::security::address::AddressKey;
use crate::wire::dcp::envelope::{RecordId, Unchecked};
use crate::wire::dcp::frame::{self, Frame};
use crate::wire::dcp::session::{self, SessionId};

use super::record::{AgentSocket, Submitter, Waiter};
use super::refusal::Refusal;
use super::service::VaultService;
use super::session_mode::reason;
use super::span;
use super::state::NewRequest;

/// The protocol of an agent's socket.
pub struct AgentProtocol {
    pub(super) service: VaultService,
    pub(super) socket: Arc<AgentSocket>,
    submitter: Submitter,
    pub(super) key: AddressKey,
    /// The session of session mode that the agent has asked for last, if it has not ended it.
    pub(super) session: Option<SessionId>,
}

impl AgentProtocol {
    /// A new socket of an agent at that address, writing to `outbox`.
    #[must_use]
    pub fn new(service: VaultService, address: std::net::IpAddr, outbox: Outbox) -> Self {
        let socket = Arc::new(AgentSocket { outbox, pending: AtomicUsize::new(0) });
        service.inner.metrics.vault.agent_sockets.inc();
        service.agent_opened(&socket);
        let submitter = Submitter { address, token: None };
        Self { service, socket, submitter, key: AddressKey::from(address), session: None }
    }

    fn request(&self, payload: &str) {
        let now = time::now();
        let Some(unchecked) = Unchecked::parse(payload.as_bytes()) else {
            return self.complain("RELAY_INVALID_ENVELOPE", "Missing version", None);
        };
        // Kept for the error: the check consumes what it reads.
        let named = unchecked.request_id().map(str::to_owned);
        let envelope = match unchecked.check(now) {
            Ok(envelope) => envelope,
            Err(error) => return self.complain(error.code(), &error.to_string(), named.as_deref()),
        };
        if self.service.is_closed_to_agents() {
            let refusal = Refusal::Unavailable;
            return self.complain(refusal.code(), &refusal.to_string(), Some(&envelope.request_id));
        }
        if let Err(limited) = self.service.inner.admission.request(self.key) {
            self.service.inner.metrics.vault.limited("address");
            let refusal = Refusal::AddressLimit(limited.retry_after);
            return self.complain(refusal.code(), &refusal.to_string(), Some(&envelope.request_id));
        }
        let new = NewRequest {
            id: RecordId::of(payload, self.submitter.address),
            request: (&*envelope.request_id).into(),
            frame: frame::write("request", payload, now),
            expires: envelope.expires,
            submitter: self.submitter,
            waiter: Waiter::socket(&self.socket),
            span: span::taken(),
        };
        self.service.submit(&envelope.vault_id, new);
    }

    /// Sends an error frame, unless it names no request while some are pending: the shipped client would fail
    /// them all (sheet section 1, rule 4).
    fn complain(&self, code: &'static str, message: &str, request: Option<&str>) {
        let figures = &self.service.inner.metrics.vault;
        figures.error(code);
        if request.is_none() {
            figures.malformed.inc();
            if self.socket.pending.load(Ordering::Relaxed) > 0 {
                return;
            }
        }
        self.say(frame::error(code, message, request, time::now()));
    }

    pub(super) fn say(&self, text: Utf8Bytes) {
        // A socket that takes nothing more is being closed.
        self.socket.outbox.text(text).unwrap_or_default();
    }
}

impl Protocol for AgentProtocol {
    fn on_message(&mut self, message: Incoming<'_>) -> Step {
        let Some(frame) = Frame::parse(message.bytes()) else {
            self.complain("RELAY_INVALID_ENVELOPE", "Invalid message format", None);
            return Step::Continue;
        };
        match (&*frame.kind, frame.payload) {
            ("request", Some(payload)) => self.request(payload.get()),
            ("request", None) => self.complain("RELAY_INVALID_ENVELOPE", "Invalid message format", None),
            ("pair", None) => self.pair(message.bytes()),
            ("heartbeat", None) if self.session.is_some() => self.say(session::heartbeat(time::now())),
            ("heartbeat", _) => self.say(frame::heartbeat(time::now())),
            (kind, _) if self.takes_plainly(kind) => self.plain_frame(&frame),
            (kind, _) => {
                let kind: String = kind.chars().take(64).collect();
                self.complain("RELAY_INVALID_ENVELOPE", &format!("Unknown message type: {kind}"), None);
            }
        }
        Step::Continue
    }

    fn on_tick(&mut self) -> Step {
        self.expire_pair();
        if self.service.is_draining() && self.socket.pending.load(Ordering::Relaxed) == 0 {
            return Step::Close(1012, "service restart");
        }
        Step::Continue
    }

    fn in_use(&self) -> bool {
        self.socket.pending.load(Ordering::Relaxed) > 0 || self.has_session()
    }
}

impl Drop for AgentProtocol {
    fn drop(&mut self) {
        self.leave_session(reason::AGENT_GONE);
        self.service.inner.metrics.vault.agent_sockets.dec();
    }
}
