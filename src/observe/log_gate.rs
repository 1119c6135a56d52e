//! Log lines that strangers can cause: one per reason and interval, with the number of those left out.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Lets one line per reason through in each interval. The reasons are words of ours, so the map stays small.
#[derive(Debug)]
pub struct LogGate {
    every: Duration,
    reasons: HashMap<&'static str, Seen>,
}

#[derive(Debug)]
struct Seen {
    logged: Instant,
    left_out: u64,
}

impl LogGate {
    /// At most one line per reason in `every`.
    #[must_use]
    pub fn new(every: Duration) -> Self {
        Self { every, reasons: HashMap::new() }
    }

    /// At most one line per reason and minute.
    #[must_use]
    pub fn once_a_minute() -> Self {
        Self::new(Duration::from_secs(60))
    }

    /// Whether a line for `reason` may be written at `now`; if so, how many were left out since the last one.
    pub fn pass(&mut self, reason: &'static str, now: Instant) -> Option<u64> {
        let Some(seen) = self.reasons.get_mut(reason) else {
            self.reasons.insert(reason, Seen { logged: now, left_out: 0 });
            return Some(0);
        };
        if now.saturating_duration_since(seen.logged) < self.every {
            seen.left_out = seen.left_out.saturating_add(1);
            return None;
        }
        seen.logged = now;
        Some(std::mem::take(&mut seen.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_reason_and_interval_with_the_number_left_out() {
        let start = Instant::now();
        let mut gate = LogGate::once_a_minute();
        assert_eq!(gate.pass("seal", start), Some(0));
        assert_eq!(gate.pass("seal", start + Duration::from_secs(1)), None);
        assert_eq!(gate.pass("seal", start + Duration::from_secs(59)), None);
        assert_eq!(gate.pass("version", start + Duration::from_secs(59)), Some(0), "reasons are independent");
        assert_eq!(gate.pass("seal", start + Duration::from_secs(60)), Some(2));
        assert_eq!(gate.pass("seal", start + Duration::from_secs(61)), None);
    }
}
