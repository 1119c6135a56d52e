//! Every path that is no other route: a WebSocket there is a mailbox client's.

use axum::extract::{OriginalUri, Request, State};
use axum::response::Response;
use http::header::UPGRADE;

use super::{Services, vault};
use crate::edge::errors;
use crate::mailbox::MailboxProtocol;

/// Where relays of the mailbox protocol let other relays in. Ours do so elsewhere.
const FEDERATION: &str = "/federation";

/// Answers a handshake; anything else is a request for a path that is not there.
pub async fn socket(State(services): State<Services>, OriginalUri(uri): OriginalUri, request: Request) -> Response {
    if !request.headers().contains_key(UPGRADE) || uri.path() == FEDERATION {
        return errors::not_found(request.method(), &uri);
    }
    let mailbox = services.mailbox.clone();
    vault::socket(&services, request, move |client, outbox| {
        Box::new(MailboxProtocol::new(mailbox, client.address, outbox))
    })
}
