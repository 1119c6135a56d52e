//! Group commit: the changes that wait are gathered, written with one sync, and answered together.
//!
//! A sync costs the disk a few hundred µs however much it carries, so the more callers wait the more share one. Nobody
//! waits for company: a group is written as soon as the one before it is, with what has come by then.
//!
//! Changes are staged one after the other, each over all before it, so nobody needs a lock and a condition can
//! never be true for two. While one thread writes a group, another stages the next over it. A change is answered only
//! after the sync, and after that of everything it was staged over. If the write fails, everyone in the group and
//! everyone staged over it is told so: one who was refused because of an earlier change was refused for nothing. Until
//! the engine says that a write may succeed again, changes are refused without a look at them.

mod line;
mod stager;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use self::line::Line;
use self::stager::Stager;
use crate::observe::metrics::StoreMetrics;
use crate::store::StoreError;
use crate::store::backend::{Size, Verdict};
use crate::store::stage::{Engine, Stage};

/// Most bytes that wait or are being written; who comes later waits to be let in.
const QUEUE_BYTES: usize = 16 << 20;

/// What a change costs in the queue at least: 8,192 may be there.
const CHANGE_BYTES: usize = 2048;

/// What a write costs in the queue besides its key and value.
const WRITE_OVERHEAD_BYTES: usize = 128;

impl Size {
    /// Its share of the queue: never more than all of it, or it would wait for ever.
    fn in_queue(self) -> u32 {
        let bytes = (self.bytes + self.writes * WRITE_OVERHEAD_BYTES).clamp(CHANGE_BYTES, QUEUE_BYTES);
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

/// The handle of the committing threads. Dropping it waits until everything handed in is written and answered.
pub(super) struct Committer {
    line: Arc<Line>,
    room: Arc<Semaphore>,
    /// `None` only while it is being dropped.
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    /// Starts the threads.
    pub(super) fn start(engine: Arc<dyn Engine>, metrics: StoreMetrics) -> io::Result<Self> {
        let line = Arc::new(Line::new(metrics));
        let (started, is_started) = mpsc::channel();
        let thread = thread::Builder::new().name("store-commit".to_owned()).spawn({
            let line = line.clone();
            move || run(&line, &*engine, &started)
        })?;
        // It says nothing only if it has panicked.
        is_started.recv().unwrap_or(Ok(()))?;
        Ok(Self { line, room: Arc::new(Semaphore::new(QUEUE_BYTES)), thread: Some(thread) })
    }

    /// Hands in a change, and answers once it is durable. Waits while the queue is full.
    pub(super) async fn commit<T, F>(&self, size: Size, change: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Stage<'_>) -> Result<Verdict<T>, StoreError> + Send + 'static,
    {
        let room = self.room.clone().acquire_many_owned(size.in_queue()).await.map_err(|_| StoreError::Stopped)?;
        let (answer, answered) = oneshot::channel();
        let change = Box::new(Waiting { change: Some(change), staged: None, answer, _room: room });
        if !self.line.push(Entry { size, change }) {
            return Err(StoreError::Stopped);
        }
        answered.await.map_err(|_| StoreError::Stopped)?
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.line.close();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("a committing thread of the store panicked; what it had not answered may be lost");
        }
    }
}

/// Both threads: this one, and its helper.
fn run(line: &Line, engine: &dyn Engine, started: &mpsc::Sender<io::Result<()>>) {
    let stager = Mutex::new(Stager::new(engine));
    thread::scope(|scope| {
        let helper = thread::Builder::new().name("store-stage".to_owned());
        let helper = helper.spawn_scoped(scope, || line.help(&stager)).map(drop);
        let is_alone = helper.is_err();
        // Nobody waits for this any more if the whole has been given up.
        started.send(helper).unwrap_or_default();
        if !is_alone {
            line.commit(&stager, engine);
        }
    });
}

/// A change in the queue.
struct Entry {
    size: Size,
    change: Box<dyn Change>,
}

/// A change whose answer is of any type.
trait Change: Send {
    /// Stages it; whether it changes anything.
    fn stage(&mut self, stage: &mut Stage<'_>) -> bool;

    /// Answers it, given how the write of its group went; with an error if it was not staged.
    fn answer(self: Box<Self>, written: &Result<(), StoreError>);
}

struct Waiting<T, F> {
    /// `None` once it is staged.
    change: Option<F>,
    /// `Some` once it is staged.
    staged: Option<Result<T, StoreError>>,
    answer: oneshot::Sender<Result<T, StoreError>>,
    /// Given back when it is answered.
    _room: OwnedSemaphorePermit,
}

impl<T, F> Change for Waiting<T, F>
where
    T: Send + 'static,
    F: FnOnce(&mut Stage<'_>) -> Result<Verdict<T>, StoreError> + Send,
{
    fn stage(&mut self, stage: &mut Stage<'_>) -> bool {
        let Some(change) = self.change.take() else { return false };
        let verdict = change(stage);
        let is_kept = matches!(verdict, Ok(Verdict::Keep(_)));
        if is_kept {
            stage.keep()
        } else {
            stage.discard()
        }
        self.staged = Some(verdict.map(|(Verdict::Keep(value) | Verdict::Discard(value))| value));
        is_kept
    }

    fn answer(self: Box<Self>, written: &Result<(), StoreError>) {
        let staged = self.staged.unwrap_or(Err(StoreError::Stopped));
        // Nobody listens if the caller stopped waiting; the change stands all the same.
        drop(self.answer.send(written.clone().and(staged)));
    }
}
