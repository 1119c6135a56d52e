//! A small disk, which fills up for real: a file system in memory.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use tempfile::TempDir;

const CHUNK: usize = 1 << 20;

/// A file system of its own; taken away when dropped.
pub struct SmallDisk {
    directory: TempDir,
}

impl SmallDisk {
    /// Mounts one of so many MiB. That takes root; without it, says so and returns `None`.
    pub fn mount(mebibytes: u32) -> Option<Self> {
        let directory = TempDir::new().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "tmpfs"]).arg(directory.path());
        if mount.output().is_ok_and(|output| output.status.success()) {
            return Some(Self { directory });
        }
        eprintln!("SKIPPED: a small disk could not be mounted; run this test as root to have it fill up");
        None
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Makes it larger while it is in use.
    pub fn grow(&self, mebibytes: u32) {
        let option = format!("remount,size={mebibytes}m");
        let grown = Command::new("mount").args(["-o", &option]).arg(self.path()).status().unwrap();
        assert!(grown.success(), "the disk did not grow");
    }

    /// Takes all the room there is, but for about `left` bytes, with a file that [`SmallDisk::free`] removes.
    /// With 0 left, takes also what the logs in the folder `store` have reserved beyond their ends.
    pub fn fill(&self, left: u64) {
        if left == 0 {
            self.take_reserved();
        }
        let mut file = File::create(self.filler()).unwrap();
        let chunk = vec![0; CHUNK];
        while self.room() > left + CHUNK as u64 {
            file.write_all(&chunk).unwrap();
        }
        if left == 0 {
            while file.write_all(&chunk[..4096]).is_ok() {}
        }
    }

    /// Gives back what [`SmallDisk::fill`] took.
    pub fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn take_reserved(&self) {
        for entry in fs::read_dir(self.path().join("store")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "log") {
                let log = File::options().write(true).open(path).unwrap();
                let end = log.metadata().unwrap().len().next_multiple_of(4096);
                fallocate(&log, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, end, 1 << 30).unwrap();
            }
        }
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    fn room(&self) -> u64 {
        let disk = statvfs(self.path()).unwrap();
        disk.f_bavail * disk.f_frsize
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a failing test may still have files open.
        drop(Command::new("umount").arg("-l").arg(self.path()).status());
    }
}
