//! `/`: a WebSocket whose first message says which protocol it speaks.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::response::Response;
use http::header::UPGRADE;

use super::{Services, vault};
use crate::edge::errors;
use crate::runtime::outbox::Outbox;
use crate::runtime::session::{Incoming, Protocol, Step};
use crate::vault::{AgentProtocol, Role, VaultProtocol, VaultService};

/// Answers a handshake at `/`; anything else there is as unknown as on any other path.
pub async fn socket(State(services): State<Services>, request: Request) -> Response {
    if !request.headers().contains_key(UPGRADE) {
        return errors::not_found(request.method(), request.uri());
    }
    let service = services.vault.clone();
    vault::socket(&services, request, move |client, outbox| {
        Box::new(RootProtocol::Unsaid { service, address: client.address, outbox })
    })
}

/// The protocol of a connection that has not said yet what it is, and then the one that it has chosen.
enum RootProtocol {
    Unsaid { service: VaultService, address: IpAddr, outbox: Outbox },
    Chosen(Box<dyn Protocol>),
}

impl Protocol for RootProtocol {
    fn on_message(&mut self, message: Incoming<'_>) -> Step {
        let chosen: Box<dyn Protocol> = match self {
            Self::Chosen(protocol) => return protocol.on_message(message),
            Self::Unsaid { service, address, outbox } => match Role::of(message.bytes()) {
                Role::Vault => Box::new(VaultProtocol::new(service.clone(), *address, outbox.clone())),
                Role::Agent => Box::new(AgentProtocol::new(service.clone(), *address, outbox.clone())),
                Role::Unsaid(answer) => {
                    // A socket that takes nothing more is being closed.
                    outbox.text(answer).unwrap_or_default();
                    return Step::Continue;
                }
            },
        };
        *self = Self::Chosen(chosen);
        self.on_message(message)
    }

    fn on_tick(&mut self) -> Step {
        match self {
            Self::Chosen(protocol) => protocol.on_tick(),
            Self::Unsaid { service, .. } if service.is_draining() => Step::Close(1012, "service restart"),
            Self::Unsaid { .. } => Step::Continue,
        }
    }

    fn in_use(&self) -> bool {
        matches!(self, Self::Chosen(protocol) if protocol.in_use())
    }
}
