//! One load through several set-ups of programs in turn, and how they compare.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use waystation::bench::load::Load;
use waystation::bench::report::LoadReport;

use crate::servers::{START_TIMEOUT, Server};

/// Runs of each program; the middle one of their figures is reported.
const ROUNDS: usize = 3;

/// Length of one run.
const RUN: Duration = Duration::from_secs(5);

/// The loads: vaults, and requests in flight for each.
pub const LOADS: [(usize, usize); 2] = [(1, 32), (8, 16)];

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
        let (speed, cost, tail) = (per_second / base.per_second, cpu_us / base.cpu_us, p99_us / base.p99_us);
        println!(
            "  {name:<12} {per_second:>9.0} round trips/s ({speed:.2}x)  {cpu_us:>7.2} us CPU each ({cost:.2}x)  \
             p99 {p99_us:>7.0} us ({tail:.2}x)  errors {errors}"
        );
    }
}

/// Runs the load through each of `sides` in turn, [`ROUNDS`] times, and prints how they compare with the first.
pub async fn compare(sides: &[(&str, Vec<&Server>)], load: (usize, usize)) -> anyhow::Result<()> {
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

/// Waits until a request at the first of them reaches a vault at the last.
pub async fn await_way(nodes: &[&Server]) -> anyhow::Result<()> {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        match run(nodes, (1, 1), Duration::from_millis(200)).await {
            Ok(report) if report.errors.is_empty() => return Ok(()),
            outcome if Instant::now() > deadline => {
                let report = outcome.context("they did not find each other")?;
                bail!("they still lose requests after {START_TIMEOUT:?}: {report}");
            }
            _ => {}
        }
    }
}
