//! What a mailbox was answered to hold, it holds: through kills at any moment, of one node and of a cluster's, and on a
//! disk that fills up.
//!
//! `make torture` runs the kills for fifty rounds. `TORTURE_ROUNDS` and `TORTURE_SEED` set how many and which.

mod check;
pub mod client;
mod cluster;
mod doors;
mod full_disk;
mod load;
mod model;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio_util::sync::CancellationToken;

use self::check::check;
use self::doors::Doors;
use self::load::{RECIPIENTS, Round};
use self::model::Model;
use crate::support::{LONG_PATIENCE, Process, within};

/// Rounds when nobody says how many.
const ROUNDS: u64 = 3;

/// Messages that are stored in a round until its kill.
const STORED: std::ops::Range<usize> = 20..800;

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

/// Limits nothing.
const UNLIMITED: &[(&str, &str)] = &[
    ("RELAY_RATE_LIMIT", "10000000"),
    ("RELAY_RECOVERY_RATE_LIMIT", "10000000"),
    ("RELAY_ADDRESS_RATE_LIMIT", "100000000"),
    ("RELAY_CONNECTION_RATE_LIMIT", "100000000"),
    ("RELAY_MAX_BLOBS_PER_USER", "0"),
    ("RELAY_MAX_STORAGE_PER_USER", "0"),
    ("RELAY_MAX_SENDER_SHARE", "1"),
];

/// How a node is started that keeps what it stores in `directory`, and limits nothing.
fn settings(directory: &Path) -> Vec<(&'static str, &str)> {
    let own = [("RELAY_STORAGE_BACKEND", "rocksdb"), ("RELAY_DATA_DIR", directory.to_str().unwrap())];
    UNLIMITED.iter().copied().chain(own).collect()
}

async fn start(directory: &Path) -> Process {
    Process::start(&settings(directory)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_lose_nothing_that_was_stored_and_bring_back_nothing_that_was_deleted() {
    let (rounds, seed) = (variable("TORTURE_ROUNDS", ROUNDS), variable("TORTURE_SEED", rand::random()));
    eprintln!("TORTURE_ROUNDS={rounds} TORTURE_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let disk = tempfile::tempdir().unwrap();
    let model = Arc::new(Mutex::new(Model::default()));
    for number in 0..rounds {
        if rng.random() {
            // Most often in the midst of its recovery from the kill before.
            let after = Duration::from_millis(rng.random_range(0..200));
            Process::start_and_kill(&settings(disk.path()), after).await;
        }
        let mut process = start(disk.path()).await;
        check(&[process.public], &model, number, true).await.unwrap();
        let doors = Doors::new(1);
        doors.open(0, process.public);
        let round = Round { doors, number, model: model.clone(), over: CancellationToken::new() };
        let mut clients = round.clients(&mut rng);
        let enough = model.lock().tally.stored + rng.random_range(STORED);
        let killing = async {
            while model.lock().tally.stored < enough {
                tokio::select! {
                    // Nobody ends before the kill unless a promise is broken.
                    Some(ended) = clients.join_next() => ended.unwrap().unwrap(),
                    () = tokio::time::sleep(Duration::from_millis(1)) => {}
                }
            }
        };
        within(LONG_PATIENCE, "the load goes on", killing).await;
        round.doors.close(0);
        process.sigkill();
        process.ended().await;
        while let Some(ended) = within(LONG_PATIENCE, "the clients see the end", clients.join_next()).await {
            ended.unwrap().unwrap();
        }
    }
    let process = start(disk.path()).await;
    check(&[process.public], &model, rounds, true).await.unwrap();
    let tally = &model.lock().tally;
    eprintln!("{tally:#?}");
    let ends = RECIPIENTS * (usize::try_from(rounds).unwrap() + 1);
    assert!(tally.stored > ends && tally.deleted > ends, "nothing was done");
    assert!(tally.unanswered > 0 && tally.unsure_and_there + tally.unsure_and_gone > 0, "no kill met work in flight");
}
