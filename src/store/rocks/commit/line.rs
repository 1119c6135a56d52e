//! The two threads of the group commit, and what they share: one takes changes in, stages, writes and answers them; the
//! other stages what comes while it writes, and answers those before, so that the disk never waits for either.

use std::collections::VecDeque;
use std::mem;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::Entry;
use super::stager::{Group, Next, Stager};
use crate::observe::metrics::StoreMetrics;
use crate::store::StoreError;
use crate::store::stage::Engine;

/// A group, and how its write went.
type Over = (Group, Result<(), StoreError>);

/// What the threads and the callers share.
#[derive(Default)]
pub(super) struct Line {
    queue: Mutex<Queue>,
    /// For the committing thread.
    committing: Condvar,
    /// For its helper.
    helping: Condvar,
    metrics: StoreMetrics,
}

/// Locked after what is staged, by whoever needs both: so changes are staged in the order in which they came.
#[derive(Default)]
struct Queue {
    /// Changes that nobody has looked at.
    waiting: Vec<Entry>,
    /// A group is being written: the helper stages what comes, this many at a time.
    wanted: Option<usize>,
    /// Groups that the helper is to answer.
    over: VecDeque<Over>,
    /// Nothing more will come.
    closed: bool,
    /// Nothing more is taken.
    ended: bool,
}

impl Line {
    pub(super) fn new(metrics: StoreMetrics) -> Self {
        Self { metrics, ..Self::default() }
    }

    /// Adds a change; false if nothing more is taken.
    pub(super) fn push(&self, entry: Entry) -> bool {
        let mut queue = self.queue.lock();
        if queue.ended {
            return false;
        }
        queue.waiting.push(entry);
        let (waiting, wanted) = (queue.waiting.len(), queue.wanted);
        drop(queue);
        match wanted {
            Some(wanted) if waiting == wanted => drop(self.helping.notify_one()),
            None if waiting == 1 => drop(self.committing.notify_one()),
            _ => {}
        }
        true
    }

    /// Nothing more will come: the threads end once everything is answered.
    pub(super) fn close(&self) {
        self.queue.lock().closed = true;
        self.committing.notify_one();
    }

    /// Takes nothing more; the threads end. Whoever waits is told that the store has stopped.
    fn end(&self) {
        let mut queue = self.queue.lock();
        queue.ended = true;
        let waiting = mem::take(&mut queue.waiting);
        drop(queue);
        self.committing.notify_one();
        self.helping.notify_one();
        drop(waiting);
    }

    /// The committing thread, until the line is closed and everything is answered.
    pub(super) fn commit(&self, stager: &Mutex<Stager<'_>>, engine: &dyn Engine) {
        let _ended = OnDrop(|| self.end());
        // Who is still to be told of the group that was written last.
        let mut over = None;
        loop {
            let mut staged = stager.lock();
            staged.take(&mut self.queue.lock().waiting);
            staged.stage();
            match staged.next() {
                Some(Next::Write(changes, kept)) => {
                    let mut queue = self.queue.lock();
                    queue.wanted = Some(staged.wanted());
                    let helped = over.is_some() && !queue.ended;
                    if helped {
                        queue.over.extend(over.take());
                    }
                    drop((queue, staged));
                    if helped {
                        self.helping.notify_one();
                    }
                    tell(&mut over);
                    let begun = Instant::now();
                    let written = engine.write(&changes);
                    if written.is_ok() {
                        self.metrics.wrote(kept, begun.elapsed());
                    }
                    let mut staged = stager.lock();
                    self.queue.lock().wanted = None;
                    over = Some((staged.written(changes, &written), written));
                }
                Some(Next::Nothing(group)) => {
                    drop(staged);
                    tell(&mut over);
                    group.answer(&Ok(()));
                }
                None => {
                    drop(staged);
                    if !tell(&mut over) && !self.more() {
                        return;
                    }
                }
            }
        }
    }

    /// Waits until something waits; false once nothing more will come.
    fn more(&self) -> bool {
        let mut queue = self.queue.lock();
        while queue.waiting.is_empty() {
            if queue.closed || queue.ended {
                return false;
            }
            self.committing.wait(&mut queue);
        }
        true
    }

    /// The helper, until the other thread ends.
    pub(super) fn help(&self, stager: &Mutex<Stager<'_>>) {
        let _ended = OnDrop(|| {
            self.end();
            // There are some only if this thread panics.
            drop(mem::take(&mut self.queue.lock().over));
        });
        while let Some(help) = self.help_wanted() {
            match help {
                Help::Answer((group, written)) => group.answer(&written),
                Help::Stage => {
                    let mut staged = stager.lock();
                    let mut queue = self.queue.lock();
                    // Otherwise the other thread sees to them.
                    if queue.wanted.is_some() {
                        staged.take(&mut queue.waiting);
                        drop(queue);
                        staged.stage();
                        let mut queue = self.queue.lock();
                        queue.wanted = queue.wanted.map(|_| staged.wanted());
                    }
                }
            }
        }
    }

    fn help_wanted(&self) -> Option<Help> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(over) = queue.over.pop_front() {
                return Some(Help::Answer(over));
            }
            if queue.ended {
                return None;
            }
            if queue.wanted.is_some_and(|wanted| queue.waiting.len() >= wanted) {
                return Some(Help::Stage);
            }
            self.helping.wait(&mut queue);
        }
    }
}

/// What the helper is to do.
enum Help {
    Answer(Over),
    Stage,
}

/// Answers the group that is over; false if there is none.
fn tell(over: &mut Option<Over>) -> bool {
    over.take().map(|(group, written)| group.answer(&written)).is_some()
}

/// Does something at its end, also if a thread panics.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        self.0();
    }
}
