//! What is staged and not yet written: the group that grows, and the one in flight below it.

use std::collections::VecDeque;
use std::mem;

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

/// Changes that are written, and answered, together.
#[derive(Default)]
pub(super) struct Group {
    changes: Vec<Box<dyn Change>>,
    /// How many of them change anything.
    kept: usize,
    writes: usize,
    bytes: usize,
}

impl Group {
    /// Tells everybody how the write went.
    pub(super) fn answer(self, written: &Result<(), StoreError>) {
        self.changes.into_iter().for_each(|change| change.answer(written));
    }

    fn is_full(&self) -> bool {
        self.writes >= GROUP_WRITES || self.bytes >= GROUP_BYTES || self.changes.len() >= GROUP_WRITES
    }
}

/// What is next for whoever writes.
pub(super) enum Next {
    /// These are to be written: so many changes.
    Write(Changes, usize),
    /// This group changes nothing: it is to be answered.
    Nothing(Group),
}

/// What is staged. Unless a group is in flight nothing is, once [`Stager::next`] has been asked for all there is.
pub(super) struct Stager<'a> {
    engine: &'a dyn Engine,
    stage: Stage<'a>,
    /// Taken in, and not yet staged.
    backlog: VecDeque<Entry>,
    /// The group that is being staged.
    group: Group,
    /// The group that is being written.
    in_flight: Option<Group>,
    /// Memory for the next group.
    spare: Changes,
}

impl<'a> Stager<'a> {
    pub(super) fn new(engine: &'a dyn Engine) -> Self {
        let (stage, backlog, group) = (Stage::new(engine), VecDeque::new(), Group::default());
        Self { engine, stage, backlog, group, in_flight: None, spare: Changes::default() }
    }

    /// Takes in what waits, in its order.
    pub(super) fn take(&mut self, waiting: &mut Vec<Entry>) {
        self.backlog.extend(waiting.drain(..));
    }

    /// How many changes must wait before it is worth to be woken for them while a group is in flight.
    pub(super) fn wanted(&self) -> usize {
        if self.group.is_full() { usize::MAX } else { CHUNK }
    }

    /// Stages what was taken in, as far as the group has room.
    pub(super) fn stage(&mut self) {
        let begins = self.in_flight.is_none() && self.group.changes.is_empty() && !self.backlog.is_empty();
        if begins && let Err(error) = self.engine.ready() {
            self.backlog.drain(..).for_each(|entry| entry.change.answer(&Err(error.clone())));
            return;
        }
        while !self.group.is_full()
            && let Some(Entry { size, mut change }) = self.backlog.pop_front()
        {
            self.group.writes += size.writes;
            self.group.bytes += size.bytes;
            self.group.kept += usize::from(change.stage(&mut self.stage));
            self.group.changes.push(change);
        }
    }

    /// What is next, now that no group is in flight; `None` if nothing is staged.
    pub(super) fn next(&mut self) -> Option<Next> {
        if self.group.changes.is_empty() {
            return None;
        }
        let group = mem::take(&mut self.group);
        if self.stage.is_empty() {
            return Some(Next::Nothing(group));
        }
        let kept = group.kept;
        self.in_flight = Some(group);
        Some(Next::Write(self.stage.hand_over(mem::take(&mut self.spare)), kept))
    }

    /// The group in flight is written, or not: who is to be told, with those whose changes were staged over it if it
    /// was not.
    pub(super) fn written(&mut self, changes: Changes, written: &Result<(), StoreError>) -> Group {
        self.spare = changes;
        let mut group = self.in_flight.take().unwrap_or_default();
        if let Err(error) = written {
            group.changes.append(&mut mem::take(&mut self.group).changes);
            tracing::error!(%error, changes = group.changes.len(), "a group of changes was not written");
            self.stage.failed();
        }
        group
    }
}
