//! One connection: the first message says who it is, and all others are frames.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::session::{Identity, Session};
use super::{MailboxService, OVERSIZE_FACTOR};
use crate::runtime::outbox::Outbox;
use crate::runtime::session::{Incoming, Protocol, Step};
use crate::runtime::time;
use crate::wire::vauchi::frame::starts_noise;
use crate::wire::vauchi::incoming::Incoming as Message;
use crate::wire::vauchi::payload::ClientPayload;

/// The protocol of a mailbox client's connection.
pub struct MailboxProtocol {
    service: MailboxService,
    address: IpAddr,
    outbox: Outbox,
    opened: Instant,
    greeted: bool,
    session: Arc<OnceLock<Arc<Session>>>,
}

impl MailboxProtocol {
    /// A new connection of a client at that address, writing to `outbox`.
    #[must_use]
    pub fn new(service: MailboxService, address: IpAddr, outbox: Outbox) -> Self {
        let (opened, session) = (Instant::now(), Arc::default());
        Self { service, address, outbox, opened, greeted: false, session }
    }

    /// Whether a first message at a path that is shared is one of this protocol: binary, and no JSON text. As a
    /// frame, what begins like an object would have two gigabytes.
    #[must_use]
    pub fn is_spoken(first: Incoming<'_>) -> bool {
        let is_json = |bytes: &[u8]| bytes.trim_ascii_start().first().is_none_or(|byte| *byte == b'{');
        matches!(first, Incoming::Binary(bytes) if !is_json(bytes))
    }

    fn handshake(&mut self, first: Incoming<'_>) -> Step {
        self.greeted = true;
        match self.open(first) {
            Ok(step) => step,
            Err(why) => self.reject(why),
        }
    }

    fn open(&self, first: Incoming<'_>) -> Result<Step, &'static str> {
        let Incoming::Binary(bytes) = first else { return Err("text") };
        if starts_noise(bytes) {
            return Err("noise");
        }
        let message = Message::decode(bytes).map_err(|_| "malformed")?;
        let ClientPayload::Handshake(handshake) = message.payload else { return Err("no_handshake") };
        let proof = handshake.check(time::now()).map_err(|_| "invalid")?;
        let who = Identity::new(&handshake, proof.as_ref().map(|proof| proof.key), self.address);
        let Some(proof) = proof else {
            self.session.get_or_init(|| self.service.open_unproven(who, self.outbox.clone()));
            return Ok(Step::Continue);
        };
        let (service, outbox, session) = (self.service.clone(), self.outbox.clone(), self.session.clone());
        Ok(Step::Wait(Box::pin(async move {
            match service.claim(&who, &proof).await {
                Ok(()) => {
                    session.get_or_init(|| service.open_proven(who, outbox));
                }
                Err(refused) => {
                    service.inner.metrics.mailbox.reject_handshake(refused.0);
                    outbox.cut("handshake");
                }
            }
        })))
    }

    fn reject(&self, why: &'static str) -> Step {
        self.service.inner.metrics.mailbox.reject_handshake(why);
        self.outbox.cut("handshake");
        Step::Continue
    }
}

impl Protocol for MailboxProtocol {
    fn on_message(&mut self, message: Incoming<'_>) -> Step {
        let Some(session) = self.session.get() else {
            return if self.greeted { Step::Continue } else { self.handshake(message) };
        };
        let Incoming::Binary(frame) = message else {
            self.service.inner.metrics.mailbox.ignore("text");
            return Step::Continue;
        };
        self.service.frame(session, frame);
        if session.lane.has_room() {
            return Step::Continue;
        }
        let session = session.clone();
        Step::Wait(Box::pin(async move { session.lane.room().await }))
    }

    fn on_ping(&mut self) {
        if let Some(session) = self.session.get() {
            session.touch();
        }
    }

    fn on_tick(&mut self) -> Step {
        let settings = &self.service.inner.settings;
        let is_draining = self.service.is_draining();
        match self.session.get() {
            Some(session) if is_draining && session.lane.is_idle() => Step::Close(1012, "service restart"),
            Some(session) if session.idle() >= settings.idle_timeout && session.lane.is_idle() => {
                Step::Close(1000, "Idle timeout")
            }
            Some(_) => Step::Continue,
            None if is_draining => Step::Close(1012, "service restart"),
            None if !self.greeted && self.opened.elapsed() >= settings.handshake_timeout => {
                self.greeted = true;
                self.reject("timeout")
            }
            None => Step::Continue,
        }
    }

    fn message_limit(&self, configured: usize) -> usize {
        configured.saturating_mul(OVERSIZE_FACTOR)
    }

    fn in_use(&self) -> bool {
        true
    }
}

impl Drop for MailboxProtocol {
    fn drop(&mut self) {
        if let Some(session) = self.session.get() {
            self.service.close(session);
        }
    }
}
