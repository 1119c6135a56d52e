//! A small, honest client of the protocol: a vault that registers with a proof and sends heartbeats, and an
//! agent that sends requests (DCP relay protocol, sections 5 and 6).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::error::ClientError;
use super::frames::{self, Head};
use super::identity::VaultIdentity;
use super::target::RelayUrl;
use crate::domain::limits::HEARTBEAT_INTERVAL;

/// Longest wait for a connection to open, and again for a registration to be answered.
pub const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest wait for the relay's side of a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How to open a connection.
#[derive(Debug, Clone, Copy)]
pub struct ConnectOptions {
    /// The address of this machine to come from; the system chooses if there is none.
    pub source: Option<IpAddr>,
    /// Bytes allocated for reading, for as long as the connection lives.
    pub read_buffer_bytes: usize,
}

impl ConnectOptions {
    /// For a connection that carries many messages: reads several at once.
    pub const BUSY: Self = Self { source: None, read_buffer_bytes: 16 * 1024 };
    /// For a connection that gets nothing but short answers, one at a time: the buffer is cleared for every read.
    pub const ANSWERED: Self = Self { source: None, read_buffer_bytes: 1024 };
    /// For one connection of very many: costs little memory.
    pub const IDLE: Self = Self { source: None, read_buffer_bytes: 2 * 1024 };
}

/// A vault that is registered with a relay.
#[derive(Debug)]
pub struct VaultClient {
    socket: WebSocketStream<TcpStream>,
    vault_id: Box<str>,
    heartbeats: Interval,
}

impl VaultClient {
    /// Connects to `/ws`, registers `identity` and waits for the relay's `ack`.
    ///
    /// # Errors
    /// Whatever keeps the connection from opening; [`ClientError::Refused`] if the relay does not accept the
    /// registration; [`ClientError::TimedOut`] if it says nothing within [`OPEN_TIMEOUT`].
    pub async fn connect(
        url: &RelayUrl,
        identity: &VaultIdentity,
        options: ConnectOptions,
    ) -> Result<Self, ClientError> {
        let mut socket = open(url, &url.vault(), options).await?;
        send(&mut socket, identity.register_frame(&frames::now_text(), &rand::random())).await?;
        in_time(OPEN_TIMEOUT, registered(&mut socket)).await?;
        let mut heartbeats = interval_at(Instant::now() + HEARTBEAT_INTERVAL, HEARTBEAT_INTERVAL);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self { socket, vault_id: identity.vault_id().into(), heartbeats })
    }

    /// The next frame from the relay. Heartbeats are sent while waiting. Losing the future loses no frame.
    ///
    /// # Errors
    /// If the connection is lost or closed.
    pub async fn next(&mut self) -> Result<Utf8Bytes, ClientError> {
        loop {
            tokio::select! {
                frame = next_text(&mut self.socket) => return frame,
                _ = self.heartbeats.tick() => send(&mut self.socket, frames::heartbeat(&self.vault_id)).await?,
            }
        }
    }

    /// Answers a request.
    ///
    /// # Errors
    /// If the connection is lost or closed.
    pub async fn respond(&mut self, request_id: &str, payload: &str) -> Result<(), ClientError> {
        send(&mut self.socket, frames::response(request_id, payload)).await
    }

    /// Closes the connection and waits a moment for the relay's side of it.
    pub async fn close(self) {
        close(self.socket).await;
    }
}

/// An agent's connection.
#[derive(Debug)]
pub struct AgentClient {
    socket: WebSocketStream<TcpStream>,
}

impl AgentClient {
    /// Connects to `/ws-client`; nothing more is needed to send requests.
    ///
    /// # Errors
    /// Whatever keeps the connection from opening.
    pub async fn connect(url: &RelayUrl, options: ConnectOptions) -> Result<Self, ClientError> {
        Ok(Self { socket: open(url, &url.agent(), options).await? })
    }

    /// The next frame from the relay. Losing the future loses no frame.
    ///
    /// # Errors
    /// If the connection is lost or closed.
    pub async fn next(&mut self) -> Result<Utf8Bytes, ClientError> {
        next_text(&mut self.socket).await
    }

    /// Sends a request to `vault_id` that expires after the longest time allowed.
    ///
    /// # Errors
    /// If the connection is lost or closed.
    pub async fn request(&mut self, vault_id: &str, request_id: &str, payload: &str) -> Result<(), ClientError> {
        send(&mut self.socket, frames::request(vault_id, request_id, payload)).await
    }

    /// Closes the connection and waits a moment for the relay's side of it.
    pub async fn close(self) {
        close(self.socket).await;
    }
}

pub(super) async fn open(
    url: &RelayUrl,
    websocket_url: &str,
    options: ConnectOptions,
) -> Result<WebSocketStream<TcpStream>, ClientError> {
    let config = WebSocketConfig::default().read_buffer_size(options.read_buffer_bytes).write_buffer_size(0);
    in_time(OPEN_TIMEOUT, async {
        let tcp = connect_tcp(&url.authority(), options.source).await?;
        Ok(client_async_with_config(websocket_url, tcp, Some(config)).await?.0)
    })
    .await
}

async fn connect_tcp(authority: &str, source: Option<IpAddr>) -> Result<TcpStream, ClientError> {
    let unresolved = |cause| ClientError::Resolve { authority: authority.into(), cause };
    let mut last = None;
    for address in lookup_host(authority).await.map_err(unresolved)? {
        match connect_address(address, source).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| unresolved(std::io::ErrorKind::NotFound.into())))
}

async fn connect_address(address: SocketAddr, source: Option<IpAddr>) -> Result<TcpStream, ClientError> {
    let failed = |cause| ClientError::Connect { address, cause };
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(failed)?;
    if let Some(own) = source {
        socket.bind((own, 0).into()).map_err(|cause| ClientError::Bind { address: own, cause })?;
    }
    let stream = socket.connect(address).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    Ok(stream)
}

/// Waits for the `ack` of a registration; frames of other kinds may come before it.
async fn registered(socket: &mut WebSocketStream<TcpStream>) -> Result<(), ClientError> {
    loop {
        let text = next_text(socket).await?;
        match Head::read(&text) {
            Some(head) if head.kind == "ack" && head.payload.registered == Some(true) => return Ok(()),
            Some(head) if head.kind == "error" => {
                let (code, message) = frames::error_of(&text);
                return Err(ClientError::Refused { code, message });
            }
            _ => {}
        }
    }
}

async fn next_text(socket: &mut WebSocketStream<TcpStream>) -> Result<Utf8Bytes, ClientError> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return Ok(text),
            // The relay only sends text; pings are answered by the library when it is polled again.
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error.into()),
            None => return Err(ClientError::Closed),
        }
    }
}

async fn send(socket: &mut WebSocketStream<TcpStream>, text: String) -> Result<(), ClientError> {
    Ok(socket.send(Message::Text(text.into())).await?)
}

pub(super) async fn close(mut socket: WebSocketStream<TcpStream>) {
    let farewell = async {
        if socket.close(None).await.is_ok() {
            while let Some(Ok(_)) = socket.next().await {}
        }
    };
    // A relay that does not close its side in time is left: dropping the socket ends the connection anyway.
    timeout(CLOSE_TIMEOUT, farewell).await.unwrap_or_default();
}

pub(super) async fn in_time<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    timeout(limit, work).await.unwrap_or(Err(ClientError::TimedOut { seconds: limit.as_secs() }))
}
