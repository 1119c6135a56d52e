//! One connection: the first message says who it is, and all others are frames.

use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Instant;

use super::channel::Channel;
use super::lane::Working;
use super::session::{Identity, Session};
use super::{MailboxService, OVERSIZE_FACTOR};
use crate::runtime::outbox::{Outbox, Outgoing};
use crate::runtime::session::{Incoming, Protocol, Step};
use crate::runtime::time;
use crate::wire::vauchi::frame::{NOISE_MAGIC, starts_noise};
use crate::wire::vauchi::incoming::Incoming as Message;
use crate::wire::vauchi::payload::ClientPayload;

/// The protocol of a mailbox client's connection.
pub struct MailboxProtocol {
    service: MailboxService,
    address: IpAddr,
    channel: Channel,
    opened: Instant,
    greeted: bool,
    session: Arc<OnceLock<Arc<Session>>>,
    working: Working,
}

impl MailboxProtocol {
    /// A new connection of a client at that address, writing to `outbox`.
    #[must_use]
    pub fn new(service: MailboxService, address: IpAddr, outbox: Outbox) -> Self {
        let (opened, session, channel) = (Instant::now(), Arc::default(), Channel::plain(outbox));
        Self { service, address, channel, opened, greeted: false, session, working: Working::default() }
    }

    /// Whether a first message at a path that is shared is one of this protocol: binary, and no JSON text. As a
    /// frame, what begins like an object would have two gigabytes.
    #[must_use]
    pub fn is_spoken(first: Incoming<'_>) -> bool {
        let is_json = |bytes: &[u8]| bytes.trim_ascii_start().first().is_none_or(|byte| *byte == b'{');
        matches!(first, Incoming::Binary(bytes) if !is_json(bytes))
    }

    /// Answers a client that begins with Noise; what it says from now on is sealed.
    fn start_noise(&mut self, message: &[u8]) -> Step {
        let Ok((answer, transport)) = self.service.inner.noise.respond(&message[NOISE_MAGIC.len()..]) else {
            return self.reject("noise");
        };
        let answer = [NOISE_MAGIC.as_slice(), &answer].concat();
        // One that takes nothing more is being closed.
        self.channel.outbox.push(Outgoing::Binary(answer.into())).unwrap_or_default();
        self.channel = Channel::sealed(self.channel.outbox.clone(), transport);
        Step::Continue
    }

    fn handshake(&mut self, first: Incoming<'_>) -> Step {
        let Incoming::Binary(bytes) = first else { return self.reject("text") };
        if !self.channel.is_sealed() {
            if starts_noise(bytes) {
                return self.start_noise(bytes);
            }
            if self.service.inner.settings.require_noise {
                return self.reject("not_sealed");
            }
        }
        let opened = self.channel.receive(bytes).ok_or("sealed").and_then(|frame| self.open(&frame));
        self.greeted = true;
        opened.unwrap_or_else(|why| self.reject(why))
    }

    fn open(&self, bytes: &[u8]) -> Result<Step, &'static str> {
        let message = Message::decode(bytes).map_err(|_| "malformed")?;
        let ClientPayload::Handshake(handshake) = message.payload else { return Err("no_handshake") };
        let proof = handshake.check(time::now()).map_err(|_| "invalid")?;
        let who = Identity::new(&handshake, proof.as_ref().map(|proof| proof.key), self.address);
        let Some(proof) = proof else {
            self.session.get_or_init(|| self.service.open_unproven(who, self.channel.clone()));
            return Ok(Step::Continue);
        };
        let (service, channel, session) = (self.service.clone(), self.channel.clone(), self.session.clone());
        Ok(Step::Wait(Box::pin(async move {
            match service.claim(&who, &proof).await {
                Ok(()) => {
                    session.get_or_init(|| service.open_proven(who, channel.clone()));
                }
                Err(refused) => {
                    service.inner.metrics.mailbox.reject_handshake(refused.0);
                    channel.outbox.cut("handshake");
                }
            }
        })))
    }

    fn reject(&mut self, why: &'static str) -> Step {
        self.greeted = true;
        self.service.inner.metrics.mailbox.reject_handshake(why);
        self.channel.outbox.cut("handshake");
        Step::Continue
    }
}

impl Protocol for MailboxProtocol {
    fn on_message(&mut self, message: Incoming<'_>) -> Step {
        let Some(session) = self.session.get() else {
            return if self.greeted { Step::Continue } else { self.handshake(message) };
        };
        let ignore = |why| {
            self.service.inner.metrics.mailbox.ignore(why);
            Step::Continue
        };
        let Incoming::Binary(message) = message else { return ignore("text") };
        let Some(frame) = self.channel.receive(message) else { return ignore("sealed") };
        self.service.frame(session, &frame);
        if session.lane.has_room() {
            return Step::Continue;
        }
        let session = session.clone();
        // The lane is gone on with before this is asked, and wakes the connection.
        let has_room = move |_: &mut Context<'_>| if session.lane.has_room() { Poll::Ready(()) } else { Poll::Pending };
        Step::Wait(Box::pin(poll_fn(has_room)))
    }

    fn proceed(&mut self, context: &mut Context<'_>) {
        if let Some(session) = self.session.get() {
            // Whatever is left wakes the connection.
            let _ = self.service.proceed(session, &mut self.working, context);
        }
    }

    fn on_ping(&mut self) {
        if let Some(session) = self.session.get() {
            session.touch();
        }
    }

    fn on_tick(&mut self) -> Step {
        let settings = &self.service.inner.settings;
        let is_draining = self.service.is_draining();
        self.working.rest();
        match self.session.get() {
            Some(session) if is_draining && session.lane.is_idle() => Step::Close(1012, "service restart"),
            Some(session) if session.idle() >= settings.idle_timeout && session.lane.is_idle() => {
                Step::Close(1000, "Idle timeout")
            }
            Some(_) => Step::Continue,
            None if is_draining => Step::Close(1012, "service restart"),
            None if !self.greeted && self.opened.elapsed() >= settings.handshake_timeout => self.reject("timeout"),
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
            self.service.finish(session, std::mem::take(&mut self.working));
        }
    }
}
