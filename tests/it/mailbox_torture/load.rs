//! Senders that pipeline, and recipients that read, acknowledge some, purge now and then, and come and go.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::client::{Client, Cut, Heard};
use super::doors::{Door, Doors};
use super::model::{MayBe, Model};
use crate::support::id;
use crate::support::mailbox::{proof, proven_id, with};

const SENDERS: usize = 3;

pub const RECIPIENTS: usize = 3;

/// Messages of a sender without an answer: as many as share a commit, and some that wait for it.
const IN_FLIGHT: usize = 80;

/// The key of the recipient that proves who it is: the first.
const SEED: u8 = 77;

/// The name of a recipient's mailbox.
pub fn mailbox(recipient: usize) -> String {
    if recipient == 0 { proven_id(SEED) } else { id(['0', '1', '2'][recipient]) }
}

/// How a recipient connects: the first with proof, the last without a word to senders.
pub fn handshake(recipient: usize) -> Value {
    match recipient {
        0 => proof(SEED),
        _ => plain(&mailbox(recipient), recipient == RECIPIENTS - 1),
    }
}

/// How anybody else connects.
pub fn plain(client: &str, quiet: bool) -> Value {
    with(json!({"type": "Handshake", "client_id": client}), json!({"suppress_presence": quiet}))
}

/// The body of a message: its name, and up to 6 KiB after it, so that some lie in the store's files for big values.
pub fn body(label: &str) -> Vec<u8> {
    let number = label.bytes().fold(7_usize, |sum, byte| sum * 31 % 65_521 + usize::from(byte));
    let pad = if number.is_multiple_of(12) { number % 6144 } else { number % 100 };
    let mut body = format!("{label}\n").into_bytes();
    body.extend((0..pad).map(|n| u8::try_from(n * number % 256).unwrap()));
    body
}

/// The name of the message whose body this is, which must be whole.
pub fn label_of(whole: &[u8]) -> Result<String, String> {
    let name = whole.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let label = String::from_utf8_lossy(name).into_owned();
    if body(&label) == whole { Ok(label) } else { Err(format!("{label} is not what was sent: {whole:?}")) }
}

/// What the clients of one round share.
#[derive(Clone)]
pub struct Round {
    pub doors: Doors,
    pub number: u64,
    pub model: Arc<Mutex<Model>>,
    /// Senders are to wait for their answers, and recipients to have their acknowledgments answered, and to end.
    pub over: CancellationToken,
}

/// Why a client stopped.
#[derive(Debug)]
pub enum Stop {
    Cut,
    Broken(String),
}

impl From<Cut> for Stop {
    fn from(Cut: Cut) -> Self {
        Self::Cut
    }
}

impl From<String> for Stop {
    fn from(promise: String) -> Self {
        Self::Broken(promise)
    }
}

impl Round {
    /// All senders and recipients, at work.
    pub fn clients(&self, rng: &mut StdRng) -> JoinSet<Result<(), String>> {
        let mut clients = JoinSet::new();
        for client in 0..SENDERS {
            clients.spawn(self.clone().sender(client, rng.random()));
        }
        for client in 0..RECIPIENTS {
            clients.spawn(self.clone().recipient(client, rng.random()));
        }
        clients
    }

    /// Sends until the round is over, or no node is left.
    pub async fn sender(self, number: usize, seed: u64) -> Result<(), String> {
        let (mut rng, mut named) = (StdRng::seed_from_u64(seed), 0);
        while let Some(door) = self.door(&mut rng) {
            let sent = self.send(&door, number, &mut named, &mut rng).await;
            sent.or_else(|stop| only_killed(&door, stop))?;
        }
        Ok(())
    }

    /// Receives until the round is over, or no node is left.
    pub async fn recipient(self, number: usize, seed: u64) -> Result<(), String> {
        let mut rng = StdRng::seed_from_u64(seed);
        while let Some(door) = self.door(&mut rng) {
            let received = self.receive(&door, number, &mut rng).await;
            received.or_else(|stop| only_killed(&door, stop))?;
        }
        Ok(())
    }

    fn door(&self, rng: &mut StdRng) -> Option<Door> {
        if self.over.is_cancelled() { None } else { self.doors.pick(rng) }
    }

    /// One connection of a sender, which has given so many messages names in this round.
    async fn send(&self, door: &Door, number: usize, named: &mut usize, rng: &mut StdRng) -> Result<(), Stop> {
        let prefix = format!("s{number}-");
        let mut again: VecDeque<_> = self.model.lock().unanswered(&prefix).into();
        let mut client = Client::connect(door.address, &plain(&id(['a', 'b', 'c'][number]), false)).await?;
        let mut asked = VecDeque::new();
        let mut answered: Vec<(String, usize)> = Vec::new();
        while !self.over.is_cancelled() {
            while asked.len() >= IN_FLIGHT || (!asked.is_empty() && rng.random_bool(0.2)) {
                self.hear_answer(&mut client, &mut asked, &mut answered).await?;
            }
            let (label, recipient) = match again.pop_front() {
                Some(lost) => lost,
                // What was answered is said again now and then: it must stay one blob, or none.
                None if !answered.is_empty() && rng.random_bool(0.05) => {
                    answered[rng.random_range(0..answered.len())].clone()
                }
                None => {
                    *named += 1;
                    (format!("{prefix}{}-{named}", self.number), rng.random_range(0..RECIPIENTS))
                }
            };
            self.model.lock().sends(&label, recipient, door.number);
            client.update(&label, &mailbox(recipient), &body(&label)).await?;
            asked.push_back((label, recipient));
        }
        while !asked.is_empty() {
            self.hear_answer(&mut client, &mut asked, &mut answered).await?;
        }
        Ok(())
    }

    async fn hear_answer(
        &self,
        client: &mut Client,
        asked: &mut VecDeque<(String, usize)>,
        answered: &mut Vec<(String, usize)>,
    ) -> Result<(), Stop> {
        let Heard::Status { message_id, status } = client.hear().await? else {
            return Err(Stop::Broken("a sender was sent something else than a status".to_owned()));
        };
        match (status.as_str(), asked.front()) {
            ("Stored", Some((next, _))) if *next == message_id => {
                self.model.lock().stored(&message_id);
                answered.extend(asked.pop_front());
            }
            ("Delivered", _) => self.model.lock().told(&message_id)?,
            ("ReceivedByRecipient", _) => {}
            (_, next) => return Err(Stop::Broken(format!("{status} for {message_id} before {next:?}"))),
        }
        Ok(())
    }

    /// One connection of a recipient.
    async fn receive(&self, door: &Door, recipient: usize, rng: &mut StdRng) -> Result<(), Stop> {
        let mut client = Client::connect(door.address, &handshake(recipient)).await?;
        let (mut seen, mut purged) = (HashSet::new(), HashSet::new());
        // What each question that is asked proves deleted, once it is answered.
        let mut questions: VecDeque<Vec<String>> = VecDeque::new();
        let mut acknowledged = Vec::new();
        let mut stay = rng.random_range(50..1000);
        while seen.len() < stay || !questions.is_empty() {
            let heard = tokio::select! {
                heard = client.hear() => heard?,
                () = self.over.cancelled(), if stay > 0 => {
                    stay = 0;
                    questions.push_back(std::mem::take(&mut acknowledged));
                    client.settle().await?;
                    continue;
                }
            };
            match heard {
                Heard::Status { .. } => return Err(Stop::Broken("a recipient was sent a status".to_owned())),
                Heard::Settled => {
                    let proven = questions.pop_front().unwrap_or_default();
                    self.model.lock().deleted(proven);
                }
                Heard::Purged => {
                    let proven = questions.pop_front().unwrap_or_default();
                    let mut model = self.model.lock();
                    model.purged(recipient);
                    purged.extend(proven.iter().cloned());
                    model.deleted(proven);
                }
                Heard::Blob { id, body } => {
                    let label = label_of(&body)?;
                    let may_be = if purged.contains(&label) { MayBe::OnItsWay } else { MayBe::PutTwice };
                    self.model.lock().came(recipient, &label, &id, may_be)?;
                    if !seen.insert(label.clone()) {
                        self.model.lock().came_twice(&label, MayBe::PutTwice)?;
                    }
                    if stay > 0 && rng.random_bool(0.8) {
                        self.model.lock().acknowledges(&label);
                        let status = ["ReceivedByRecipient", "Delivered", "Failed"][rng.random_range(0..3)];
                        acknowledged.push(label);
                        client.acknowledge(&id, status).await?;
                    }
                    if seen.len() < stay && rng.random_bool(0.05) {
                        questions.push_back(std::mem::take(&mut acknowledged));
                        client.settle().await?;
                    } else if seen.len() < stay && questions.is_empty() && rng.random_bool(0.01) {
                        let certain = self.model.lock().purges(recipient);
                        questions.push_back(std::mem::take(&mut acknowledged).into_iter().chain(certain).collect());
                        client.purge().await?;
                    }
                }
            }
        }
        // Acknowledgments are in flight here, too, unless the round is over.
        if rng.random_bool(0.5) { Ok(client.close().await?) } else { Ok(()) }
    }
}

/// A connection ends when its node is killed, and no sooner.
fn only_killed(door: &Door, stop: Stop) -> Result<(), String> {
    match stop {
        Stop::Cut if door.killed.is_cancelled() => Ok(()),
        Stop::Cut => Err(format!("a connection to node {} ended while it lived", door.number)),
        Stop::Broken(promise) => Err(promise),
    }
}
