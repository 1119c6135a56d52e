//! One agent of a load run: keeps a fixed number of requests in flight to its vault.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::client::{AgentClient, ConnectOptions};
use super::error::ClientError;
use super::flights::{Flights, PACE};
use super::frames::Head;
use super::tally::Tally;
use super::target::RelayUrl;
use super::vault::reconnected;

/// How long shipped agents wait for an answer (section 15).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// One agent, pinned to one vault.
#[derive(Debug)]
pub(super) struct Agent {
    url: RelayUrl,
    vault_id: String,
    payload: Arc<str>,
    tally: Arc<Tally>,
    flights: Flights,
}

impl Agent {
    /// An agent that keeps `in_flight` requests with `payload` on their way to `vault_id`.
    pub(super) fn new(
        url: RelayUrl,
        vault_id: String,
        payload: Arc<str>,
        in_flight: usize,
        id_prefix: String,
        tally: Arc<Tally>,
    ) -> Self {
        Self { url, vault_id, payload, tally, flights: Flights::new(id_prefix, in_flight) }
    }

    /// Sends and receives until `stop`; a lost connection is opened again.
    pub(super) async fn run(mut self, mut client: AgentClient, stop: CancellationToken) {
        while let Some(Err(error)) = stop.run_until_cancelled(self.converse(&mut client)).await {
            self.tally.errors(error.code(), self.flights.end_all().max(1));
            let connect = || AgentClient::connect(&self.url, ConnectOptions::BUSY);
            match reconnected(&stop, &self.tally, connect).await {
                Some(fresh) => client = fresh,
                None => return,
            }
        }
        client.close().await;
    }

    async fn converse(&mut self, client: &mut AgentClient) -> Result<Infallible, ClientError> {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                frame = client.next() => self.take(client, &frame?).await?,
                _ = pace.tick() => {
                    let overdue = self.flights.end_before(Instant::now().checked_sub(ANSWER_TIMEOUT));
                    self.tally.errors("TIMED_OUT", overdue);
                    while self.send_one(client).await? {}
                }
            }
        }
    }

    /// Sends the next request; `false` if as many as allowed are in flight.
    async fn send_one(&mut self, client: &mut AgentClient) -> Result<bool, ClientError> {
        let Some(id) = self.flights.launch(Instant::now()) else { return Ok(false) };
        client.request(&self.vault_id, &id, &self.payload).await?;
        Ok(true)
    }

    async fn take(&mut self, client: &mut AgentClient, text: &str) -> Result<(), ClientError> {
        let Some(head) = Head::read(text) else {
            self.tally.errors("UNREADABLE_FRAME", 1);
            return Ok(());
        };
        match (head.kind, head.payload.request_id) {
            ("response", Some(id)) => match self.flights.land(id) {
                Some(sent) => {
                    self.tally.round_trip(sent.elapsed());
                    self.send_one(client).await?;
                }
                None => self.tally.errors("UNEXPECTED_RESPONSE", 1),
            },
            ("ack", _) => self.tally.agent_ack(),
            ("error", id) => {
                // Shipped agents take an error without an id for the end of all that is pending (section 15).
                let ended = match id {
                    Some(id) => self.flights.land(id).is_some().into(),
                    None => self.flights.end_all(),
                };
                self.tally.errors(head.payload.code.unwrap_or("ERROR_WITHOUT_CODE"), ended.max(1));
            }
            _ => {}
        }
        Ok(())
    }
}
