//! The floor: what carrying the frames of a relay costs when nothing is read, checked or stored.
//!
//! The n-th agent connection is joined to the n-th vault connection. What one sends goes to the other as it is,
//! and since a relay also acknowledges every request and every response, a fixed `ack` of the same length goes
//! back to the sender. Registration and heartbeats get one fixed answer each. The WebSocket settings are those of
//! the relay.
//!
//! A connection has a task that reads and one that writes. A single task that waits for both was slower: it is
//! woken for every frame, where a writer of its own finds several in its queue.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use http::StatusCode;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};
use tokio_util::task::AbortOnDropHandle;

use super::error::BenchError;
use super::load::MAX_IN_FLIGHT;

/// Most connections at once; more are closed at once.
const MAX_CONNECTIONS: usize = 65_536;

/// Frames that may wait for one connection: everything that one agent can have in flight, twice, so that a full
/// queue never makes two connections wait for each other.
const QUEUE: usize = 2 * MAX_IN_FLIGHT + 1;

const HEARTBEAT_START: &str = r#"{"type":"heartbeat""#;
const HEARTBEAT: Utf8Bytes = Utf8Bytes::from_static(
    r#"{"type":"heartbeat","payload":{"timestamp":"2026-01-02T03:04:05.678Z"},"timestamp":"2026-01-02T03:04:05.678Z"}"#,
);
const REGISTERED: Utf8Bytes = Utf8Bytes::from_static(
    r#"{"type":"ack","payload":{"vault_id":"vault_bench_00000000_0","registered":true},"timestamp":"2026-01-02T03:04:05.678Z"}"#,
);
const ACCEPTED: Utf8Bytes = Utf8Bytes::from_static(
    r#"{"type":"ack","payload":{"request_id":"req_00112233445566778899aabbccddeeff","accepted":true},"timestamp":"2026-01-02T03:04:05.678Z"}"#,
);
const STORED: Utf8Bytes = Utf8Bytes::from_static(
    r#"{"type":"ack","payload":{"request_id":"req_00112233445566778899aabbccddeeff","stored":true},"timestamp":"2026-01-02T03:04:05.678Z"}"#,
);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Vault,
    Agent,
}

/// One end of a pair of connections.
#[derive(Debug)]
struct Half {
    /// To the partner's connection.
    outbox: mpsc::Sender<Message>,
    /// To the own connection, for acknowledgements.
    own: mpsc::Sender<Message>,
    /// What is to be written to the own connection.
    inbox: mpsc::Receiver<Message>,
}

impl Half {
    fn pair() -> (Self, Self) {
        let (to_first, first) = mpsc::channel(QUEUE);
        let (to_second, second) = mpsc::channel(QUEUE);
        (
            Self { outbox: to_second.clone(), own: to_first.clone(), inbox: first },
            Self { outbox: to_first, own: to_second, inbox: second },
        )
    }
}

/// The ends that wait for their connection.
#[derive(Debug, Default)]
struct Waiting {
    vaults: VecDeque<Half>,
    agents: VecDeque<Half>,
}

impl Waiting {
    /// The end for a new connection: the oldest that a living partner waits behind, or one of a new pair.
    fn join(&mut self, role: Role) -> Half {
        let (own, others) = match role {
            Role::Vault => (&mut self.vaults, &mut self.agents),
            Role::Agent => (&mut self.agents, &mut self.vaults),
        };
        own.retain(|half| !half.outbox.is_closed());
        own.pop_front().unwrap_or_else(|| {
            let (mine, theirs) = Half::pair();
            others.retain(|half| !half.outbox.is_closed());
            others.push_back(theirs);
            mine
        })
    }
}

/// The floor, ready to accept. Dropping its [`Floor::run`] closes all its connections.
#[derive(Debug)]
pub struct Floor {
    listener: TcpListener,
    address: SocketAddr,
}

impl Floor {
    /// Listens on `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// [`BenchError::Listen`] if the address cannot be had.
    pub async fn bind(address: SocketAddr) -> Result<Self, BenchError> {
        let failed = |cause| BenchError::Listen { address, cause };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Carries frames for ever.
    ///
    /// # Errors
    /// [`BenchError::Accept`] if no more connections can be accepted.
    pub async fn run(self) -> Result<Infallible, BenchError> {
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = self.listener.accept().await.map_err(BenchError::Accept)?;
            while let Some(ended) = connections.try_join_next() {
                ended?;
            }
            if connections.len() < MAX_CONNECTIONS {
                connections.spawn(serve(stream, Arc::clone(&waiting)));
            }
        }
    }
}

async fn serve(stream: TcpStream, waiting: Arc<Mutex<Waiting>>) {
    // A connection that breaks is the client's to report; here it only ends, and its partner with it.
    if let Ok((socket, role)) = accept(stream).await {
        let half = waiting.lock().join(role);
        carry(socket, role, half).await.unwrap_or_default();
    }
}

async fn accept(stream: TcpStream) -> Result<(WebSocketStream<TcpStream>, Role), tungstenite::Error> {
    stream.set_nodelay(true)?;
    let mut role = Role::Agent;
    #[expect(clippy::result_large_err, reason = "the library's callback has this type")]
    let route = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        role = match request.uri().path() {
            "/ws" => Role::Vault,
            "/ws-client" => Role::Agent,
            _ => {
                let mut refusal = ErrorResponse::new(None);
                *refusal.status_mut() = StatusCode::NOT_FOUND;
                return Err(refusal);
            }
        };
        Ok(response)
    };
    let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0);
    let socket = accept_hdr_async_with_config(stream, route, Some(config)).await?;
    Ok((socket, role))
}

/// Serves one connection until it or its partner closes.
async fn carry(mut socket: WebSocketStream<TcpStream>, role: Role, half: Half) -> Result<(), tungstenite::Error> {
    if role == Role::Vault && matches!(socket.next().await.transpose()?, Some(Message::Text(_))) {
        socket.send(Message::Text(REGISTERED)).await?;
    }
    let (sink, stream) = socket.split();
    let Half { outbox, own, inbox } = half;
    let writer = AbortOnDropHandle::new(tokio::spawn(write(sink, inbox)));
    let outcome = read(stream, role, &outbox, &own).await;
    drop(writer);
    // The partner may be gone already.
    outbox.send(Message::Close(None)).await.unwrap_or_default();
    outcome
}

async fn read(
    mut stream: SplitStream<WebSocketStream<TcpStream>>,
    role: Role,
    outbox: &mpsc::Sender<Message>,
    own: &mpsc::Sender<Message>,
) -> Result<(), tungstenite::Error> {
    let ack = match role {
        Role::Agent => ACCEPTED,
        Role::Vault => STORED,
    };
    while let Some(message) = stream.next().await.transpose()? {
        let sent = match message {
            Message::Text(text) if text.starts_with(HEARTBEAT_START) => own.send(Message::Text(HEARTBEAT)).await,
            Message::Text(_) => match outbox.send(message).await {
                Ok(()) => own.send(Message::Text(ack.clone())).await,
                gone => gone,
            },
            _ => Ok(()),
        };
        if sent.is_err() {
            break;
        }
    }
    Ok(())
}

async fn write(
    mut sink: SplitSink<WebSocketStream<TcpStream>, Message>,
    mut inbox: mpsc::Receiver<Message>,
) -> Result<(), tungstenite::Error> {
    while let Some(message) = inbox.recv().await {
        sink.send(message).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::client::{AgentClient, ConnectOptions, VaultClient};
    use crate::bench::identity::VaultIdentity;
    use crate::bench::idle::Idle;
    use crate::bench::load::Load;
    use crate::bench::target::RelayUrl;

    async fn running_floor() -> (RelayUrl, JoinSet<Result<Infallible, BenchError>>) {
        let floor = Floor::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let url = format!("ws://{}", floor.address()).parse().unwrap();
        let mut running = JoinSet::new();
        running.spawn(floor.run());
        (url, running)
    }

    #[tokio::test]
    async fn frames_cross_unchanged_and_each_sender_gets_an_ack() {
        let (url, _floor) = running_floor().await;
        let identity = VaultIdentity::random("v").unwrap();
        let mut vault = VaultClient::connect(&url, &identity, ConnectOptions::IDLE).await.unwrap();
        let mut agent = AgentClient::connect(&url, ConnectOptions::IDLE).await.unwrap();

        agent.request("v", "req_1", "AAAA").await.unwrap();
        assert!(vault.next().await.unwrap().contains(r#""request_id":"req_1""#));
        assert_eq!(agent.next().await.unwrap(), ACCEPTED);

        vault.respond("req_1", "BBBB").await.unwrap();
        assert!(agent.next().await.unwrap().contains(r#""encrypted_payload":"BBBB""#));
        assert_eq!(vault.next().await.unwrap(), STORED);
    }

    #[tokio::test]
    async fn pairs_follow_the_order_of_connecting_and_end_together() {
        let (url, _floor) = running_floor().await;
        let mut vaults = Vec::new();
        for name in ["first", "second"] {
            let identity = VaultIdentity::random(name).unwrap();
            vaults.push(VaultClient::connect(&url, &identity, ConnectOptions::IDLE).await.unwrap());
        }
        let first = AgentClient::connect(&url, ConnectOptions::IDLE).await.unwrap();
        let mut second = AgentClient::connect(&url, ConnectOptions::IDLE).await.unwrap();
        second.request("second", "req_2", "AAAA").await.unwrap();
        assert!(vaults[1].next().await.unwrap().contains("req_2"));
        first.close().await;
        assert!(vaults[0].next().await.is_err());
    }

    #[tokio::test]
    async fn a_load_run_against_it_has_answers_and_no_errors() {
        let (url, _floor) = running_floor().await;
        let load = Load {
            agent_url: url.clone(),
            vault_url: url,
            vaults: 2,
            in_flight: 4,
            payload_bytes: 16,
            duration: Duration::from_millis(100),
            processes: vec![std::process::id()],
        };
        let report = load.run().await.unwrap();
        assert!(report.round_trips > 0 && report.errors.is_empty(), "{report}");
        assert!(report.agent_acks > 0 && report.vault_acks > 0 && report.processes.len() == 1, "{report}");
    }

    #[tokio::test]
    async fn an_idle_run_against_it_opens_and_keeps_all() {
        let (url, _floor) = running_floor().await;
        let idle = Idle { url, connections: 100, hold: Duration::ZERO, sources: vec![], processes: vec![] };
        let report = idle.run().await.unwrap();
        assert_eq!((report.open, report.lost, report.refused.len()), (100, 0, 0), "{report}");
    }

    #[tokio::test]
    async fn a_relay_that_is_not_there_is_named() {
        let (url, mut floor) = running_floor().await;
        floor.shutdown().await;
        let error = AgentClient::connect(&url, ConnectOptions::IDLE).await.unwrap_err();
        assert_eq!(error.code(), "CONNECT_FAILED", "{error}");
    }
}
