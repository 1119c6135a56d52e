//! Three processes are restarted one after the other while vaults and agents use them: what has been accepted
//! does not fail.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use waystation::bench::client::{AgentClient, ConnectOptions, VaultClient};
use waystation::bench::frames::{Head, error_of};
use waystation::bench::identity::VaultIdentity;
use waystation::bench::target::RelayUrl;

use crate::support::cluster::{figures_sum_to, live_nodes_are};
use crate::support::{LONG_PATIENCE, Seat, until, within};

pub const VAULTS: usize = 4;

const AGENTS: usize = 6;

/// Requests that an agent has in flight.
const AT_ONCE: usize = 4;

/// How long clients wait before they connect again, and agents between two rounds.
const PAUSE: Duration = Duration::from_millis(20);

/// How long an agent waits for a frame. Far more than any of them should take.
const LOST: Duration = Duration::from_secs(20);

fn vault_name(n: usize) -> String {
    format!("vault_{n}")
}

/// The nodes as a balancer in front of them has them: clients take the next one each time.
#[derive(Clone)]
pub struct Balancer {
    urls: Arc<Vec<RelayUrl>>,
    next: Arc<AtomicUsize>,
}

impl Balancer {
    pub fn new(addresses: &[SocketAddr]) -> Self {
        let urls = addresses.iter().map(|address| format!("ws://{address}").parse().unwrap()).collect();
        Self { urls: Arc::new(urls), next: Arc::default() }
    }

    fn url(&self) -> &RelayUrl {
        &self.urls[self.next.fetch_add(1, Ordering::Relaxed) % self.urls.len()]
    }
}

/// Answers everything, and connects again whenever it is cut off.
pub async fn vault(n: usize, balancer: Balancer) {
    let identity = VaultIdentity::new(vault_name(n), &[u8::try_from(n).unwrap(); 32]).unwrap();
    loop {
        if let Ok(mut vault) = VaultClient::connect(balancer.url(), &identity, ConnectOptions::BUSY).await {
            while let Ok(frame) = vault.next().await {
                let head = Head::read(&frame).unwrap();
                if let ("request", Some(id)) = (head.kind, head.payload.request_id)
                    && vault.respond(id, "EjRW").await.is_err()
                {
                    break;
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What became of an agent's requests.
#[derive(Debug, Default)]
pub struct Tally {
    pub answered: AtomicUsize,
    pub connections: AtomicUsize,
}

/// An agent that goes on until it is told to stop; then it waits for what is still in flight.
struct Agent {
    name: String,
    tally: Arc<Tally>,
    /// The first of the vaults that it asks.
    vaults: usize,
    /// The vault of each request that has no answer.
    open: HashMap<String, usize>,
    accepted: HashSet<String>,
    asked: usize,
}

impl Agent {
    /// # Errors
    /// What happened to a request that must not happen.
    async fn run(mut self, balancer: Balancer, stop: CancellationToken) -> Result<(), String> {
        while !(stop.is_cancelled() && self.open.is_empty()) {
            if let Ok(mut socket) = AgentClient::connect(balancer.url(), ConnectOptions::BUSY).await {
                self.tally.connections.fetch_add(1, Ordering::Relaxed);
                self.use_it(&mut socket, &stop).await?;
                if let Some(lost) = self.accepted.iter().next() {
                    return Err(format!("{lost} was accepted, and its socket closed without a word on it"));
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Asks, until the relay closes or there is nothing more to ask.
    async fn use_it(&mut self, socket: &mut AgentClient, stop: &CancellationToken) -> Result<(), String> {
        // What was not accepted is asked again, as an agent's user would.
        for (id, vault) in &self.open {
            if socket.request(&vault_name(*vault), id, "EjRW").await.is_err() {
                return Ok(());
            }
        }
        loop {
            while self.open.len() < AT_ONCE && !stop.is_cancelled() {
                self.asked += 1;
                let (id, vault) = (format!("{}_{}", self.name, self.asked), self.vaults + self.asked % VAULTS);
                self.open.insert(id.clone(), vault);
                if socket.request(&vault_name(vault), &id, "EjRW").await.is_err() {
                    return Ok(());
                }
            }
            if self.open.is_empty() {
                return Ok(());
            }
            match tokio::time::timeout(LOST, socket.next()).await {
                Ok(Ok(frame)) => self.hear(&frame)?,
                Ok(Err(_)) => return Ok(()),
                Err(_) => return Err(format!("nothing came for {:?}", self.open.keys())),
            }
        }
    }

    fn hear(&mut self, frame: &str) -> Result<(), String> {
        let head = Head::read(frame).unwrap();
        let id = head.payload.request_id.unwrap_or_default().to_owned();
        match head.kind {
            "ack" => drop(self.accepted.insert(id)),
            "response" => {
                self.accepted.remove(&id);
                if self.open.remove(&id).is_some() {
                    self.tally.answered.fetch_add(1, Ordering::Relaxed);
                }
            }
            // A node that leaves may refuse what is new; it closes soon, and then this is asked again.
            "error" if head.payload.code == Some("RELAY_UNAVAILABLE") && !self.accepted.contains(&id) => {}
            // No vault is away for longer than a moment.
            _ => return Err(format!("{id} (accepted: {}): {:?}", self.accepted.contains(&id), error_of(frame))),
        }
        Ok(())
    }
}

/// So many agents, whose names begin with `name`, that ask the vaults from number `vaults` on.
pub fn agents(
    (name, count): (&str, usize),
    vaults: usize,
    balancer: &Balancer,
    tally: &Arc<Tally>,
    stop: &CancellationToken,
) -> Vec<JoinHandle<Result<(), String>>> {
    let agent = |n| Agent {
        name: format!("{name}_{vaults}_{n}"),
        tally: tally.clone(),
        vaults,
        open: HashMap::new(),
        accepted: HashSet::new(),
        asked: n,
    };
    (0..count).map(|n| tokio::spawn(agent(n).run(balancer.clone(), stop.clone()))).collect()
}

#[tokio::test]
async fn a_rolling_restart_loses_no_accepted_request() {
    let seats = Seat::cluster(77, &[]);
    let mut processes = Vec::new();
    for seat in &seats {
        processes.push(seat.start().await);
    }
    let addresses: Vec<_> = processes.iter().map(|process| process.public).collect();
    live_nodes_are(addresses.clone(), 3).await;

    let (balancer, tally, stop) = (Balancer::new(&addresses), Arc::new(Tally::default()), CancellationToken::new());
    let vaults: Vec<_> = (0..VAULTS).map(|n| tokio::spawn(vault(n, balancer.clone()))).collect();
    figures_sum_to(&addresses, "waystation_vault_sockets", VAULTS as f64).await;
    let agents = agents(("agent", AGENTS), 0, &balancer, &tally, &stop);
    let progress = async |what: &str| {
        let before = tally.answered.load(Ordering::Relaxed);
        until(what, || tally.answered.load(Ordering::Relaxed) > before + 100).await;
    };
    progress("requests are answered at the start").await;
    for (seat, process) in seats.iter().zip(&mut processes) {
        process.sigterm();
        assert!(process.ended().await.success());
        progress("requests are answered while a node is away").await;
        *process = seat.start().await;
        live_nodes_are(addresses.clone(), 3).await;
        progress("requests are answered while it is back").await;
    }
    stop.cancel();
    for agent in agents {
        within(LONG_PATIENCE, "an agent has all its answers", agent).await.unwrap().unwrap();
    }
    assert!(tally.connections.load(Ordering::Relaxed) > AGENTS, "nobody was sent away: this tests nothing");
    for vault in vaults {
        vault.abort();
    }
}
