//! A vault: a WebSocket on `/ws` and a key.

use std::net::{IpAddr, SocketAddr};
use std::ops::{Deref, DerefMut};

use serde_json::{Value, json};
use waystation::runtime::time::now;
use waystation::security::ed25519::SigningKey;
use waystation::wire::dcp::registration::Registration;
use waystation::wire::dcp::time;

use super::Socket;

/// The HPKE key that test vaults register: the relay does not look into it.
pub const PUBLIC_KEY: &str = "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=";

/// The key of 32 times `seed`.
pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).unwrap()
}

/// The payload of a registration, and a proof in HTTP bodies, signed now with the key of `seed`.
pub fn registration(vault: &str, seed: u8) -> Value {
    let nonce: [u8; 32] = rand::random();
    Registration::sign(vault, PUBLIC_KEY, &key(seed), &time::format(now()), &nonce)
}

/// A vault's socket; everything else about it is [`Socket`]'s.
pub struct TestVault {
    socket: Socket,
}

impl TestVault {
    /// Connects, and says nothing yet.
    pub async fn connect(address: SocketAddr) -> Self {
        Self { socket: Socket::open(address, "/ws", None).await.unwrap() }
    }

    /// Connects from another loopback address.
    pub async fn connect_from(address: SocketAddr, source: IpAddr) -> Self {
        Self { socket: Socket::open(address, "/ws", Some(source)).await.unwrap() }
    }

    /// Connects and registers `vault` with the key of `seed`.
    pub async fn registered(address: SocketAddr, vault: &str, seed: u8) -> Self {
        let mut this = Self::connect(address).await;
        this.register(vault, seed).await;
        this
    }

    /// Registers and expects the `ack` for it.
    pub async fn register(&mut self, vault: &str, seed: u8) {
        self.send_frame("register", registration(vault, seed)).await;
        assert_eq!(self.expect("ack").await, json!({"vault_id": vault, "registered": true}));
    }

    /// The payload of the next frame, which must be the request `id`.
    pub async fn expect_request(&mut self, id: &str) -> Value {
        let request = self.expect("request").await;
        assert_eq!(request["request_id"], id, "{request}");
        request
    }

    /// Answers the request `id` and expects the `ack` for it.
    pub async fn respond(&mut self, id: &str, payload: &str) {
        self.send_frame("response", response(id, payload)).await;
        assert_eq!(self.expect("ack").await, json!({"request_id": id, "stored": true}));
    }

    /// Answers `request`, the payload of a `request` frame, and expects the `ack` for it.
    pub async fn answer(&mut self, request: &Value, payload: &str) {
        self.respond(request["request_id"].as_str().unwrap(), payload).await;
    }

    /// Closes politely, and waits for the relay's side.
    pub async fn close(self) {
        self.socket.close().await;
    }
}

/// The payload of a `response` frame.
pub fn response(id: &str, payload: &str) -> Value {
    json!({"version": "1", "request_id": id, "encrypted_payload": payload, "timestamp": time::format(now())})
}

impl Deref for TestVault {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        &self.socket
    }
}

impl DerefMut for TestVault {
    fn deref_mut(&mut self) -> &mut Socket {
        &mut self.socket
    }
}
