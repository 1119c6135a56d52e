//! Group commit: one thread gathers the changes that wait, writes them with one sync, and answers everybody.
//!
//! A sync costs the disk about 150 µs however much it carries, so the more callers wait the more share one. The
//! thread never waits for company: it takes what is there, and while it syncs, the next group gathers.
//!
//! Changes are staged one after the other, each over all before it, so nobody needs a lock and a condition can
//! never be true for two. A change is answered only after the sync. If the write fails, everyone in the group is
//! told so: one who was refused because of an earlier change in the group was refused for nothing. Until the engine
//! says that a write may succeed again, changes are refused without a look at them.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::store::StoreError;
use crate::store::backend::{Size, Verdict};
use crate::store::stage::{Engine, Stage};

/// A group is closed once it has this many writes.
const GROUP_WRITES: usize = 2048;

/// A group is closed once it has this many bytes.
const GROUP_BYTES: usize = 1 << 20;

/// Most changes that wait; who comes later waits to be let in.
const QUEUE_CHANGES: usize = 8192;

/// Most bytes that wait or are being written.
const QUEUE_BYTES: usize = 16 << 20;

/// What a write costs in the queue besides its key and value.
const WRITE_OVERHEAD_BYTES: usize = 128;

impl Size {
    /// Its share of the queue: at least one byte and never more than all of it, or it would wait for ever.
    fn in_queue(self) -> u32 {
        let bytes = (self.bytes + self.writes * WRITE_OVERHEAD_BYTES).clamp(1, QUEUE_BYTES);
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

/// The handle of the committing thread. Dropping it waits until everything handed in is written and answered.
pub(super) struct Committer {
    /// `None` only while it is being dropped.
    queue: Option<mpsc::Sender<Entry>>,
    room: Arc<Semaphore>,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    /// Starts the thread.
    pub(super) fn start(engine: Arc<dyn Engine>) -> io::Result<Self> {
        let (queue, waiting) = mpsc::channel(QUEUE_CHANGES);
        let thread = thread::Builder::new().name("store-commit".to_owned()).spawn(move || run(&*engine, waiting))?;
        Ok(Self { queue: Some(queue), room: Arc::new(Semaphore::new(QUEUE_BYTES)), thread: Some(thread) })
    }

    /// Hands in a change, and answers once it is durable. Waits while the queue is full.
    pub(super) async fn commit<T, F>(&self, size: Size, change: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Stage<'_>) -> Result<Verdict<T>, StoreError> + Send + 'static,
    {
        let room = self.room.clone().acquire_many_owned(size.in_queue()).await.map_err(|_| StoreError::Stopped)?;
        let (answer, answered) = oneshot::channel();
        let change = Box::new(Waiting { change, answer });
        let queue = self.queue.as_ref().ok_or(StoreError::Stopped)?;
        queue.send(Entry { size, change, _room: room }).await.map_err(|_| StoreError::Stopped)?;
        answered.await.map_err(|_| StoreError::Stopped)?
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.queue = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the store's committing thread panicked; what it had not answered may be lost");
        }
    }
}

/// A change in the queue.
struct Entry {
    size: Size,
    change: Box<dyn Change>,
    /// Given back when the change is answered.
    _room: OwnedSemaphorePermit,
}

/// A change whose answer is of any type.
trait Change: Send {
    /// Stages it, and answers how to answer it.
    fn stage(self: Box<Self>, stage: &mut Stage<'_>) -> Answer;

    /// Answers it with an error instead.
    fn refuse(self: Box<Self>, error: StoreError);
}

/// Answers a change, given how the write of its group went.
type Answer = Box<dyn FnOnce(&Result<(), StoreError>) + Send>;

struct Waiting<T, F> {
    change: F,
    answer: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Change for Waiting<T, F>
where
    T: Send + 'static,
    F: FnOnce(&mut Stage<'_>) -> Result<Verdict<T>, StoreError> + Send,
{
    fn stage(self: Box<Self>, stage: &mut Stage<'_>) -> Answer {
        let staged = (self.change)(stage);
        match &staged {
            Ok(Verdict::Keep(_)) => stage.keep(),
            Ok(Verdict::Discard(_)) | Err(_) => stage.discard(),
        }
        let answer = self.answer;
        Box::new(move |written| {
            let staged = staged.map(|(Verdict::Keep(value) | Verdict::Discard(value))| value);
            // Nobody listens if the caller stopped waiting; the change stands all the same.
            drop(answer.send(written.clone().and(staged)));
        })
    }

    fn refuse(self: Box<Self>, error: StoreError) {
        drop(self.answer.send(Err(error)));
    }
}

/// The thread: until every handle is gone and the queue is empty.
fn run(engine: &dyn Engine, mut waiting: mpsc::Receiver<Entry>) {
    let mut stage = Stage::new(engine);
    while let Some(first) = waiting.blocking_recv() {
        if let Err(error) = engine.ready() {
            first.change.refuse(error);
            continue;
        }
        let mut group = Vec::new();
        let (mut writes, mut bytes) = (0, 0);
        let mut next = Some(first);
        while let Some(entry) = next {
            writes += entry.size.writes;
            bytes += entry.size.bytes;
            group.push((entry.change.stage(&mut stage), entry._room));
            let closed = writes >= GROUP_WRITES || bytes >= GROUP_BYTES || group.len() >= GROUP_WRITES;
            next = if closed { None } else { waiting.try_recv().ok() };
        }
        let written = if stage.changes().is_empty() { Ok(()) } else { engine.write(stage.changes()) };
        match &written {
            Ok(()) => stage.written(),
            Err(error) => {
                tracing::error!(%error, changes = group.len(), "a group of changes was not written");
                stage.failed();
            }
        }
        for (answer, _room) in group {
            answer(&written);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::mpsc as std_mpsc;

    use bytes::Bytes;
    use futures::future::join_all;
    use parking_lot::Mutex;

    use super::*;
    use crate::store::stage::{Changes, Family, Lookup};

    const ONE: Size = Size { writes: 1, bytes: 2 };

    /// A database in memory that can be told to fail, and counts its writes.
    #[derive(Default)]
    struct Disk {
        stored: Mutex<std::collections::HashMap<Bytes, Bytes>>,
        broken: AtomicBool,
        waits: AtomicBool,
        writes: AtomicUsize,
    }

    impl Lookup for Disk {
        fn get(&self, _: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
            Ok(self.stored.lock().get(key).cloned())
        }
    }

    impl Engine for Disk {
        fn ready(&self) -> Result<(), StoreError> {
            match self.waits.load(Ordering::Relaxed) {
                true => Err(StoreError::Failing { detail: "no space left on device".to_owned() }),
                false => Ok(()),
            }
        }

        fn write(&self, changes: &Changes) -> Result<(), StoreError> {
            self.writes.fetch_add(1, Ordering::Relaxed);
            if self.broken.load(Ordering::Relaxed) {
                return Err(StoreError::Write { detail: "no space left on device".to_owned() });
            }
            for (_, key, value) in changes.iter() {
                let value = value.cloned().unwrap_or_default();
                self.stored.lock().insert(key.clone(), value);
            }
            Ok(())
        }
    }

    /// Puts "k" unless it is there; answers whether it did.
    fn put_new(stage: &mut Stage<'_>) -> Result<Verdict<bool>, StoreError> {
        if stage.get(Family::Records, b"k")?.is_some() {
            return Ok(Verdict::Discard(false));
        }
        stage.put(Family::Records, "k".into(), "v".into());
        Ok(Verdict::Keep(true))
    }

    /// Holds the thread in the middle of a group until the answer is dropped.
    fn stall(committer: &Arc<Committer>) -> std_mpsc::Sender<()> {
        let (release, held) = std_mpsc::channel::<()>();
        let committer = committer.clone();
        tokio::spawn(async move {
            let wait = move |_: &mut Stage<'_>| {
                held.recv().unwrap_err();
                Ok(Verdict::Discard(()))
            };
            committer.commit(ONE, wait).await
        });
        release
    }

    #[tokio::test]
    async fn changes_that_wait_together_are_written_once_and_see_each_other() {
        let disk = Arc::new(Disk::default());
        let committer = Arc::new(Committer::start(disk.clone()).unwrap());
        let release = stall(&committer);
        tokio::task::yield_now().await;
        let callers = join_all((0..100).map(|_| committer.commit(ONE, put_new)));
        let (answers, ()) = tokio::join!(callers, async { drop(release) });
        assert_eq!(answers.into_iter().filter(|answer| *answer == Ok(true)).count(), 1);
        assert_eq!(disk.writes.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_failed_write_is_an_error_to_everyone_in_the_group() {
        let disk = Arc::new(Disk::default());
        let committer = Arc::new(Committer::start(disk.clone()).unwrap());
        disk.broken.store(true, Ordering::Relaxed);
        let release = stall(&committer);
        tokio::task::yield_now().await;
        let callers = join_all((0..10).map(|_| committer.commit(ONE, put_new)));
        let (answers, ()) = tokio::join!(callers, async { drop(release) });
        assert!(answers.iter().all(|answer| matches!(answer, Err(StoreError::Write { .. }))), "{answers:?}");
        disk.broken.store(false, Ordering::Relaxed);
        assert_eq!(committer.commit(ONE, put_new).await, Ok(true), "the failed change left something behind");
    }

    #[tokio::test]
    async fn while_the_engine_waits_changes_are_refused_unseen() {
        let disk = Arc::new(Disk::default());
        let committer = Committer::start(disk.clone()).unwrap();
        disk.waits.store(true, Ordering::Relaxed);
        let unseen = |_: &mut Stage<'_>| -> Result<Verdict<()>, StoreError> { panic!("seen") };
        assert!(matches!(committer.commit(ONE, unseen).await, Err(StoreError::Failing { .. })));
        disk.waits.store(false, Ordering::Relaxed);
        assert_eq!(committer.commit(ONE, put_new).await, Ok(true));
    }

    #[tokio::test]
    async fn a_change_that_fails_leaves_nothing_and_harms_nobody() {
        let disk = Arc::new(Disk::default());
        let committer = Committer::start(disk.clone()).unwrap();
        let failing = |stage: &mut Stage<'_>| -> Result<Verdict<()>, StoreError> {
            stage.put(Family::Records, "k".into(), "half".into());
            Err(StoreError::Read { detail: "bad block".to_owned() })
        };
        let (failed, done) = tokio::join!(committer.commit(ONE, failing), committer.commit(ONE, put_new));
        assert!(matches!(failed, Err(StoreError::Read { .. })));
        assert_eq!(done, Ok(true));
        assert_eq!(disk.stored.lock().get(b"k".as_slice()), Some(&Bytes::from("v")));
    }

    #[tokio::test]
    async fn dropping_it_drains_the_queue_even_if_nobody_waits_for_the_answers() {
        let disk = Arc::new(Disk::default());
        let committer = Committer::start(disk.clone()).unwrap();
        {
            let mut abandoned = Box::pin(committer.commit(ONE, put_new));
            assert!(futures::poll!(&mut abandoned).is_pending() || disk.writes.load(Ordering::Relaxed) == 1);
        }
        drop(committer);
        assert_eq!(disk.stored.lock().len(), 1);
    }

    #[tokio::test]
    async fn a_full_queue_lets_callers_wait_and_loses_none() {
        let disk = Arc::new(Disk::default());
        let committer = Arc::new(Committer::start(disk.clone()).unwrap());
        let release = stall(&committer);
        tokio::task::yield_now().await;
        let quarter = Size { writes: 1, bytes: QUEUE_BYTES / 4 };
        let callers = join_all((0..20).map(|_| committer.commit(quarter, put_new)));
        let (answers, ()) = tokio::join!(callers, async { drop(release) });
        assert!(answers.iter().all(Result::is_ok));
    }
}
