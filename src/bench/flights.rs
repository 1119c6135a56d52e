//! What a client has sent and is not answered yet: a fixed number at once, each known by its id.

use std::time::{Duration, Instant};

/// After an error a message is replaced at the next of these steps, not at once: a relay that refuses everything
/// is not to be flooded.
pub(super) const PACE: Duration = Duration::from_millis(100);

/// The messages of one client that wait for an answer.
#[derive(Debug)]
pub(super) struct Flights {
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
    pub(super) fn new(prefix: String, limit: usize) -> Self {
        Self { prefix, sequence: 0, slots: vec![None; limit], free: (0..limit).rev().collect() }
    }

    /// The id for a message sent at `now`; `None` if as many as allowed are in flight.
    ///
    /// Its digits name the slot and the sequence number, so that an answer is matched without a search.
    pub(super) fn launch(&mut self, now: Instant) -> Option<String> {
        let slot = self.free.pop()?;
        self.sequence += 1;
        let sequence = self.sequence;
        if let Some(place) = self.slots.get_mut(slot) {
            *place = Some(Flight { sequence, sent: now });
        }
        Some(format!("{}{slot:04x}{sequence:012x}", self.prefix))
    }

    /// Ends the flight of `id` and says when it began; `None` if it is not in flight.
    pub(super) fn land(&mut self, id: &str) -> Option<Instant> {
        let (slot, sequence) = id.strip_prefix(self.prefix.as_str())?.split_at_checked(4)?;
        let slot = usize::from_str_radix(slot, 16).ok()?;
        let sequence = u64::from_str_radix(sequence, 16).ok()?;
        let flight = self.slots.get_mut(slot)?.take_if(|flight| flight.sequence == sequence)?;
        self.free.push(slot);
        Some(flight.sent)
    }

    /// Ends all flights that began before `limit` and says how many.
    pub(super) fn end_before(&mut self, limit: Option<Instant>) -> u64 {
        let free = self.free.len();
        for (slot, place) in self.slots.iter_mut().enumerate() {
            if place.take_if(|flight| limit.is_none_or(|limit| flight.sent < limit)).is_some() {
                self.free.push(slot);
            }
        }
        (self.free.len() - free) as u64
    }

    /// Ends all flights and says how many.
    pub(super) fn end_all(&mut self) -> u64 {
        self.end_before(None)
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
