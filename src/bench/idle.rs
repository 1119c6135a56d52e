//! The idle benchmark: opens many registered vault connections and holds them.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use tokio::net::lookup_host;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::client::{ConnectOptions, VaultClient};
use super::error::{BenchError, ClientError};
use super::frames::Head;
use super::identity::VaultIdentity;
use super::process::{require_open_files, usage_of_all};
use super::report::{IdleReport, ProcessCost};
use super::tally::Tally;
use super::target::RelayUrl;

/// Connections that are being opened at once.
const OPENING_AT_ONCE: usize = 64;

/// Connections from one loopback address before the next is used: relays limit connections per address.
pub const CONNECTIONS_PER_SOURCE: usize = 800;

/// Most connections of one run.
pub const MAX_CONNECTIONS: usize = 1_000_000;

/// Open files that the process needs besides its connections.
const OTHER_FILES: u64 = 64;

/// What to run.
#[derive(Debug, Clone)]
pub struct Idle {
    /// The relay to connect to.
    pub url: RelayUrl,
    /// How many connections to open, at most [`MAX_CONNECTIONS`].
    pub connections: usize,
    /// How long to hold them once all are open.
    pub hold: Duration,
    /// Addresses to come from, in turn. If empty and the relay is on this machine: loopback addresses from
    /// 127.0.0.1 up, [`CONNECTIONS_PER_SOURCE`] each; otherwise the system chooses.
    pub sources: Vec<IpAddr>,
    /// Processes whose memory to report.
    pub processes: Vec<u32>,
}

/// What the held connections count.
#[derive(Debug, Default)]
struct Held {
    lost: AtomicU64,
    heartbeats: AtomicU64,
}

impl Idle {
    /// Runs it. Connections that do not open, or break, are counted and do not end the run.
    ///
    /// # Errors
    /// If the process may not open that many files, or a process to watch cannot be read.
    pub async fn run(&self) -> Result<IdleReport, BenchError> {
        require_open_files(self.connections as u64 + OTHER_FILES)?;
        let before = usage_of_all(&self.processes)?;
        let refusals = Tally::default();
        refusals.start();
        let (held, stop) = (Arc::new(Held::default()), CancellationToken::new());
        let mut holders = JoinSet::new();

        let began = Instant::now();
        let (run, local) = (rand::random::<u32>(), self.reaches_loopback().await);
        let mut opening = stream::iter(0..self.connections)
            .map(|index| self.open(run, index, local))
            .buffer_unordered(OPENING_AT_ONCE);
        while let Some(opened) = opening.next().await {
            match opened {
                Ok(vault) => drop(holders.spawn(hold(vault, Arc::clone(&held), stop.clone()))),
                Err(error) => refusals.errors(error.code(), 1),
            }
        }
        let (open, opening_time) = (holders.len(), began.elapsed());

        sleep(self.hold).await;
        let after = usage_of_all(&self.processes)?;
        let lost = held.lost.load(Ordering::Relaxed);
        stop.cancel();
        while let Some(ended) = holders.join_next().await {
            ended?;
        }
        let costs = self.processes.iter().zip(before.into_iter().zip(after));
        Ok(IdleReport {
            asked: self.connections,
            open,
            refused: refusals.error_counts(),
            lost,
            heartbeats_answered: held.heartbeats.load(Ordering::Relaxed),
            opening_seconds: opening_time.as_secs_f64(),
            held_seconds: self.hold.as_secs_f64(),
            processes: costs.map(|(pid, (before, after))| ProcessCost::new(*pid, before, after)).collect(),
        })
    }

    async fn open(&self, run: u32, index: usize, local: bool) -> Result<VaultClient, ClientError> {
        let identity = VaultIdentity::random(format!("vault_idle_{run:08x}_{index}"))?;
        let source = source_of(index, &self.sources, local);
        VaultClient::connect(&self.url, &identity, ConnectOptions { source, ..ConnectOptions::IDLE }).await
    }

    async fn reaches_loopback(&self) -> bool {
        // A name that does not resolve is reported by the connections themselves.
        let mut addresses = lookup_host(self.url.authority()).await.into_iter().flatten();
        addresses.next().is_some_and(|address| address.ip().is_loopback() && address.is_ipv4())
    }
}

/// The address that connection `index` comes from.
fn source_of(index: usize, chosen: &[IpAddr], local: bool) -> Option<IpAddr> {
    if let Some(turn) = index.checked_rem(chosen.len()) {
        return chosen.get(turn).copied();
    }
    let step = u32::try_from(index / CONNECTIONS_PER_SOURCE).ok()?;
    local.then(|| Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST).saturating_add(step)).into())
}

/// Keeps one connection alive until `stop`.
async fn hold(mut vault: VaultClient, held: Arc<Held>, stop: CancellationToken) {
    while let Some(frame) = stop.run_until_cancelled(vault.next()).await {
        match frame {
            Ok(text) if Head::read(&text).is_some_and(|head| head.kind == "heartbeat") => {
                held.heartbeats.fetch_add(1, Ordering::Relaxed);
            }
            Ok(_) => {}
            Err(_) => {
                held.lost.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
    }
    vault.close().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_addresses_are_taken_in_turn_from_the_first() {
        let source = |index| source_of(index, &[], true).unwrap().to_string();
        assert_eq!(source(0), "127.0.0.1");
        assert_eq!(source(CONNECTIONS_PER_SOURCE - 1), "127.0.0.1");
        assert_eq!(source(CONNECTIONS_PER_SOURCE), "127.0.0.2");
        assert_eq!(source(255 * CONNECTIONS_PER_SOURCE), "127.0.1.0");
    }

    #[test]
    fn chosen_addresses_are_spread_evenly_and_others_left_to_the_system() {
        let chosen: Vec<IpAddr> = ["10.0.0.1", "10.0.0.2"].iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(source_of(3, &chosen, true), Some(chosen[1]));
        assert_eq!(source_of(3, &[], false), None);
    }
}
