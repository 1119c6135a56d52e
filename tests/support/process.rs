//! A node as operators run it: the binary, in a process of its own.

use std::net::{SocketAddr, UdpSocket};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use super::{LONG_PATIENCE, in_time, within};

/// What every process begins with; only ports and limits differ from the defaults.
const DEFAULTS: &[(&str, &str)] = &[
    ("RELAY_STORAGE_BACKEND", "memory"),
    ("RELAY_LISTEN_ADDR", "127.0.0.1:0"),
    ("RELAY_GRPC_ADDR", "127.0.0.1:0"),
    ("RELAY_ADMIN_ADDR", "127.0.0.1:0"),
    ("RELAY_P2P_ENABLED", "false"),
    ("RELAY_LOG_LEVEL", "error"),
    ("RELAY_VAULT_RATE_LIMIT", "1000000"),
    ("RELAY_ADDRESS_RATE_LIMIT", "1000000"),
    ("RELAY_CONNECTION_RATE_LIMIT", "1000000"),
    ("RELAY_DRAIN_TIMEOUT_SECS", "10"),
];

/// A running process; killed when dropped.
pub struct Process {
    /// Where clients reach it.
    pub public: SocketAddr,
    /// Where other nodes gossip with it.
    pub gossip: SocketAddr,
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    log: Option<Lines<BufReader<ChildStderr>>>,
}

impl Process {
    /// Starts the binary with `settings` as its environment and waits until it serves.
    pub async fn start(settings: &[(&str, &str)]) -> Self {
        Self::launch(settings, Stdio::inherit()).await
    }

    /// The same, and [`Process::log_line`] gives what it logs.
    pub async fn start_with_log(settings: &[(&str, &str)]) -> Self {
        Self::launch(settings, Stdio::piped()).await
    }

    /// Starts the binary, and kills it so long afterwards, be it ready or not.
    pub async fn start_and_kill(settings: &[(&str, &str)], after: Duration) {
        let mut child = spawn(settings, free_udp_address(), Stdio::inherit());
        tokio::time::sleep(after).await;
        within(LONG_PATIENCE, "the process ends", child.kill()).await.unwrap();
    }

    async fn launch(settings: &[(&str, &str)], log: Stdio) -> Self {
        let gossip = free_udp_address();
        let mut child = spawn(settings, gossip, log);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let log = child.stderr.take().map(|log| BufReader::new(log).lines());
        let public = within(LONG_PATIENCE, "the process says where it serves", async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if let Some(address) = line.strip_prefix("DCP Relay running on ") {
                    return address.parse().unwrap();
                }
            }
            panic!("the process ended before it served");
        })
        .await;
        Self { public, gossip, child, lines, log }
    }

    /// The next line on its standard output; `None` when it has ended.
    pub async fn line(&mut self) -> Option<String> {
        in_time("the process prints a line", self.lines.next_line()).await.unwrap()
    }

    /// The next line of its log; `None` when it has ended.
    pub async fn log_line(&mut self) -> Option<String> {
        in_time("the process logs a line", self.log.as_mut().unwrap().next_line()).await.unwrap()
    }

    /// Asks it to leave service.
    pub fn sigterm(&self) {
        self.signal("TERM");
    }

    /// Kills it.
    pub fn sigkill(&self) {
        self.signal("KILL");
    }

    /// Makes it stand still.
    pub fn sigstop(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub fn sigcont(&self) {
        self.signal("CONT");
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        within(LONG_PATIENCE, "the process ends", self.child.wait()).await.unwrap()
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        let sent = std::process::Command::new("kill").args(["-s", name, &pid]).status().unwrap();
        assert!(sent.success(), "SIG{name} was not sent");
    }
}

fn spawn(settings: &[(&str, &str)], gossip: SocketAddr, log: Stdio) -> Child {
    Command::new(env!("CARGO_BIN_EXE_waystation"))
        .env_clear()
        .envs(DEFAULTS.iter().copied())
        .env("RELAY_GOSSIP_ADDR", gossip.to_string())
        .envs(settings.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// A port that was free a moment ago: a seed must be known before the process that seeds with it runs.
fn free_udp_address() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
