//! One client that stores: keeps a fixed number of blobs on their way.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::MailboxLoad;
use super::client::MailboxClient;
use super::tally::MailboxTally;
use super::url::MailboxUrl;
use crate::bench::client::ConnectOptions;
use crate::bench::error::ClientError;
use crate::bench::flights::{Flights, PACE};
use crate::bench::vault::reconnected;
use crate::wire::vauchi::incoming::Incoming;
use crate::wire::vauchi::payload::{ClientPayload, EncryptedUpdate, Status};

/// One client.
#[derive(Debug)]
pub(super) struct Sender {
    url: MailboxUrl,
    client_id: String,
    mailboxes: Vec<String>,
    turn: usize,
    payload_bytes: usize,
    flights: Flights,
    patience: Duration,
    tally: Arc<MailboxTally>,
}

impl Sender {
    /// A client with this name that writes to `mailboxes`, one blob each in turn.
    pub(super) fn new(load: &MailboxLoad, client_id: String, mailboxes: Vec<String>, tally: Arc<MailboxTally>) -> Self {
        // Another run may use the same mailboxes, so the ids must differ from its.
        let prefix = format!("{:016x}", rand::random::<u64>());
        Self {
            url: load.url.clone(),
            client_id,
            mailboxes,
            turn: 0,
            payload_bytes: load.payload_bytes,
            flights: Flights::new(prefix, load.in_flight),
            patience: load.patience,
            tally,
        }
    }

    /// Opens the client's connection.
    pub(super) async fn connect(&self) -> Result<MailboxClient, ClientError> {
        MailboxClient::connect(&self.url, &self.client_id, ConnectOptions::ANSWERED).await
    }

    /// Stores until `stop`; a lost connection is opened again.
    pub(super) async fn run(mut self, mut client: MailboxClient, stop: CancellationToken) {
        while let Some(Err(error)) = stop.run_until_cancelled(self.converse(&mut client)).await {
            self.tally.common.errors(error.code(), self.flights.end_all().max(1));
            match reconnected(&stop, &self.tally.common, || self.connect()).await {
                Some(fresh) => client = fresh,
                None => return,
            }
        }
        client.close().await;
    }

    async fn converse(&mut self, client: &mut MailboxClient) -> Result<Infallible, ClientError> {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                frame = client.next() => {
                    if self.take(&frame?) {
                        self.send_one(client).await?;
                    }
                }
                _ = pace.tick() => {
                    let overdue = self.flights.end_before(Instant::now().checked_sub(self.patience));
                    self.tally.common.errors("TIMED_OUT", overdue);
                    while self.send_one(client).await? {}
                }
            }
        }
    }

    /// Sends the next blob; `false` if as many as allowed are on their way.
    async fn send_one(&mut self, client: &mut MailboxClient) -> Result<bool, ClientError> {
        let mut blob = vec![0; self.payload_bytes];
        // Nothing on the way can make it shorter, as with what is sealed in earnest.
        rand::fill(&mut blob[..]);
        let Some(id) = self.flights.launch(Instant::now()) else { return Ok(false) };
        self.turn = self.turn.wrapping_add(1);
        let recipient = self.turn.checked_rem(self.mailboxes.len()).and_then(|turn| self.mailboxes.get(turn));
        let update = EncryptedUpdate {
            recipient_id: recipient.map_or("", String::as_str).into(),
            sender_id: Some(self.client_id.as_str().into()),
            ciphertext: blob.into(),
        };
        client.send(&id, ClientPayload::EncryptedUpdate(update)).await?;
        Ok(true)
    }

    /// Counts what the relay says; `true` if a blob was stored, so that the next may follow at once.
    fn take(&mut self, frame: &[u8]) -> bool {
        let Ok(message) = Incoming::decode(frame) else {
            self.tally.common.errors("UNREADABLE_FRAME", 1);
            return false;
        };
        let ClientPayload::Acknowledgment(answer) = message.payload else { return false };
        let stored = match answer.status {
            Status::Stored => true,
            Status::Failed => false,
            Status::Delivered | Status::ReceivedByRecipient => return false,
        };
        match self.flights.land(&answer.message_id) {
            Some(sent) if stored => self.tally.common.round_trip(sent.elapsed()),
            Some(_) => self.tally.fail(),
            None => {
                self.tally.common.errors("UNEXPECTED_ANSWER", 1);
                return false;
            }
        }
        stored
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::Millis;
    use crate::wire::vauchi::outgoing::{Outgoing, RelayPayload};

    fn answer(message_id: &str, status: Status) -> bytes::Bytes {
        let payload = RelayPayload::Acknowledgment { message_id, status };
        Outgoing { message_id: "a-1", now: Millis(0), payload }.encode()
    }

    #[test]
    fn only_what_is_stored_is_followed_at_once() {
        let url: MailboxUrl = "ws://127.0.0.1:1".parse().unwrap();
        let load = MailboxLoad {
            url: url.clone(),
            recipient_url: url,
            clients: 1,
            in_flight: 2,
            payload_bytes: 1,
            mailboxes: 1,
            deliver: false,
            duration: Duration::ZERO,
            patience: Duration::from_secs(5),
            processes: Vec::new(),
        };
        let tally = Arc::new(MailboxTally::default());
        tally.common.start();
        let mut sender = Sender::new(&load, "c".into(), vec!["m".into()], Arc::clone(&tally));
        let first = sender.flights.launch(Instant::now()).unwrap();
        let second = sender.flights.launch(Instant::now()).unwrap();

        assert!(!sender.take(&answer(&first, Status::Delivered)), "not the answer that is waited for");
        assert!(sender.take(&answer(&first, Status::Stored)));
        assert!(!sender.take(&answer(&second, Status::Failed)), "a relay that refuses is not flooded");
        assert!(!sender.take(&answer(&first, Status::Stored)), "answered twice");
        assert!(!sender.take(b"no frame"));

        assert_eq!((tally.common.round_trips().count(), tally.failed()), (1, 1));
        let errors = [("UNEXPECTED_ANSWER".to_owned(), 1), ("UNREADABLE_FRAME".to_owned(), 1)];
        assert_eq!(tally.common.error_counts(), errors.into());
        assert!(sender.flights.launch(Instant::now()).is_some() && sender.flights.launch(Instant::now()).is_some());
    }
}
