//! From an HTTP request to a WebSocket: the server's part of the handshake (RFC 6455, section 4.2).

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, HeaderMap, HeaderName, RETRY_AFTER, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::{HeaderValue, Method, StatusCode, Version};
use hyper::upgrade::{OnUpgrade, Parts as Upgraded};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::Edge;
use super::client::{ClientInfo, Peer};
use super::rate;
use super::socket::Socket;
use crate::observe::metrics::count;
use crate::runtime::outbox::Outbox;
use crate::runtime::session::Protocol;

/// The only version there is.
const VERSION_13: HeaderValue = HeaderValue::from_static("13");

/// What a client is told to wait when its address has too many connections, in seconds.
const RETRY_AFTER_SECS: u16 = 10;

/// Why a request cannot become a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// An ordinary request, or one for another protocol.
    #[error("this path speaks WebSocket only: send Upgrade: websocket")]
    NotWebSocket,
    /// A version that is not 13.
    #[error("only WebSocket version 13 is spoken here")]
    Version,
    /// Not GET, or HTTP before 1.1.
    #[error("a WebSocket handshake is a GET request of HTTP/1.1")]
    Method,
    /// `Sec-WebSocket-Key` is missing or not 16 bytes of base64.
    #[error("Sec-WebSocket-Key must be 16 bytes of base64")]
    Key,
}

impl IntoResponse for HandshakeError {
    fn into_response(self) -> Response {
        let (status, header) = match self {
            Self::NotWebSocket => {
                (StatusCode::UPGRADE_REQUIRED, Some((UPGRADE, HeaderValue::from_static("websocket"))))
            }
            Self::Version => (StatusCode::UPGRADE_REQUIRED, Some((SEC_WEBSOCKET_VERSION, VERSION_13))),
            Self::Method | Self::Key => (StatusCode::BAD_REQUEST, None),
        };
        let mut response = (status, self.to_string()).into_response();
        if let Some((name, value)) = header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// Answers a handshake, and once the connection has switched, runs the protocol that `build` makes for it.
///
/// Costs the client's address one request; 429 when that, or its number of connections, is used up.
pub fn upgrade<F>(mut request: Request, edge: &Edge, build: F) -> Response
where
    F: FnOnce(ClientInfo, Outbox) -> Box<dyn Protocol> + Send + 'static,
{
    if let Err(refused) = rate::charge(edge, &mut request) {
        return refused.into_response();
    }
    let accept = match accept_key(&request) {
        Ok(accept) => accept,
        Err(error) => return error.into_response(),
    };
    let client = ClientInfo::of(edge, &request);
    let peer = request.extensions_mut().remove::<Peer>();
    let permit = match client.proxied.then(|| edge.admission.behind_proxy(client.key)).transpose() {
        Ok(permit) => permit,
        Err(refusal) => {
            count(&edge.metrics.edge.refused, "address_connections");
            let retry = [(RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECS))];
            return (StatusCode::TOO_MANY_REQUESTS, retry, refusal.to_string()).into_response();
        }
    };
    let switching = Switching { edge: edge.clone(), client, held: Box::new((peer, permit)) };
    edge.supervisor.spawn_quiet(switching.finish(hyper::upgrade::on(&mut request), build));
    switch(accept)
}

fn switch(accept: HeaderValue) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    response
}

/// A connection between the answer 101 and its first frame.
struct Switching {
    edge: Edge,
    client: ClientInfo,
    held: Box<dyn Send>,
}

impl Switching {
    /// Waits for hyper to let go of the connection, then starts its WebSocket as a task of its own: the
    /// memory of this one is freed.
    async fn finish<F>(self, upgraded: OnUpgrade, build: F)
    where
        F: FnOnce(ClientInfo, Outbox) -> Box<dyn Protocol>,
    {
        let Some(parts) = taken_over(upgraded, self.edge.settings.handshake_timeout).await else {
            count(&self.edge.metrics.edge.refused, "upgrade_failed");
            return;
        };
        let outbox = Outbox::new(self.edge.settings.send_queue_bytes);
        let protocol = build(self.client, outbox.clone());
        let (stream, read) = (parts.io.into_inner(), parts.read_buf.to_vec());
        let supervisor = self.edge.supervisor.clone();
        supervisor.spawn_quiet(Socket::new(self.edge, stream, read, outbox, protocol, self.held));
    }
}

/// The socket below an upgraded connection, with what was read beyond the request.
async fn taken_over(upgraded: OnUpgrade, patience: Duration) -> Option<Upgraded<TokioIo<TcpStream>>> {
    let upgraded = tokio::time::timeout(patience, upgraded).await;
    upgraded.ok()?.ok()?.downcast().ok()
}

/// Checks the handshake, and returns the value of `Sec-WebSocket-Accept` (RFC 6455, section 4.2.1).
fn accept_key<B>(request: &http::Request<B>) -> Result<HeaderValue, HandshakeError> {
    let headers = request.headers();
    if !has_token(headers, &UPGRADE, "websocket") || !has_token(headers, &CONNECTION, "upgrade") {
        return Err(HandshakeError::NotWebSocket);
    }
    if request.method() != Method::GET || request.version() < Version::HTTP_11 {
        return Err(HandshakeError::Method);
    }
    if headers.get(SEC_WEBSOCKET_VERSION) != Some(&VERSION_13) {
        return Err(HandshakeError::Version);
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or(HandshakeError::Key)?.as_bytes();
    if !STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16) {
        return Err(HandshakeError::Key);
    }
    HeaderValue::try_from(derive_accept_key(key)).map_err(|_| HandshakeError::Key)
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let mut values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handshake(changes: &[(HeaderName, &str)]) -> Result<HeaderValue, HandshakeError> {
        let mut headers = HeaderMap::new();
        headers.insert(UPGRADE, HeaderValue::from_static("WebSocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("keep-alive, Upgrade"));
        headers.insert(SEC_WEBSOCKET_VERSION, VERSION_13);
        headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        for (name, value) in changes {
            headers.insert(name, HeaderValue::from_str(value).unwrap());
        }
        let mut request = http::Request::get("/ws").body(()).unwrap();
        *request.headers_mut() = headers;
        accept_key(&request)
    }

    #[test]
    fn the_example_of_the_rfc_is_accepted() {
        assert_eq!(handshake(&[]).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn each_mistake_has_its_answer() {
        let status = |changes: &[(HeaderName, &str)]| handshake(changes).unwrap_err().into_response();
        assert_eq!(status(&[(UPGRADE, "h2c")]).status(), 426);
        assert_eq!(status(&[(CONNECTION, "keep-alive")]).status(), 426);
        assert_eq!(status(&[(SEC_WEBSOCKET_KEY, "c2hvcnQ=")]).status(), 400);
        assert_eq!(status(&[(SEC_WEBSOCKET_KEY, "no base64 at all!")]).status(), 400);
        let version = status(&[(SEC_WEBSOCKET_VERSION, "8")]);
        assert_eq!(
            (version.status(), &version.headers()[SEC_WEBSOCKET_VERSION]),
            (StatusCode::UPGRADE_REQUIRED, &VERSION_13)
        );
    }
}
