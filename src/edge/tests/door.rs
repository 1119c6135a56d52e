//! Limits at the door, HTTP, and the end of the port.

use super::*;

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
    assert!(server.raw(&post("[1, 2]")).await.ends_with("[1, 2]"));
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
