//! `waystation demo`: three nodes on loopback, and a request that crosses from one to another before your eyes.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};

use crate::bench::client::{AgentClient, ConnectOptions, VaultClient};
use crate::bench::frames::Head;
use crate::bench::identity::VaultIdentity;
use crate::bench::target::RelayUrl;
use crate::config::Config;
use crate::node::Node;

/// How many nodes.
const NODES: usize = 3;

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Runs a three-node cluster on loopback and proves that a vault on one node answers an agent on another; with
/// `once`, ends then, otherwise stays up until it is told to stop.
///
/// # Errors
/// What did not work as it should.
pub async fn demo(once: bool) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut nodes = Vec::new();
    for number in 1..=NODES {
        let node = start(number, nodes.first()).await.with_context(|| format!("node {number} did not start"))?;
        println!("node {number} serves clients on {}", node.public);
        nodes.push(node);
    }
    for node in &nodes {
        let mut view = node.membership.watch();
        let complete = view.wait_for(|view| view.members.len() == NODES);
        tokio::time::timeout(PATIENCE, complete).await.context("the nodes did not find each other")??;
    }
    println!("the {NODES} nodes see each other");
    tokio::time::timeout(PATIENCE, prove(&nodes)).await.context("no round trip in time")??;
    if !once {
        println!("the cluster stays up; point a vault at ws://{}/ws and an agent at", nodes[0].public);
        println!("ws://{}/ws-client, and press Ctrl+C to stop", nodes[1].public);
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
    for node in nodes.into_iter().rev() {
        node.stop().await;
    }
    Ok(())
}

async fn start(number: usize, seed: Option<&Node>) -> anyhow::Result<Node> {
    let id = format!("demo-{number}");
    let seeds = seed.map(|seed| seed.membership.gossip_address().to_string()).unwrap_or_default();
    let config = Config::from_pairs([
        ("RELAY_NODE_ID", id.as_str()),
        ("RELAY_CLUSTER_ID", "waystation-demo"),
        ("RELAY_CLUSTER_SEEDS", seeds.as_str()),
        ("RELAY_STORAGE_BACKEND", "memory"),
        ("RELAY_LISTEN_ADDR", "127.0.0.1:0"),
        ("RELAY_GRPC_ADDR", "127.0.0.1:0"),
        ("RELAY_GOSSIP_ADDR", "127.0.0.1:0"),
        ("RELAY_ADMIN_ADDR", "127.0.0.1:0"),
        ("RELAY_P2P_ENABLED", "false"),
    ])?;
    Ok(Node::start(&config).await?)
}

/// A vault registers at the first node; an agent of the second one asks it.
async fn prove(nodes: &[Node]) -> anyhow::Result<()> {
    let [first, second, ..] = nodes else { bail!("two nodes are needed") };
    let (at_first, at_second): (RelayUrl, RelayUrl) =
        (format!("ws://{}", first.public).parse()?, format!("ws://{}", second.public).parse()?);
    let identity = VaultIdentity::random("vault_demo01")?;
    let mut vault = VaultClient::connect(&at_first, &identity, ConnectOptions::BUSY).await?;
    println!("vault {} has registered at node 1 (signed, Ed25519)", identity.vault_id());
    let mut agent = AgentClient::connect(&at_second, ConnectOptions::BUSY).await?;
    println!("an agent has connected to node 2");

    let begun = Instant::now();
    agent.request(identity.vault_id(), "req_demo", "aGVsbG8=").await?;
    let request = vault.next().await?;
    println!("node 1 → vault   {request}");
    vault.respond("req_demo", "d29ybGQ=").await?;
    loop {
        let frame = agent.next().await?;
        println!("node 2 → agent   {frame}");
        match Head::read(&frame).map(|head| head.kind) {
            Some("response") => break,
            Some("ack") => {}
            _ => bail!("that is no answer"),
        }
    }
    println!("a vault on node 1 answered an agent on node 2 in {:.1} ms", begun.elapsed().as_secs_f64() * 1e3);
    vault.close().await;
    agent.close().await;
    Ok(())
}
