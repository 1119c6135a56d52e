//! A vault's socket, `/ws` (sheet section 5): registration, heartbeats, answers.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::cluster::proto::{ForwardAnswer, frame::Body, reply};
use crate::domain::ids::{NodeRun, RequestId, VaultId};
use crate::runtime::outbox::Outbox;
use crate::runtime::session::{Incoming, Protocol, Step};
use crate::runtime::time;
use crate::security::address::AddressKey;
use crate::wire::dcp::fields::Fields;
use crate::wire::dcp::frame::{self, Frame};
use crate::wire::dcp::registration::{Registration, Verified};
use crate::wire::dcp::session;

use super::register::NotRegistered;
use super::service::VaultService;
use super::state::AnswerVerdict;

/// How long another node may take to say whether it took an answer.
const FORWARD_PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);

/// How often all nodes are asked to take an answer while some are silent: a vault gives an answer once.
const FORWARD_TRIES: usize = 4;

/// The protocol of a vault's socket.
pub struct VaultProtocol {
    socket: Arc<VaultSocket>,
}

/// What a socket's work beside its messages shares with it.
pub(super) struct VaultSocket {
    pub(super) service: VaultService,
    pub(super) number: u64,
    pub(super) outbox: Outbox,
    pub(super) key: AddressKey,
    /// The vault that this socket stands for.
    vault: Mutex<Option<VaultId>>,
    /// Whether it has ever asked to stand for a vault in session mode.
    pub(super) plain: AtomicBool,
}

impl VaultProtocol {
    /// A new socket of a vault at that address, writing to `outbox`.
    #[must_use]
    pub fn new(service: VaultService, address: std::net::IpAddr, outbox: Outbox) -> Self {
        let (number, key) = (service.next_socket(), AddressKey::from(address));
        let (vault, plain) = (Mutex::default(), AtomicBool::default());
        Self { socket: Arc::new(VaultSocket { service, number, outbox, key, vault, plain }) }
    }
}

impl Protocol for VaultProtocol {
    fn on_message(&mut self, message: Incoming<'_>) -> Step {
        let socket = &self.socket;
        let Some(frame) = Frame::parse(message.bytes()) else {
            socket.complain("RELAY_INVALID_ENVELOPE", "Invalid message format");
            return Step::Continue;
        };
        let payload = frame.payload.map(|payload| payload.get());
        match (&*frame.kind, payload) {
            ("response", Some(payload)) => return socket.response(payload),
            ("heartbeat", None) if socket.stands_plainly() => socket.say(session::heartbeat(time::now())),
            ("heartbeat", payload) => socket.heartbeat(payload),
            ("register", Some(payload)) => return socket.register(payload),
            ("unregister", Some(payload)) => socket.unregister(payload),
            ("pairing_result", Some(payload)) => return socket.pairing_result(payload),
            ("register", None) if let Some(vault) = frame.vault_id => return socket.register_plainly(vault),
            (kind, _) if socket.takes_plainly(kind) => socket.plain_frame(&frame, message.bytes()),
            ("register" | "response" | "unregister" | "pairing_result", None) => {
                socket.complain("RELAY_INVALID_ENVELOPE", "Invalid message format");
            }
            (kind, _) => {
                let kind: String = kind.chars().take(64).collect();
                socket.complain("RELAY_INVALID_ENVELOPE", &format!("Unknown message type: {kind}"));
            }
        }
        Step::Continue
    }

    fn on_tick(&mut self) -> Step {
        let socket = &self.socket;
        let Some(vault) = socket.vault.lock().clone() else {
            return if socket.service.is_draining() { Step::Close(1012, "service restart") } else { Step::Continue };
        };
        let asked = socket.service.with_known(vault.as_str(), |state, context| {
            // Looked at under the lock: once the node has said to all that it stays, none is told otherwise.
            let sent_away = socket.service.sends_vaults_away();
            (
                state.is_silent(context.now),
                if sent_away { state.run_dry(socket.number) } else { state.owes(socket.number) },
            )
        });
        match asked {
            Some((true, _)) => Step::Close(1000, "Heartbeat timeout"),
            Some((false, owes)) if socket.service.may_close(owes) => Step::Close(1012, "service restart"),
            _ => Step::Continue,
        }
    }

    fn in_use(&self) -> bool {
        self.socket.vault.lock().is_some() || self.socket.stands_plainly()
    }
}

impl Drop for VaultProtocol {
    fn drop(&mut self) {
        self.socket.leave(false);
        self.socket.leave_plainly();
    }
}

impl VaultSocket {
    fn register(self: &Arc<Self>, payload: &str) -> Step {
        if let Err(limited) = self.service.inner.admission.request(self.key) {
            self.service.inner.metrics.vault.limited("address");
            self.complain("RELAY_RATE_LIMITED", &limited.to_string());
            return Step::Continue;
        }
        let verified = Registration::parse(payload.as_bytes()).and_then(|r| r.verify(time::now()));
        match verified {
            Err(error) => {
                self.complain(error.code(), &error.to_string());
                Step::Continue
            }
            Ok(verified) => {
                let socket = self.clone();
                Step::Wait(Box::pin(async move { socket.admit(verified).await }))
            }
        }
    }

    async fn admit(self: Arc<Self>, verified: Verified) {
        let epoch = match self.service.claim(&verified, true).await {
            Ok(epoch) => epoch,
            Err(NotRegistered::Refused(error)) => return self.complain(error.code(), &error.to_string()),
            Err(NotRegistered::Unbound | NotRegistered::Unavailable) => {
                // The shipped client ignores error frames; a close makes it try again.
                return self.outbox.close(1013, "try again later");
            }
        };
        let before = self.vault.lock().clone();
        if before.as_ref().is_some_and(|vault| *vault != verified.vault_id) {
            self.leave(true);
        }
        if self.vault.lock().replace(verified.vault_id.clone()).is_none() {
            self.service.inner.metrics.vault.sockets.inc();
        }
        let greeting = frame::registered(verified.vault_id.as_str(), time::now());
        self.service.open_session(&verified, self.number, Some(self.outbox.clone()), epoch, Some(greeting)).await;
        self.service.show_pending_claims(&verified.vault_id, &self.outbox).await;
        // The socket may have closed while other nodes were asked; then its end has been seen to before its start.
        if self.outbox.is_closed() {
            self.leave(false);
        }
    }

    /// A heartbeat counts for the vault only from a socket that is registered for it; it is answered always.
    fn heartbeat(&self, payload: Option<&str>) {
        if let (Some(vault), Some(payload)) = (&*self.vault.lock(), payload) {
            let named =
                Fields::parse(payload.as_bytes()).and_then(|f| f.text("vault_id").map(std::borrow::Cow::into_owned));
            if named.is_none_or(|named| named == vault.as_str()) {
                self.service.with_known(vault.as_str(), |state, context| state.alive(self.number, context.now));
            }
        }
        self.say(frame::heartbeat(time::now()));
    }

    fn response(self: &Arc<Self>, payload: &str) -> Step {
        let Some(fields) = Fields::parse(payload.as_bytes()) else {
            self.complain("RELAY_INVALID_ENVELOPE", "Invalid response envelope");
            return Step::Continue;
        };
        let (Some(request), Some(_)) =
            (fields.text("request_id"), fields.raw("encrypted_payload").filter(|p| is_truthy(p.get())))
        else {
            self.complain("RELAY_INVALID_ENVELOPE", "Invalid response envelope");
            return Step::Continue;
        };
        let Some(vault) = self.registered() else {
            self.complain("RELAY_UNAUTHORIZED", "Not the owner of this request");
            return Step::Continue;
        };
        let request = RequestId::from(&*request);
        let answer = frame::write("response", payload, time::now());
        let verdict =
            self.service.with(vault.as_str(), |state, context| state.answer(&request, answer.clone(), context));
        match verdict {
            AnswerVerdict::Stored | AnswerVerdict::Stray => {
                self.say(frame::stored(request.as_str(), time::now()));
                if verdict == AnswerVerdict::Stray {
                    self.service.pass_on(vault, request, answer);
                }
                Step::Continue
            }
            AnswerVerdict::Unknown if self.service.is_alone() => {
                self.complain("RELAY_UNAUTHORIZED", "Not the owner of this request");
                Step::Continue
            }
            verdict => {
                let socket = self.clone();
                Step::Wait(Box::pin(async move {
                    if socket.service.hand_answer_on(&vault, &request, answer, verdict).await {
                        socket.say(frame::stored(request.as_str(), time::now()));
                    } else {
                        socket.complain("RELAY_UNAUTHORIZED", "Not the owner of this request");
                    }
                }))
            }
        }
    }

    fn unregister(&self, payload: &str) {
        let named =
            Fields::parse(payload.as_bytes()).and_then(|f| f.text("vault_id").map(std::borrow::Cow::into_owned));
        match (self.registered(), named) {
            (Some(vault), Some(named)) if vault.as_str() == named => self.leave(true),
            _ => self.complain("RELAY_UNAUTHORIZED", "unregister vault_id mismatch"),
        }
    }

    fn pairing_result(self: &Arc<Self>, payload: &str) -> Step {
        let (socket, payload) = (self.clone(), payload.to_owned());
        Step::Wait(Box::pin(async move {
            let vault = socket.registered();
            match socket.service.pairing_result(vault.as_ref(), &payload).await {
                Ok(ack) => socket.say(frame::write("ack", &ack, time::now())),
                Err((code, message)) => socket.complain(code, &message),
            }
        }))
    }

    /// The vault that this socket is registered for; nothing once another key owns the name.
    fn registered(&self) -> Option<VaultId> {
        let vault = self.vault.lock().clone()?;
        let stands = self.service.with_known(vault.as_str(), |state, _| state.is_registered(self.number));
        (stands == Some(true)).then_some(vault)
    }

    /// This socket stands for no vault any more.
    fn leave(&self, for_good: bool) {
        let Some(vault) = self.vault.lock().take() else { return };
        self.service.inner.metrics.vault.sockets.dec();
        self.service.with_known(vault.as_str(), |state, context| state.session_closed(self.number, for_good, context));
    }

    fn complain(&self, code: &'static str, message: &str) {
        self.service.inner.metrics.vault.error(code);
        self.say(frame::error(code, message, None, time::now()));
    }

    pub(super) fn say(&self, text: Utf8Bytes) {
        // A socket that takes nothing more is being closed.
        self.outbox.text(text).unwrap_or_default();
    }
}

impl VaultService {
    /// Sees to an answer that this node has, or that another node may have use for; whether somebody has it.
    pub(super) async fn hand_answer_on(
        &self,
        vault: &VaultId,
        request: &RequestId,
        answer: Utf8Bytes,
        verdict: AnswerVerdict,
    ) -> bool {
        match verdict {
            AnswerVerdict::Stored => true,
            AnswerVerdict::Elsewhere(node) => self.forward_answer(vault, request, answer, Some(node)).await,
            AnswerVerdict::Unknown => self.forward_answer(vault, request, answer, None).await,
            AnswerVerdict::Stray => {
                self.pass_on(vault.clone(), request.clone(), answer);
                true
            }
        }
    }

    /// Passes an answer that this node has to whichever other node waits for it, beside everything else: whoever is
    /// silent does not hold up the vault.
    fn pass_on(&self, vault: VaultId, request: RequestId, answer: Utf8Bytes) {
        if self.is_alone() {
            return;
        }
        let Ok(place) = self.inner.strays.clone().try_acquire_owned() else {
            return self.inner.metrics.drop_one("vault", "stray_answers");
        };
        let this = self.clone();
        self.beside(async move {
            this.forward_answer(&vault, &request, answer, None).await;
            drop(place);
        });
    }

    /// Hands an answer to the node that has the request; without a node, and if that one has been given an answer
    /// before, to whichever else takes it. Whether one has it.
    async fn forward_answer(
        &self,
        vault: &VaultId,
        request: &RequestId,
        answer: Utf8Bytes,
        node: Option<NodeRun>,
    ) -> bool {
        let body = Body::ForwardAnswer(ForwardAnswer {
            vault_id: vault.to_string(),
            request_id: request.to_string(),
            frame: answer.into(),
            hops: 1,
        });
        let (mut known, mut taken) = (false, false);
        let mut hear = |answer: reply::Body| {
            if let reply::Body::Done(done) = answer {
                known |= done.yes;
                taken |= done.count > 0;
            }
            taken
        };
        if let Some(node) = node
            && let Ok(answer) = self.inner.cluster.links.ask(&node, body.clone(), FORWARD_PATIENCE).await
            && hear(answer)
        {
            return true;
        }
        for _ in 0..FORWARD_TRIES {
            let mut taken = false;
            let complete = self.ask_all(&body, FORWARD_PATIENCE, |_, answer| taken |= hear(answer)).await;
            if taken || complete {
                break;
            }
        }
        known
    }
}

/// Whether JavaScript takes this JSON text for true.
fn is_truthy(json: &str) -> bool {
    !matches!(json, "null" | "false" | "0" | "\"\"" | "-0" | "0.0")
}
