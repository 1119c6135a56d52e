//! The round-trip benchmark: agents send, vaults answer, for a fixed time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::agent::Agent;
use super::client::{AgentClient, ConnectOptions, VaultClient};
use super::error::{BenchError, ClientError};
use super::identity::VaultIdentity;
use super::process::{require_open_files, usage_of_all};
use super::report::{Latency, LoadReport, ProcessCost};
use super::tally::Tally;
use super::target::RelayUrl;
use super::vault::Vault;

/// Time for caches, allocators and the scheduler to settle before anything is counted.
pub const WARM_UP: Duration = Duration::from_secs(1);

/// Most requests that one agent may have in flight.
pub const MAX_IN_FLIGHT: usize = 1024;

/// Most vaults of one run.
pub const MAX_VAULTS: usize = 10_000;

/// Open files that the process needs besides its connections.
const OTHER_FILES: u64 = 64;

/// What to run.
#[derive(Debug, Clone)]
pub struct Load {
    /// The relay that agents connect to.
    pub agent_url: RelayUrl,
    /// The relay that vaults connect to: the same, or another node of its cluster.
    pub vault_url: RelayUrl,
    /// Vaults, each with a connection and a key of its own, and one agent for each.
    pub vaults: usize,
    /// Requests that each agent keeps in flight, at most [`MAX_IN_FLIGHT`].
    pub in_flight: usize,
    /// Bytes of a payload before base64, in requests and in responses.
    pub payload_bytes: usize,
    /// How long to measure, after [`WARM_UP`].
    pub duration: Duration,
    /// Processes whose CPU time and memory to report.
    pub processes: Vec<u32>,
}

impl Load {
    /// Runs it. Errors of single requests are counted in the report and do not end the run.
    ///
    /// # Errors
    /// If a connection cannot be opened at the start, or a process to watch cannot be read.
    pub async fn run(&self) -> Result<LoadReport, BenchError> {
        require_open_files(2 * self.vaults as u64 + OTHER_FILES)?;
        let tally = Arc::new(Tally::default());
        let (vaults_stop, agents_stop) = (CancellationToken::new(), CancellationToken::new());
        let mut vault_workers = JoinSet::new();

        // One after the other: the floor pairs connections by the order in which they come.
        let run = rand::random::<u32>();
        let vaults = self.connect_vaults(run, &tally).await?;
        let agents = self.connect_agents(run, &tally).await?;
        for (vault, client) in vaults {
            vault_workers.spawn(vault.run(client, vaults_stop.clone()));
        }
        let mut agent_workers = JoinSet::new();
        for (agent, client) in agents {
            agent_workers.spawn(agent.run(client, agents_stop.clone()));
        }

        sleep(WARM_UP).await;
        let report = self.measure(&tally).await?;

        agents_stop.cancel();
        finish(agent_workers).await?;
        vaults_stop.cancel();
        finish(vault_workers).await?;
        Ok(report)
    }

    async fn measure(&self, tally: &Tally) -> Result<LoadReport, BenchError> {
        let before = usage_of_all(&self.processes)?;
        let began = Instant::now();
        tally.start();
        sleep(self.duration).await;
        tally.stop();
        let elapsed = began.elapsed();
        let after = usage_of_all(&self.processes)?;

        let round_trips = tally.round_trips().count();
        let costs = self.processes.iter().zip(before.into_iter().zip(after));
        Ok(LoadReport {
            vaults: self.vaults,
            in_flight: self.in_flight,
            payload_bytes: self.payload_bytes,
            seconds: elapsed.as_secs_f64(),
            round_trips,
            latency: Latency::of(tally.round_trips()),
            agent_acks: tally.agent_acks(),
            vault_acks: tally.vault_acks(),
            reconnects: tally.reconnects(),
            errors: tally.error_counts(),
            processes: costs.map(|(pid, (before, after))| ProcessCost::new(*pid, before, after)).collect(),
        })
    }

    async fn connect_vaults(&self, run: u32, tally: &Arc<Tally>) -> Result<Vec<(Vault, VaultClient)>, BenchError> {
        let payload = self.payload();
        let mut vaults = Vec::with_capacity(self.vaults);
        for index in 0..self.vaults {
            let failed = |cause| BenchError::Start { role: "vault", index, cause };
            let identity = VaultIdentity::random(vault_id(run, index)).map_err(failed)?;
            let (url, payload, tally) = (self.vault_url.clone(), Arc::clone(&payload), Arc::clone(tally));
            let vault = Vault { url, identity, payload, tally };
            let client = vault.connect().await.map_err(failed)?;
            vaults.push((vault, client));
        }
        Ok(vaults)
    }

    async fn connect_agents(&self, run: u32, tally: &Arc<Tally>) -> Result<Vec<(Agent, AgentClient)>, BenchError> {
        let payload = self.payload();
        let mut agents = Vec::with_capacity(self.vaults);
        for index in 0..self.vaults {
            let failed = |cause: ClientError| BenchError::Start { role: "agent", index, cause };
            let client = AgentClient::connect(&self.agent_url, ConnectOptions::BUSY).await.map_err(failed)?;
            // With the slot and the sequence number: `req_` and 32 hexadecimal digits, as shipped agents write.
            let prefix = format!("req_{run:08x}{index:08x}");
            let (url, payload, tally) = (self.agent_url.clone(), Arc::clone(&payload), Arc::clone(tally));
            agents.push((Agent::new(url, vault_id(run, index), payload, self.in_flight, prefix, tally), client));
        }
        Ok(agents)
    }

    /// Random bytes: nothing on the way can make them shorter, as with what is sealed in earnest.
    fn payload(&self) -> Arc<str> {
        let mut bytes = vec![0; self.payload_bytes];
        rand::fill(&mut bytes[..]);
        STANDARD.encode(bytes).into()
    }
}

fn vault_id(run: u32, index: usize) -> String {
    format!("vault_bench_{run:08x}_{index}")
}

pub(super) async fn finish(mut workers: JoinSet<()>) -> Result<(), BenchError> {
    while let Some(ended) = workers.join_next().await {
        ended?;
    }
    Ok(())
}
