//! The figures of a run, for people and (as JSON) for scripts.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::histogram::Histogram;
use super::process::Usage;

/// Durations of round trips in microseconds, right to three digits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Latency {
    /// Half of all are not above this.
    pub p50_us: f64,
    /// Nine of ten.
    pub p90_us: f64,
    /// 99 of 100.
    pub p99_us: f64,
    /// The longest.
    pub max_us: f64,
}

impl Latency {
    /// Reads a histogram.
    #[must_use]
    pub fn of(histogram: &Histogram) -> Self {
        let micros = |duration: Duration| duration.as_secs_f64() * 1e6;
        let quantile = |share| micros(histogram.quantile(share));
        Self {
            p50_us: quantile(0.5),
            p90_us: quantile(0.9),
            p99_us: quantile(0.99),
            max_us: micros(histogram.longest()),
        }
    }
}

/// What one process spent between two readings.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ProcessCost {
    /// Its number.
    pub pid: u32,
    /// User and system time, in seconds.
    pub cpu_seconds: f64,
    /// Resident memory at the first reading, in bytes.
    pub resident_before_bytes: u64,
    /// Resident memory at the second, in bytes.
    pub resident_after_bytes: u64,
}

impl ProcessCost {
    /// The difference of two readings.
    #[must_use]
    pub fn new(pid: u32, before: Usage, after: Usage) -> Self {
        Self {
            pid,
            cpu_seconds: after.cpu.saturating_sub(before.cpu).as_secs_f64(),
            resident_before_bytes: before.resident_bytes,
            resident_after_bytes: after.resident_bytes,
        }
    }

    /// Bytes that its resident memory grew by; negative if it shrank.
    #[must_use]
    pub fn resident_growth_bytes(&self) -> i64 {
        self.resident_after_bytes.cast_signed().wrapping_sub(self.resident_before_bytes.cast_signed())
    }
}

impl fmt::Display for ProcessCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, after) = (mebibytes(self.resident_before_bytes), mebibytes(self.resident_after_bytes));
        write!(f, "process {}: {:.2} s CPU, memory {before:.1} -> {after:.1} MiB", self.pid, self.cpu_seconds)
    }
}

/// The result of the round-trip benchmark.
#[derive(Debug, Clone, Serialize)]
pub struct LoadReport {
    /// Vaults, and agents.
    pub vaults: usize,
    /// Requests in flight per agent.
    pub in_flight: usize,
    /// Bytes of a payload before base64.
    pub payload_bytes: usize,
    /// Length of the measured window, in seconds.
    pub seconds: f64,
    /// Requests answered.
    pub round_trips: u64,
    /// How long each took.
    pub latency: Latency,
    /// Requests that the relay said it accepted.
    pub agent_acks: u64,
    /// Responses that the relay said it has.
    pub vault_acks: u64,
    /// Connections lost and opened again.
    pub reconnects: u64,
    /// Requests that failed, by code: the relay's own, or one of the generator's (`TIMED_OUT` and so on).
    pub errors: BTreeMap<String, u64>,
    /// The processes that were watched.
    pub processes: Vec<ProcessCost>,
}

impl LoadReport {
    /// Round trips per second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        ratio(self.round_trips, self.seconds)
    }

    /// Microseconds of CPU time that all watched processes together spent on one round trip; zero if none was made.
    #[must_use]
    pub fn cpu_us_per_round_trip(&self) -> f64 {
        self.processes.iter().map(|process| self.cpu_us_of(process)).sum()
    }

    fn cpu_us_of(&self, process: &ProcessCost) -> f64 {
        if self.round_trips == 0 { 0.0 } else { process.cpu_seconds * 1e6 / ratio(self.round_trips, 1.0) }
    }

    /// The report with its derived figures, for scripts.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let mut json = serde_json::json!(self);
        json["per_second"] = self.per_second().into();
        json["cpu_us_per_round_trip"] = self.cpu_us_per_round_trip().into();
        for (index, process) in self.processes.iter().enumerate() {
            json["processes"][index]["cpu_us_per_round_trip"] = self.cpu_us_of(process).into();
        }
        json
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { vaults, in_flight, payload_bytes, seconds, latency, .. } = self;
        writeln!(
            f,
            "{vaults} vaults, {vaults} agents with {in_flight} in flight each, {payload_bytes} byte payloads, {seconds:.1} s"
        )?;
        writeln!(f, "round trips: {} ({:.0} per second)", self.round_trips, self.per_second())?;
        let Latency { p50_us, p90_us, p99_us, max_us } = latency;
        writeln!(f, "latency: p50 {p50_us:.0} us, p90 {p90_us:.0} us, p99 {p99_us:.0} us, max {max_us:.0} us")?;
        writeln!(f, "acks: {} to agents, {} to vaults", self.agent_acks, self.vault_acks)?;
        writeln!(f, "reconnects: {}", self.reconnects)?;
        write_counts(f, "errors", &self.errors)?;
        for process in &self.processes {
            write!(f, "\n{process}, {:.2} us CPU per round trip", self.cpu_us_of(process))?;
        }
        Ok(())
    }
}

/// The result of the idle benchmark.
#[derive(Debug, Clone, Serialize)]
pub struct IdleReport {
    /// Connections asked for.
    pub asked: usize,
    /// Registered vaults.
    pub open: usize,
    /// Connections that did not open, by code.
    pub refused: BTreeMap<String, u64>,
    /// Connections that opened and broke while they were held.
    pub lost: u64,
    /// Heartbeats that the relay answered.
    pub heartbeats_answered: u64,
    /// Seconds that opening took.
    pub opening_seconds: f64,
    /// Seconds that the connections were held.
    pub held_seconds: f64,
    /// The processes that were watched, from before the first connection to the end of holding.
    pub processes: Vec<ProcessCost>,
}

impl IdleReport {
    /// Bytes of resident memory that `process` has gained for each open connection; zero if none opened.
    #[must_use]
    pub fn bytes_per_connection(&self, process: &ProcessCost) -> i64 {
        i64::try_from(self.open).ok().filter(|open| *open > 0).map_or(0, |open| process.resident_growth_bytes() / open)
    }

    /// The report with its derived figures, for scripts.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let mut json = serde_json::json!(self);
        for (index, process) in self.processes.iter().enumerate() {
            json["processes"][index]["bytes_per_connection"] = self.bytes_per_connection(process).into();
        }
        json
    }
}

impl fmt::Display for IdleReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asked, open, lost, opening_seconds, held_seconds, .. } = self;
        writeln!(f, "{open} of {asked} connections opened in {opening_seconds:.1} s, held {held_seconds:.1} s")?;
        writeln!(f, "lost: {lost}")?;
        writeln!(f, "heartbeats answered: {}", self.heartbeats_answered)?;
        write_counts(f, "refused", &self.refused)?;
        for process in &self.processes {
            write!(f, "\n{process}, {} bytes per connection", self.bytes_per_connection(process))?;
        }
        Ok(())
    }
}

pub(super) fn write_counts(f: &mut fmt::Formatter<'_>, name: &str, counts: &BTreeMap<String, u64>) -> fmt::Result {
    write!(f, "{name}: {}", counts.values().sum::<u64>())?;
    counts.iter().try_for_each(|(code, count)| write!(f, "\n  {code}: {count}"))
}

fn mebibytes(bytes: u64) -> f64 {
    ratio(bytes, f64::from(1 << 20))
}

#[expect(clippy::cast_precision_loss, reason = "figures to be read need no more than 52 bits")]
pub(super) fn ratio(count: u64, of: f64) -> f64 {
    if of > 0.0 { count as f64 / of } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(round_trips: u64) -> LoadReport {
        let usage = |ms, mib: u64| Usage { cpu: Duration::from_millis(ms), resident_bytes: mib << 20 };
        LoadReport {
            vaults: 1,
            in_flight: 2,
            payload_bytes: 256,
            seconds: 2.0,
            round_trips,
            latency: Latency::of(&Histogram::default()),
            agent_acks: 9,
            vault_acks: 8,
            reconnects: 0,
            errors: [("RELAY_RATE_LIMITED".into(), 3)].into(),
            processes: vec![ProcessCost::new(7, usage(100, 1), usage(300, 2))],
        }
    }

    #[test]
    fn cpu_time_is_shared_among_the_round_trips() {
        let report = report(1000);
        assert!((report.per_second() - 500.0).abs() < 1e-9);
        assert!((report.cpu_us_per_round_trip() - 200.0).abs() < 1e-6);
        assert_eq!(report.to_json()["processes"][0]["resident_after_bytes"], 2 << 20);
    }

    #[test]
    fn a_run_without_a_single_answer_can_be_printed() {
        let text = report(0).to_string();
        assert!(text.contains("round trips: 0 (0 per second)"), "{text}");
        assert!(text.contains("errors: 3\n  RELAY_RATE_LIMITED: 3"), "{text}");
    }

    #[test]
    fn memory_per_connection_counts_those_that_opened() {
        let mut idle = IdleReport {
            asked: 2048,
            open: 1024,
            refused: BTreeMap::new(),
            lost: 0,
            heartbeats_answered: 0,
            opening_seconds: 1.0,
            held_seconds: 1.0,
            processes: report(0).processes,
        };
        assert_eq!(idle.bytes_per_connection(&idle.processes[0]), 1024);
        idle.open = 0;
        assert_eq!(idle.bytes_per_connection(&idle.processes[0]), 0);
    }
}
