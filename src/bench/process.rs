//! What the processes under test cost: CPU time and resident memory, as Linux reports them in `/proc`.

use std::fs;
use std::time::Duration;

use super::error::BenchError;

/// `/proc` counts CPU time in hundredths of a second on every platform that Rust's Linux targets support.
const TICK: Duration = Duration::from_millis(10);

/// One reading of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// User and system time of all its threads, in steps of 10 ms.
    pub cpu: Duration,
    /// Resident memory (`VmRSS`) in bytes.
    pub resident_bytes: u64,
}

/// Reads the process `pid`.
///
/// # Errors
/// [`BenchError::Process`] if it is gone, [`BenchError::ProcessFormat`] if this is not Linux.
pub fn usage(pid: u32) -> Result<Usage, BenchError> {
    let (path, stat) = read(format!("/proc/{pid}/stat"))?;
    let cpu = cpu_in(&stat).ok_or(BenchError::ProcessFormat { path, what: "the CPU times" })?;
    let (path, status) = read(format!("/proc/{pid}/status"))?;
    let resident_bytes = resident_in(&status).ok_or(BenchError::ProcessFormat { path, what: "VmRSS" })?;
    Ok(Usage { cpu, resident_bytes })
}

/// Reads all of `pids`, in their order.
///
/// # Errors
/// As [`usage`], for the first that fails.
pub fn usage_of_all(pids: &[u32]) -> Result<Vec<Usage>, BenchError> {
    pids.iter().map(|pid| usage(*pid)).collect()
}

/// Fails unless this process may have `needed` files open at once.
///
/// # Errors
/// [`BenchError::OpenFiles`] with the command that raises the limit.
pub fn require_open_files(needed: u64) -> Result<(), BenchError> {
    let (path, limits) = read("/proc/self/limits".into())?;
    match open_files_in(&limits).ok_or(BenchError::ProcessFormat { path, what: "the limit of open files" })? {
        limit if limit < needed => Err(BenchError::OpenFiles { needed, limit }),
        _ => Ok(()),
    }
}

fn read(path: String) -> Result<(String, String), BenchError> {
    match fs::read_to_string(&path) {
        Ok(text) => Ok((path, text)),
        Err(cause) => Err(BenchError::Process { path, cause }),
    }
}

/// Fields 14 and 15 of `stat`. The second, the name, may itself hold spaces and parentheses.
fn cpu_in(stat: &str) -> Option<Duration> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    let mut times = after_name.split(' ').skip(11).map(str::parse::<u32>);
    Some(TICK * times.next()?.ok()? + TICK * times.next()?.ok()?)
}

fn resident_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn open_files_in(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        soft => soft.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 2 0 0 0 150 50 9 9 20 0 4 0 1";
        assert_eq!(cpu_in(stat), Some(Duration::from_secs(2)));
    }

    #[test]
    fn memory_and_limits_are_read_as_linux_writes_them() {
        assert_eq!(resident_in("Name:\tx\nVmRSS:\t   12 kB\nThreads:\t1\n"), Some(12 * 1024));
        let limits = "Max open files            20000                524288               files\n";
        assert_eq!(open_files_in(limits), Some(20_000));
        assert_eq!(open_files_in("Max open files  unlimited unlimited files"), Some(u64::MAX));
    }

    #[test]
    fn other_forms_are_refused() {
        assert_eq!((cpu_in("7 (a) S 1"), resident_in(""), open_files_in("")), (None, None, None));
    }

    #[test]
    fn too_low_a_limit_names_the_command_that_raises_it() {
        let error = require_open_files(u64::MAX - 1);
        if let Err(error) = error {
            assert!(error.to_string().contains("ulimit -n 18446744073709551614"), "{error}");
        }
    }
}
