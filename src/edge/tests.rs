//! The public port as clients see it: real sockets, an echo protocol, and tokio-tungstenite on the other side.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use futures::{SinkExt, StreamExt};
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
        Box::new(Echo { outbox, release: Some(released) })
    })
}

async fn take(State(app): State<App>, request: Request) -> Result<String, errors::BodyError> {
    body::json(request, (&app.edge.settings).into()).await.map(|value| value.to_string())
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
        admission: Admission::new(limits),
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

#[tokio::test]
async fn text_and_binary_are_carried_both_ways() {
    let server = server().await;
    let mut client = server.connect().await;
    client.send("hello".into()).await.unwrap();
    client.send(Message::Binary(vec![0, 255].into())).await.unwrap();
    assert_eq!(next(&mut client).await, Message::Text("hello".into()));
    assert_eq!(next(&mut client).await, Message::Binary(vec![0, 255].into()));
    assert_eq!(server.edge.metrics.edge.websockets.get(), 1);
    client.close(None).await.unwrap();
    server.until(|edge| edge.metrics.edge.websockets.get() == 0).await;
    server.until(|edge| edge.admission.connections() == 0 && edge.metrics.edge.connections.get() == 0).await;
    assert_eq!(server.edge.metrics.edge.received_bytes.get(), 7);
    assert_eq!(server.edge.metrics.edge.sent_bytes.get(), 7);
}

#[tokio::test]
async fn many_messages_in_a_row_keep_their_order() {
    let server = server().await;
    let (mut sender, mut receiver) = server.connect().await.split();
    let sending = tokio::spawn(async move {
        for n in 0..2_000 {
            sender.feed(Message::Text(n.to_string().into())).await.unwrap();
        }
        sender.flush().await.unwrap();
        sender
    });
    for n in 0..2_000 {
        assert_eq!(receiver.next().await.unwrap().unwrap(), Message::Text(n.to_string().into()));
    }
    drop(sending.await.unwrap());
}

#[tokio::test]
async fn a_message_of_exactly_the_limit_passes_and_a_longer_one_closes() {
    let server = serve(EdgeSettings { max_message_size: 100_000, ..quick() }, limits(), &[]).await;
    let mut client = server.connect().await;
    let longest = Message::Binary(vec![7; 100_000].into());
    client.send(longest.clone()).await.unwrap();
    assert_eq!(next(&mut client).await, longest);
    client.send(Message::Binary(vec![7; 100_001].into())).await.unwrap();
    assert_eq!(close_of(&mut client).await, closed(1009, "message too big"));
    assert_eq!(server.closed("too_big"), 1);
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

async fn close_code_after(server: &Server, bytes: &[u8]) -> u16 {
    let mut stream = savage(server).await;
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer[0], 0x88, "a close frame: {answer:?}");
    u16::from_be_bytes([answer[2], answer[3]])
}

#[tokio::test]
async fn what_is_no_websocket_is_cut_with_the_code_for_it() {
    let server = server().await;
    let unmasked = [0x81, 2, b'h', b'i'];
    assert_eq!(close_code_after(&server, &unmasked).await, 1002);
    assert_eq!(close_code_after(&server, &[0xff; 64]).await, 1002);
    let invalid_utf8 = [0x81, 0x82, 0, 0, 0, 0, 0xff, 0xfe];
    assert_eq!(close_code_after(&server, &invalid_utf8).await, 1007);
    server.until(|edge| edge.metrics.edge.websockets.get() == 0).await;
}

#[tokio::test]
async fn a_ping_is_answered_with_its_payload() {
    let server = server().await;
    let mut client = server.connect().await;
    client.send(Message::Ping(vec![1, 2, 3].into())).await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), Message::Pong(vec![1, 2, 3].into()));
}

#[tokio::test]
async fn a_slow_reader_is_cut_off_and_others_go_on() {
    let settings = EdgeSettings { send_queue_bytes: 1 << 20, ..quick() };
    let mut server = serve(settings, limits(), &[]).await;
    let (_slow, session) = server.session().await;
    let (mut quick, _) = server.session().await;
    let block = crate::runtime::outbox::Outgoing::Binary(vec![0; 64 * 1024].into());
    while session.outbox.push(block.clone()).is_ok() {
        tokio::task::yield_now().await;
    }
    server.until(|edge| edge.metrics.edge.websockets.get() == 1).await;
    assert_eq!(server.closed("slow_reader"), 1);
    assert_eq!(server.edge.metrics.edge.queued_bytes.get(), 0);
    quick.send("still here".into()).await.unwrap();
    assert_eq!(next(&mut quick).await, Message::Text("still here".into()));
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_cut_off_in_time() {
    let settings = EdgeSettings { send_queue_bytes: 64 << 20, write_timeout: Duration::from_millis(100), ..quick() };
    let mut server = serve(settings, limits(), &[]).await;
    let (_stuck, session) = server.session().await;
    session.outbox.push(crate::runtime::outbox::Outgoing::Binary(vec![0; 48 << 20].into())).unwrap();
    server.until(|edge| edge.metrics.edge.websockets.get() == 0).await;
    // The kernel's own time-out (TCP_USER_TIMEOUT) may be the first to end it.
    assert!(session.outbox.is_closed());
}

#[tokio::test]
async fn a_waiting_protocol_holds_back_the_next_message_while_writing_goes_on() {
    let mut server = server().await;
    let (mut client, session) = server.session().await;
    client.send("wait".into()).await.unwrap();
    client.send("after".into()).await.unwrap();
    for n in 0..3 {
        session.outbox.text(n.to_string()).unwrap();
        assert_eq!(next(&mut client).await, Message::Text(n.to_string().into()));
    }
    session.release.send(()).unwrap();
    assert_eq!(next(&mut client).await, Message::Text("after".into()));
}

#[tokio::test]
async fn both_the_protocol_and_others_can_close_after_what_is_queued() {
    let mut server = server().await;
    let (mut client, _) = server.session().await;
    client.send("last words".into()).await.unwrap();
    client.send("bye".into()).await.unwrap();
    client.send("unheard".into()).await.unwrap();
    assert_eq!(next(&mut client).await, Message::Text("last words".into()));
    assert_eq!(close_of(&mut client).await, closed(4000, "as you wish"));
    let (mut client, session) = server.session().await;
    session.outbox.text("moving").unwrap();
    session.outbox.close(1012, "service restart");
    assert_eq!(next(&mut client).await, Message::Text("moving".into()));
    assert_eq!(close_of(&mut client).await, closed(1012, "service restart"));
    assert!(matches!(client.next().await, None | Some(Err(Error::ConnectionClosed))));
    server.until(|edge| edge.metrics.edge.websockets.get() == 0).await;
    assert_eq!((server.closed("protocol"), server.closed("restart")), (1, 1));
}

#[tokio::test]
async fn whoever_says_too_much_is_closed() {
    let settings = EdgeSettings { messages_per_minute: NonZeroU32::new(3), ..quick() };
    let server = serve(settings, limits(), &[]).await;
    let mut client = server.connect().await;
    for n in 0..4 {
        client.send(Message::Text(n.to_string().into())).await.unwrap();
    }
    for n in 0..3 {
        assert_eq!(next(&mut client).await, Message::Text(n.to_string().into()));
    }
    assert_eq!(close_of(&mut client).await, closed(1008, "rate limit"));
    assert_eq!(server.closed("rate_limit"), 1);
}

#[tokio::test]
async fn an_idle_connection_is_closed_politely() {
    let settings = EdgeSettings { idle_timeout: Duration::from_millis(20), ..quick() };
    let server = serve(settings, limits(), &[]).await;
    let mut client = server.connect().await;
    assert_eq!(close_of(&mut client).await, closed(1000, "Idle timeout"));
    assert_eq!(server.closed("idle"), 1);
}

#[tokio::test]
async fn silence_is_pinged_and_then_cut() {
    let settings = EdgeSettings {
        ping_interval: Duration::from_millis(10),
        silence_timeout: Duration::from_millis(200),
        ..quick()
    };
    let server = serve(settings, limits(), &[]).await;
    let mut stream = savage(&server).await;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, [0x89, 0], "one ping, then the end");
    assert_eq!(server.closed("silent"), 1);
}

#[tokio::test]
async fn a_close_that_is_not_answered_ends_anyway() {
    let settings = EdgeSettings { close_timeout: Duration::from_millis(20), ..quick() };
    let mut server = serve(settings, limits(), &[]).await;
    let _deaf = savage(&server).await;
    server.sessions.recv().await.unwrap().outbox.close(1000, "done");
    server.until(|edge| edge.metrics.edge.websockets.get() == 0).await;
    assert_eq!(server.closed("normal"), 1);
}

#[tokio::test]
async fn connections_beyond_the_limits_are_told_so() {
    let few = AdmissionLimits { connections: 2, connections_per_address: 1, ..limits() };
    let server = serve(quick(), few, &[]).await;
    let _inside = server.connect().await;
    let answer = server.get("/health").await;
    assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("Retry-After: 10"), "{answer}");
    let none = AdmissionLimits { connections: 0, ..limits() };
    let answer = serve(quick(), none, &[]).await.get("/health").await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("Retry-After: 10"), "{answer}");
}

fn handshake(client: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-Forwarded-For: {client}\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

#[tokio::test]
async fn clients_behind_a_trusted_proxy_are_counted_by_their_own_addresses() {
    let one = AdmissionLimits { connections_per_address: 1, ..limits() };
    let mut server = serve(quick(), one, &["127.0.0.0/8"]).await;
    let mut first = TcpStream::connect(server.address).await.unwrap();
    first.write_all(handshake("198.51.100.7").as_bytes()).await.unwrap();
    assert_eq!(server.sessions.recv().await.unwrap().client.address.to_string(), "198.51.100.7");
    let mut second = TcpStream::connect(server.address).await.unwrap();
    second.write_all(handshake("198.51.100.8").as_bytes()).await.unwrap();
    assert_eq!(server.sessions.recv().await.unwrap().client.address.to_string(), "198.51.100.8");
    let mut third = TcpStream::connect(server.address).await.unwrap();
    third.write_all(handshake("198.51.100.7").as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    third.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 429");
}

#[tokio::test]
async fn handshakes_cost_the_address_its_requests() {
    let two = AdmissionLimits { requests_per_minute: NonZeroU32::new(2).unwrap(), ..limits() };
    let server = serve(quick(), two, &[]).await;
    let _open = (server.connect().await, server.connect().await);
    match connect_async(format!("ws://{}/ws", server.address)).await {
        Err(Error::Http(response)) => {
            assert_eq!(response.status(), 429);
            assert!(response.headers().contains_key("retry-after"));
        }
        other => panic!("let in: {other:?}"),
    }
}

#[tokio::test]
async fn unknown_paths_are_404_also_for_handshakes() {
    let server = server().await;
    match connect_async(format!("ws://{}/elsewhere", server.address)).await {
        Err(Error::Http(response)) => assert_eq!(response.status(), 404),
        other => panic!("let in: {other:?}"),
    }
    let answer = server.get("/x?y=1").await;
    let expected = r#"{"message":"Route GET:/x?y=1 not found","error":"Not Found","statusCode":404}"#;
    assert!(answer.starts_with("HTTP/1.1 404 ") && answer.ends_with(expected), "{answer}");
    assert!(server.get("/health/").await.starts_with("HTTP/1.1 404 "));
    assert!(server.get("/take").await.contains("Route GET:/take not found"));
    assert!(server.get("//health").await.starts_with("HTTP/1.1 200 "));
    assert!(server.get("/ws").await.starts_with("HTTP/1.1 426 "));
}

#[tokio::test]
async fn bodies_are_read_up_to_the_limit() {
    let server = serve(EdgeSettings { max_body_size: 6, ..quick() }, limits(), &[]).await;
    let post = |body: &str| {
        format!(
            "POST /take HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    assert!(server.raw(&post("[1, 2]")).await.ends_with("[1,2]"));
    assert!(server.raw(&post("[1, 22]")).await.starts_with("HTTP/1.1 413 "));
    assert!(server.raw(&post("null")).await.starts_with("HTTP/1.1 400 "));
}

#[tokio::test]
async fn a_port_that_stops_ends_idle_http_and_lets_websockets_finish() {
    let server = server().await;
    let mut ws = server.connect().await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    idle.read_u8().await.unwrap();
    server.stop.cancel();
    idle.read_to_end(&mut Vec::new()).await.unwrap();
    ws.send("still here".into()).await.unwrap();
    assert_eq!(next(&mut ws).await, Message::Text("still here".into()));
    let supervisor = server.edge.supervisor.clone();
    let stopping = tokio::spawn(async move { supervisor.stop(Duration::from_secs(20)).await });
    assert_eq!(close_of(&mut ws).await, closed(1012, "service restart"));
    drop(ws);
    assert!(stopping.await.unwrap().is_empty());
}

#[test]
fn the_task_of_a_websocket_is_small() {
    let bytes = size_of::<socket::Socket<TcpStream>>();
    println!("Socket<TcpStream>: {bytes} bytes");
    assert!(bytes <= 768, "{bytes} bytes");
}
