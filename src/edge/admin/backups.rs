//! Backups: folders below one root, each a data folder that a node can be started on.
//!
//! One is made under another name, which begins with a dot, and renamed when it is whole and on disk: what has a name
//! is complete.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use futures::Stream;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::BackupParts;
use super::proto::{BackupInfo, BackupProgress, VerifyProgress, VerifyReport};
use super::service::Service;
use crate::domain::ids::MAX_NAME_BYTES;
use crate::store::{self, RocksStore, Soundness};

/// The folder of the store in a data folder, and so in a backup.
const STORE: &str = "store";

/// How often it is looked how far a backup is.
const LOOK: Duration = Duration::from_millis(200);

/// Most backups that are listed.
const MAX_LISTED: usize = 1000;

/// Messages of progress that may wait for a slow reader; it misses what does not fit.
const WAITING: usize = 16;

/// Files of RocksDB that say what it did, not what it holds.
const CHATTER: [&str; 2] = ["LOG", "LOCK"];

/// A name that a backup may have: no path, and nothing hidden.
pub(super) fn checked(name: &str) -> Result<&str, Status> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if first && name.len() <= MAX_NAME_BYTES && name.bytes().all(plain) {
        return Ok(name);
    }
    Err(Status::invalid_argument(
        "a backup's name is 1 to 64 characters from A-Z, a-z, 0-9, '.', '_' and '-', the first a letter or digit",
    ))
}

impl Service {
    fn backup_parts(&self) -> Result<&BackupParts, Status> {
        let none = || Status::failed_precondition("this node keeps nothing on disk (RELAY_STORAGE_BACKEND)");
        self.parts.backups.as_ref().ok_or_else(none)
    }

    fn heavy(&self) -> Result<OwnedSemaphorePermit, Status> {
        let busy = |_| Status::resource_exhausted("another backup or verification is under way");
        self.heavy.clone().try_acquire_owned().map_err(busy)
    }

    /// The backups there are.
    pub(super) async fn backups(&self) -> Result<Vec<BackupInfo>, Status> {
        let root = self.backup_parts()?.root.clone();
        let listed = tokio::task::spawn_blocking(move || list(&root)).await;
        listed.map_err(|_| Status::aborted("listing failed"))?.map_err(|error| failed("the folder of backups", &error))
    }

    /// Makes a backup, and tells how far it is.
    pub(super) fn back_up(
        &self,
        name: &str,
    ) -> Result<impl Stream<Item = Result<BackupProgress, Status>> + Send + 'static, Status> {
        let (parts, permit) = (self.backup_parts()?, self.heavy()?);
        let making = Making {
            store: parts.store.clone(),
            beside: parts.beside.clone(),
            target: parts.root.join(name),
            partial: parts.root.join(format!(".{name}.partial")),
            reserve: parts.reserve,
        };
        let (sender, receiver) = mpsc::channel(WAITING);
        self.parts.supervisor.spawn_quiet(async move {
            let made = making.make(&sender).await;
            if made.is_err() {
                // What is left of it has no name that anybody asks for, and makes room for the next attempt.
                remove(&making.partial).await;
            }
            drop(permit);
            // Nobody may listen any more.
            drop(sender.send(made).await);
        });
        Ok(ReceiverStream::new(receiver))
    }

    /// Reads a backup from end to end, and tells how far it is.
    pub(super) fn verify(
        &self,
        name: &str,
    ) -> Result<impl Stream<Item = Result<VerifyProgress, Status>> + Send + 'static, Status> {
        let path = self.backup_parts()?.root.join(name).join(STORE);
        if !path.is_dir() {
            return Err(Status::not_found("there is no backup of that name"));
        }
        let (permit, stop) = (self.heavy()?, self.parts.supervisor.token());
        let (sender, receiver) = mpsc::channel(WAITING);
        self.parts.supervisor.spawn_quiet(async move {
            let teller = sender.clone();
            let verified = tokio::task::spawn_blocking(move || {
                store::verify(&path, |found| {
                    // A slow reader misses this and gets a later one.
                    drop(teller.try_send(Ok(progress(found, false))));
                    !teller.is_closed() && !stop.is_cancelled()
                })
            });
            let last = match verified.await {
                Ok(Ok(found)) => Ok(progress(&found, true)),
                Ok(Err(error)) => Err(Status::aborted(error.to_string())),
                Err(_) => Err(Status::aborted("reading the backup failed")),
            };
            drop(permit);
            drop(sender.send(last).await);
        });
        Ok(ReceiverStream::new(receiver))
    }
}

/// A backup that is being made.
struct Making {
    store: Arc<RocksStore>,
    beside: Vec<PathBuf>,
    target: PathBuf,
    partial: PathBuf,
    reserve: u64,
}

type Told = mpsc::Sender<Result<BackupProgress, Status>>;

impl Making {
    /// Makes it; the last message is the answer.
    async fn make(&self, tell: &Told) -> Result<BackupProgress, Status> {
        if self.target.exists() {
            return Err(Status::already_exists("there is a backup of that name"));
        }
        remove(&self.partial).await;
        let shown = self.partial.display().to_string();
        self.prepare().map_err(|error| failed(&shown, &error))?;
        let total = size(self.store.path()).map_err(|error| failed(&shown, &error))?.0;
        self.check_room(total)?;
        let copying = self.store.checkpoint(self.partial.join(STORE));
        tokio::pin!(copying);
        loop {
            tokio::select! {
                copied = &mut copying => {
                    copied.map_err(|error| Status::aborted(error.to_string()))?;
                    break;
                }
                () = tokio::time::sleep(LOOK) => {
                    let bytes = size(&self.partial).map_or(0, |(bytes, _)| bytes);
                    drop(tell.try_send(Ok(BackupProgress { bytes, bytes_total: total, ..BackupProgress::default() })));
                }
            }
        }
        self.finish().map_err(|error| failed(&shown, &error))?;
        let done = info(&self.target).map_err(|error| failed(&shown, &error))?;
        let path = self.target.display().to_string();
        Ok(BackupProgress { bytes: done.bytes, bytes_total: done.bytes, done: Some(done), path })
    }

    fn prepare(&self) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        // Others than the relay's user have no business there: keys are kept beside the store.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.partial)
    }

    /// On another disk files are copied, which must leave the reserve free.
    fn check_room(&self, needed: u64) -> Result<(), Status> {
        let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev());
        let room = || {
            if device(self.store.path())? == device(&self.partial)? {
                return Ok(u64::MAX);
            }
            let disk = rustix::fs::statvfs(&self.partial)?;
            Ok::<_, io::Error>(disk.f_bavail.saturating_mul(disk.f_frsize))
        };
        let room = room().map_err(|error| failed("the folder of backups", &error))?;
        let least = needed.saturating_add(self.reserve);
        if room < least {
            let text = format!("{least} bytes must be free, RELAY_DISK_RESERVE_BYTES included, and {room} are");
            return Err(Status::failed_precondition(text));
        }
        Ok(())
    }

    /// Puts beside the store what belongs to it, and gives the whole its name, on disk.
    fn finish(&self) -> io::Result<()> {
        for file in self.beside.iter().filter(|file| file.exists()) {
            if let Some(name) = file.file_name() {
                let copy = self.partial.join(name);
                fs::copy(file, &copy)?;
                File::open(copy)?.sync_all()?;
            }
        }
        File::open(&self.partial)?.sync_all()?;
        fs::rename(&self.partial, &self.target)?;
        match self.target.parent() {
            Some(root) => File::open(root)?.sync_all(),
            None => Ok(()),
        }
    }
}

fn progress(found: &Soundness, is_last: bool) -> VerifyProgress {
    let report = || VerifyReport {
        sound: found.damage.is_empty(),
        damage: found.damage.clone(),
        entries: found.entries,
        bytes: found.bytes,
        records: found.records,
        blobs: found.blobs,
        mailboxes: found.mailboxes,
    };
    let entries_total = if is_last { found.entries } else { found.expected.max(found.entries) };
    VerifyProgress { entries: found.entries, entries_total, bytes: found.bytes, report: is_last.then(report) }
}

fn list(root: &Path) -> io::Result<Vec<BackupInfo>> {
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    let named = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).is_some_and(|n| checked(n).is_ok());
    let mut found: Vec<_> = paths.filter(|path| named(path) && path.join(STORE).is_dir()).take(MAX_LISTED).collect();
    found.sort();
    found.iter().map(|path| info(path)).collect()
}

fn info(path: &Path) -> io::Result<BackupInfo> {
    let (bytes, files) = size(path)?;
    let made = fs::metadata(path)?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(BackupInfo { name, bytes, files, made_ms: u64::try_from(made.as_millis()).unwrap_or(u64::MAX) })
}

/// The bytes and the number of the files in a folder and in those in it. Files that go meanwhile do not count.
fn size(folder: &Path) -> io::Result<(u64, u64)> {
    let (mut bytes, mut files) = (0, 0);
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(metadata) = entry.metadata() else { continue };
        let name = entry.file_name();
        if metadata.is_dir() {
            let inside = size(&entry.path()).unwrap_or_default();
            (bytes, files) = (bytes + inside.0, files + inside.1);
        } else if !CHATTER.iter().any(|chatter| name.to_string_lossy().starts_with(chatter)) {
            (bytes, files) = (bytes + metadata.len(), files + 1);
        }
    }
    Ok((bytes, files))
}

async fn remove(partial: &Path) {
    let removed = tokio::fs::remove_dir_all(partial).await;
    if let Err(error) = removed
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %partial.display(), %error, "what is left of a backup cannot be removed");
    }
}

fn failed(what: &str, error: &io::Error) -> Status {
    Status::aborted(format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_nowhere_else() {
        for good in ["a", "2026-11-21", "b_1.old", &"x".repeat(64)] {
            assert!(checked(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", ".hidden", "../x", "a/b", "/a", "a b", "é", "-a", &"x".repeat(65)] {
            assert!(checked(bad).is_err(), "{bad}");
        }
    }
}
