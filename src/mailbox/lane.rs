//! The work of one connection: what may overlap is done side by side, so that it shares commits of the store, and
//! all of it is answered in the order in which it was asked for.
//!
//! It is done by the task of the connection, which is awake for it anyway: to hand it to another task would cost two
//! more turns of the scheduler for each message. What is in a lane is finished though its connection has gone.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use parking_lot::Mutex;
use smallvec::SmallVec;

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

/// The work of one connection that is not over.
#[derive(Default)]
pub(super) struct Lane {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What has not begun.
    queue: VecDeque<Job>,
    /// How much there is, with what has begun.
    jobs: usize,
    bytes: usize,
}

impl Lane {
    /// Adds work that came in so many bytes; it begins when [`Working::proceed`] is asked next.
    pub fn push(&self, alone: bool, bytes: usize, work: impl Future<Output = Done> + Send + 'static) {
        let work = Box::pin(async move { (work.await, bytes) });
        let mut state = self.state.lock();
        state.jobs += 1;
        state.bytes += bytes;
        state.queue.push_back(Job { alone, work });
    }

    /// Whether more may be added.
    pub fn has_room(&self) -> bool {
        let state = self.state.lock();
        state.jobs < WINDOW && state.bytes < WINDOW_BYTES
    }

    /// Whether nothing is left to do.
    pub fn is_idle(&self) -> bool {
        self.state.lock().jobs == 0
    }

    /// Work that came in so many bytes is over.
    fn over(&self, bytes: usize) {
        let mut state = self.state.lock();
        state.jobs -= 1;
        state.bytes -= bytes;
        if state.jobs == 0 {
            // A connection that says nothing more keeps no memory for it.
            state.queue = VecDeque::new();
        }
    }
}

/// What has begun of a lane, for the one who goes on with it.
#[derive(Default)]
pub(super) struct Working {
    /// `None` costs a connection that says nothing no memory.
    begun: Option<FuturesOrdered<Work>>,
    /// Whether what has begun is to be alone.
    alone: bool,
}

impl Working {
    /// Goes on with the work of a lane as far as that is possible now; gives `each` what it comes to, in order. Ready
    /// once nothing is left to do.
    pub fn proceed(&mut self, lane: &Lane, context: &mut Context<'_>, mut each: impl FnMut(Done)) -> Poll<()> {
        if lane.is_idle() {
            return Poll::Ready(());
        }
        let begun = self.begun.get_or_insert_default();
        loop {
            begin(&mut lane.state.lock().queue, begun, &mut self.alone);
            let Poll::Ready(next) = begun.poll_next_unpin(context) else { return Poll::Pending };
            let Some((done, bytes)) = next else { return Poll::Ready(()) };
            self.alone = false;
            each(done);
            lane.over(bytes);
        }
    }

    /// Gives the memory back, if nothing has begun: to be called when nothing is expected soon.
    pub fn rest(&mut self) {
        self.begun.take_if(|begun| begun.is_empty());
    }
}

/// Begins what may begin now.
fn begin(queue: &mut VecDeque<Job>, begun: &mut FuturesOrdered<Work>, alone: &mut bool) {
    while let Some(next) = queue.front() {
        if *alone || (next.alone && !begun.is_empty()) {
            return;
        }
        *alone = next.alone;
        if let Some(job) = queue.pop_front() {
            begun.push_back(job.work);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;

    use tokio::sync::oneshot;

    use super::*;

    fn said(word: &'static str) -> Done {
        Done::answer(Bytes::from_static(word.as_bytes()))
    }

    /// What a lane comes to, done by a task of its own.
    fn answers(lane: &Arc<Lane>) -> tokio::task::JoinHandle<Vec<Bytes>> {
        let lane = lane.clone();
        tokio::spawn(async move {
            let (mut working, mut answers) = (Working::default(), Vec::new());
            poll_fn(|context| working.proceed(&lane, context, |done| answers.extend(done.answer))).await;
            answers
        })
    }

    #[tokio::test]
    async fn work_overlaps_and_is_answered_in_order() {
        let lane = Arc::new(Lane::default());
        let (finish, finished) = oneshot::channel::<()>();
        lane.push(false, 1, async move {
            finished.await.unwrap();
            said("first")
        });
        // Ends the first: were it not begun beside it, nothing would.
        lane.push(false, 1, async move {
            finish.send(()).unwrap();
            said("second")
        });
        assert!(!lane.is_idle());
        assert_eq!(answers(&lane).await.unwrap(), ["first", "second"]);
        assert!(lane.is_idle());
    }

    #[tokio::test]
    async fn what_is_to_be_alone_waits_for_what_is_before_it_and_holds_up_the_rest() {
        let lane = Arc::new(Lane::default());
        let log = Arc::new(Mutex::new(Vec::new()));
        for (word, alone) in [("a", false), ("b", true), ("c", false)] {
            let log = log.clone();
            lane.push(alone, 1, async move {
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
        for bytes in [1, WINDOW_BYTES] {
            let lane = Arc::new(Lane::default());
            while lane.has_room() {
                lane.push(false, bytes, async { said("done") });
            }
            let full = if bytes == 1 { WINDOW } else { 1 };
            assert_eq!(answers(&lane).await.unwrap().len(), full);
            assert!(lane.has_room() && lane.is_idle());
        }
    }

    #[tokio::test]
    async fn memory_is_given_back_only_once_all_work_is_over() {
        let (lane, mut working) = (Lane::default(), Working::default());
        let (finish, finished) = oneshot::channel::<()>();
        lane.push(false, 1, async move {
            finished.await.unwrap();
            said("done")
        });
        let mut answers = Vec::new();
        let mut each = |done: Done| answers.extend(done.answer);
        assert!(futures::poll!(poll_fn(|context| working.proceed(&lane, context, &mut each))).is_pending());
        working.rest();
        finish.send(()).unwrap();
        poll_fn(|context| working.proceed(&lane, context, &mut each)).await;
        working.rest();
        assert!(working.begun.is_none());
        assert_eq!(answers, ["done"]);
    }
}
