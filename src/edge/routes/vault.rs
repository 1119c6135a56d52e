//! The vault service's routes (sheet sections 2, 3, 9, 11 and 12).

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequest, Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};

use super::Services;
use crate::edge::body::{self, BodyLimits};
use crate::edge::client::ClientInfo;
use crate::edge::errors::BodyError;
use crate::edge::upgrade::upgrade;
use crate::runtime::session::Protocol;
use crate::runtime::time;
use crate::vault::http::HttpAnswer;
use crate::vault::{AgentProtocol, PairingResponse, PollToken, Submitter, VaultProtocol};

/// The header that carries a poll token, both ways.
const POLL_TOKEN: &str = "x-relay-poll-token";

/// Routes whose requests are charged to their address one by one.
pub fn paid() -> Router<Services> {
    Router::new()
        .route("/relay/response/{request_id}", get(response))
        .route("/relay/poll", post(poll))
        .route("/relay/respond", post(respond))
        .route("/v1/invites/register", post(register_invite))
        .route("/v1/pairing-claims", post(submit_claim))
        .route("/v1/pairing-claims/{claim_id}/status", get(claim_status))
        .route("/v1/mobile/pairings", post(register_phone))
        .route("/v1/mobile/pairings/{invite_id}/invite", get(phone_invite))
        .route("/v1/mobile/pairings/{invite_id}/approve", post(approve_phone))
        .route("/v1/mobile/pairings/{invite_id}/deny", post(deny_phone))
        .route("/v1/mobile/pairings/{invite_id}/status", get(phone_status))
        .route("/v1/mobile/vaults/{vault_id}/online", post(online))
        .route("/v1/devices/push-token", post(push_token))
}

/// Routes that charge by themselves: a WebSocket handshake once, a request only if it is new.
pub fn unpaid() -> Router<Services> {
    Router::new()
        .route("/ws", get(vault_socket))
        .route("/ws-client", get(agent_socket))
        .route("/relay/request", post(request))
}

async fn vault_socket(State(services): State<Services>, request: Request) -> Response {
    let vault = services.vault.clone();
    socket(&services, request, move |client, outbox| Box::new(VaultProtocol::new(vault, client.address, outbox)))
}

async fn agent_socket(State(services): State<Services>, request: Request) -> Response {
    let vault = services.vault.clone();
    socket(&services, request, move |client, outbox| Box::new(AgentProtocol::new(vault, client.address, outbox)))
}

pub(super) fn socket<F>(services: &Services, request: Request, build: F) -> Response
where
    F: FnOnce(ClientInfo, crate::runtime::outbox::Outbox) -> Box<dyn Protocol> + Send + 'static,
{
    if services.vault.is_draining() {
        return (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "1")], "this node is leaving service")
            .into_response();
    }
    upgrade(request, &services.edge, build)
}

async fn request(State(services): State<Services>, request: Request) -> Result<HttpAnswer, BodyError> {
    let asker = submitter(&services, &request);
    let JsonBody(body) = JsonBody::from_request(request, &services).await?;
    Ok(services.vault.post_request(&body, asker).await)
}

async fn response(State(services): State<Services>, Path(id): Path<String>, request: Request) -> HttpAnswer {
    services.vault.get_response(&id, submitter(&services, &request)).await
}

async fn poll(State(services): State<Services>, JsonBody(body): JsonBody) -> HttpAnswer {
    services.vault.post_poll(body.as_bytes()).await
}

async fn respond(State(services): State<Services>, JsonBody(body): JsonBody) -> HttpAnswer {
    services.vault.post_respond(&body).await
}

async fn online(State(services): State<Services>, Path(vault): Path<String>, JsonBody(body): JsonBody) -> HttpAnswer {
    services.vault.post_online(&vault, body.as_bytes()).await
}

async fn push_token(State(services): State<Services>, JsonBody(body): JsonBody) -> Result<PairingResponse, HttpAnswer> {
    services.vault.post_push_token(body.as_bytes()).await
}

async fn register_invite(State(services): State<Services>, JsonBody(body): JsonBody) -> PairingResponse {
    services.vault.pairing().register_invite(body.as_bytes(), time::now()).await
}

async fn submit_claim(State(services): State<Services>, JsonBody(body): JsonBody) -> PairingResponse {
    services.vault.pairing().submit_claim(body.as_bytes(), time::now()).await
}

async fn claim_status(State(services): State<Services>, Path(id): Path<String>) -> PairingResponse {
    services.vault.pairing().claim_status(&id, time::now()).await
}

async fn register_phone(State(services): State<Services>, JsonBody(body): JsonBody) -> PairingResponse {
    services.vault.pairing().register_phone_pairing(body.as_bytes(), time::now()).await
}

async fn phone_invite(State(services): State<Services>, Path(id): Path<String>) -> PairingResponse {
    services.vault.pairing().phone_invite(&id, time::now()).await
}

async fn approve_phone(
    State(services): State<Services>,
    Path(id): Path<String>,
    JsonBody(body): JsonBody,
) -> PairingResponse {
    services.vault.pairing().approve_phone_pairing(&id, body.as_bytes(), time::now()).await
}

async fn deny_phone(
    State(services): State<Services>,
    Path(id): Path<String>,
    body: Result<JsonBody, BodyError>,
) -> Result<PairingResponse, BodyError> {
    // A denial says all by its path; its body may be missing.
    let body = match body {
        Ok(JsonBody(body)) => body,
        Err(BodyError::Empty) => "{}".to_owned(),
        Err(error) => return Err(error),
    };
    Ok(services.vault.pairing().deny_phone_pairing(&id, body.as_bytes(), time::now()).await)
}

async fn phone_status(State(services): State<Services>, Path(id): Path<String>) -> PairingResponse {
    services.vault.pairing().phone_pairing_status(&id, time::now()).await
}

fn submitter(services: &Services, request: &Request) -> Submitter {
    let token = |headers: &HeaderMap| PollToken::parse(headers.get(POLL_TOKEN)?.to_str().ok()?);
    Submitter { address: ClientInfo::of(&services.edge, request).address, token: token(request.headers()) }
}

/// The text of a JSON body.
struct JsonBody(String);

impl FromRequest<Services> for JsonBody {
    type Rejection = BodyError;

    async fn from_request(request: Request, services: &Services) -> Result<Self, BodyError> {
        body::json(request, BodyLimits::from(&services.edge.settings)).await.map(Self)
    }
}

impl IntoResponse for HttpAnswer {
    fn into_response(self) -> Response {
        let mut response = json_text(self.status, self.body);
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::try_from(value) {
                response.headers_mut().insert(HeaderName::from_static(name), value);
            }
        }
        response
    }
}

impl IntoResponse for PairingResponse {
    fn into_response(self) -> Response {
        json_text(self.status, self.body)
    }
}

fn json_text(status: u16, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    response
}
