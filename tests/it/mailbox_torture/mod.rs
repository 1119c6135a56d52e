//! What a mailbox was answered to hold, it holds: through kills at any moment, and on a disk that fills up.
//!
//! `make torture` runs the kills for fifty rounds. `TORTURE_ROUNDS` and `TORTURE_SEED` set how many and which.

mod client;
mod full_disk;
mod load;
mod model;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::client::{Client, Heard};
use self::load::{RECIPIENTS, Round, SENDERS, body, handshake, label_of, mailbox, plain};
use self::model::Model;
use crate::support::{LONG_PATIENCE, Process, id, within};

/// Rounds when nobody says how many.
const ROUNDS: u64 = 3;

/// Messages that are stored in a round until its kill.
const STORED: std::ops::Range<usize> = 20..800;

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

/// How a node is started that keeps what it stores in `directory`, and limits nothing.
fn settings(directory: &Path) -> [(&'static str, &str); 9] {
    [
        ("RELAY_STORAGE_BACKEND", "rocksdb"),
        ("RELAY_DATA_DIR", directory.to_str().unwrap()),
        ("RELAY_RATE_LIMIT", "10000000"),
        ("RELAY_RECOVERY_RATE_LIMIT", "10000000"),
        ("RELAY_ADDRESS_RATE_LIMIT", "100000000"),
        ("RELAY_CONNECTION_RATE_LIMIT", "100000000"),
        ("RELAY_MAX_BLOBS_PER_USER", "0"),
        ("RELAY_MAX_STORAGE_PER_USER", "0"),
        ("RELAY_MAX_SENDER_SHARE", "1"),
    ]
}

async fn start(directory: &Path) -> Process {
    Process::start(&settings(directory)).await
}

/// Compares every mailbox with the model while nothing is in flight.
async fn check(address: SocketAddr, model: &Mutex<Model>, round: u64) -> Result<(), String> {
    let cut = |_| "the connection of the check ended".to_owned();
    let mut sender = Client::connect(address, &plain(&id('d'), false)).await.map_err(cut)?;
    for recipient in 0..RECIPIENTS {
        // What comes last shows that all has come.
        let last = format!("last-{round}-{recipient}");
        model.lock().sends(&last, recipient);
        sender.update(&last, &mailbox(recipient), &body(&last)).await.map_err(cut)?;
        while !matches!(sender.hear().await.map_err(cut)?, Heard::Status { status, .. } if status == "Stored") {}
        model.lock().stored(&last);

        let mut client = Client::connect(address, &handshake(recipient)).await.map_err(cut)?;
        let mut there = HashSet::new();
        while !there.contains(&last) {
            let Heard::Blob { id, body } = client.hear().await.map_err(cut)? else {
                return Err("a recipient was sent something else than its blobs".to_owned());
            };
            let label = label_of(&body)?;
            model.lock().came(recipient, &label, &id, false)?;
            if label == last {
                model.lock().acknowledges(&last);
                client.acknowledge(&id, "Delivered").await.map_err(cut)?;
            }
            if !there.insert(label.clone()) {
                return Err(format!("{label} came twice on one connection"));
            }
        }
        client.settle().await.map_err(cut)?;
        match client.hear().await.map_err(cut)? {
            Heard::Settled => {}
            other => return Err(format!("after all there is, came {other:?}")),
        }
        let mut model = model.lock();
        model.holds(recipient, &there)?;
        model.deleted([last]);
    }
    Ok(())
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
        check(process.public, &model, number).await.unwrap();
        let round = Round { address: process.public, number, model: model.clone(), killed: CancellationToken::new() };
        let mut clients = JoinSet::new();
        for client in 0..SENDERS {
            clients.spawn(round.clone().sender(client, rng.random()));
        }
        for client in 0..RECIPIENTS {
            clients.spawn(round.clone().recipient(client, rng.random()));
        }
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
        round.killed.cancel();
        process.sigkill();
        process.ended().await;
        while let Some(ended) = within(LONG_PATIENCE, "the clients see the end", clients.join_next()).await {
            ended.unwrap().unwrap();
        }
    }
    let process = start(disk.path()).await;
    check(process.public, &model, rounds).await.unwrap();
    let tally = &model.lock().tally;
    eprintln!("{tally:#?}");
    let ends = RECIPIENTS * (usize::try_from(rounds).unwrap() + 1);
    assert!(tally.stored > ends && tally.deleted > ends, "nothing was done");
    assert!(tally.unanswered > 0 && tally.unsure_and_there + tally.unsure_and_gone > 0, "no kill met work in flight");
}
