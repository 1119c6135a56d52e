//! Who belongs to a cluster gets in; who does not stays out of it, and is counted.

use std::process::Stdio;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use waystation::security::cluster_secret::ClusterSecret;
use waystation::security::tls::ClusterTls;

use crate::support::cluster::{SECRET, all_meet, figure_is};
use crate::support::socket::connect;
use crate::support::{Process, TestAgent, TestNode, TestVault, envelope, in_time};

const ANOTHER_SECRET: &[u8] = b"a secret of somebody else's nodes";

/// Where other nodes connect to this one.
fn grpc(node: &TestNode) -> std::net::SocketAddr {
    let view = node.node().membership.view();
    view.members[&view.me.node].facts.grpc.parse().unwrap()
}

#[tokio::test]
async fn a_node_with_another_secret_never_joins() {
    let node = TestNode::start(&[SECRET]).await;
    let another = ("RELAY_CLUSTER_SECRET", std::str::from_utf8(ANOTHER_SECRET).unwrap());
    let stranger = node.join(&[another]).await;
    figure_is(node.public, r#"waystation_gossip_rejected_total{reason="seal"}"#, |n| n > 3.0).await;
    for node in [&node, &stranger] {
        assert_eq!(node.node().membership.view().members.len(), 1);
    }
    let _vault = TestVault::registered(node.public, "vault_demo01", 7).await;
    let mut agent = TestAgent::connect(stranger.public).await;
    agent.send_frame("request", envelope("vault_demo01", "req_1")).await;
    agent.expect_error("RELAY_VAULT_NOT_CONNECTED", "Vault vault_demo01 is not connected").await;
}

#[tokio::test]
async fn a_node_with_the_secret_in_a_file_joins() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    std::fs::write(&file, format!("{}\n", SECRET.1)).unwrap();
    let node = TestNode::start(&[SECRET]).await;
    let other = node.join(&[("RELAY_CLUSTER_SECRET_FILE", file.to_str().unwrap())]).await;
    all_meet(&[node, other]).await;
}

#[tokio::test]
async fn a_caller_with_another_secret_is_not_let_in() {
    const REFUSED: &str = r#"waystation_peer_rejected_total{reason="tls"}"#;
    let node = TestNode::start(&[SECRET]).await;
    let secret = ClusterSecret::from_text(ANOTHER_SECRET).unwrap();
    let me = &node.node().cluster.me.node;
    let tls = ClusterTls::new(&secret, &"waystation".parse().unwrap(), &"stranger".parse().unwrap()).unwrap();
    let connector = tokio_rustls::TlsConnector::from(tls.client);
    let tcp = connect(grpc(&node), None).await;
    let refused = in_time("a handshake", connector.connect(ClusterTls::name_of(me).unwrap(), tcp)).await;
    assert!(refused.is_err(), "the node proved a secret that it does not have");
    figure_is(node.public, REFUSED, |n| n == 1.0).await;

    let mut plain = TcpStream::connect(grpc(&node)).await.unwrap();
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    // A TLS alert, perhaps, and the end.
    in_time("the end", plain.read_to_end(&mut Vec::new())).await.ok();
    figure_is(node.public, REFUSED, |n| n == 2.0).await;
}

#[tokio::test]
async fn a_node_of_another_cluster_never_joins() {
    let node = TestNode::start(&[]).await;
    let stranger = TestNode::named("stranger", "another", &node.gossip().to_string(), &[]).await;
    figure_is(node.public, r#"waystation_gossip_rejected_total{reason="cluster_id"}"#, |n| n > 3.0).await;
    for node in [&node, &stranger] {
        assert_eq!(node.node().membership.view().members.len(), 1);
    }
}

#[tokio::test]
async fn of_two_processes_with_one_id_the_older_ends_and_says_why() {
    let gossip = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut older = tokio::process::Command::new(env!("CARGO_BIN_EXE_waystation"))
        .env_clear()
        .envs([
            ("RELAY_STORAGE_BACKEND", "memory"),
            ("RELAY_LISTEN_ADDR", "127.0.0.1:0"),
            ("RELAY_GRPC_ADDR", "127.0.0.1:0"),
            ("RELAY_GOSSIP_ADDR", &gossip),
            ("RELAY_ADMIN_ADDR", "127.0.0.1:0"),
            ("RELAY_P2P_ENABLED", "false"),
            ("RELAY_NODE_ID", "twin"),
            ("RELAY_LOG_LEVEL", "error"),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    in_time("the older one serves", older.stdout.as_mut().unwrap().read_u8()).await.unwrap();
    let newer = Process::start(&[("RELAY_NODE_ID", "twin"), ("RELAY_CLUSTER_SEEDS", &gossip)]).await;

    let ended = in_time("the older one ends", older.wait_with_output()).await.unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(!ended.status.success());
    assert!(said.contains("another process at") && said.contains("give each node an id of its own"), "{said}");
    TestVault::registered(newer.public, "vault_demo01", 7).await;
}
