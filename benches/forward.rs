//! The relay against the floor: how many times the bare transport's cost is one round trip?
//!
//! Both run as processes of their own, in turn and for as long, driven by the same client, so that whatever else
//! the machine does meets both alike. Then a second relay joins the first, and round trips cross both.
//!
//! `cargo bench --bench forward`

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use waystation::bench::load::Load;
use waystation::bench::report::LoadReport;
use waystation::bench::target::RelayUrl;

/// Runs of each program; the middle one of their figures is reported.
const ROUNDS: usize = 3;

/// Length of one run.
const RUN: Duration = Duration::from_secs(5);

/// Longest wait for a program to accept connections, and for two nodes to find each other.
const START_TIMEOUT: Duration = Duration::from_secs(15);

/// The loads: vaults, and requests in flight for each.
const LOADS: [(usize, usize); 2] = [(1, 32), (8, 16)];

const PAYLOAD_BYTES: usize = 256;

/// A program under test. It is killed when this is dropped.
struct Server {
    name: &'static str,
    child: Child,
    url: RelayUrl,
    /// A relay's directory, which has to outlive it.
    _directory: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let ended = self.child.kill().and_then(|()| self.child.wait());
        if let Err(error) = ended {
            eprintln!("cannot end {} (process {}): {error}", self.name, self.child.id());
        }
    }
}

impl Server {
    fn start(name: &'static str, arguments: &[&str], settings: &[(&str, &str)], port: u16) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let child = Command::new(env!("CARGO_BIN_EXE_waystation"))
            .args(arguments)
            .envs(settings.iter().copied())
            .env("RELAY_DATA_DIR", directory.path())
            .current_dir(directory.path())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let url = format!("ws://127.0.0.1:{port}").parse()?;
        let mut server = Self { name, child, url, _directory: directory };
        server.await_port(port)?;
        Ok(server)
    }

    fn await_port(&mut self, port: u16) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let name = self.name;
            if let Some(status) = self.child.try_wait()? {
                bail!("{name} ended before it accepted connections: {}", described(status));
            }
            if Instant::now() > deadline {
                bail!("{name} does not accept connections on port {port} after {START_TIMEOUT:?}");
            }
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn floor() -> anyhow::Result<Self> {
        let port = free_port()?;
        Self::start("the floor", &["bench", "floor", "--listen", &local(port)], &[], port)
    }

    /// A relay that limits nothing and stores nothing on disk; `gossip` is its own port, `seed` that of another.
    fn relay(name: &'static str, gossip: u16, seed: Option<u16>) -> anyhow::Result<Self> {
        let port = free_port()?;
        let seeds = seed.map(local).unwrap_or_default();
        let settings = [
            ("RELAY_LISTEN_ADDR", local(port)),
            ("RELAY_STORAGE_BACKEND", "memory".into()),
            ("RELAY_GRPC_ADDR", local(free_port()?)),
            ("RELAY_GOSSIP_ADDR", local(gossip)),
            ("RELAY_CLUSTER_SEEDS", seeds),
            ("RELAY_VAULT_RATE_LIMIT", "10000000".into()),
            ("RELAY_ADDRESS_RATE_LIMIT", "100000000".into()),
            ("RELAY_CONNECTION_RATE_LIMIT", "100000000".into()),
        ];
        let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
        Self::start(name, &["serve"], &settings, port)
    }
}

fn described(status: ExitStatus) -> String {
    status.code().map_or_else(|| status.to_string(), |code| format!("exit code {code}; its last words are above"))
}

fn local(port: u16) -> String {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string()
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// A load from agents at the first of `servers` to vaults at the last; the CPU time of all of them counts.
async fn run(
    servers: &[&Server],
    (vaults, in_flight): (usize, usize),
    duration: Duration,
) -> anyhow::Result<LoadReport> {
    let (Some(first), Some(last)) = (servers.first(), servers.last()) else { bail!("nothing to run against") };
    let load = Load {
        agent_url: first.url.clone(),
        vault_url: last.url.clone(),
        vaults,
        in_flight,
        payload_bytes: PAYLOAD_BYTES,
        duration,
        processes: servers.iter().map(|server| server.child.id()).collect(),
    };
    let report = load.run().await.with_context(|| format!("running against {}", first.name))?;
    if report.round_trips == 0 {
        bail!("no round trip through {} succeeded: {report}", first.name);
    }
    Ok(report)
}

/// The middle of the figures of several runs.
#[derive(Clone, Copy)]
struct Figures {
    per_second: f64,
    cpu_us: f64,
    p99_us: f64,
    errors: u64,
}

impl Figures {
    fn of(reports: &[LoadReport]) -> Self {
        let middle = |figure: fn(&LoadReport) -> f64| {
            let mut figures: Vec<f64> = reports.iter().map(figure).collect();
            figures.sort_by(f64::total_cmp);
            figures.get(figures.len() / 2).copied().unwrap_or_default()
        };
        Self {
            per_second: middle(LoadReport::per_second),
            cpu_us: middle(LoadReport::cpu_us_per_round_trip),
            p99_us: middle(|report| report.latency.p99_us),
            errors: reports.iter().flat_map(|report| report.errors.values()).sum(),
        }
    }

    fn print(self, name: &str, base: Self) {
        let Self { per_second, cpu_us, p99_us, errors } = self;
        let (speed, cost) = (per_second / base.per_second, cpu_us / base.cpu_us);
        println!(
            "  {name:<10} {per_second:>9.0} round trips/s ({speed:.2}x)  {cpu_us:>7.2} us CPU each ({cost:.2}x)  \
             p99 {p99_us:>7.0} us  errors {errors}"
        );
    }
}

/// Runs the load through each of `sides` in turn, [`ROUNDS`] times, and prints how they compare with the first.
async fn compare(sides: &[(&str, Vec<&Server>)], load: (usize, usize)) -> anyhow::Result<()> {
    let mut reports: Vec<Vec<LoadReport>> = sides.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for ((_, servers), reports) in sides.iter().zip(&mut reports) {
            reports.push(run(servers, load, RUN).await?);
        }
    }
    let figures: Vec<Figures> = reports.iter().map(|reports| Figures::of(reports)).collect();
    println!("{} vaults and agents, {} in flight each, {PAYLOAD_BYTES} byte payloads:", load.0, load.1);
    for ((name, _), side) in sides.iter().zip(&figures) {
        side.print(name, *figures.first().unwrap_or(side));
    }
    Ok(())
}

/// Waits until a request at one node reaches a vault at the other.
async fn await_cluster(nodes: &[&Server]) -> anyhow::Result<()> {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        match run(nodes, (1, 1), Duration::from_millis(200)).await {
            Ok(report) if report.errors.is_empty() => return Ok(()),
            outcome if Instant::now() > deadline => {
                let report = outcome.context("the two nodes did not find each other")?;
                bail!("the two nodes still lose requests after {START_TIMEOUT:?}: {report}");
            }
            _ => {}
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // `cargo test --benches` asks only whether this builds.
    if std::env::args().any(|argument| argument == "--test") {
        return Ok(());
    }
    let floor = Server::floor()?;
    let gossip = free_port()?;
    let relay = Server::relay("the relay", gossip, None)?;
    for load in LOADS {
        compare(&[("floor", vec![&floor]), ("relay", vec![&relay])], load).await?;
    }

    let second = Server::relay("the second node", free_port()?, Some(gossip))?;
    await_cluster(&[&second, &relay]).await?;
    for load in LOADS {
        compare(&[("one node", vec![&relay]), ("two nodes", vec![&second, &relay])], load).await?;
    }
    Ok(())
}
