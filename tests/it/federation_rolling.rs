//! The nodes of two clusters, peers of one another, are restarted one after the other in both, while clients use all of
//! them: what has been accepted does not fail, and what was stored is not lost.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use parking_lot::Mutex;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cluster_rolling::{Balancer, Tally, VAULTS, agents, vault};
use crate::mailbox_torture::client::{Client, Cut, Heard};
use crate::support::cluster::{figure_is, figures_sum_to, live_nodes_are};
use crate::support::gate::Gate;
use crate::support::{LONG_PATIENCE, Process, Seat, id, within};

/// Agents of each region.
const AGENTS: usize = 2;

/// How long clients wait before they connect again.
const PAUSE: Duration = Duration::from_millis(20);

/// How long a recipient listens before it looks at whether it is over.
const LISTEN: Duration = Duration::from_millis(200);

/// Three processes of one region.
struct Region {
    /// The figure that says whether a node is linked to the peer.
    linked: String,
    seats: Vec<Seat>,
    processes: Vec<Process>,
}

impl Region {
    /// A region on `net` whose peer is called at `peer`.
    async fn start(net: u8, peer: SocketAddr) -> Self {
        let (name, peer) = (format!("region-{net}"), format!("http://{peer}"));
        let settings = [
            ("RELAY_REGION", name.as_str()),
            ("RELAY_FEDERATION_ENABLED", "true"),
            ("RELAY_FEDERATION_PEERS", &peer),
            ("RELAY_RATE_LIMIT", "10000000"),
            ("RELAY_MAX_SENDER_SHARE", "1"),
        ];
        let seats = Seat::cluster(net, &settings);
        let processes = join_all(seats.iter().map(Seat::start)).await;
        Self { linked: format!(r#"waystation_federation_up{{peer="{peer}"}}"#), seats, processes }
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.processes.iter().map(|process| process.public).collect()
    }

    /// Waits until all are there, linked to one another and to the peer.
    async fn meets(&self) {
        live_nodes_are(self.addresses(), 3).await;
        for address in self.addresses() {
            figure_is(address, "waystation_links_up", |links| links == 2.0).await;
            figure_is(address, &self.linked, |up| up == 1.0).await;
        }
    }

    async fn leaves(&mut self, node: usize) {
        self.processes[node].sigterm();
        assert!(self.processes[node].ended().await.success());
    }

    async fn returns(&mut self, node: usize) {
        self.processes[node] = self.seats[node].start().await;
        self.meets().await;
    }
}

/// Mail between clients that take the next node each time they connect.
struct Mail {
    doors: Vec<SocketAddr>,
    turn: AtomicUsize,
    /// What was answered `Stored`, and what has come.
    stored: Mutex<HashSet<String>>,
    came: Mutex<HashSet<String>>,
    again: AtomicUsize,
}

impl Mail {
    async fn connect(&self, client: &str) -> Result<Client, Cut> {
        let door = self.doors[self.turn.fetch_add(1, Ordering::Relaxed) % self.doors.len()];
        Client::connect(door, &json!({"type": "Handshake", "client_id": client})).await
    }

    /// Stores one message after the other, each until it is answered.
    async fn send(self: Arc<Self>, from: char, stop: CancellationToken) {
        let mut number = 0;
        while !stop.is_cancelled() {
            // A connection ends whenever its node is restarted.
            self.send_some(from, &mut number, &stop).await.unwrap_or(());
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn send_some(&self, from: char, number: &mut usize, stop: &CancellationToken) -> Result<(), Cut> {
        let mut client = self.connect(&id(from)).await?;
        while !stop.is_cancelled() {
            let label = format!("{from}{number}");
            client.update(&label, &recipient(*number % 2), label.as_bytes()).await?;
            // What it had stored at a node that was restarted before it could say so may come first.
            loop {
                if let Heard::Status { message_id, status } = client.hear().await?
                    && message_id == label
                {
                    assert_ne!(status, "Failed", "{label}");
                    if status == "Stored" {
                        break;
                    }
                }
            }
            self.stored.lock().insert(label);
            *number += 1;
        }
        Ok(())
    }

    /// Receives and acknowledges until it is over and everything has come.
    async fn receive(self: Arc<Self>, number: usize, stop: CancellationToken) {
        while !(stop.is_cancelled() && self.is_complete()) {
            self.receive_some(number, &stop).await.unwrap_or(());
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn receive_some(&self, number: usize, stop: &CancellationToken) -> Result<(), Cut> {
        let mut client = self.connect(&recipient(number)).await?;
        while !(stop.is_cancelled() && self.is_complete()) {
            // Who is silent for long connects somewhere else, as people do.
            let Ok(heard) = tokio::time::timeout(LISTEN, client.hear()).await else {
                if stop.is_cancelled() { return Ok(()) } else { continue }
            };
            if let Heard::Blob { id, body } = heard? {
                client.acknowledge(&id, "ReceivedByRecipient").await?;
                if !self.came.lock().insert(String::from_utf8(body).unwrap()) {
                    self.again.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }

    fn is_complete(&self) -> bool {
        self.stored.lock().is_subset(&self.came.lock())
    }
}

fn recipient(number: usize) -> String {
    id(['1', '2'][number])
}

/// Waits until so much more is done.
async fn goes_on(what: &str, count: impl Fn() -> usize) {
    let before = count();
    within(LONG_PATIENCE, what, async {
        while count() < before + 50 {
            tokio::time::sleep(PAUSE).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_restarts_of_two_regions_lose_no_blob_and_no_accepted_request() {
    let nets = [79, 80];
    let mut gates = Vec::new();
    for net in nets {
        gates.push(Gate::open(Seat::federated(net)).await);
    }
    let mut regions =
        vec![Region::start(nets[0], gates[1].address).await, Region::start(nets[1], gates[0].address).await];
    for region in &regions {
        region.meets().await;
    }

    let (stop, tally) = (CancellationToken::new(), Arc::new(Tally::default()));
    let balancers: Vec<_> = regions.iter().map(|region| Balancer::new(&region.addresses())).collect();
    let mut vaults: Vec<JoinHandle<()>> = Vec::new();
    for (number, region) in regions.iter().enumerate() {
        let first = number * VAULTS;
        vaults.extend((first..first + VAULTS).map(|n| tokio::spawn(vault(n, balancers[number].clone()))));
        figures_sum_to(&region.addresses(), "waystation_vault_sockets", VAULTS as f64).await;
    }
    let mut asking = Vec::new();
    for (number, balancer) in balancers.iter().enumerate() {
        let name = format!("agent_{number}");
        // The vaults of one region, and those of the other.
        for first in [0, VAULTS] {
            asking.extend(agents((&name, AGENTS), first, balancer, &tally, &stop));
        }
    }
    let mail = Arc::new(Mail {
        doors: regions.iter().flat_map(Region::addresses).collect(),
        turn: AtomicUsize::new(0),
        stored: Mutex::default(),
        came: Mutex::default(),
        again: AtomicUsize::new(0),
    });
    let senders: Vec<_> = ['a', 'b', 'c'].map(|from| tokio::spawn(mail.clone().send(from, stop.clone()))).into();
    let recipients: Vec<_> = [0, 1].map(|number| tokio::spawn(mail.clone().receive(number, stop.clone()))).into();

    let progress = async |when: &str| {
        goes_on(&format!("requests are answered {when}"), || tally.answered.load(Ordering::Relaxed)).await;
        goes_on(&format!("blobs are stored {when}"), || mail.stored.lock().len()).await;
        goes_on(&format!("blobs come {when}"), || mail.came.lock().len()).await;
    };
    progress("at the start").await;
    for node in 0..3 {
        join_all(regions.iter_mut().map(|region| region.leaves(node))).await;
        progress("while nodes are away").await;
        join_all(regions.iter_mut().map(|region| region.returns(node))).await;
        progress("while they are back").await;
    }
    stop.cancel();
    for agent in asking {
        within(LONG_PATIENCE, "an agent has all its answers", agent).await.unwrap().unwrap();
    }
    for client in senders.into_iter().chain(recipients) {
        within(LONG_PATIENCE, "everything that was stored has come", client).await.unwrap();
    }
    vaults.iter().for_each(JoinHandle::abort);
    let (stored, again) = (mail.stored.lock().len(), mail.again.load(Ordering::Relaxed));
    let answered = tally.answered.load(Ordering::Relaxed);
    eprintln!("{answered} answered, {stored} stored and come, {again} of them more than once");
    assert!(tally.connections.load(Ordering::Relaxed) > 4 * AGENTS, "nobody was sent away: this tests nothing");
}
