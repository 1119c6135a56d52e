//! The relay against the floor: how many times the bare transport's cost is one round trip?
//!
//! Both run as processes of their own, in turn and for as long, driven by the same client, so that whatever else
//! the machine does meets both alike. Then a second relay joins the first, and round trips cross both.
//!
//! `cargo bench --bench forward`

mod servers;

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use servers::{START_TIMEOUT, Server, free_port};
use waystation::bench::load::Load;
use waystation::bench::report::LoadReport;

/// Runs of each program; the middle one of their figures is reported.
const ROUNDS: usize = 3;

/// Length of one run.
const RUN: Duration = Duration::from_secs(5);

/// The loads: vaults, and requests in flight for each.
const LOADS: [(usize, usize); 2] = [(1, 32), (8, 16)];

const PAYLOAD_BYTES: usize = 256;

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
