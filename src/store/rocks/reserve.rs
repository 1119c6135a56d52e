//! How much of the disk is left for new blobs: all but a reserve, in which deletions and compactions go on.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long a look at the disk is good for, if little is written.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How much may be written until the next look: compactions write too, and nobody counts theirs.
const LOOK_EVERY_BYTES: u64 = 4 << 20;

/// Free bytes of the file system that holds `path`, as far as this process may use them.
pub(super) fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Keeps `bytes` of a disk free.
pub(super) struct Reserve {
    path: PathBuf,
    bytes: u64,
    last: Mutex<Look>,
}

/// The last look at the disk.
#[derive(Default)]
struct Look {
    at: Option<Instant>,
    /// Bytes above the reserve, less what was let through since.
    left: u64,
    let_through: u64,
}

impl Reserve {
    /// Keeps `bytes` of the disk free that holds `path`.
    pub(super) fn new(path: &Path, bytes: u64) -> Self {
        Self { path: path.to_owned(), bytes, last: Mutex::default() }
    }

    /// Whether this many bytes fit above the reserve; if so, they count as written.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.last.lock().let_through(bytes as u64, Instant::now(), || match free_bytes(&self.path) {
            Ok(free) => free.saturating_sub(self.bytes),
            Err(error) => {
                tracing::warn!(%error, path = %self.path.display(), "cannot see how much of the disk is free");
                // A write that does not fit is an error of its own.
                u64::MAX
            }
        })
    }
}

impl Look {
    fn let_through(&mut self, bytes: u64, now: Instant, above_reserve: impl FnOnce() -> u64) -> bool {
        let good = self.at.is_some_and(|at| now.duration_since(at) < LOOK_EVERY);
        if !good || self.let_through >= LOOK_EVERY_BYTES {
            *self = Self { at: Some(now), left: above_reserve(), let_through: 0 };
        }
        let room = bytes <= self.left;
        if room {
            self.left -= bytes;
            self.let_through += bytes;
        }
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_let_through_is_gone_before_the_next_look() {
        let mut look = Look::default();
        let now = Instant::now();
        let ten = || 10;
        let never = || panic!("looked again");
        assert!(look.let_through(6, now, ten));
        assert!(!look.let_through(6, now, never));
        assert!(look.let_through(4, now, never));
        assert!(!look.let_through(1, now, never));
    }

    #[test]
    fn it_looks_again_after_a_second_or_some_mebibytes() {
        let mut look = Look::default();
        let start = Instant::now();
        assert!(!look.let_through(1, start, || 0));
        assert!(!look.let_through(1, start + LOOK_EVERY / 2, || u64::MAX));
        assert!(look.let_through(LOOK_EVERY_BYTES, start + LOOK_EVERY, || u64::MAX));
        assert!(!look.let_through(1, start + LOOK_EVERY, || 0));
    }

    #[test]
    fn a_disk_has_free_bytes() {
        assert!(free_bytes(Path::new(".")).unwrap() > 0);
        assert!(free_bytes(Path::new("/does/not/exist")).is_err());
    }
}
