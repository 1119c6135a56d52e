//! The public port as clients see it: real sockets, an echo protocol, and tokio-tungstenite on the other side.

mod door;
mod websocket;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::task::Context;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use futures::{FutureExt, SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::Error;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::observe::metrics::Reason;
use crate::runtime::outbox::Outbox;
use crate::runtime::session::{Incoming, Protocol, Step};
use crate::security::admission::AdmissionLimits;

type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Answers every message with itself, and a few words with what they ask for.
struct Echo {
    outbox: Outbox,
    release: Option<oneshot::Receiver<()>>,
    /// Answered once it is released.
    later: Option<oneshot::Receiver<()>>,
}

impl Protocol for Echo {
    fn on_message(&mut self, message: Incoming<'_>) -> Step {
        match message {
            Incoming::Text("wait") => {
                let release = self.release.take();
                Step::Wait(Box::pin(async move {
                    if let Some(release) = release {
                        release.await.unwrap_or_default();
                    }
                }))
            }
            Incoming::Text("later") => {
                self.later = self.release.take();
                Step::Continue
            }
            Incoming::Text("bye") => Step::Close(4000, "as you wish"),
            Incoming::Text(text) => {
                self.outbox.text(text).unwrap_or_default();
                Step::Continue
            }
            Incoming::Binary(bytes) => {
                let copy = bytes::Bytes::copy_from_slice(bytes);
                self.outbox.push(crate::runtime::outbox::Outgoing::Binary(copy)).unwrap_or_default();
                Step::Continue
            }
        }
    }

    fn proceed(&mut self, context: &mut Context<'_>) {
        if self.later.as_mut().is_some_and(|later| later.poll_unpin(context).is_ready()) {
            self.later = None;
            self.outbox.text("late").unwrap_or_default();
        }
    }

    fn in_use(&self) -> bool {
        false
    }
}

/// What a test holds of one connection on the server's side.
struct Session {
    client: client::ClientInfo,
    outbox: Outbox,
    release: oneshot::Sender<()>,
}

#[derive(Clone)]
struct App {
    edge: Edge,
    sessions: mpsc::UnboundedSender<Session>,
}

async fn ws(State(app): State<App>, request: Request) -> Response {
    upgrade::upgrade(request, &app.edge, move |client, outbox| {
        let (release, released) = oneshot::channel();
        let session = Session { client, outbox: outbox.clone(), release };
        app.sessions.send(session).unwrap_or_default();
        Box::new(Echo { outbox, release: Some(released), later: None })
    })
}

async fn take(State(app): State<App>, request: Request) -> Result<String, errors::BodyError> {
    body::json(request, (&app.edge.settings).into()).await
}

struct Server {
    address: SocketAddr,
    edge: Edge,
    stop: CancellationToken,
    sessions: mpsc::UnboundedReceiver<Session>,
}

fn limits() -> AdmissionLimits {
    AdmissionLimits {
        connections: 1000,
        connections_per_address: 1000,
        requests_per_minute: NonZeroU32::new(10_000).unwrap(),
        tracked_addresses: 1000,
    }
}

/// Times short enough to wait for, and a tick to match.
fn quick() -> EdgeSettings {
    EdgeSettings { tick: Duration::from_millis(5), ..EdgeSettings::default() }
}

async fn serve(settings: EdgeSettings, limits: AdmissionLimits, trusted: &[&str]) -> Server {
    let edge = Edge::new(Parts {
        settings,
        admission: std::sync::Arc::new(Admission::new(limits)),
        proxies: TrustedProxies(trusted.iter().map(|net| net.parse().unwrap()).collect()),
        metrics: Metrics::new(),
        supervisor: Supervisor::new(),
    });
    let (sender, sessions) = mpsc::unbounded_channel();
    let router = Router::new()
        .route("/ws", get(ws))
        .route("/take", post(take))
        .route("/health", get(|| async { "ok" }))
        .fallback(errors::unknown_route)
        .method_not_allowed_fallback(errors::unknown_route)
        .with_state(App { edge: edge.clone(), sessions: sender });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    edge.supervisor.spawn("public port", accept::run(edge.clone(), listener, router, stop.clone()));
    Server { address, edge, stop, sessions }
}

async fn server() -> Server {
    serve(quick(), limits(), &[]).await
}

impl Server {
    async fn connect(&self) -> Client {
        connect_async(format!("ws://{}/ws", self.address)).await.unwrap().0
    }

    async fn session(&mut self) -> (Client, Session) {
        let client = self.connect().await;
        (client, self.sessions.recv().await.unwrap())
    }

    /// Sends `request` as it is and returns everything that comes back until the connection ends.
    async fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    async fn get(&self, path: &str) -> String {
        self.raw(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await
    }

    fn closed(&self, reason: &'static str) -> u64 {
        self.edge.metrics.edge.closed.get_or_create(&Reason { reason }).get()
    }

    /// Waits until `condition` holds; the test's own time limit ends it if it never does.
    async fn until(&self, condition: impl Fn(&Edge) -> bool) {
        let patient = async {
            while !condition(&self.edge) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), patient).await.expect("the condition never held");
    }
}

async fn next(client: &mut Client) -> Message {
    loop {
        let next = tokio::time::timeout(Duration::from_secs(20), client.next()).await;
        match next.expect("nothing came").expect("the connection ended").expect("a message") {
            Message::Ping(_) | Message::Pong(_) => {}
            message => return message,
        }
    }
}

async fn close_of(client: &mut Client) -> (u16, String) {
    match next(client).await {
        Message::Close(Some(CloseFrame { code, reason })) => (code.into(), reason.to_string()),
        other => panic!("not a close: {other:?}"),
    }
}

fn closed(code: u16, reason: &str) -> (u16, String) {
    (code, reason.to_owned())
}

/// A connection that has done its handshake and then sends what it likes.
async fn savage(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
    stream
}
