//! HTTP as a client sees it: one request on a connection of its own.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;

use super::in_time;
use super::socket::connect;

/// A request that is being made up.
pub struct Http {
    address: SocketAddr,
    source: Option<IpAddr>,
    request: http::request::Builder,
    body: Bytes,
}

/// A request of `method` for `path` at `address`.
pub fn http(address: SocketAddr, method: &str, path: &str) -> Http {
    let request = Request::builder().method(method).uri(path).header("host", address.to_string());
    Http { address, source: None, request, body: Bytes::new() }
}

/// A GET of `path`.
pub async fn get(address: SocketAddr, path: &str) -> Reply {
    http(address, "GET", path).send().await
}

/// A POST of `body` to `path`.
pub async fn post(address: SocketAddr, path: &str, body: &Value) -> Reply {
    http(address, "POST", path).json(body).send().await
}

impl Http {
    /// Comes from another loopback address.
    pub fn from(mut self, source: IpAddr) -> Self {
        self.source = Some(source);
        self
    }

    /// With this header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    /// With this body, whose type is for [`Http::header`] to say.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// With this JSON body.
    pub fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json").body(body.to_string())
    }

    /// Sends it and reads the whole reply.
    pub async fn send(self) -> Reply {
        let stream = TokioIo::new(connect(self.address, self.source).await);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        // It ends with an error when the relay closes first, as it may; the reply tells.
        tokio::spawn(async move { connection.await.unwrap_or_default() });
        let request = self.request.body(Full::new(self.body)).unwrap();
        let response = in_time("a reply", sender.send_request(request)).await.unwrap();
        let (head, body) = response.into_parts();
        let body = in_time("a reply's body", body.collect()).await.unwrap().to_bytes();
        let text = String::from_utf8(body.into()).unwrap();
        Reply { status: head.status, headers: head.headers, text }
    }
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub text: String,
}

impl Reply {
    /// A header's value; empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body as JSON; the status must be `status`.
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        self.json()
    }

    /// The relay error in the body: its status, code and message.
    pub fn error(&self) -> (u16, String, String) {
        let error = &self.json()["error"];
        let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
        (self.status.as_u16(), text("code"), text("message"))
    }
}
