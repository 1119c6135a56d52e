//! One agent of a load run: keeps a fixed number of requests in flight to its vault.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::client::{AgentClient, ConnectOptions};
use super::error::ClientError;
use super::frames::Head;
use super::tally::Tally;
use super::target::RelayUrl;
use super::vault::reconnected;

/// How long shipped agents wait for an answer (section 15).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// After an error a request is replaced at the next of these steps, not at once: a relay that refuses everything
/// is not to be flooded.
const PACE: Duration = Duration::from_millis(100);

/// The requests of one agent that wait for an answer.
#[derive(Debug)]
struct Flights {
    prefix: String,
    sequence: u64,
    slots: Vec<Option<Flight>>,
    free: Vec<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Flight {
    sequence: u64,
    sent: Instant,
}

impl Flights {
    /// At most `limit` at once, with ids that begin with `prefix`.
    fn new(prefix: String, limit: usize) -> Self {
        Self { prefix, sequence: 0, slots: vec![None; limit], free: (0..limit).rev().collect() }
    }

    /// The id for a request sent at `now`; `None` if as many as allowed are in flight.
    ///
    /// Its digits name the slot and the sequence number, so that an answer is matched without a search.
    fn launch(&mut self, now: Instant) -> Option<String> {
        let slot = self.free.pop()?;
        self.sequence += 1;
        let sequence = self.sequence;
        if let Some(place) = self.slots.get_mut(slot) {
            *place = Some(Flight { sequence, sent: now });
        }
        Some(format!("{}{slot:04x}{sequence:012x}", self.prefix))
    }

    /// Ends the flight of `request_id` and says when it began; `None` if it is not in flight.
    fn land(&mut self, request_id: &str) -> Option<Instant> {
        let (slot, sequence) = request_id.strip_prefix(self.prefix.as_str())?.split_at_checked(4)?;
        let slot = usize::from_str_radix(slot, 16).ok()?;
        let sequence = u64::from_str_radix(sequence, 16).ok()?;
        let flight = self.slots.get_mut(slot)?.take_if(|flight| flight.sequence == sequence)?;
        self.free.push(slot);
        Some(flight.sent)
    }

    /// Ends all flights that began before `limit` and says how many.
    fn end_before(&mut self, limit: Option<Instant>) -> u64 {
        let free = self.free.len();
        for (slot, place) in self.slots.iter_mut().enumerate() {
            if place.take_if(|flight| limit.is_none_or(|limit| flight.sent < limit)).is_some() {
                self.free.push(slot);
            }
        }
        (self.free.len() - free) as u64
    }

    /// Ends all flights and says how many.
    fn end_all(&mut self) -> u64 {
        self.end_before(None)
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_limit_fly_and_each_lands_once() {
        let mut flights = Flights::new("req_".into(), 2);
        let now = Instant::now();
        let first = flights.launch(now).unwrap();
        let second = flights.launch(now).unwrap();
        assert_ne!(first, second);
        assert_eq!(flights.launch(now), None);
        assert_eq!(flights.land(&first), Some(now));
        assert_eq!(flights.land(&first), None, "a second answer to the same request");
        assert!(flights.launch(now).is_some_and(|third| third != first && third != second));
    }

    #[test]
    fn ids_of_others_land_nothing() {
        let mut flights = Flights::new("req_".into(), 1);
        flights.launch(Instant::now()).unwrap();
        for id in ["", "req_", "req_0000", "req_0001000000000001", "req_zzzz000000000001", "other", "req_ääää1"] {
            assert_eq!(flights.land(id), None, "{id}");
        }
    }

    #[test]
    fn only_what_is_overdue_is_given_up() {
        let mut flights = Flights::new("req_".into(), 2);
        let early = Instant::now();
        let late = early + Duration::from_secs(20);
        let first = flights.launch(early).unwrap();
        flights.launch(late).unwrap();
        assert_eq!(flights.end_before(Some(early)), 0);
        assert_eq!(flights.end_before(Some(late)), 1);
        assert_eq!(flights.land(&first), None);
        assert_eq!(flights.end_all(), 1);
    }
}
