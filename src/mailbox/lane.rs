//! The work of one connection: what may overlap is done side by side, so that it shares commits of the store, and
//! all of it is answered in the order in which it was asked for.
//!
//! What is in a lane is finished though its connection has gone. A lane without work costs no task.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::Notify;

use crate::domain::mailbox::{MailboxKey, Place};

/// Work of one connection at one time; above it nothing more is read.
pub(super) const WINDOW: usize = 64;

/// Bytes of the frames that the work comes from.
const WINDOW_BYTES: usize = 4 << 20;

/// What a piece of work comes to.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// The frame of the answer.
    pub answer: Option<Bytes>,
    /// What has come into which mailbox; whoever reads it is told after the answer is queued.
    pub arrived: SmallVec<[(MailboxKey, Place); 1]>,
}

impl Done {
    /// Only an answer.
    pub fn answer(frame: Bytes) -> Self {
        Self { answer: Some(frame), ..Self::default() }
    }
}

/// What it comes to, and the bytes of the frame that asked for it.
type Work = Pin<Box<dyn Future<Output = (Done, usize)> + Send>>;

/// One piece of work.
struct Job {
    /// Whether it begins only after everything before it, and nothing begins before its end.
    alone: bool,
    work: Work,
}

/// The work of one connection.
#[derive(Default)]
pub(super) struct Lane {
    state: Mutex<State>,
    more: Notify,
    room: Notify,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    jobs: usize,
    bytes: usize,
    running: bool,
}

impl Lane {
    /// Adds work that came in so many bytes. True if [`Lane::run`] must be started.
    #[must_use]
    pub fn push(&self, alone: bool, bytes: usize, work: impl Future<Output = Done> + Send + 'static) -> bool {
        let mut state = self.state.lock();
        state.jobs += 1;
        state.bytes += bytes;
        state.queue.push_back(Job { alone, work: Box::pin(async move { (work.await, bytes) }) });
        self.more.notify_one();
        !std::mem::replace(&mut state.running, true)
    }

    /// Whether more may be added.
    pub fn has_room(&self) -> bool {
        let state = self.state.lock();
        state.jobs < WINDOW && state.bytes < WINDOW_BYTES
    }

    /// Waits until more may be added.
    pub async fn room(&self) {
        loop {
            let changed = self.room.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.has_room() {
                return;
            }
            changed.await;
        }
    }

    /// Whether nothing is left to do.
    pub fn is_idle(&self) -> bool {
        !self.state.lock().running
    }

    /// Does all work there is; gives `each` what it comes to, in order.
    pub async fn run(&self, mut each: impl FnMut(Done)) {
        let mut working = FuturesOrdered::new();
        let mut alone = false;
        loop {
            if !self.begin(&mut working, &mut alone) {
                return;
            }
            let (done, bytes) = tokio::select! {
                biased;
                done = working.next() => match done {
                    Some(done) => done,
                    None => continue,
                },
                () = self.more.notified() => continue,
            };
            each(done);
            alone = false;
            let mut state = self.state.lock();
            state.jobs -= 1;
            state.bytes -= bytes;
            drop(state);
            self.room.notify_waiters();
        }
    }

    /// Begins what may begin now; false once nothing is left.
    fn begin(&self, working: &mut FuturesOrdered<Work>, alone: &mut bool) -> bool {
        let mut state = self.state.lock();
        while let Some(next) = state.queue.front() {
            if *alone || (next.alone && !working.is_empty()) {
                return true;
            }
            *alone = next.alone;
            if let Some(job) = state.queue.pop_front() {
                working.push_back(job.work);
            }
        }
        if working.is_empty() {
            *state = State::default();
            return false;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::oneshot;

    use super::*;

    fn said(word: &'static str) -> Done {
        Done::answer(Bytes::from_static(word.as_bytes()))
    }

    fn answers(lane: &Arc<Lane>) -> tokio::task::JoinHandle<Vec<Bytes>> {
        let lane = lane.clone();
        tokio::spawn(async move {
            let mut answers = Vec::new();
            lane.run(|done| answers.extend(done.answer)).await;
            answers
        })
    }

    #[tokio::test]
    async fn work_overlaps_and_is_answered_in_order() {
        let lane = Arc::new(Lane::default());
        let (finish, finished) = oneshot::channel::<()>();
        assert!(lane.push(false, 1, async move {
            finished.await.unwrap();
            said("first")
        }));
        // Ends the first: were it not begun beside it, nothing would.
        assert!(!lane.push(false, 1, async move {
            finish.send(()).unwrap();
            said("second")
        }));
        assert_eq!(answers(&lane).await.unwrap(), ["first", "second"]);
        assert!(lane.is_idle());
    }

    #[tokio::test]
    async fn what_is_to_be_alone_waits_for_what_is_before_it_and_holds_up_the_rest() {
        let lane = Arc::new(Lane::default());
        let log = Arc::new(Mutex::new(Vec::new()));
        for (word, alone) in [("a", false), ("b", true), ("c", false)] {
            let log = log.clone();
            let _ = lane.push(alone, 1, async move {
                log.lock().push((word, "begins"));
                tokio::task::yield_now().await;
                log.lock().push((word, "ends"));
                said(word)
            });
        }
        assert_eq!(answers(&lane).await.unwrap(), ["a", "b", "c"]);
        let expected = ["a", "b", "c"].map(|word| [(word, "begins"), (word, "ends")]).concat();
        assert_eq!(*log.lock(), expected);
    }

    #[tokio::test]
    async fn a_full_lane_has_room_again_once_work_is_done() {
        let lane = Arc::new(Lane::default());
        for _ in 0..WINDOW {
            assert!(lane.has_room());
            let _ = lane.push(false, 1, async { Done::default() });
        }
        assert!(!lane.has_room());
        let running = answers(&lane);
        lane.room().await;
        running.await.unwrap();
    }
}
