//! Push calls over TLS: to whoever has a certificate for the name that was called, from an authority the operator
//! trusts, and to nobody else.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use waystation::observe::metrics::Dropped;

use crate::support::tls::Authority;
use crate::support::{SEED, TestAgent, TestNode, VAULT, in_time, post, registration, until};

/// What the push service of a test was told over one connection; or why there was no connection.
async fn call(service: &TcpListener, tls: TlsAcceptor) -> std::io::Result<String> {
    let (connection, _) = service.accept().await?;
    let mut connection = tls.accept(connection).await?;
    let mut text = String::new();
    // The body ends with this bracket, and nothing before it holds one.
    while !text.contains("}]") {
        let mut bytes = [0; 4096];
        let read = connection.read(&mut bytes).await?;
        assert!(read > 0, "the call ends early: {text}");
        text.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await?;
    Ok(text)
}

/// A node that trusts the authorities in the file `trusted`, after a request to [`VAULT`]; and what its call, taken
/// by way of `tls`, said.
async fn called(tls: TlsAcceptor, trusted: Option<&str>) -> (TestNode, std::io::Result<String>) {
    let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/push", service.local_addr().unwrap());
    // Empty is unset.
    let trusted = ("RELAY_OUTBOUND_CA_FILE", trusted.unwrap_or_default());
    let node = TestNode::start(&[("RELAY_VAULT_PUSH_URL", &url), trusted]).await;
    let mut body = registration(VAULT, SEED);
    body["token"] = json!("ExpoPushToken[x]");
    post(node.public, "/v1/devices/push-token", &body).await.expect(200);
    post(node.public, "/v1/mobile/vaults/vault_demo01/online", &registration(VAULT, SEED)).await.expect(200);
    let mut agent = TestAgent::connect(node.public).await;
    agent.ask(VAULT, "req_1").await;
    let call = in_time("a call to the push service", call(&service, tls)).await;
    (node, call)
}

#[tokio::test]
async fn a_service_that_the_operators_authority_stands_behind_is_called() {
    let authority = Authority::new();
    let (_node, call) = called(authority.acceptor("127.0.0.1"), Some(&authority.file())).await;
    let text = call.unwrap();
    assert!(text.starts_with("POST /push ") && text.contains("ExpoPushToken[x]") && text.contains("req_1"), "{text}");
}

#[tokio::test]
async fn a_service_that_nobody_trusted_stands_behind_is_told_nothing() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (ours, others) = (authority.file(), stranger.file());
    let cases = [
        ("the public authorities only", "127.0.0.1", None),
        ("another authority", "127.0.0.1", Some(others.as_str())),
        ("another name", "push.example", Some(ours.as_str())),
    ];
    for (case, name, trusted) in cases {
        let (node, call) = called(authority.acceptor(name), trusted).await;
        assert!(call.is_err(), "{case}: {call:?}");
        let failed = Dropped { queue: "push", reason: "failed" };
        let failed = node.node().metrics.dropped.get_or_create_owned(&failed);
        until(&format!("{case}: the call is counted as failed"), || failed.get() == 1).await;
    }
}
