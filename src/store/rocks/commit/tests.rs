use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc as std_mpsc;

use bytes::Bytes;
use futures::future::join_all;
use parking_lot::Mutex;

use super::*;
use crate::store::stage::{Changes, Family, Lookup, Value};

const ONE: Size = Size { writes: 1, bytes: 2 };

/// A database in memory that can be told to fail, and counts its writes.
#[derive(Default)]
struct Disk {
    stored: Mutex<std::collections::HashMap<Bytes, Bytes>>,
    broken: AtomicBool,
    waits: AtomicBool,
    writes: AtomicUsize,
    /// Holds the next write up until the other end is dropped.
    gate: Mutex<Option<std_mpsc::Receiver<()>>>,
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
        if let Some(gate) = self.gate.lock().take() {
            gate.recv().unwrap_err();
        }
        if self.broken.load(Ordering::Relaxed) {
            return Err(StoreError::Write { detail: "no space left on device".to_owned() });
        }
        for (_, key, value) in changes.iter() {
            let value = value.map(Value::to_bytes).unwrap_or_default();
            self.stored.lock().insert(Bytes::copy_from_slice(key), value);
        }
        Ok(())
    }
}

/// Puts "k" unless it is there; answers whether it did.
fn put_new(stage: &mut Stage<'_>) -> Result<Verdict<bool>, StoreError> {
    if stage.get(Family::Records, b"k")?.is_some() {
        return Ok(Verdict::Discard(false));
    }
    stage.put(Family::Records, b"k", b"v");
    Ok(Verdict::Keep(true))
}

/// Holds the thread in the middle of a group until the answer is dropped.
async fn stall(committer: &Arc<Committer>) -> std_mpsc::Sender<()> {
    let (release, held) = std_mpsc::channel::<()>();
    let (holds, is_held) = oneshot::channel();
    let committer = committer.clone();
    tokio::spawn(async move {
        let wait = move |_: &mut Stage<'_>| {
            holds.send(()).unwrap();
            held.recv().unwrap_err();
            Ok(Verdict::Discard(()))
        };
        committer.commit(ONE, wait).await
    });
    is_held.await.unwrap();
    release
}

#[tokio::test]
async fn changes_that_wait_together_are_written_once_and_see_each_other() {
    let disk = Arc::new(Disk::default());
    let metrics = StoreMetrics::default();
    let committer = Arc::new(Committer::start(disk.clone(), metrics.clone()).unwrap());
    let release = stall(&committer).await;
    let callers = join_all((0..100).map(|_| committer.commit(ONE, put_new)));
    let (answers, ()) = tokio::join!(callers, async { drop(release) });
    assert_eq!(answers.into_iter().filter(|answer| *answer == Ok(true)).count(), 1);
    assert_eq!((disk.writes.load(Ordering::Relaxed), metrics.changes.get()), (1, 1));
}

#[tokio::test]
async fn a_failed_write_is_an_error_to_everyone_in_the_group() {
    let disk = Arc::new(Disk::default());
    let committer = Arc::new(Committer::start(disk.clone(), StoreMetrics::default()).unwrap());
    disk.broken.store(true, Ordering::Relaxed);
    let release = stall(&committer).await;
    let callers = join_all((0..10).map(|_| committer.commit(ONE, put_new)));
    let (answers, ()) = tokio::join!(callers, async { drop(release) });
    assert!(answers.iter().all(|answer| matches!(answer, Err(StoreError::Write { .. }))), "{answers:?}");
    disk.broken.store(false, Ordering::Relaxed);
    assert_eq!(committer.commit(ONE, put_new).await, Ok(true), "the failed change left something behind");
}

#[tokio::test]
async fn while_the_engine_waits_changes_are_refused_unseen() {
    let disk = Arc::new(Disk::default());
    let committer = Committer::start(disk.clone(), StoreMetrics::default()).unwrap();
    disk.waits.store(true, Ordering::Relaxed);
    let unseen = |_: &mut Stage<'_>| -> Result<Verdict<()>, StoreError> { panic!("seen") };
    assert!(matches!(committer.commit(ONE, unseen).await, Err(StoreError::Failing { .. })));
    disk.waits.store(false, Ordering::Relaxed);
    assert_eq!(committer.commit(ONE, put_new).await, Ok(true));
}

#[tokio::test]
async fn a_change_that_fails_leaves_nothing_and_harms_nobody() {
    let disk = Arc::new(Disk::default());
    let committer = Committer::start(disk.clone(), StoreMetrics::default()).unwrap();
    let failing = |stage: &mut Stage<'_>| -> Result<Verdict<()>, StoreError> {
        stage.put(Family::Records, b"k", b"half");
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
    let committer = Committer::start(disk.clone(), StoreMetrics::default()).unwrap();
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
    let committer = Arc::new(Committer::start(disk.clone(), StoreMetrics::default()).unwrap());
    let release = stall(&committer).await;
    let quarter = Size { writes: 1, bytes: QUEUE_BYTES / 4 };
    let callers = join_all((0..20).map(|_| committer.commit(quarter, put_new)));
    let (answers, ()) = tokio::join!(callers, async { drop(release) });
    assert!(answers.iter().all(Result::is_ok));
}

/// Many changes that are staged while another is being written.
async fn staged_over(disk: &Arc<Disk>, meanwhile: impl FnOnce(&Disk)) -> Vec<Result<bool, StoreError>> {
    const OVER: usize = 50;
    let committer = Committer::start(disk.clone(), StoreMetrics::default()).unwrap();
    let staged = Arc::new(AtomicUsize::new(0));
    let (release, gate) = std_mpsc::channel();
    *disk.gate.lock() = Some(gate);
    let over = |_| {
        let staged = staged.clone();
        committer.commit(ONE, move |stage| {
            staged.fetch_add(1, Ordering::Relaxed);
            put_new(stage)
        })
    };
    let under = committer.commit(ONE, put_new);
    let events = async {
        while disk.writes.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        let all = join_all((0..OVER).map(over));
        let watch = async {
            while staged.load(Ordering::Relaxed) == 0 {
                tokio::task::yield_now().await;
            }
            meanwhile(disk);
            drop(release);
        };
        tokio::join!(all, watch).0
    };
    let (under, over) = tokio::join!(under, events);
    [vec![under], over].concat()
}

#[tokio::test]
async fn what_is_staged_over_a_group_that_is_being_written_sees_it() {
    let disk = Arc::new(Disk::default());
    let answers = staged_over(&disk, |_| {}).await;
    assert_eq!(answers.first(), Some(&Ok(true)));
    assert!(answers.iter().skip(1).all(|answer| *answer == Ok(false)), "{answers:?}");
    assert_eq!(disk.writes.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn what_is_staged_over_a_group_that_fails_fails_with_it() {
    let disk = Arc::new(Disk::default());
    let answers = staged_over(&disk, |disk| {
        disk.broken.store(true, Ordering::Relaxed);
        disk.waits.store(true, Ordering::Relaxed);
    })
    .await;
    let failed = answers.iter().filter(|answer| matches!(answer, Err(StoreError::Write { .. }))).count();
    let refused = answers.iter().filter(|answer| matches!(answer, Err(StoreError::Failing { .. }))).count();
    assert!(failed > 1, "nothing was staged over it: {answers:?}");
    assert_eq!(failed + refused, answers.len(), "{answers:?}");
}
