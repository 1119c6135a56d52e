//! What is there for operators besides the port for clients, and what holds while a node joins its cluster.

use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use waystation::security::noise::StaticKey;

use crate::support::{Process, Reply, TestAgent, TestNode, get, http, in_time};

const SECOND_PORT: (&str, &str) = ("RELAY_METRICS_ADDR", "127.0.0.1:0");

fn second_port(node: &TestNode) -> SocketAddr {
    node.node().figures.unwrap()
}

fn key() -> (StaticKey, String) {
    let key = StaticKey::from_private([7; 32]).unwrap();
    let text = URL_SAFE_NO_PAD.encode(key.to_bytes());
    (key, text)
}

#[tokio::test]
async fn there_is_a_second_port_only_if_it_is_asked_for() {
    let node = TestNode::start(&[]).await;
    assert_eq!(node.node().figures, None);

    let node = TestNode::start(&[SECOND_PORT]).await;
    let port = second_port(&node);
    let index = get(port, "/").await.expect(200);
    assert_eq!(index["endpoints"], json!(["/metrics", "/pubkey"]));
    assert!(index["version"].is_string() && index["service"].is_string(), "{index}");
    let metrics = get(port, "/metrics").await;
    assert_eq!(metrics.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert!(metrics.text.contains("\nwaystation_edge_accepted_total 0\n"), "scrapes are no clients: {}", metrics.text);
    assert_eq!(get(port, "/pubkey").await.text, get(node.public, "/pubkey").await.text);
    for other in ["/health", "/ready", "/stats", "/ws", "/relay/request"] {
        assert_eq!(get(port, other).await.status, 404, "{other}");
    }
}

#[tokio::test]
async fn figures_can_be_kept_off_the_port_for_clients() {
    let open = TestNode::start(&[SECOND_PORT]).await;
    assert_eq!(get(open.public, "/metrics").await.status, 200);
    let closed = TestNode::start(&[SECOND_PORT, ("RELAY_PUBLIC_METRICS", "false")]).await;
    assert_eq!(get(closed.public, "/metrics").await.status, 404);
    assert_eq!(get(second_port(&closed), "/metrics").await.status, 200);
}

#[tokio::test]
async fn figures_ask_for_the_token_on_either_port() {
    let node = TestNode::start(&[SECOND_PORT, ("RELAY_METRICS_TOKEN", "s3cret")]).await;
    for port in [node.public, second_port(&node)] {
        let ask = |shown: &str| http(port, "GET", "/metrics").header("authorization", shown).send();
        let refused = |reply: Reply| {
            assert_eq!((reply.status.as_u16(), reply.header("www-authenticate")), (401, "Bearer"), "{reply:?}");
            assert_eq!(reply.text, "Unauthorized");
        };
        refused(get(port, "/metrics").await);
        for wrong in ["Bearer s3cre", "Bearer s3cret2", "Bearer S3CRET", "Basic s3cret", "s3cret", "Bearer ", "Bearer"]
        {
            refused(ask(wrong).await);
        }
        for right in ["Bearer s3cret", "bearer s3cret"] {
            assert_eq!(ask(right).await.status, 200, "{right}");
        }
        assert_eq!(get(port, "/pubkey").await.status, 200);
    }
}

#[tokio::test]
async fn clients_are_given_the_key_that_is_set() {
    let (key, text) = key();
    let node = TestNode::start(&[("RELAY_NOISE_STATIC_KEY", &text)]).await;
    let reply = get(node.public, "/pubkey").await;
    assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, "text/plain; charset=utf-8"));
    assert_eq!((reply.text.len(), reply.text), (43, key.public_text()));
}

#[tokio::test]
async fn the_key_is_one_for_the_cluster_or_outlives_the_process() {
    let secret = [("RELAY_CLUSTER_SECRET", "0123456789abcdef0123456789abcdef")];
    let nodes = TestNode::cluster(2, &secret).await;
    assert_eq!(get(nodes[0].public, "/pubkey").await.text, get(nodes[1].public, "/pubkey").await.text);

    let dir = tempfile::tempdir().unwrap();
    let on_disk = [("RELAY_STORAGE_BACKEND", "rocksdb"), ("RELAY_DATA_DIR", dir.path().to_str().unwrap())];
    let mut keys = Vec::new();
    for _ in 0..2 {
        let node = TestNode::start(&on_disk).await;
        keys.push(get(node.public, "/pubkey").await.text);
        node.stop().await;
    }
    assert_eq!((keys[0].len(), &keys[0]), (43, &keys[1]));
    assert!(dir.path().join("relay_noise_key.bin").exists());
}

#[tokio::test]
async fn a_node_that_looks_for_others_says_that_it_is_not_ready_and_lets_clients_wait() {
    // Nobody gossips there.
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (seed, address) = (nobody.local_addr().unwrap().to_string(), free.local_addr().unwrap());
    drop(free);
    let starting = tokio::spawn(async move {
        TestNode::named("seeker", "cluster-of-one", &seed, &[("RELAY_LISTEN_ADDR", &address.to_string())]).await
    });
    in_time("the port is open", async {
        while tokio::net::TcpStream::connect(address).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(get(address, "/ready").await.expect(503), json!({"ready": false}));
    assert_eq!(get(address, "/health").await.expect(200)["status"], "ok");
    let agent = TestAgent::connect(address).await;
    assert_eq!(get(address, "/ready").await.expect(200), json!({"ready": true}), "the agent was let in too early");
    drop((agent, starting.await.unwrap()));
}

#[tokio::test]
async fn the_log_says_once_that_the_switch_of_the_original_has_no_effect() {
    let told = async |settings: &[(&str, &str)]| {
        let settings = [settings, &[("RELAY_LOG_LEVEL", "info")]].concat();
        let mut process = Process::start_with_log(&settings).await;
        process.sigterm();
        let mut told = 0;
        while let Some(line) = process.log_line().await {
            told += usize::from(line.contains("RELAY_TLS_VERIFIED has no effect"));
        }
        told
    };
    let (set, unset) = tokio::join!(told(&[("RELAY_TLS_VERIFIED", "1")]), told(&[]));
    assert_eq!((set, unset), (1, 0));
}
