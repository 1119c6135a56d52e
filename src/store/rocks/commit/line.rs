//! The two threads of the group commit, and what they share: one stages and answers, the other writes.

use std::collections::VecDeque;
use std::mem;

use parking_lot::{Condvar, Mutex};

use super::{Change, Entry};
use crate::store::StoreError;
use crate::store::stage::{Changes, Engine, Stage};

/// A group is closed once it has this many writes, or changes.
const GROUP_WRITES: usize = 2048;

/// A group is closed once it has this many bytes.
const GROUP_BYTES: usize = 1 << 20;

/// While a group is being written, the next is staged by this many changes at a time: to be woken for each costs more
/// than to stage it.
const CHUNK: usize = 16;

/// What the threads and the callers share.
#[derive(Default)]
pub(super) struct Line {
    state: Mutex<State>,
    /// For the staging thread.
    staging: Condvar,
    /// For the writing thread.
    writing: Condvar,
}

#[derive(Default)]
struct State {
    /// Changes that nobody has looked at.
    waiting: Vec<Entry>,
    /// How many of them the staging thread waits for.
    wanted: usize,
    /// Nothing more will come.
    closed: bool,
    /// The staging thread takes nothing more.
    over: bool,
    writer: Writer,
}

/// What the writing thread is at.
#[derive(Default)]
enum Writer {
    #[default]
    Idle,
    /// It is given a group.
    Given(Changes),
    Writing,
    /// It has written a group, or failed to.
    Done(Changes, Result<(), StoreError>),
    /// It has ended.
    Gone,
}

impl Line {
    /// Adds a change; false if nothing more is taken.
    pub(super) fn push(&self, entry: Entry) -> bool {
        let mut state = self.state.lock();
        if state.over {
            return false;
        }
        state.waiting.push(entry);
        let enough = state.waiting.len() == state.wanted;
        drop(state);
        if enough {
            self.staging.notify_one();
        }
        true
    }

    /// Nothing more will come: the threads end once everything is answered.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.staging.notify_one();
    }

    /// Takes nothing more; the writing thread ends. Whoever waits is told that the store has stopped.
    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        state.over = true;
        let waiting = mem::take(&mut state.waiting);
        drop(state);
        self.writing.notify_one();
        drop(waiting);
    }

    /// The writing thread, until the other ends.
    pub(super) fn write(&self, engine: &dyn Engine) {
        let gone = OnDrop(|| {
            self.state.lock().writer = Writer::Gone;
            self.staging.notify_one();
        });
        let mut state = self.state.lock();
        loop {
            match mem::replace(&mut state.writer, Writer::Idle) {
                Writer::Given(changes) => {
                    state.writer = Writer::Writing;
                    drop(state);
                    let written = engine.write(&changes);
                    state = self.state.lock();
                    state.writer = Writer::Done(changes, written);
                    self.staging.notify_one();
                }
                other => {
                    state.writer = other;
                    if state.over {
                        break;
                    }
                    self.writing.wait(&mut state);
                }
            }
        }
        drop(state);
        drop(gone);
    }

    fn give(&self, changes: Changes) {
        self.state.lock().writer = Writer::Given(changes);
        self.writing.notify_one();
    }

    /// The staging thread, until the line is closed and everything is answered.
    pub(super) fn stage(&self, engine: &dyn Engine) {
        let _ended = OnDrop(|| self.end());
        let mut stager = Stager::new(engine);
        loop {
            let over = match self.next(&mut stager) {
                Some(Turn::Written(changes, written)) => Some((stager.written(changes, &written), written)),
                Some(Turn::Came) => None,
                None => return,
            };
            stager.stage();
            if let Some(changes) = stager.hand_over() {
                self.give(changes);
            }
            // The next group is under way before those of the last are told, who have more to say then.
            if let Some((group, written)) = over {
                stager.answer(group, &written);
            }
        }
    }

    /// Waits until there is something to do, and takes what waits; `None` once nothing more will come.
    fn next(&self, stager: &mut Stager<'_>) -> Option<Turn> {
        let mut state = self.state.lock();
        loop {
            let turn = match mem::take(&mut state.writer) {
                Writer::Done(changes, written) => Some(Turn::Written(changes, written)),
                Writer::Gone => return None,
                other => {
                    state.writer = other;
                    None
                }
            };
            state.wanted = stager.wanted();
            if turn.is_some() || state.waiting.len() >= state.wanted {
                stager.backlog.extend(state.waiting.drain(..));
                return Some(turn.unwrap_or(Turn::Came));
            }
            if state.closed && stager.in_flight.is_none() && state.waiting.is_empty() {
                return None;
            }
            self.staging.wait(&mut state);
        }
    }
}

/// What the staging thread has waited for.
enum Turn {
    /// Changes have come.
    Came,
    /// The group that was handed over is written, or not.
    Written(Changes, Result<(), StoreError>),
}

/// The staging thread's own state. Unless a group is in flight it has nothing staged between two turns.
struct Stager<'a> {
    engine: &'a dyn Engine,
    stage: Stage<'a>,
    /// Taken from the line, and not yet staged.
    backlog: VecDeque<Entry>,
    /// The group that is being staged.
    group: Group,
    /// The group that is being written.
    in_flight: Option<Group>,
    /// Memory for the next group.
    spare: Changes,
}

#[derive(Default)]
struct Group {
    changes: Vec<Box<dyn Change>>,
    writes: usize,
    bytes: usize,
}

impl Group {
    fn answer(&mut self, written: &Result<(), StoreError>) {
        self.changes.drain(..).for_each(|change| change.answer(written));
        (self.writes, self.bytes) = (0, 0);
    }
}

impl<'a> Stager<'a> {
    fn new(engine: &'a dyn Engine) -> Self {
        Self {
            engine,
            stage: Stage::new(engine),
            backlog: VecDeque::new(),
            group: Group::default(),
            in_flight: None,
            spare: Changes::default(),
        }
    }

    fn is_full(&self) -> bool {
        let Group { changes, writes, bytes } = &self.group;
        *writes >= GROUP_WRITES || *bytes >= GROUP_BYTES || changes.len() >= GROUP_WRITES
    }

    /// How many changes it waits for.
    fn wanted(&self) -> usize {
        match (self.is_full(), self.backlog.is_empty(), &self.in_flight) {
            (true, ..) => usize::MAX,
            (false, false, _) => 0,
            (false, true, None) => 1,
            (false, true, Some(_)) => CHUNK,
        }
    }

    /// The group that was in flight, to be answered; with what was staged over it if it was not written.
    fn written(&mut self, changes: Changes, written: &Result<(), StoreError>) -> Group {
        self.spare = changes;
        let mut group = self.in_flight.take().unwrap_or_default();
        if let Err(error) = written {
            group.changes.append(&mut self.group.changes);
            self.group = Group::default();
            tracing::error!(%error, changes = group.changes.len(), "a group of changes was not written");
            self.stage.failed();
        }
        group
    }

    /// Answers a group that is over.
    fn answer(&mut self, mut group: Group, written: &Result<(), StoreError>) {
        group.answer(written);
        // Its memory serves again.
        if self.group.changes.capacity() == 0 {
            self.group.changes = group.changes;
        }
    }

    /// Stages what waits, as far as the group has room.
    fn stage(&mut self) {
        let begins = self.in_flight.is_none() && self.group.changes.is_empty() && !self.backlog.is_empty();
        if begins && let Err(error) = self.engine.ready() {
            self.backlog.drain(..).for_each(|entry| entry.change.answer(&Err(error.clone())));
            return;
        }
        while !self.is_full()
            && let Some(Entry { size, mut change }) = self.backlog.pop_front()
        {
            self.group.writes += size.writes;
            self.group.bytes += size.bytes;
            change.stage(&mut self.stage);
            self.group.changes.push(change);
        }
    }

    /// The group, to be written, if none is in flight. One that changes nothing is answered.
    fn hand_over(&mut self) -> Option<Changes> {
        if self.in_flight.is_some() || self.group.changes.is_empty() {
            return None;
        }
        let mut group = mem::take(&mut self.group);
        if self.stage.is_empty() {
            group.answer(&Ok(()));
            return None;
        }
        self.in_flight = Some(group);
        Some(self.stage.hand_over(mem::take(&mut self.spare)))
    }
}

/// Does something at its end, also if a thread panics.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        self.0();
    }
}
