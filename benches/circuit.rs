//! Circuits through this relay, on one node and across two, against rust-libp2p's own relay in the same run.
//!
//! Each relay is a process of its own; the peers, which are stock ones, are here. On a machine of few cores they take most
//! of its time: what the relays themselves cost is told for each. `cargo bench --bench circuit`

mod peers;
mod servers;

use std::env;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::future::try_join_all;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use peers::Peer;
use servers::{Server, free_port};
use waystation::bench::process::{require_open_files, usage};

/// What the relay is given too, so that both sides allocate alike.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Circuits at once.
const CIRCUITS: [usize; 2] = [1, 100];

/// Runs of each side in turn; the middle one of their figures is reported.
const ROUNDS: usize = 3;

/// Length of one run.
const RUN: Duration = Duration::from_secs(5);

/// Peers that take a place and do nothing, for memory.
const IDLE: usize = 1000;

/// The argument with which this is the stock relay; its port follows.
const STOCK: &str = "--stock-relay";

/// Relays through which circuits go: the source's, and the target's.
struct Side {
    name: &'static str,
    servers: Vec<Server>,
    source: Multiaddr,
    target: Multiaddr,
}

#[derive(Clone, Copy, Default)]
struct Figures {
    mib_a_second: f64,
    cpu_ms_a_mib: f64,
    set_up_ms: f64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // `cargo test --benches` asks only whether this builds.
    if env::args().any(|argument| argument == "--test") {
        return Ok(());
    }
    let arguments: Vec<_> = env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == STOCK) {
        return peers::stock_relay(arguments.get(at + 1).context("no port")?.parse()?).await;
    }
    require_open_files(4 * IDLE as u64)?;
    memory().await?;
    let sides = [stock().await?, one_node().await?, two_nodes().await?];
    for circuits in CIRCUITS {
        compare(&sides, circuits).await?;
    }
    Ok(())
}

async fn compare(sides: &[Side], circuits: usize) -> anyhow::Result<()> {
    let mut all = vec![Vec::new(); sides.len()];
    for _ in 0..ROUNDS {
        for (side, figures) in sides.iter().zip(&mut all) {
            figures.push(run(side, circuits).await.with_context(|| format!("through {}", side.name))?);
        }
    }
    println!("\n{circuits} circuits      MiB/s   against stock   set-up    relay CPU");
    let middles: Vec<_> = all.iter().map(|figures| middle(figures)).collect();
    for (side, figures) in sides.iter().zip(&middles) {
        println!(
            "{:12} {:9.1} {:15.2} {:6.2} ms {:6.2} ms/MiB",
            side.name,
            figures.mib_a_second,
            figures.mib_a_second / middles[0].mib_a_second,
            figures.set_up_ms,
            figures.cpu_ms_a_mib,
        );
    }
    Ok(())
}

async fn run(side: &Side, circuits: usize) -> anyhow::Result<Figures> {
    let pairs: Vec<(Peer, Peer)> =
        (0..circuits).map(|_| Ok((Peer::start()?, Peer::start()?))).collect::<anyhow::Result<_>>()?;
    try_join_all(pairs.iter().map(|(_, target)| target.reserve(&side.target))).await?;
    let mut set_up = Vec::new();
    for (source, target) in &pairs {
        // The connection to the relay is no part of the circuit's set-up.
        source.dial(side.source.clone(), None).await?;
        set_up.push(source.circuit(&side.source, target.id).await?.as_secs_f64() * 1e3);
    }
    set_up.sort_by(f64::total_cmp);
    let before = cpu(side)?;
    let (begun, end) = (Instant::now(), Instant::now() + RUN);
    try_join_all(pairs.iter().map(|(source, target)| source.write(target.id, end))).await?;
    let took = begun.elapsed().as_secs_f64();
    let bytes: u64 = pairs.iter().map(|(_, target)| target.sunk.load(Ordering::Relaxed)).sum();
    let mib = bytes as f64 / f64::from(1 << 20);
    Ok(Figures {
        mib_a_second: mib / took,
        cpu_ms_a_mib: (cpu(side)? - before).as_secs_f64() * 1e3 / mib,
        set_up_ms: set_up[set_up.len() / 2],
    })
}

fn cpu(side: &Side) -> anyhow::Result<Duration> {
    let mut all = Duration::ZERO;
    for server in &side.servers {
        all += usage(server.child.id())?.cpu;
    }
    Ok(all)
}

fn middle(figures: &[Figures]) -> Figures {
    let of = |figure: fn(&Figures) -> f64| {
        let mut all: Vec<f64> = figures.iter().map(figure).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    Figures {
        mib_a_second: of(|f| f.mib_a_second),
        cpu_ms_a_mib: of(|f| f.cpu_ms_a_mib),
        set_up_ms: of(|f| f.set_up_ms),
    }
}

/// What a peer that has a place and does nothing costs each relay.
async fn memory() -> anyhow::Result<()> {
    println!("{IDLE} idle peers with a place: resident memory for each");
    let mut stock_bytes = None;
    for side in [stock().await?, one_node().await?] {
        let relay = side.servers[0].child.id();
        // What the first peers cost once is not theirs.
        let _first = reserved(&side, 10).await?;
        let before = usage(relay)?.resident_bytes;
        let _idle = reserved(&side, IDLE).await?;
        // Identify and the first ping are over.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let each = usage(relay)?.resident_bytes.saturating_sub(before) as f64 / IDLE as f64;
        let of_stock = each / *stock_bytes.get_or_insert(each);
        println!("{:12} {:9.1} KiB {of_stock:9.2}", side.name, each / 1024.0);
    }
    Ok(())
}

async fn reserved(side: &Side, count: usize) -> anyhow::Result<Vec<Peer>> {
    let peers: Vec<Peer> = (0..count).map(|_| Peer::start()).collect::<anyhow::Result<_>>()?;
    for some in peers.chunks(50) {
        try_join_all(some.iter().map(|peer| peer.reserve(&side.target))).await?;
    }
    Ok(peers)
}

async fn stock() -> anyhow::Result<Side> {
    let server = Server::own("the stock relay", &[STOCK])?;
    let port = server.address.rsplit(':').next().context("no port")?.parse()?;
    let at = address(port).await?;
    Ok(Side { name: "stock", servers: vec![server], source: at.clone(), target: at })
}

async fn one_node() -> anyhow::Result<Side> {
    let (server, at) = node("one node", free_port()?, None).await?;
    Ok(Side { name: "one node", servers: vec![server], source: at.clone(), target: at })
}

async fn two_nodes() -> anyhow::Result<Side> {
    let gossip = free_port()?;
    let (first, target) = node("the target's node", gossip, None).await?;
    let (second, source) = node("the source's node", free_port()?, Some(gossip)).await?;
    // Until they know each other, a circuit from one to the other does not stand.
    let (one, other) = (Peer::start()?, Peer::start()?);
    other.reserve(&target).await?;
    let begun = Instant::now();
    while let Err(error) = one.circuit(&source, other.id).await {
        if begun.elapsed() > servers::START_TIMEOUT {
            return Err(error.context("the nodes do not find each other"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(Side { name: "two nodes", servers: vec![first, second], source, target })
}

async fn node(name: &'static str, gossip: u16, seed: Option<u16>) -> anyhow::Result<(Server, Multiaddr)> {
    let port = free_port()?;
    let server = Server::relay_for_peers(name, (gossip, seed), port)?;
    Ok((server, address(port).await?))
}

/// The relay's address, with the peer id that it proves, once it listens there.
async fn address(port: u16) -> anyhow::Result<Multiaddr> {
    let bare: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse()?;
    let (asks, begun) = (Peer::start()?, Instant::now());
    loop {
        match asks.dial(bare.clone(), None).await {
            Ok(id) => return Ok(bare.with(Protocol::P2p(id))),
            Err(error) if begun.elapsed() > servers::START_TIMEOUT => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
