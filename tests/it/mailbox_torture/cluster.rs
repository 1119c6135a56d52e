//! The same while two of a cluster's three nodes are killed in turn, and clients move to those that are left.
//!
//! What was answered `Stored` comes until it is acknowledged, from whichever node, once all nodes are back. What was
//! acknowledged, and something said after it on that connection was answered, never comes again; nor does what a purge
//! that was answered deleted. There are three exceptions, while nodes are killed, and none once all are back:
//!
//! - Whose acknowledgment was in flight when its connection ended may come again, on another connection.
//! - What was read ahead when a purge came may still come, on the connection that purged.
//! - A message whose sender lost its node before it read `Stored`, and sent it to another one, may have been stored by
//!   both. If one copy was delivered, or acknowledged too, and its node is dead then, nobody knows, and the other copy
//!   comes too. What is acknowledged does not come any more once that node is back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::check::check;
use super::doors::Doors;
use super::load::{RECIPIENTS, Round};
use super::model::Model;
use super::{UNLIMITED, variable};
use crate::support::cluster::{figure_is, live_nodes_are};
use crate::support::{LONG_PATIENCE, Process, Seat, within};

/// Rounds when nobody says how many: two kills each.
const ROUNDS: u64 = 2;

/// Messages that are stored between two events.
const STORED: std::ops::Range<usize> = 20..300;

/// A cluster whose nodes are killed and started again.
struct Victims {
    seats: Vec<Seat>,
    processes: Vec<Option<Process>>,
    doors: Doors,
}

impl Victims {
    async fn start() -> Self {
        let seats = Seat::cluster(78, UNLIMITED);
        let processes: Vec<_> = join_all(seats.iter().map(Seat::start)).await.into_iter().map(Some).collect();
        let this = Self { doors: Doors::new(seats.len()), seats, processes };
        for node in 0..this.seats.len() {
            this.doors.open(node, this.address(node));
        }
        this.all_meet().await;
        this
    }

    fn address(&self, node: usize) -> SocketAddr {
        self.processes[node].as_ref().unwrap().public
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        (0..self.seats.len()).map(|node| self.address(node)).collect()
    }

    async fn all_meet(&self) {
        live_nodes_are(self.addresses(), 3).await;
        for address in self.addresses() {
            figure_is(address, "waystation_links_up", |links| links == 2.0).await;
        }
    }

    async fn kill(&mut self, node: usize) {
        let mut process = self.processes[node].take().unwrap();
        self.doors.close(node);
        process.sigkill();
        process.ended().await;
    }

    /// Starts a node again, once in two times after it was killed in the midst of its recovery.
    async fn bring_back(&mut self, node: usize, rng: &mut StdRng) {
        if rng.random() {
            let after = Duration::from_millis(rng.random_range(0..200));
            Process::start_and_kill(&self.seats[node].settings(), after).await;
        }
        self.processes[node] = Some(self.seats[node].start().await);
        self.doors.open(node, self.address(node));
    }
}

/// Waits until some more messages are stored.
async fn go_on(round: &Round, clients: &mut JoinSet<Result<(), String>>, rng: &mut StdRng) {
    let enough = round.model.lock().tally.stored + rng.random_range(STORED);
    let going = async {
        while round.model.lock().tally.stored < enough {
            tokio::select! {
                // Nobody ends before the round does unless a promise is broken.
                Some(ended) = clients.join_next() => ended.unwrap().unwrap(),
                () = tokio::time::sleep(Duration::from_millis(1)) => {}
            }
        }
    };
    within(LONG_PATIENCE, "the load goes on", going).await;
}

/// Kills two of the nodes in turn, the second once in three times while the first is away.
async fn kill_two(victims: &mut Victims, round: &Round, clients: &mut JoinSet<Result<(), String>>, rng: &mut StdRng) {
    let spared = rng.random_range(0..victims.seats.len());
    let (first, second) = ((spared + 1) % 3, (spared + 2) % 3);
    let both_away = rng.random_bool(0.3);
    go_on(round, clients, rng).await;
    victims.kill(first).await;
    go_on(round, clients, rng).await;
    if both_away {
        victims.kill(second).await;
        go_on(round, clients, rng).await;
    }
    victims.bring_back(first, rng).await;
    if !both_away {
        victims.all_meet().await;
        go_on(round, clients, rng).await;
        victims.kill(second).await;
        go_on(round, clients, rng).await;
    }
    victims.bring_back(second, rng).await;
    victims.all_meet().await;
    go_on(round, clients, rng).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_two_of_three_nodes_lose_nothing_and_bring_back_nothing() {
    let (rounds, seed) = (variable("TORTURE_ROUNDS", ROUNDS), variable("TORTURE_SEED", rand::random()));
    eprintln!("TORTURE_ROUNDS={rounds} TORTURE_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let model = Arc::new(Mutex::new(Model::default()));
    let mut victims = Victims::start().await;
    for number in 0..rounds {
        let (doors, over) = (victims.doors.clone(), CancellationToken::new());
        let round = Round { doors, number, model: model.clone(), over };
        let mut clients = round.clients(&mut rng);
        kill_two(&mut victims, &round, &mut clients, &mut rng).await;
        round.over.cancel();
        while let Some(ended) = within(LONG_PATIENCE, "the clients have their answers", clients.join_next()).await {
            ended.unwrap().unwrap();
        }
        check(&victims.addresses(), &model, number, false).await.unwrap();
    }
    let tally = &model.lock().tally;
    eprintln!("{tally:#?}");
    let ends = RECIPIENTS * 3 * usize::try_from(rounds).unwrap();
    assert!(tally.stored > 2 * ends && tally.deleted > 2 * ends, "nothing was done");
    assert!(tally.put_twice > 0 && tally.unsure_and_there + tally.unsure_and_gone > 0, "no kill met work in flight");
}
