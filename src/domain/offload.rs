//! When blobs move to other clusters, and to which.

use std::time::Duration;

/// How much something stores, and may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Room {
    /// Bytes that are stored.
    pub used: u64,
    /// Bytes that may be.
    pub max: u64,
}

impl Room {
    /// Bytes above a part of what may be stored.
    #[must_use]
    pub fn above(&self, part: f64) -> u64 {
        self.used.saturating_sub(self.part(part))
    }

    /// Whether so many bytes more would be above a part of what may be stored.
    #[must_use]
    pub fn would_pass(&self, part: f64, more: u64) -> bool {
        self.used.saturating_add(more) > self.part(part)
    }

    fn part(&self, part: f64) -> u64 {
        (self.max as f64 * part) as u64
    }

    fn free(&self) -> u64 {
        self.max.saturating_sub(self.used)
    }
}

/// Which of these has most room, of those that are below `refuse`.
pub fn roomiest<T>(rooms: impl IntoIterator<Item = (T, Room)>, refuse: f64) -> Option<T> {
    let fit = rooms.into_iter().filter(|(_, room)| !room.would_pass(refuse, 1));
    fit.max_by_key(|(_, room)| room.free()).map(|(of, _)| of)
}

/// How much sooner or later of a blob's end does not matter, of blobs that live so long: a thousandth, two hours by
/// default. A message that is said to two clusters is said to one of them a moment later.
#[must_use]
pub fn moment(lifetime: Duration) -> Duration {
    lifetime / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_above_a_part_is_counted_to_the_byte() {
        let room = Room { used: 80, max: 100 };
        assert_eq!((room.above(0.5), room.above(0.8), room.above(0.9)), (30, 0, 0));
        assert!(!room.would_pass(0.95, 15) && room.would_pass(0.95, 16));
        assert!(Room::default().would_pass(1.0, 1), "nothing fits where nothing may be");
    }

    #[test]
    fn whoever_has_most_room_gets_it_unless_it_would_refuse() {
        let rooms = [("small", 0, 10), ("large", 500, 1000), ("full", 96_000, 100_000)];
        let rooms = rooms.map(|(of, used, max)| (of, Room { used, max }));
        assert_eq!(roomiest(rooms, 0.95), Some("large"));
        assert_eq!(roomiest(rooms, 0.97), Some("full"));
        assert_eq!(roomiest(rooms, 0.0), None);
    }
}
