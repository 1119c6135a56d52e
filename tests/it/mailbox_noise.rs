//! Mailboxes over Noise: sheet section 8.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use waystation::security::noise::{Initiator, KEY_BYTES, Transport};
use waystation::wire::vauchi::frame::NOISE_MAGIC;

use crate::support::mailbox::frame;
use crate::support::{Socket, TestMailbox, TestNode, get, id};

/// A client that seals what it says, with the key that the relay shows.
struct Sealed {
    socket: Socket,
    transport: Transport,
}

impl Sealed {
    async fn connect(node: &TestNode, client: &str) -> Self {
        let key = get(node.public, "/pubkey").await.text;
        let key: [u8; KEY_BYTES] = URL_SAFE_NO_PAD.decode(key).unwrap().try_into().unwrap();
        let (initiator, start) = Initiator::start(&key).unwrap();
        let mut socket = Socket::open(node.public, "/", None).await.unwrap();
        socket.send_raw(Message::Binary([&NOISE_MAGIC[..], &start].concat().into())).await;
        let answer = socket.next_binary().await;
        assert_eq!((answer.len(), &answer[..3]), (51, &NOISE_MAGIC[..]));
        let mut this = Self { socket, transport: initiator.finish(&answer[3..]).unwrap() };
        this.say("h", &json!({"type": "Handshake", "client_id": client})).await;
        let greeting = this.hear().await;
        assert_eq!(greeting["payload"]["type"], "HandshakeAck");
        assert_eq!(greeting["payload"]["features"].as_array().unwrap().last(), Some(&json!("noise_nk")));
        this
    }

    async fn say(&mut self, message_id: &str, payload: &Value) {
        let message = self.transport.seal(&frame(message_id, payload)).unwrap();
        self.socket.send_raw(Message::Binary(message.into())).await;
    }

    async fn hear(&mut self) -> Value {
        let frame = self.transport.open(&self.socket.next_binary().await).unwrap();
        serde_json::from_slice(&frame[4..]).unwrap()
    }
}

fn update(recipient: &str, blob: &[u8]) -> Value {
    json!({"type": "EncryptedUpdate", "recipient_id": recipient, "sender_id": "S", "ciphertext": blob})
}

#[tokio::test]
async fn blobs_go_from_one_sealed_connection_to_another() {
    let node = TestNode::start(&[("RELAY_REQUIRE_NOISE_ENCRYPTION", "true")]).await;
    let mut recipient = Sealed::connect(&node, &id('b')).await;
    let mut sender = Sealed::connect(&node, &id('a')).await;
    sender.say("m-1", &update(&id('b'), b"hello")).await;
    assert_eq!(sender.hear().await["payload"]["status"], "Stored");
    assert_eq!(recipient.hear().await["payload"]["ciphertext"], json!(b"hello"));
    assert_eq!(sender.hear().await["payload"]["status"], "Delivered");

    // What does not open is ignored.
    sender.socket.send_raw(Message::Binary(vec![7; 60].into())).await;
    sender.say("m-2", &update(&id('b'), b"again")).await;
    assert_eq!(sender.hear().await["payload"]["message_id"], "m-2");
}

#[tokio::test]
async fn without_noise_nobody_is_let_in_where_it_is_required() {
    let node = TestNode::start(&[("RELAY_REQUIRE_NOISE_ENCRYPTION", "true")]).await;
    let mut plain = TestMailbox::greeting(node.public, &json!({"type": "Handshake", "client_id": id('a')})).await;
    plain.ended().await;
}

#[tokio::test]
async fn a_blob_too_big_for_noise_waits_for_a_plain_connection_and_holds_up_nobody() {
    let node = TestNode::start(&[]).await;
    let mut sender = TestMailbox::plain(node.public, &id('a')).await;
    let big = vec![255; 30_000];
    sender.store("big", &id('b'), &big).await;
    sender.store("small", &id('b'), b"small").await;
    let mut sealed = Sealed::connect(&node, &id('b')).await;
    assert_eq!(sealed.hear().await["payload"]["ciphertext"], json!(b"small"));
    sender.expect_status("small", "Delivered").await;
    let mut plain = TestMailbox::plain(node.public, &id('b')).await;
    plain.expect_blob(&big).await;
    sender.expect_status("big", "Delivered").await;
}
