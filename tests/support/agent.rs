//! An agent: a WebSocket on `/ws-client`.

use std::net::{IpAddr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use serde_json::{Value, json};
use waystation::runtime::time::now;
use waystation::wire::dcp::time;

use super::Socket;

/// A request's envelope that expires in four minutes.
pub fn envelope(vault: &str, id: &str) -> Value {
    json!({
        "version": "1",
        "vault_id": vault,
        "request_id": id,
        "action_type": "read",
        "encrypted_payload": "q83vEjRWeJA=",
        "expires_at": time::format(now().plus(Duration::from_secs(240))),
    })
}

/// An agent's socket; everything else about it is [`Socket`]'s.
pub struct TestAgent {
    socket: Socket,
}

impl TestAgent {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        Self { socket: Socket::open(address, "/ws-client", None).await.unwrap() }
    }

    /// Connects from another loopback address.
    pub async fn connect_from(address: SocketAddr, source: IpAddr) -> Self {
        Self { socket: Socket::open(address, "/ws-client", Some(source)).await.unwrap() }
    }

    /// Sends a new request and expects its `ack`; returns the envelope.
    pub async fn ask(&mut self, vault: &str, id: &str) -> Value {
        let envelope = envelope(vault, id);
        self.submit(&envelope).await;
        envelope
    }

    /// Sends `envelope` and expects its `ack`.
    pub async fn submit(&mut self, envelope: &Value) {
        self.send_frame("request", envelope.clone()).await;
        assert_eq!(self.expect("ack").await, json!({"request_id": envelope["request_id"], "accepted": true}));
    }

    /// The sealed answer in the next frame, which must be the response to the request `id`.
    pub async fn expect_response(&mut self, id: &str) -> String {
        let response = self.expect("response").await;
        assert_eq!(response["request_id"], id, "{response}");
        response["encrypted_payload"].as_str().unwrap().to_owned()
    }

    /// Closes politely, and waits for the relay's side.
    pub async fn close(self) {
        self.socket.close().await;
    }
}

impl Deref for TestAgent {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        &self.socket
    }
}

impl DerefMut for TestAgent {
    fn deref_mut(&mut self) -> &mut Socket {
        &mut self.socket
    }
}
