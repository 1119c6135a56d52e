//! `/`: a WebSocket whose first message says which protocol it speaks.

use std::net::IpAddr;
use std::task::Context;

use axum::extract::{Request, State};
use axum::response::Response;
use http::header::UPGRADE;

use super::{Services, vault};
use crate::edge::errors;
use crate::mailbox::{MailboxProtocol, MailboxService, OVERSIZE_FACTOR};
use crate::runtime::outbox::Outbox;
use crate::runtime::session::{Incoming, Protocol, Step};
use crate::vault::{AgentProtocol, Role, VaultProtocol, VaultService};

/// Answers a handshake at `/`; anything else there is as unknown as on any other path.
pub async fn socket(State(services): State<Services>, request: Request) -> Response {
    if !request.headers().contains_key(UPGRADE) {
        return errors::not_found(request.method(), request.uri());
    }
    let (vault, mailbox) = (services.vault.clone(), services.mailbox.clone());
    let limit = services.edge.settings.max_message_size;
    vault::socket(&services, request, move |client, outbox| {
        Box::new(RootProtocol::Unsaid(Unsaid { vault, mailbox, address: client.address, outbox, limit }))
    })
}

/// The protocol of a connection that has not said yet what it is, and then the one that it has chosen.
enum RootProtocol {
    Unsaid(Unsaid),
    Chosen(Box<dyn Protocol>),
}

/// What it takes to begin any of the protocols.
struct Unsaid {
    vault: VaultService,
    mailbox: MailboxService,
    address: IpAddr,
    outbox: Outbox,
    /// The longest message of a protocol that sets no other limit.
    limit: usize,
}

impl Unsaid {
    /// The protocol that the first message speaks; else what is to be done.
    fn choose(&self, message: Incoming<'_>) -> Result<Box<dyn Protocol>, Step> {
        let (address, outbox) = (self.address, self.outbox.clone());
        if MailboxProtocol::is_spoken(message) {
            return Ok(Box::new(MailboxProtocol::new(self.mailbox.clone(), address, outbox)));
        }
        if message.bytes().len() > self.limit {
            return Err(Step::Close(1009, "message too big"));
        }
        match Role::of(message.bytes()) {
            Role::Vault => Ok(Box::new(VaultProtocol::new(self.vault.clone(), address, outbox))),
            Role::Agent => Ok(Box::new(AgentProtocol::new(self.vault.clone(), address, outbox))),
            Role::Unsaid(answer) => {
                // A socket that takes nothing more is being closed.
                outbox.text(answer).unwrap_or_default();
                Err(Step::Continue)
            }
        }
    }
}

impl Protocol for RootProtocol {
    fn on_message(&mut self, message: Incoming<'_>) -> Step {
        let chosen = match self {
            Self::Chosen(protocol) => return protocol.on_message(message),
            Self::Unsaid(unsaid) => unsaid.choose(message),
        };
        match chosen {
            Ok(chosen) => *self = Self::Chosen(chosen),
            Err(step) => return step,
        }
        self.on_message(message)
    }

    fn proceed(&mut self, context: &mut Context<'_>) {
        if let Self::Chosen(protocol) = self {
            protocol.proceed(context);
        }
    }

    fn on_ping(&mut self) {
        if let Self::Chosen(protocol) = self {
            protocol.on_ping();
        }
    }

    fn on_tick(&mut self) -> Step {
        match self {
            Self::Chosen(protocol) => protocol.on_tick(),
            Self::Unsaid(unsaid) if unsaid.vault.is_draining() => Step::Close(1012, "service restart"),
            Self::Unsaid(_) => Step::Continue,
        }
    }

    fn message_limit(&self, configured: usize) -> usize {
        match self {
            Self::Chosen(protocol) => protocol.message_limit(configured),
            Self::Unsaid(_) => configured.saturating_mul(OVERSIZE_FACTOR),
        }
    }

    fn in_use(&self) -> bool {
        matches!(self, Self::Chosen(protocol) if protocol.in_use())
    }
}
