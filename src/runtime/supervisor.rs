//! Named tasks under one cancellation tree. The first task that fails ends them all; a task that is asked to
//! stop ends by itself, and what has not ended by the deadline is named and aborted. What is known of tasks by
//! name outlives them: how often they were started, and the errors after which they went on.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::time;
use crate::domain::clock::Millis;

/// A handle on all tasks of a node; clones share them.
#[derive(Clone)]
pub struct Supervisor {
    inner: Arc<Inner>,
}

struct Inner {
    token: CancellationToken,
    tracker: TaskTracker,
    running: Mutex<Running>,
    known: Mutex<BTreeMap<&'static str, Task>>,
    failure: watch::Sender<Option<String>>,
}

#[derive(Default)]
struct Running {
    next: u64,
    tasks: BTreeMap<u64, (&'static str, Option<AbortHandle>)>,
}

/// What is known of the tasks of one name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Task {
    /// How many run.
    pub running: u32,
    /// How many have been started.
    pub started: u64,
    /// When the last was started.
    pub since: Millis,
    /// Errors after which it went on.
    pub errors: u64,
    /// The last of them, and when it was.
    pub last_error: Option<(String, Millis)>,
}

/// What tasks without a name are called together.
pub const NAMELESS: &str = "tasks without a name";

/// Longest text of an error that is kept, in bytes.
const MAX_ERROR_BYTES: usize = 512;

impl Default for Supervisor {
    fn default() -> Self {
        Self::new()
    }
}

impl Supervisor {
    /// A supervisor without tasks.
    #[must_use]
    pub fn new() -> Self {
        Self {
            inner: Arc::new(Inner {
                token: CancellationToken::new(),
                tracker: TaskTracker::new(),
                running: Mutex::default(),
                known: Mutex::default(),
                failure: watch::channel(None).0,
            }),
        }
    }

    /// Cancelled when the tasks shall end.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.inner.token.clone()
    }

    /// Starts a task that the whole node depends on: if it fails, or panics, everything ends.
    pub fn spawn<E: Display>(&self, name: &'static str, task: impl Future<Output = Result<(), E>> + Send + 'static) {
        let inner = self.inner.clone();
        let guard = self.enter(name);
        let handle = self.inner.tracker.spawn(async move {
            let mut guard = guard;
            if let Err(error) = task.await {
                guard.failure = Some(error.to_string());
            }
            guard.finished = true;
            drop(guard);
            drop(inner);
        });
        self.note(name, &handle.abort_handle());
    }

    /// Starts a task that may end at any time without harm to the node, such as one connection's.
    pub fn spawn_quiet(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.inner.tracker.spawn(task);
    }

    /// Waits for the first failure of a task, and tells whose and why.
    pub async fn failed(&self) -> String {
        let mut failure = self.inner.failure.subscribe();
        match failure.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    /// The names of the tasks that are running, one for each.
    #[must_use]
    pub fn running(&self) -> Vec<&'static str> {
        self.inner.running.lock().tasks.values().map(|(name, _)| *name).collect()
    }

    /// What is known of all tasks that have a name, by name.
    #[must_use]
    pub fn tasks(&self) -> BTreeMap<&'static str, Task> {
        self.inner.known.lock().clone()
    }

    /// Takes note of an error after which the task of that name went on.
    pub fn went_on_after(&self, name: &'static str, error: &dyn Display) {
        let mut text = error.to_string();
        text.truncate(text.floor_char_boundary(MAX_ERROR_BYTES));
        let mut known = self.inner.known.lock();
        let task = known.entry(name).or_default();
        task.errors += 1;
        task.last_error = Some((text, time::now()));
    }

    /// Asks all tasks to end and waits for them, at most `patience`; then aborts the named ones that remain
    /// and returns their names, and [`NAMELESS`] if others remain.
    pub async fn stop(&self, patience: Duration) -> Vec<&'static str> {
        self.inner.token.cancel();
        self.inner.tracker.close();
        if tokio::time::timeout(patience, self.inner.tracker.wait()).await.is_ok() {
            return Vec::new();
        }
        let running = self.inner.running.lock();
        for (_, handle) in running.tasks.values() {
            if let Some(handle) = handle {
                handle.abort();
            }
        }
        let nameless = (self.inner.tracker.len() > running.tasks.len()).then_some(NAMELESS);
        running.tasks.values().map(|(name, _)| *name).chain(nameless).collect()
    }

    fn enter(&self, name: &'static str) -> Guard {
        let mut running = self.inner.running.lock();
        running.next += 1;
        let id = running.next;
        running.tasks.insert(id, (name, None));
        drop(running);
        let mut known = self.inner.known.lock();
        let task = known.entry(name).or_default();
        task.running += 1;
        task.started += 1;
        task.since = time::now();
        drop(known);
        Guard { inner: self.inner.clone(), id, name, failure: None, finished: false }
    }

    fn note(&self, name: &'static str, handle: &AbortHandle) {
        let mut running = self.inner.running.lock();
        if let Some(slot) = running.tasks.values_mut().find(|(n, h)| *n == name && h.is_none()) {
            slot.1 = Some(handle.clone());
        }
    }
}

/// Signs a task off, however it ends.
struct Guard {
    inner: Arc<Inner>,
    id: u64,
    name: &'static str,
    failure: Option<String>,
    finished: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.inner.running.lock().tasks.remove(&self.id);
        if let Some(task) = self.inner.known.lock().get_mut(self.name) {
            task.running = task.running.saturating_sub(1);
        }
        let reason = match self.failure.take() {
            Some(reason) => reason,
            None if !self.finished && std::thread::panicking() => "panicked".to_owned(),
            None => return,
        };
        let name = self.name;
        self.inner.failure.send_if_modified(|first| {
            let newly = first.is_none();
            first.get_or_insert_with(|| format!("{name}: {reason}"));
            newly
        });
        self.inner.token.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_failure_ends_all_and_is_named() {
        let supervisor = Supervisor::new();
        let token = supervisor.token();
        supervisor.spawn("patient", async move {
            token.cancelled().await;
            Ok::<(), String>(())
        });
        supervisor.spawn("broken", async { Err("disk is full") });
        assert_eq!(supervisor.failed().await, "broken: disk is full");
        assert!(supervisor.stop(Duration::from_secs(5)).await.is_empty());
    }

    #[tokio::test]
    async fn a_panic_is_a_failure() {
        let supervisor = Supervisor::new();
        supervisor.spawn::<String>("careless", async { panic!("on purpose") });
        assert_eq!(supervisor.failed().await, "careless: panicked");
    }

    #[tokio::test]
    async fn what_is_known_of_tasks_outlives_them() {
        let supervisor = Supervisor::new();
        supervisor.spawn::<String>("patient", std::future::pending());
        for _ in 0..2 {
            supervisor.spawn::<String>("brief", async { Ok(()) });
        }
        supervisor.went_on_after("brief", &"disk is full");
        supervisor.went_on_after("brief", &"é".repeat(MAX_ERROR_BYTES));
        while supervisor.running().len() > 1 {
            tokio::task::yield_now().await;
        }
        let tasks = supervisor.tasks();
        assert_eq!((tasks["patient"].running, tasks["patient"].started, tasks["patient"].errors), (1, 1, 0));
        let brief = &tasks["brief"];
        assert_eq!((brief.running, brief.started, brief.errors), (0, 2, 2));
        assert!(brief.since.0 > 0 && brief.last_error.as_ref().is_some_and(|(text, _)| text.len() == MAX_ERROR_BYTES));
    }

    #[tokio::test]
    async fn what_does_not_end_is_named() {
        let supervisor = Supervisor::new();
        supervisor.spawn::<String>("deaf", std::future::pending());
        assert_eq!(supervisor.running(), ["deaf"]);
        assert_eq!(supervisor.stop(Duration::from_millis(10)).await, ["deaf"]);
        let supervisor = Supervisor::new();
        supervisor.spawn_quiet(std::future::pending());
        supervisor.spawn::<String>("deaf", std::future::pending());
        assert_eq!(supervisor.stop(Duration::from_millis(10)).await, ["deaf", NAMELESS]);
    }
}
