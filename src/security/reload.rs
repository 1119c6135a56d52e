//! What is made of files, and made again when these change.
//!
//! Files are compared by their bytes: neither a coarse clock nor a link that is pointed elsewhere hides a change. What
//! cannot be used is looked at twice before it is called broken, because files that belong together are seldom written
//! at one moment. What was made before stays in force meanwhile.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::file;
use crate::domain::digest;

/// A longer file is no key, certificate or token that somebody meant, in bytes.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// Why something cannot be made of files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct FileFault {
    /// Which of the files, counted from 0.
    pub index: usize,
    /// Where it is.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// What is wrong with the contents: of which file, counted from 0, and what.
pub type Fault = (usize, String);

/// What became of a look at the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// Nothing new.
    Same,
    /// They have changed, and what is made of them now is in force.
    Taken,
    /// They have changed and cannot be used. Said once for the same contents.
    Broken(FileFault),
}

/// Files that are looked at again and again.
pub trait Reload: Send + Sync {
    /// What is made of them, in a few words.
    fn name(&self) -> &'static str;

    /// Looks whether they have changed. Reads them, and so blocks.
    fn look(&self) -> Look;
}

/// What is made of files; clones share it.
pub struct Reloaded<T>(Arc<Inner<T>>);

struct Inner<T> {
    name: &'static str,
    files: Vec<PathBuf>,
    make: fn(&[Vec<u8>]) -> Result<T, Fault>,
    current: ArcSwap<T>,
    seen: Mutex<Seen>,
    taken: watch::Sender<()>,
}

type Digest = [u8; 32];

struct Seen {
    in_force: Digest,
    /// What was seen last and cannot be used, and whether that was said.
    doubtful: Option<(Digest, bool)>,
}

impl<T> Clone for Reloaded<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Shows where it comes from: it may be a secret.
impl<T> fmt::Debug for Reloaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloaded").field("name", &self.0.name).field("files", &self.0.files).finish_non_exhaustive()
    }
}

impl<T> Reloaded<T> {
    /// Reads the files, and makes something of their contents, which are in the same order.
    ///
    /// # Errors
    /// [`FileFault`].
    pub fn new(
        name: &'static str,
        files: Vec<PathBuf>,
        make: fn(&[Vec<u8>]) -> Result<T, Fault>,
    ) -> Result<Self, FileFault> {
        let contents = contents(&files)?;
        let current = make(&contents).map_err(|fault| at(&files, fault))?;
        let seen = Seen { in_force: digest_of(&contents), doubtful: None };
        let (current, seen, taken) = (ArcSwap::from_pointee(current), Mutex::new(seen), watch::Sender::new(()));
        Ok(Self(Arc::new(Inner { name, files, make, current, seen, taken })))
    }

    /// Changes whenever something else is in force.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.0.taken.subscribe()
    }

    /// What is in force now.
    #[must_use]
    pub fn current(&self) -> Arc<T> {
        self.0.current.load_full()
    }
}

impl<T: Send + Sync> Reload for Reloaded<T> {
    fn name(&self) -> &'static str {
        self.0.name
    }

    fn look(&self) -> Look {
        let Inner { files, make, current, seen, taken, .. } = &*self.0;
        let read = contents(files);
        let found = match &read {
            Ok(contents) => digest_of(contents),
            Err(fault) => digest(&[fault.to_string().as_bytes()]),
        };
        let mut seen = seen.lock();
        if found == seen.in_force {
            seen.doubtful = None;
            return Look::Same;
        }
        if seen.doubtful == Some((found, true)) {
            return Look::Same;
        }
        match read.and_then(|contents| make(&contents).map_err(|fault| at(files, fault))) {
            Ok(made) => {
                current.store(Arc::new(made));
                *seen = Seen { in_force: found, doubtful: None };
                taken.send_replace(());
                Look::Taken
            }
            Err(fault) => {
                let again = seen.doubtful == Some((found, false));
                seen.doubtful = Some((found, again));
                if again { Look::Broken(fault) } else { Look::Same }
            }
        }
    }
}

fn contents(files: &[PathBuf]) -> Result<Vec<Vec<u8>>, FileFault> {
    let read = |(index, path): (usize, &PathBuf)| {
        file::read(path, MAX_FILE_BYTES).map_err(|reason| FileFault { index, path: path.clone(), reason })
    };
    files.iter().enumerate().map(read).collect()
}

fn digest_of(contents: &[Vec<u8>]) -> Digest {
    digest(&contents.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

fn at(files: &[PathBuf], (index, reason): Fault) -> FileFault {
    FileFault { index, path: files.get(index).cloned().unwrap_or_default(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two files whose contents must be equal.
    fn pair(contents: &[Vec<u8>]) -> Result<Vec<u8>, Fault> {
        let [one, two] = contents else { panic!("two files") };
        if one == two { Ok(one.clone()) } else { Err((1, "differs".to_owned())) }
    }

    #[test]
    fn a_change_is_taken_once_it_is_whole_and_what_stays_broken_is_said_once() {
        let dir = tempfile::tempdir().unwrap();
        let files: Vec<_> = ["one", "two"].iter().map(|name| dir.path().join(name)).collect();
        let write = |index: usize, text: &str| std::fs::write(&files[index], text).unwrap();
        (0..2).for_each(|index| write(index, "a"));
        let made = Reloaded::new("pair", files.clone(), pair).unwrap();
        assert_eq!(made.look(), Look::Same);

        write(0, "b");
        assert_eq!(made.look(), Look::Same, "the other file may follow");
        write(1, "b");
        let mut changes = made.changes();
        assert_eq!((made.look(), made.current().as_slice()), (Look::Taken, b"b".as_slice()));
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        assert_eq!(made.look(), Look::Same);

        write(1, "c");
        let fault = FileFault { index: 1, path: files[1].clone(), reason: "differs".to_owned() };
        assert_eq!([made.look(), made.look(), made.look()], [Look::Same, Look::Broken(fault), Look::Same]);
        assert_eq!((made.current().as_slice(), changes.has_changed().unwrap()), (b"b".as_slice(), false));
        write(1, "b");
        assert_eq!(made.look(), Look::Same, "it is what is in force");

        std::fs::remove_file(&files[0]).unwrap();
        assert_eq!(made.look(), Look::Same);
        assert!(matches!(made.look(), Look::Broken(fault) if fault.index == 0));
        assert_eq!(made.current().as_slice(), b"b");
    }

    #[test]
    fn what_is_made_of_it_is_not_printed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "s3cret").unwrap();
        let made = Reloaded::new("token", vec![file], |contents| Ok(contents[0].clone())).unwrap();
        let shown = format!("{made:?}");
        assert!(shown.contains("token") && !shown.contains("s3cret"), "{shown}");
        assert!(Reloaded::new("none", vec!["/nonexistent".into()], |_| Ok(())).is_err());
    }
}
