//! What stands between a WebSocket and a group commit at the least: each message is written as it is, and answered once
//! that is durable. Of its JSON only the id is looked for.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::accept_async_with_config;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use waystation::domain::clock::Millis;
use waystation::wire::vauchi::outgoing::{Outgoing, RelayPayload};
use waystation::wire::vauchi::payload::Status;

use crate::raw::{GROUP, Raw};

/// What stands before the id of a message, and behind it.
const ID: (&[u8], u8) = (br#""message_id":""#, b'"');

/// Serves on that port of loopback, for ever. Of each message so many bytes are kept, under a key of so many.
pub async fn serve(port: u16, directory: &Path, key_bytes: usize, value_bytes: usize) -> anyhow::Result<()> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    let committer = Arc::new(Raw::open(directory, GROUP)?);
    loop {
        let (stream, _) = listener.accept().await?;
        let committer = committer.clone();
        tokio::spawn(async move {
            // A connection that breaks is the client's to report.
            carry(stream, &committer, key_bytes, value_bytes).await.unwrap_or_default();
        });
    }
}

async fn carry(stream: TcpStream, committer: &Raw, key_bytes: usize, value_bytes: usize) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0);
    let mut socket = accept_async_with_config(stream, Some(config)).await?;
    let mut is_first = true;
    while let Some(message) = socket.next().await.transpose()? {
        let Message::Binary(message) = message else { continue };
        let id = id_of(&message).context("a message without an id")?;
        if !std::mem::take(&mut is_first) {
            let mut key = vec![0; key_bytes];
            rand::fill(&mut key[..]);
            committer.put(key.into(), message.slice(..value_bytes.min(message.len()))).await?;
        }
        // The answer to the first, which says who is there, may be anything.
        socket.send(Message::Binary(answer(id))).await?;
    }
    Ok(())
}

fn id_of(message: &[u8]) -> Option<&str> {
    let start = message.windows(ID.0.len()).position(|window| window == ID.0)? + ID.0.len();
    let id = message[start..].split(|byte| *byte == ID.1).next()?;
    std::str::from_utf8(id).ok()
}

fn answer(message_id: &str) -> Bytes {
    let payload = RelayPayload::Acknowledgment { message_id, status: Status::Stored };
    Outgoing { message_id, now: Millis(1_771_000_000_000), payload }.encode()
}
