//! The command line of `waystation bench`; the doc comments below are its manual.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clap::{Args, Subcommand};

use super::error::BenchError;
use super::floor::Floor;
use super::idle::{Idle, MAX_CONNECTIONS};
use super::load::{Load, MAX_IN_FLIGHT, MAX_VAULTS};
use super::mailbox::{ANSWER_TIMEOUT, MAX_CLIENTS, MAX_MAILBOXES, MAX_PAYLOAD_BYTES, MailboxLoad, MailboxUrl};
use super::target::RelayUrl;

/// Measure a relay from outside: this one or any other that speaks the protocol.
///
/// A relay with its default limits refuses such a load. Start one that is to be measured with, for instance,
/// RELAY_VAULT_RATE_LIMIT=10000000 RELAY_CONNECTION_RATE_LIMIT=100000000 RELAY_ADDRESS_RATE_LIMIT=100000000.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// What to measure.
    #[command(subcommand)]
    pub command: BenchCommand,
}

/// The benchmarks.
#[derive(Debug, Clone, Subcommand)]
pub enum BenchCommand {
    /// Round trips from agents to vaults and back, with a fixed number in flight.
    Vault(VaultArgs),
    /// Many registered vaults that only send heartbeats: memory per connection.
    Idle(IdleArgs),
    /// Blobs stored in mailboxes, with a fixed number in flight.
    Mailbox(MailboxArgs),
    /// Run the floor: a bare WebSocket program that carries the same frames without reading them.
    Floor(FloorArgs),
}

/// Round trips from agents to vaults and back, with a fixed number in flight.
///
/// Errors are counted by their code and the run goes on. The relay must be started with raised rate limits
/// (see `waystation bench --help`), or most requests end as RELAY_RATE_LIMITED.
#[derive(Debug, Clone, Args)]
pub struct VaultArgs {
    /// Relay that agents connect to, as ws:// or http://, with or without the path.
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:8080")]
    pub agent_url: RelayUrl,
    /// Relay that vaults connect to, if it is another node [default: that of the agents].
    #[arg(long, value_name = "URL")]
    pub vault_url: Option<RelayUrl>,
    /// Vaults; each has one agent.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = within(1, MAX_VAULTS))]
    pub vaults: u64,
    /// Requests that each agent keeps in flight.
    #[arg(long, value_name = "K", default_value_t = 32, value_parser = within(1, MAX_IN_FLIGHT))]
    pub in_flight: u64,
    /// Bytes of each payload before base64, in requests and responses.
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = within(1, 16 << 20))]
    pub payload: u64,
    /// Seconds to measure, after a warm-up of one second.
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = within(1, 86_400))]
    pub seconds: u64,
    /// Processes on this machine whose CPU time and memory to report.
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pub cpu_of: Vec<u32>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Many registered vaults that only send heartbeats: memory per connection.
///
/// Each has a key and a name of its own. The relay must allow that many connections in all and per address
/// (RELAY_MAX_CONNECTIONS, RELAY_ADDRESS_MAX_CONNECTIONS).
#[derive(Debug, Clone, Args)]
pub struct IdleArgs {
    /// Relay to connect to, as ws:// or http://, with or without the path.
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:8080")]
    pub url: RelayUrl,
    /// Connections to open, 64 at a time.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = within(1, MAX_CONNECTIONS))]
    pub connections: u64,
    /// Seconds to hold them once all are open; heartbeats begin after 30.
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = within(0, 604_800))]
    pub hold_seconds: u64,
    /// Addresses of this machine to come from, in turn [default: for a relay on loopback one per 800 connections,
    /// from 127.0.0.1 up].
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub source_addresses: Vec<IpAddr>,
    /// Processes on this machine whose memory to report.
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pub cpu_of: Vec<u32>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Blobs stored in mailboxes, with a fixed number in flight.
///
/// Speaks to any Vauchi relay as its clients do. A relay with its default limits drops nearly all of such a load
/// without a word, which is reported as TIMED_OUT: raise RELAY_RATE_LIMIT, and on this relay
/// RELAY_CONNECTION_RATE_LIMIT and RELAY_ADDRESS_RATE_LIMIT, to the most they take. What is stored stays there: give
/// the relay a data folder of its own, and raise RELAY_MAX_STORAGE_BYTES for long runs.
#[derive(Debug, Clone, Args)]
pub struct MailboxArgs {
    /// Relay to connect to, as ws:// or http://; with Noise if # and the relay's key follow.
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:8080")]
    pub url: MailboxUrl,
    /// Clients that store.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = within(1, MAX_CLIENTS))]
    pub clients: u64,
    /// Blobs that each client has in flight.
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = within(1, MAX_IN_FLIGHT))]
    pub in_flight: u64,
    /// Bytes of each blob.
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = within(0, MAX_PAYLOAD_BYTES))]
    pub payload: u64,
    /// Mailboxes that each client writes to, in turn; nobody opens them.
    #[arg(long, value_name = "M", default_value_t = 100, value_parser = within(1, MAX_MAILBOXES))]
    pub mailboxes: u64,
    /// Give each client one recipient instead, connected, that acknowledges; deliveries are counted too.
    #[arg(long, conflicts_with = "mailboxes")]
    pub deliver: bool,
    /// Relay that recipients connect to, if it is another node [default: that of the clients].
    #[arg(long, value_name = "URL", requires = "deliver")]
    pub recipient_url: Option<MailboxUrl>,
    /// Seconds to measure, after a warm-up of one second.
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = within(1, 86_400))]
    pub seconds: u64,
    /// Processes on this machine whose CPU time and memory to report.
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pub cpu_of: Vec<u32>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Run the floor: a bare WebSocket program that carries the same frames without reading them.
///
/// `waystation bench vault` runs against it unchanged; the n-th agent is joined to the n-th vault.
#[derive(Debug, Clone, Args)]
pub struct FloorArgs {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9080")]
    pub listen: SocketAddr,
}

impl BenchArgs {
    /// Runs the benchmark and prints its report. The floor runs until it is dropped.
    ///
    /// # Errors
    /// See [`BenchError`]; errors of single requests are in the report instead.
    pub async fn run(self) -> Result<(), BenchError> {
        match self.command {
            BenchCommand::Vault(args) => {
                let report = args.load().run().await?;
                print(args.json, &report, || report.to_json())
            }
            BenchCommand::Idle(args) => {
                let report = args.idle().run().await?;
                print(args.json, &report, || report.to_json())
            }
            BenchCommand::Mailbox(args) => {
                let report = args.load().run().await?;
                print(args.json, &report, || report.to_json())
            }
            BenchCommand::Floor(args) => {
                let floor = Floor::bind(args.listen).await?;
                writeln!(std::io::stdout(), "floor listens on {}", floor.address())?;
                match floor.run().await? {}
            }
        }
    }
}

impl VaultArgs {
    /// The run that these arguments ask for.
    #[must_use]
    pub fn load(&self) -> Load {
        Load {
            agent_url: self.agent_url.clone(),
            vault_url: self.vault_url.clone().unwrap_or_else(|| self.agent_url.clone()),
            vaults: size(self.vaults),
            in_flight: size(self.in_flight),
            payload_bytes: size(self.payload),
            duration: Duration::from_secs(self.seconds),
            processes: self.cpu_of.clone(),
        }
    }
}

impl IdleArgs {
    /// The run that these arguments ask for.
    #[must_use]
    pub fn idle(&self) -> Idle {
        Idle {
            url: self.url.clone(),
            connections: size(self.connections),
            hold: Duration::from_secs(self.hold_seconds),
            sources: self.source_addresses.clone(),
            processes: self.cpu_of.clone(),
        }
    }
}

impl MailboxArgs {
    /// The run that these arguments ask for.
    #[must_use]
    pub fn load(&self) -> MailboxLoad {
        MailboxLoad {
            url: self.url.clone(),
            recipient_url: self.recipient_url.clone().unwrap_or_else(|| self.url.clone()),
            clients: size(self.clients),
            in_flight: size(self.in_flight),
            payload_bytes: size(self.payload),
            mailboxes: size(self.mailboxes),
            deliver: self.deliver,
            duration: Duration::from_secs(self.seconds),
            patience: ANSWER_TIMEOUT,
            processes: self.cpu_of.clone(),
        }
    }
}

fn within(least: u64, most: usize) -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(least..=most as u64)
}

/// The range of every such argument ends far below the largest `usize`.
fn size(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn print(
    as_json: bool,
    report: &impl std::fmt::Display,
    json: impl FnOnce() -> serde_json::Value,
) -> Result<(), BenchError> {
    let text = if as_json { serde_json::to_string_pretty(&json())? } else { report.to_string() };
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        bench: BenchArgs,
    }

    fn parsed(line: &str) -> Result<BenchCommand, clap::Error> {
        Cli::try_parse_from(line.split(' ')).map(|cli| cli.bench.command)
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn vaults_go_where_agents_go_unless_told_otherwise() {
        let Ok(BenchCommand::Vault(args)) = parsed("bench vault --agent-url http://a:1/ws-client --cpu-of 1,2") else {
            panic!("not parsed");
        };
        let load = args.load();
        assert_eq!((load.vault_url, load.processes), ("ws://a:1".parse().unwrap(), vec![1, 2]));
    }

    #[test]
    fn recipients_are_where_clients_are_unless_told_otherwise() {
        let load = |line: &str| match parsed(line) {
            Ok(BenchCommand::Mailbox(args)) => args.load(),
            other => panic!("{other:?}"),
        };
        let alone = load("bench mailbox --url ws://a:1 --clients 256 --seconds 3");
        assert_eq!((alone.recipient_url, alone.clients, alone.in_flight), ("ws://a:1".parse().unwrap(), 256, 1));
        assert!(!alone.deliver && alone.duration == Duration::from_secs(3));
        let two = load("bench mailbox --url ws://a:1 --deliver --recipient-url ws://b:1");
        assert!(two.deliver && two.recipient_url == "ws://b:1".parse().unwrap());
    }

    #[test]
    fn sizes_out_of_range_and_bad_addresses_are_refused() {
        for line in [
            "bench vault --in-flight 0",
            "bench vault --in-flight 1025",
            "bench vault --agent-url wss://a",
            "bench idle --connections 0",
            "bench idle --source-addresses 127.0.0.x",
            "bench floor --listen nowhere",
            "bench mailbox --payload 262145",
            "bench mailbox --url ws://a#key",
            "bench mailbox --deliver --mailboxes 3",
            "bench mailbox --recipient-url ws://b:1",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
