//! Programs under test, each a process of its own.

#![allow(dead_code, reason = "each benchmark uses its part")]

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use std::{env, io};

use anyhow::{Context, bail};
use waystation::bench::target::RelayUrl;

/// Longest wait for a program to accept connections, and for two nodes to find each other.
pub const START_TIMEOUT: Duration = Duration::from_secs(15);

/// A program under test. It is killed when this is dropped.
pub struct Server {
    /// What it is called in messages.
    pub name: &'static str,
    /// The process.
    pub child: Child,
    /// Where clients reach it.
    pub url: RelayUrl,
    /// The same, as text.
    pub address: String,
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
    pub fn start(name: &'static str, arguments: &[&str], settings: &[(&str, &str)], port: u16) -> anyhow::Result<Self> {
        let mut program = Command::new(env!("CARGO_BIN_EXE_waystation"));
        program.args(arguments).envs(settings.iter().copied());
        Self::run(name, program, port)
    }

    /// This very benchmark as a program of its own, which serves on the port that it is given behind these arguments.
    pub fn own(name: &'static str, arguments: &[&str]) -> anyhow::Result<Self> {
        let (mut program, port) = (Command::new(env::current_exe()?), free_port()?);
        program.args(arguments).arg(port.to_string());
        Self::run(name, program, port)
    }

    fn run(name: &'static str, mut program: Command, port: u16) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let child = program
            .env("RELAY_DATA_DIR", directory.path())
            .current_dir(directory.path())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let address = format!("ws://127.0.0.1:{port}");
        let mut server = Self { name, child, url: address.parse()?, address, _directory: directory };
        server.await_port(port)?;
        Ok(server)
    }

    /// A figure of the program's own, one without labels.
    pub fn figure(&self, name: &str) -> anyhow::Result<f64> {
        let mut stream = TcpStream::connect(self.address.trim_start_matches("ws://"))?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let text = io::read_to_string(stream)?;
        let mut values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(values.next().with_context(|| format!("{} says nothing of {name}", self.name))?.trim().parse()?)
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

    pub fn floor() -> anyhow::Result<Self> {
        let port = free_port()?;
        Self::start("the floor", &["bench", "floor", "--listen", &local(port)], &[], port)
    }

    /// A relay that limits nothing and stores nothing on disk; `gossip` is its own port, `seed` that of another.
    pub fn relay(name: &'static str, gossip: u16, seed: Option<u16>) -> anyhow::Result<Self> {
        let seeds = seed.map(local).unwrap_or_default();
        Self::serve(name, gossip, &[("RELAY_STORAGE_BACKEND", "memory"), ("RELAY_CLUSTER_SEEDS", &seeds)])
    }

    /// The same in a region of its own, which others call at the port `federation`, and which calls that at `peer`.
    pub fn relay_in(
        (name, region): (&'static str, &str),
        (gossip, seed): (u16, Option<u16>),
        (federation, peer): (u16, u16),
    ) -> anyhow::Result<Self> {
        let (seeds, peer) = (seed.map(local).unwrap_or_default(), format!("http://{}", local(peer)));
        let settings = [
            ("RELAY_STORAGE_BACKEND", "memory"),
            ("RELAY_CLUSTER_SEEDS", &seeds),
            ("RELAY_REGION", region),
            ("RELAY_FEDERATION_ENABLED", "true"),
            ("RELAY_FEDERATION_ADDR", &local(federation)),
            ("RELAY_FEDERATION_PEERS", &peer),
        ];
        Self::serve(name, gossip, &settings)
    }

    /// A relay that serves libp2p peers on `port`, as many as like, and limits nothing; `gossip` is its own port, `seed` that
    /// of another.
    pub fn relay_for_peers(name: &'static str, (gossip, seed): (u16, Option<u16>), port: u16) -> anyhow::Result<Self> {
        let (seeds, listen) = (seed.map(local).unwrap_or_default(), format!("/ip4/127.0.0.1/tcp/{port}"));
        let settings = [
            ("RELAY_STORAGE_BACKEND", "memory"),
            ("RELAY_CLUSTER_SEEDS", &seeds),
            ("RELAY_P2P_ENABLED", "true"),
            ("RELAY_P2P_LISTEN", &listen),
            ("RELAY_P2P_ADDRESS_RATE_LIMIT", "100000000"),
            ("RELAY_P2P_ADDRESS_MAX_CONNECTIONS", "10000"),
            ("RELAY_P2P_ADDRESS_MAX_RESERVATIONS", "10000"),
            ("RELAY_P2P_ADDRESS_MAX_CIRCUITS", "10000"),
        ];
        Self::serve(name, gossip, &settings)
    }

    /// A relay of its own that stores on disk, as much as anybody likes.
    pub fn relay_on_disk(name: &'static str) -> anyhow::Result<Self> {
        let settings = [
            ("RELAY_RATE_LIMIT", "10000000"),
            ("RELAY_MAX_BLOBS_PER_USER", "0"),
            ("RELAY_MAX_STORAGE_PER_USER", "0"),
            ("RELAY_MAX_STORAGE_BYTES", "1099511627776"),
        ];
        Self::serve(name, free_port()?, &settings)
    }

    fn serve(name: &'static str, gossip: u16, further: &[(&str, &str)]) -> anyhow::Result<Self> {
        let port = free_port()?;
        let settings = [
            ("RELAY_LISTEN_ADDR", local(port)),
            ("RELAY_GRPC_ADDR", local(free_port()?)),
            ("RELAY_GOSSIP_ADDR", local(gossip)),
            ("RELAY_ADMIN_ADDR", local(0)),
            ("RELAY_P2P_ENABLED", "false".to_owned()),
            ("RELAY_VAULT_RATE_LIMIT", "10000000".into()),
            ("RELAY_ADDRESS_RATE_LIMIT", "100000000".into()),
            ("RELAY_CONNECTION_RATE_LIMIT", "100000000".into()),
        ];
        let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
        Self::start(name, &["serve"], &[&settings, further].concat(), port)
    }
}

fn described(status: ExitStatus) -> String {
    status.code().map_or_else(|| status.to_string(), |code| format!("exit code {code}; its last words are above"))
}

pub fn local(port: u16) -> String {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string()
}

pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
