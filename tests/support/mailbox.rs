//! A client of mailboxes, which spells every frame itself.

use std::net::{IpAddr, SocketAddr};
use std::ops::{Deref, DerefMut};

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use waystation::runtime::time::now;

use super::Socket;
use super::vault::key;

/// A client or device id: 64 times the digit.
pub fn id(digit: char) -> String {
    digit.to_string().repeat(64)
}

/// A frame: the length, big-endian, then JSON.
pub fn frame(message_id: &str, payload: &Value) -> Vec<u8> {
    let json = json!({"version": 1, "message_id": message_id, "timestamp": 1_771_000_001, "payload": payload});
    prefixed(&json.to_string())
}

/// The length, then `json` as it is.
pub fn prefixed(json: &str) -> Vec<u8> {
    [&u32::try_from(json.len()).unwrap().to_be_bytes(), json.as_bytes()].concat()
}

/// The members of a handshake that prove the key of `seed`; its `client_id` among them.
pub fn proof(seed: u8) -> Value {
    let (key, nonce) = (key(seed), rand::random::<[u8; 32]>());
    let timestamp = now().0 / 1000;
    let signature = key.sign(&[&nonce[..], &timestamp.to_be_bytes()].concat());
    let name = hex::encode(key.public_key().0);
    json!({
        "type": "Handshake", "client_id": name, "identity_public_key": name, "nonce": hex::encode(nonce),
        "signature": hex::encode(signature), "timestamp": timestamp,
    })
}

/// The name of the client that has the key of `seed`.
pub fn proven_id(seed: u8) -> String {
    hex::encode(key(seed).public_key().0)
}

/// `object` with `more` members.
pub fn with(mut object: Value, more: Value) -> Value {
    object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    object
}

/// A connection of a mailbox client; everything else about it is [`Socket`]'s.
pub struct TestMailbox {
    socket: Socket,
}

impl TestMailbox {
    /// Connects at `/`, and says nothing yet.
    pub async fn silent(address: SocketAddr) -> Self {
        Self { socket: Socket::open(address, "/", None).await.unwrap() }
    }

    /// Connects and sends a handshake with these members.
    pub async fn greeting(address: SocketAddr, handshake: &Value) -> Self {
        let mut this = Self::silent(address).await;
        this.say("h", handshake).await;
        this
    }

    /// The same, and expects the greeting.
    pub async fn with(address: SocketAddr, handshake: &Value) -> Self {
        let mut this = Self::greeting(address, handshake).await;
        this.expect_type("HandshakeAck").await;
        this
    }

    /// A client that proves nothing.
    pub async fn plain(address: SocketAddr, client: &str) -> Self {
        Self::with(address, &json!({"type": "Handshake", "client_id": client})).await
    }

    /// The same, from another loopback address.
    pub async fn plain_from(address: SocketAddr, client: &str, source: IpAddr) -> Self {
        let mut this = Self { socket: Socket::open(address, "/", Some(source)).await.unwrap() };
        this.say("h", &json!({"type": "Handshake", "client_id": client})).await;
        this.expect_type("HandshakeAck").await;
        this
    }

    /// A client with a device.
    pub async fn device(address: SocketAddr, client: &str, device: &str) -> Self {
        Self::with(address, &json!({"type": "Handshake", "client_id": client, "device_id": device})).await
    }

    /// A client that proves the key of `seed`.
    pub async fn proven(address: SocketAddr, seed: u8) -> Self {
        Self::with(address, &proof(seed)).await
    }

    /// Sends a message.
    pub async fn say(&mut self, message_id: &str, payload: &Value) {
        self.send_bytes(frame(message_id, payload)).await;
    }

    /// Sends a binary message.
    pub async fn send_bytes(&mut self, bytes: Vec<u8>) {
        self.socket.send_raw(Message::Binary(bytes.into())).await;
    }

    /// Sends a blob.
    pub async fn update(&mut self, message_id: &str, recipient: &str, blob: &[u8]) {
        let update =
            json!({"type": "EncryptedUpdate", "recipient_id": recipient, "sender_id": "S", "ciphertext": blob});
        self.say(message_id, &update).await;
    }

    /// Sends a blob and expects that it is stored.
    pub async fn store(&mut self, message_id: &str, recipient: &str, blob: &[u8]) {
        self.update(message_id, recipient, blob).await;
        self.expect_status(message_id, "Stored").await;
    }

    /// Acknowledges what was delivered under that id.
    pub async fn acknowledge(&mut self, blob: &str, status: &str) {
        self.say("a", &json!({"type": "Acknowledgment", "message_id": blob, "status": status})).await;
    }

    /// The next message, whose prefix must be right.
    pub async fn next_message(&mut self) -> Value {
        let frame = self.socket.next_binary().await;
        assert_eq!(frame[..4], u32::try_from(frame.len() - 4).unwrap().to_be_bytes());
        serde_json::from_slice(&frame[4..]).unwrap()
    }

    /// The next message, which must be of this type.
    pub async fn expect_type(&mut self, kind: &str) -> Value {
        let message = self.next_message().await;
        assert_eq!(message["payload"]["type"], kind, "{message}");
        message
    }

    /// The next message must say that of the message.
    pub async fn expect_status(&mut self, message_id: &str, status: &str) {
        let message = self.expect_type("Acknowledgment").await;
        let said = (&message["payload"]["message_id"], &message["payload"]["status"]);
        assert_eq!(said, (&json!(message_id), &json!(status)));
    }

    /// The next message must deliver that blob; returns its id.
    pub async fn expect_blob(&mut self, blob: &[u8]) -> String {
        let message = self.expect_type("EncryptedUpdate").await;
        assert_eq!(message["payload"]["ciphertext"], json!(blob));
        message["message_id"].as_str().unwrap().to_owned()
    }

    /// Proves that the relay has done all that was asked for before, and has had nothing else to answer.
    pub async fn settle(&mut self) {
        self.say("q", &json!({"type": "RecoveryProofQuery", "key_hashes": []})).await;
        self.expect_type("RecoveryProofResponse").await;
    }

    /// Empties the mailbox; how many blobs that were.
    pub async fn purge(&mut self) -> u64 {
        self.say("p", &json!({"type": "PurgeRequest"})).await;
        self.expect_type("PurgeResponse").await["payload"]["blobs_deleted"].as_u64().unwrap()
    }

    /// Closes politely, and waits for the relay's side.
    pub async fn close(self) {
        self.socket.close().await;
    }
}

impl Deref for TestMailbox {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        &self.socket
    }
}

impl DerefMut for TestMailbox {
    fn deref_mut(&mut self) -> &mut Socket {
        &mut self.socket
    }
}
