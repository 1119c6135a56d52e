//! One connection of a mailbox client.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::url::MailboxUrl;
use crate::bench::client::{ConnectOptions, OPEN_TIMEOUT, close, in_time, open};
use crate::bench::error::ClientError;
use crate::security::noise::{Initiator, KEY_BYTES, NoiseError, Transport};
use crate::wire::vauchi::frame::NOISE_MAGIC;
use crate::wire::vauchi::handshake::Handshake;
use crate::wire::vauchi::incoming::Incoming;
use crate::wire::vauchi::payload::ClientPayload;

/// A client whose handshake the relay has answered.
#[derive(Debug)]
pub(super) struct MailboxClient {
    socket: WebSocketStream<TcpStream>,
    noise: Option<Transport>,
}

impl MailboxClient {
    /// Connects, says who it is, and waits for the relay's first frame, which is its `HandshakeAck`.
    pub(super) async fn connect(
        url: &MailboxUrl,
        client_id: &str,
        options: ConnectOptions,
    ) -> Result<Self, ClientError> {
        let mut socket = open(&url.relay, &url.relay.mailbox(), options).await?;
        let noise = match &url.key {
            Some(key) => Some(in_time(OPEN_TIMEOUT, agree(&mut socket, key)).await?),
            None => None,
        };
        let mut client = Self { socket, noise };
        client.send(&uuid(), ClientPayload::Handshake(Handshake::plain(client_id, None))).await?;
        in_time(OPEN_TIMEOUT, client.next()).await?;
        Ok(client)
    }

    /// The next frame from the relay. Losing the future loses no frame.
    pub(super) async fn next(&mut self) -> Result<Bytes, ClientError> {
        let message = next_binary(&mut self.socket).await?;
        match &mut self.noise {
            Some(noise) => Ok(noise.open(&message)?.into()),
            None => Ok(message),
        }
    }

    /// Sends one message.
    pub(super) async fn send(&mut self, message_id: &str, payload: ClientPayload<'_>) -> Result<(), ClientError> {
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let frame = Incoming { version: 1, message_id: message_id.into(), timestamp, payload }.encode();
        let frame = match &mut self.noise {
            Some(noise) => noise.seal(&frame)?.into(),
            None => frame,
        };
        Ok(self.socket.send(Message::Binary(frame)).await?)
    }

    /// Closes the connection and waits a moment for the relay's side of it.
    pub(super) async fn close(self) {
        close(self.socket).await;
    }
}

/// The Noise handshake with the relay that has this key.
async fn agree(socket: &mut WebSocketStream<TcpStream>, key: &[u8; KEY_BYTES]) -> Result<Transport, ClientError> {
    let (initiator, message) = Initiator::start(key)?;
    socket.send(Message::Binary([&NOISE_MAGIC[..], &message].concat().into())).await?;
    let answer = next_binary(socket).await?;
    Ok(initiator.finish(answer.strip_prefix(&NOISE_MAGIC).ok_or(NoiseError::Handshake)?)?)
}

async fn next_binary(socket: &mut WebSocketStream<TcpStream>) -> Result<Bytes, ClientError> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Binary(message))) => return Ok(message),
            // Pings are answered by the library when it is polled again.
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error.into()),
            None => return Err(ClientError::Closed),
        }
    }
}

/// An id for a message that nothing is matched by.
pub(super) fn uuid() -> String {
    uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string()
}
