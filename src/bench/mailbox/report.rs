//! The figures of a mailbox run, for people and (as JSON) for scripts.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::bench::report::{Latency, ProcessCost, ratio, write_counts};

/// The result of the mailbox benchmark.
#[derive(Debug, Clone, Serialize)]
pub struct MailboxReport {
    /// Clients that stored.
    pub clients: usize,
    /// Blobs on their way per client.
    pub in_flight: usize,
    /// Bytes of a blob.
    pub payload_bytes: usize,
    /// Length of the measured window, in seconds.
    pub seconds: f64,
    /// Blobs answered by `Stored`.
    pub stored: u64,
    /// How long each took, from before it was written to its answer.
    pub latency: Latency,
    /// Blobs answered by `Failed`.
    pub failed: u64,
    /// Blobs that recipients got, if there were any.
    pub delivered: u64,
    /// Connections lost and opened again.
    pub reconnects: u64,
    /// What else went wrong, by the generator's codes (`TIMED_OUT` and so on).
    pub errors: BTreeMap<String, u64>,
    /// The processes that were watched.
    pub processes: Vec<ProcessCost>,
}

impl MailboxReport {
    /// Blobs stored per second.
    #[must_use]
    pub fn stored_per_second(&self) -> f64 {
        ratio(self.stored, self.seconds)
    }

    /// Blobs that recipients got per second.
    #[must_use]
    pub fn delivered_per_second(&self) -> f64 {
        ratio(self.delivered, self.seconds)
    }

    /// Microseconds of CPU time that `process` spent on each blob stored; zero if none was.
    #[must_use]
    pub fn cpu_us_per_store(&self, process: &ProcessCost) -> f64 {
        if self.stored == 0 { 0.0 } else { process.cpu_seconds * 1e6 / ratio(self.stored, 1.0) }
    }

    /// The report with its derived figures, for scripts.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let mut json = serde_json::json!(self);
        json["stored_per_second"] = self.stored_per_second().into();
        json["delivered_per_second"] = self.delivered_per_second().into();
        for (index, process) in self.processes.iter().enumerate() {
            json["processes"][index]["cpu_us_per_store"] = self.cpu_us_per_store(process).into();
        }
        json
    }
}

impl fmt::Display for MailboxReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { clients, in_flight, payload_bytes, seconds, latency, .. } = self;
        writeln!(f, "{clients} clients with {in_flight} in flight each, {payload_bytes} byte blobs, {seconds:.1} s")?;
        writeln!(f, "stored: {} ({:.0} per second)", self.stored, self.stored_per_second())?;
        let Latency { p50_us, p90_us, p99_us, max_us } = latency;
        writeln!(f, "latency: p50 {p50_us:.0} us, p90 {p90_us:.0} us, p99 {p99_us:.0} us, max {max_us:.0} us")?;
        writeln!(f, "failed: {}", self.failed)?;
        writeln!(f, "delivered: {} ({:.0} per second)", self.delivered, self.delivered_per_second())?;
        writeln!(f, "reconnects: {}", self.reconnects)?;
        write_counts(f, "errors", &self.errors)?;
        for process in &self.processes {
            write!(f, "\n{process}, {:.2} us CPU per store", self.cpu_us_per_store(process))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::histogram::Histogram;
    use crate::bench::process::Usage;

    fn report(stored: u64) -> MailboxReport {
        let usage = |ms| Usage { cpu: Duration::from_millis(ms), resident_bytes: 1 << 20 };
        MailboxReport {
            clients: 2,
            in_flight: 1,
            payload_bytes: 256,
            seconds: 2.0,
            stored,
            latency: Latency::of(&Histogram::default()),
            failed: 4,
            delivered: stored / 2,
            reconnects: 0,
            errors: [("TIMED_OUT".into(), 3)].into(),
            processes: vec![ProcessCost::new(7, usage(100), usage(300))],
        }
    }

    #[test]
    fn rates_and_costs_are_of_what_was_stored() {
        let json = report(1000).to_json();
        assert_eq!((&json["stored_per_second"], &json["delivered_per_second"]), (&500.0.into(), &250.0.into()));
        assert!((json["processes"][0]["cpu_us_per_store"].as_f64().unwrap() - 200.0).abs() < 1e-6, "{json}");
    }

    #[test]
    fn a_run_without_a_single_answer_can_be_printed() {
        let text = report(0).to_string();
        for part in ["stored: 0 (0 per second)", "failed: 4", "errors: 3\n  TIMED_OUT: 3", "0.00 us CPU per store"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
