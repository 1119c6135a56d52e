//! What clients notice when a node dies, and when every node is restarted in turn.
//!
//! Three relays as processes of their own; vaults that register at another node when theirs goes, agents that ask
//! one after the other without pause. First one node is killed, then all three are told to stop, one after the
//! other, and started again.
//!
//! `cargo bench --bench failover`

mod servers;

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use servers::{START_TIMEOUT, Server, free_port, local};
use waystation::bench::client::{AgentClient, ConnectOptions, VaultClient};
use waystation::bench::frames::Head;
use waystation::bench::identity::VaultIdentity;
use waystation::bench::target::RelayUrl;

/// Vaults; each has one agent.
const VAULTS: usize = 24;

/// How long the load runs before and after each event.
const CALM: Duration = Duration::from_secs(3);

/// A client waits this long before it tries the next node: the shipped vault's first wait is a second.
const RETRY: Duration = Duration::from_millis(200);

/// How long an accepted request may take to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// The addresses of the cluster, which stay when a node is restarted.
struct Ports {
    public: [u16; 3],
    grpc: [u16; 3],
    gossip: [u16; 3],
}

/// What the clients have seen.
#[derive(Default)]
struct Seen {
    stop: AtomicBool,
    answered: AtomicU64,
    refused: AtomicU64,
    lost: AtomicU64,
    /// For each vault, when it last registered, until a request has reached it since.
    registered: Mutex<Vec<Option<Instant>>>,
    reached_after: Mutex<Vec<Duration>>,
    /// Which node the agents connect to first.
    agents_at: AtomicUsize,
}

fn node(ports: &Ports, number: usize) -> anyhow::Result<Server> {
    let settings = [
        ("RELAY_NODE_ID", format!("node-{}", number + 1)),
        ("RELAY_LISTEN_ADDR", local(ports.public[number])),
        ("RELAY_GRPC_ADDR", local(ports.grpc[number])),
        ("RELAY_GOSSIP_ADDR", local(ports.gossip[number])),
        ("RELAY_ADMIN_ADDR", local(0)),
        ("RELAY_P2P_ENABLED", "false".to_owned()),
        ("RELAY_CLUSTER_SEEDS", ports.gossip.map(local).join(",")),
        ("RELAY_VAULT_RATE_LIMIT", "10000000".into()),
        ("RELAY_ADDRESS_RATE_LIMIT", "100000000".into()),
        ("RELAY_CONNECTION_RATE_LIMIT", "100000000".into()),
        ("RELAY_DRAIN_TIMEOUT_SECS", "30".into()),
        ("RELAY_LOG_LEVEL", "warn".into()),
    ];
    let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
    Server::start("a node", &["serve"], &settings, ports.public[number])
}

/// A vault that is always somewhere: at the next node when its own goes.
async fn vault(number: usize, urls: Arc<[RelayUrl; 3]>, first: usize, seen: Arc<Seen>) -> anyhow::Result<()> {
    let identity = VaultIdentity::random(vault_id(number))?;
    for attempt in first.. {
        if seen.stop.load(Ordering::Relaxed) {
            break;
        }
        let url = &urls[attempt % urls.len()];
        if let Ok(mut client) = VaultClient::connect(url, &identity, ConnectOptions::BUSY).await {
            if let Some(slot) =
                seen.registered.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_mut(number)
            {
                *slot = Some(Instant::now());
            }
            while let Ok(frame) = client.next().await {
                let Some(head) = Head::read(&frame).filter(|head| head.kind == "request") else { continue };
                let Some(request) = head.payload.request_id else { continue };
                if client.respond(request, "b2s=").await.is_err() {
                    break;
                }
            }
        }
        tokio::time::sleep(RETRY).await;
    }
    Ok(())
}

/// An agent that asks its vault, waits for the end of that request, and asks again.
async fn agent(number: usize, urls: Arc<[RelayUrl; 3]>, seen: Arc<Seen>) -> anyhow::Result<()> {
    let mut count = 0u64;
    while !seen.stop.load(Ordering::Relaxed) {
        let start = seen.agents_at.load(Ordering::Relaxed);
        for attempt in 0..urls.len() {
            let url = &urls[(start + attempt) % urls.len()];
            if let Ok(mut client) = AgentClient::connect(url, ConnectOptions::BUSY).await {
                while !seen.stop.load(Ordering::Relaxed) {
                    count += 1;
                    let request = format!("req_{number}_{count}");
                    if client.request(&vault_id(number), &request, "aGk=").await.is_err()
                        || !ended(&mut client, number, &request, &seen).await
                    {
                        break;
                    }
                }
            }
        }
        tokio::time::sleep(RETRY).await;
    }
    Ok(())
}

/// Follows one request to its end; false once the connection is gone.
async fn ended(client: &mut AgentClient, number: usize, request: &str, seen: &Seen) -> bool {
    let (deadline, mut accepted) = (tokio::time::Instant::now() + PATIENCE, false);
    loop {
        let frame = match tokio::time::timeout_at(deadline, client.next()).await {
            Ok(Ok(frame)) => frame,
            // What was accepted must end; what was not is the agent's to repeat.
            _ => {
                seen.lost.fetch_add(u64::from(accepted), Ordering::Relaxed);
                return false;
            }
        };
        let Some(head) = Head::read(&frame).filter(|head| head.payload.request_id == Some(request)) else { continue };
        match head.kind {
            "ack" => accepted = true,
            "response" => {
                seen.answered.fetch_add(1, Ordering::Relaxed);
                let mut registered = seen.registered.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if let Some(at) = registered.get_mut(number).and_then(Option::take) {
                    seen.reached_after.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(at.elapsed());
                }
                return true;
            }
            _ => {
                seen.refused.fetch_add(u64::from(accepted), Ordering::Relaxed);
                if !accepted {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                return true;
            }
        }
    }
}

fn vault_id(number: usize) -> String {
    format!("failover-{number}")
}

/// Waits until the node at `port` sees that many live members.
async fn await_members(port: u16, members: usize) -> anyhow::Result<()> {
    let wanted = format!("waystation_cluster_members{{state=\"live\"}} {members}");
    let deadline = Instant::now() + START_TIMEOUT;
    while !metrics(port).await.is_ok_and(|text| text.contains(&wanted)) {
        if Instant::now() > deadline {
            bail!("the node at port {port} does not see {members} live members");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn metrics(port: u16) -> anyhow::Result<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(local(port)).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

fn report(what: &str, seen: &Seen) {
    let mut waits = std::mem::take(&mut *seen.reached_after.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    waits.sort();
    let (middle, longest) = (waits.get(waits.len() / 2), waits.last());
    println!(
        "{what}: answered {}, accepted and then refused {}, accepted and lost {}; from a vault's registration to \
         its next answer: median {:.0?}, longest {:.0?} ({} registrations)",
        seen.answered.swap(0, Ordering::Relaxed),
        seen.refused.swap(0, Ordering::Relaxed),
        seen.lost.swap(0, Ordering::Relaxed),
        middle.copied().unwrap_or_default(),
        longest.copied().unwrap_or_default(),
        waits.len(),
    );
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // `cargo test --benches` asks only whether this builds.
    if std::env::args().any(|argument| argument == "--test") {
        return Ok(());
    }
    let three = || -> anyhow::Result<[u16; 3]> { Ok([free_port()?, free_port()?, free_port()?]) };
    let ports = Ports { public: three()?, grpc: three()?, gossip: three()? };
    let mut nodes = [node(&ports, 0)?, node(&ports, 1)?, node(&ports, 2)?];
    for port in ports.public {
        await_members(port, 3).await?;
    }
    let urls = Arc::new(nodes.each_ref().map(|node| node.url.clone()));
    let seen = Arc::new(Seen { registered: Mutex::new(vec![None; VAULTS]), ..Seen::default() });
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..VAULTS {
        clients.spawn(vault(number, urls.clone(), 1, seen.clone()));
        clients.spawn(agent(number, urls.clone(), seen.clone()));
    }
    tokio::time::sleep(CALM).await;
    report("calm", &seen);

    // All vaults are at the second node, all agents at the first.
    let killed = Instant::now();
    nodes[1].child.kill().context("killing the second node")?;
    await_members(ports.public[0], 2).await?;
    println!("a killed node left the view after {:.2?}", killed.elapsed());
    tokio::time::sleep(CALM).await;
    report("one node killed", &seen);
    nodes[1].child.wait()?;
    nodes[1] = node(&ports, 1)?;
    await_members(ports.public[0], 3).await?;
    tokio::time::sleep(CALM).await;
    report("and started again", &seen);

    for (number, slot) in nodes.iter_mut().enumerate() {
        let begun = Instant::now();
        let told = Command::new("kill").args(["-TERM", &slot.child.id().to_string()]).status()?;
        if !told.success() {
            bail!("cannot signal node {}", number + 1);
        }
        // Waiting must not keep the clients of this program from running.
        while slot.child.try_wait()?.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        println!("node {} drained and ended after {:.2?}", number + 1, begun.elapsed());
        *slot = node(&ports, number)?;
        await_members(ports.public[number], 3).await?;
        tokio::time::sleep(CALM).await;
    }
    report("rolling restart", &seen);
    seen.stop.store(true, Ordering::Relaxed);
    clients.abort_all();
    Ok(())
}
