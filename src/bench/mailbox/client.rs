//! One connection of a mailbox client.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::bench::client::{ConnectOptions, OPEN_TIMEOUT, close, in_time, open};
use crate::bench::error::ClientError;
use crate::bench::target::RelayUrl;
use crate::wire::vauchi::handshake::Handshake;
use crate::wire::vauchi::incoming::Incoming;
use crate::wire::vauchi::payload::ClientPayload;

/// A client whose handshake the relay has answered.
#[derive(Debug)]
pub(super) struct MailboxClient {
    socket: WebSocketStream<TcpStream>,
}

impl MailboxClient {
    /// Connects, says who it is, and waits for the relay's first frame, which is its `HandshakeAck`.
    pub(super) async fn connect(url: &RelayUrl, client_id: &str) -> Result<Self, ClientError> {
        let mut client = Self { socket: open(url, &url.mailbox(), ConnectOptions::BUSY).await? };
        client.send(&uuid(), ClientPayload::Handshake(Handshake::plain(client_id, None))).await?;
        in_time(OPEN_TIMEOUT, client.next()).await?;
        Ok(client)
    }

    /// The next frame from the relay. Losing the future loses no frame.
    pub(super) async fn next(&mut self) -> Result<Bytes, ClientError> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Binary(frame))) => return Ok(frame),
                // Pings are answered by the library when it is polled again.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => return Err(ClientError::Closed),
            }
        }
    }

    /// Sends one message.
    pub(super) async fn send(&mut self, message_id: &str, payload: ClientPayload<'_>) -> Result<(), ClientError> {
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let frame = Incoming { version: 1, message_id: message_id.into(), timestamp, payload }.encode();
        Ok(self.socket.send(Message::Binary(frame)).await?)
    }

    /// Closes the connection and waits a moment for the relay's side of it.
    pub(super) async fn close(self) {
        close(self.socket).await;
    }
}

/// An id for a message that nothing is matched by.
pub(super) fn uuid() -> String {
    uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string()
}
