//! A vault's socket in session mode.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::value::RawValue;

use crate::domain::ids::VaultId;
use crate::runtime::session::Step;
use crate::runtime::time;
use crate::vault::socket::VaultSocket;
use crate::wire::dcp::fields;
use crate::wire::dcp::frame::Frame;
use crate::wire::dcp::session::{self, SessionId};

use super::reason;
use super::refusal::{NoSession, Refusal};

impl VaultSocket {
    /// `{"type":"register","vault_id":…}`, which proves nothing.
    pub(in crate::vault) fn register_plainly(self: &Arc<Self>, vault: &RawValue) -> Step {
        let Some(vault) = fields::text(vault).filter(|vault| !vault.is_empty()) else {
            self.complain_plainly("RELAY_INVALID_ENVELOPE", "Missing vault_id", None);
            return Step::Continue;
        };
        if let Err(refusal) = self.service.may_name(&vault, self.key) {
            self.refuse_plainly(&refusal, &vault);
            return Step::Continue;
        }
        let (socket, vault) = (self.clone(), VaultId::from(&*vault));
        socket.plain.store(true, Ordering::Relaxed);
        socket.service.in_session_mode(|table, context| {
            table.vaults.enter(socket.number, &vault, &socket.outbox, context);
        });
        Step::Wait(Box::pin(async move { socket.admit_plainly(vault).await }))
    }

    async fn admit_plainly(self: Arc<Self>, vault: VaultId) {
        match self.service.plain_epoch(&vault).await {
            Ok(epoch) => {
                self.service.in_session_mode(|table, context| table.vaults.admit(self.number, epoch, context));
            }
            // Whoever stands for that name without a proof has no right to it, and is told with this socket.
            Err(Refusal::HasKey) => {
                self.service.in_session_mode(|table, context| table.vaults.bound(vault.as_str(), context));
            }
            Err(refusal) => {
                if !self.stands_plainly() {
                    self.leave_plainly();
                }
                self.refuse_plainly(&refusal, vault.as_str());
            }
        }
        // The socket may have closed while other nodes were asked; then its end has been seen to before its start.
        if self.outbox.is_closed() {
            self.leave_plainly();
        }
    }

    /// Whether `kind` is a frame of session mode, other than the registration, and session mode is served.
    pub(in crate::vault) fn takes_plainly(&self, kind: &str) -> bool {
        self.service.inner.settings.session_mode
            && matches!(kind, "pair_accept" | "pair_refuse" | "message" | "close" | "ping")
    }

    /// A frame for which [`VaultSocket::takes_plainly`] holds; `text` is the whole of it.
    pub(in crate::vault) fn plain_frame(&self, frame: &Frame<'_>, text: &[u8]) {
        if frame.kind == "ping" {
            return self.say(session::heartbeat(time::now()));
        }
        let Some(id) = frame.session_id.and_then(SessionId::read) else {
            return self.complain_plainly("RELAY_INVALID_ENVELOPE", "Missing session_id", None);
        };
        let (service, socket) = (&self.service, self.number);
        let done = match &*frame.kind {
            "pair_accept" => service.in_session_mode(|table, context| table.vaults.accept(socket, id, context)),
            "pair_refuse" => {
                let why = session::refusal_reason(text);
                service.in_session_mode(|table, context| table.vaults.refuse(socket, id, why, context))
            }
            "message" => {
                let message = session::message(&id, frame.payload.map_or("null", RawValue::get));
                service.in_session_mode(|table, context| table.vaults.message(socket, id, message, context))
            }
            _ => service.in_session_mode(|table, context| table.vaults.close(socket, id, context)),
        };
        if let Err(error) = done {
            self.complain_plainly(NoSession::CODE, &error.to_string(), Some(("session_id", &id.to_string())));
        }
    }

    /// Whether the socket stands for a vault in session mode.
    pub(in crate::vault) fn stands_plainly(&self) -> bool {
        self.plain.load(Ordering::Relaxed)
            && self.service.in_session_mode(|table, _| table.vaults.is_registered(self.number))
    }

    /// The socket stands for no vault in session mode any more.
    pub(in crate::vault) fn leave_plainly(&self) {
        if self.plain.load(Ordering::Relaxed) {
            self.service.in_session_mode(|table, context| table.vaults.leave(self.number, reason::VAULT_GONE, context));
        }
    }

    fn refuse_plainly(&self, refusal: &Refusal, vault: &str) {
        self.service.inner.metrics.vault.error(refusal.code());
        self.say(refusal.frame(vault));
    }

    fn complain_plainly(&self, code: &'static str, message: &str, about: Option<(&str, &str)>) {
        self.service.inner.metrics.vault.error(code);
        self.say(session::error(code, message, about));
    }
}
