//! A connection of a mailbox client that may be cut off at any moment.

use std::net::SocketAddr;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::support::mailbox::frame;
use crate::support::{LONG_PATIENCE, within};

/// An open connection.
pub struct Client {
    ws: WebSocketStream<TcpStream>,
}

/// The node went away.
#[derive(Debug)]
pub struct Cut;

/// What the relay says that matters here.
#[derive(Debug)]
pub enum Heard {
    /// A status of a message.
    Status { message_id: String, status: String },
    /// A blob, under the relay's id.
    Blob { id: String, body: Vec<u8> },
    /// The answer to a purge.
    Purged,
    /// The answer to [`Client::settle`].
    Settled,
}

impl Client {
    /// Connects, and is greeted.
    pub async fn connect(address: SocketAddr, handshake: &Value) -> Result<Self, Cut> {
        let opening = async {
            let stream = TcpStream::connect(address).await.map_err(|_| Cut)?;
            stream.set_nodelay(true).map_err(|_| Cut)?;
            client_async(format!("ws://{address}/"), stream).await.map_err(|_| Cut)
        };
        let (ws, _) = within(LONG_PATIENCE, "a connection", opening).await?;
        let mut this = Self { ws };
        this.say("h", handshake).await?;
        assert_eq!(this.payload().await?.1["type"], "HandshakeAck");
        Ok(this)
    }

    /// Sends a message.
    pub async fn say(&mut self, message_id: &str, payload: &Value) -> Result<(), Cut> {
        let message = Message::Binary(frame(message_id, payload).into());
        within(LONG_PATIENCE, "a message is sent", self.ws.send(message)).await.map_err(|_| Cut)
    }

    /// Sends a blob.
    pub async fn update(&mut self, message_id: &str, recipient: &str, body: &[u8]) -> Result<(), Cut> {
        let update =
            json!({"type": "EncryptedUpdate", "recipient_id": recipient, "sender_id": "S", "ciphertext": body});
        self.say(message_id, &update).await
    }

    /// Acknowledges a blob.
    pub async fn acknowledge(&mut self, blob: &str, status: &str) -> Result<(), Cut> {
        self.say("a", &json!({"type": "Acknowledgment", "message_id": blob, "status": status})).await
    }

    /// Asks something whose answer shows that everything before it is done.
    pub async fn settle(&mut self) -> Result<(), Cut> {
        self.say("q", &json!({"type": "RecoveryProofQuery", "key_hashes": []})).await
    }

    /// Asks to have the mailbox emptied.
    pub async fn purge(&mut self) -> Result<(), Cut> {
        self.say("p", &json!({"type": "PurgeRequest"})).await
    }

    /// What the relay says next.
    pub async fn hear(&mut self) -> Result<Heard, Cut> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let (id, payload) = self.payload().await?;
        Ok(match payload["type"].as_str().unwrap() {
            "Acknowledgment" => {
                Heard::Status { message_id: text(&payload["message_id"]), status: text(&payload["status"]) }
            }
            "EncryptedUpdate" => {
                let body = serde_json::from_value(payload["ciphertext"].clone()).unwrap();
                Heard::Blob { id, body }
            }
            "PurgeResponse" => Heard::Purged,
            "RecoveryProofResponse" => Heard::Settled,
            other => panic!("nobody asked for {other}"),
        })
    }

    /// Waits until the connection has ended, as a client does that goes away politely.
    pub async fn close(mut self) -> Result<(), Cut> {
        self.ws.close(None).await.map_err(|_| Cut)?;
        within(LONG_PATIENCE, "the connection ends", async { while let Some(Ok(_)) = self.ws.next().await {} }).await;
        Ok(())
    }

    async fn payload(&mut self) -> Result<(String, Value), Cut> {
        loop {
            match within(LONG_PATIENCE, "the relay says something", self.ws.next()).await {
                Some(Ok(Message::Binary(bytes))) => {
                    let mut message: Value = serde_json::from_slice(&bytes[4..]).unwrap();
                    return Ok((message["message_id"].as_str().unwrap().to_owned(), message["payload"].take()));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return Err(Cut),
            }
        }
    }
}
