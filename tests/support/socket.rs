//! A WebSocket of a client that says what the test says, and nothing else.

use std::net::{IpAddr, SocketAddr};

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::in_time;

/// A TCP connection to `address`, from the loopback address `source` where one is given.
pub async fn connect(address: SocketAddr, source: Option<IpAddr>) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    if let Some(source) = source {
        socket.bind((source, 0).into()).unwrap();
    }
    let stream = in_time("a connection", socket.connect(address)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A frame with a `payload`; the relay does not look at its time.
pub fn frame(kind: &str, payload: Value) -> Value {
    json!({"type": kind, "payload": payload, "timestamp": "2026-01-02T03:04:05.678Z"})
}

/// An open WebSocket. Dropping it cuts the connection without a close frame.
pub struct Socket {
    ws: WebSocketStream<TcpStream>,
}

impl Socket {
    /// Opens `path`, from another loopback address if `source` names one.
    ///
    /// # Errors
    /// Whatever the handshake got instead of a WebSocket.
    pub async fn open(address: SocketAddr, path: &str, source: Option<IpAddr>) -> Result<Self, Error> {
        let stream = connect(address, source).await;
        let url = format!("ws://{address}{path}");
        let (ws, _) = in_time("a handshake", client_async(url, stream)).await?;
        Ok(Self { ws })
    }

    /// Sends a message as it is.
    pub async fn send_raw(&mut self, message: impl Into<Message>) {
        in_time("a message is sent", self.ws.send(message.into())).await.unwrap();
    }

    /// Sends a JSON value as text.
    pub async fn send(&mut self, value: &Value) {
        self.send_raw(value.to_string()).await;
    }

    /// Sends a frame of this type with this payload.
    pub async fn send_frame(&mut self, kind: &str, payload: Value) {
        self.send(&frame(kind, payload)).await;
    }

    /// The next frame, as it was sent.
    pub async fn next_text(&mut self) -> String {
        match self.message().await {
            Ok(Message::Text(text)) => text.to_string(),
            other => panic!("not a frame: {other:?}"),
        }
    }

    /// The next binary message.
    pub async fn next_binary(&mut self) -> Vec<u8> {
        match self.message().await {
            Ok(Message::Binary(bytes)) => bytes.to_vec(),
            other => panic!("not a binary message: {other:?}"),
        }
    }

    /// The next frame.
    pub async fn next(&mut self) -> Value {
        serde_json::from_str(&self.next_text().await).unwrap()
    }

    /// The payload of the next frame, which must be of this type.
    pub async fn expect(&mut self, kind: &str) -> Value {
        let mut frame = self.next().await;
        assert_eq!(frame["type"], kind, "{frame}");
        frame["payload"].take()
    }

    /// The next frame must be an error with this code and message; returns its whole payload.
    pub async fn expect_error(&mut self, code: &str, message: &str) -> Value {
        let error = self.expect("error").await;
        assert_eq!((error["code"].as_str(), error["message"].as_str()), (Some(code), Some(message)));
        error
    }

    /// Proves that the relay has handled all that was sent before, and has nothing more to say.
    pub async fn expect_nothing(&mut self) {
        self.send_frame("heartbeat", json!({})).await;
        self.expect("heartbeat").await;
    }

    /// Waits for the relay to close; its code and reason.
    pub async fn closed(&mut self) -> (u16, String) {
        match self.message().await {
            Ok(Message::Close(Some(close))) => (close.code.into(), close.reason.to_string()),
            other => panic!("not a close: {other:?}"),
        }
    }

    /// Waits for the connection to end, whatever is said before.
    pub async fn ended(&mut self) {
        in_time("the connection ends", async { while let Some(Ok(_)) = self.ws.next().await {} }).await;
    }

    /// Closes politely, and waits for the relay's side.
    pub async fn close(mut self) {
        self.ws.close(None).await.unwrap();
        self.ended().await;
    }

    /// The connection itself: for a client that stops reading, or writes what it likes.
    pub fn stream(&mut self) -> &mut TcpStream {
        self.ws.get_mut()
    }

    async fn message(&mut self) -> Result<Message, Error> {
        loop {
            match in_time("a message", self.ws.next()).await {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(message) => return message,
                None => return Err(Error::ConnectionClosed),
            }
        }
    }
}
