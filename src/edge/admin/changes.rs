//! A list that somebody watches: what is there, then what becomes of it.

use std::collections::{BTreeMap, VecDeque};

use futures::{Stream, stream};
use tokio::sync::watch;
use tonic::Status;

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It was there when the watch began.
    Present,
    /// It is new.
    New,
    /// It is another than before.
    Changed,
    /// It is gone.
    Gone,
}

/// The entries by name.
pub(super) type Entries<T> = BTreeMap<String, T>;

/// The entries as `look` finds them, then what it finds to be different whenever `changed` changes. A slow reader is told
/// of the last change only.
pub(super) fn watch<C, T, E>(
    changed: watch::Receiver<C>,
    look: impl FnMut(&mut watch::Receiver<C>) -> Entries<T> + Send + 'static,
    event: impl Fn(Change, T) -> E + Copy + Send + 'static,
) -> impl Stream<Item = Result<E, Status>> + Send + 'static
where
    C: Send + Sync + 'static,
    T: Clone + PartialEq + Send + 'static,
    E: Send + 'static,
{
    let mut watch = Watch { changed, look, known: BTreeMap::new(), waiting: VecDeque::new() };
    watch.known = (watch.look)(&mut watch.changed);
    watch.waiting = watch.known.values().map(|entry| (Change::Present, entry.clone())).collect();
    stream::unfold(watch, move |mut watch| async move {
        let (change, entry) = watch.next().await?;
        Some((Ok(event(change, entry)), watch))
    })
}

struct Watch<C, T, L> {
    changed: watch::Receiver<C>,
    look: L,
    known: Entries<T>,
    /// Of one look, so no more than there were entries before and after it.
    waiting: VecDeque<(Change, T)>,
}

impl<C, T: Clone + PartialEq, L: FnMut(&mut watch::Receiver<C>) -> Entries<T>> Watch<C, T, L> {
    async fn next(&mut self) -> Option<(Change, T)> {
        loop {
            if let Some(next) = self.waiting.pop_front() {
                return Some(next);
            }
            self.changed.changed().await.ok()?;
            let now = (self.look)(&mut self.changed);
            self.waiting = differences(&self.known, &now);
            self.known = now;
        }
    }
}

fn differences<T: Clone + PartialEq>(before: &Entries<T>, now: &Entries<T>) -> VecDeque<(Change, T)> {
    let gone = before.iter().filter(|(name, _)| !now.contains_key(*name));
    let gone = gone.map(|(_, entry)| (Change::Gone, entry.clone()));
    let others = now.iter().filter_map(|(name, entry)| match before.get(name) {
        None => Some((Change::New, entry.clone())),
        Some(known) if known != entry => Some((Change::Changed, entry.clone())),
        Some(_) => None,
    });
    gone.chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_told_first_and_what_stays_as_it_was_not_at_all() {
        let entries = |entries: &[(&str, u8)]| -> Entries<(String, u8)> {
            entries.iter().map(|(name, state)| ((*name).to_owned(), ((*name).to_owned(), *state))).collect()
        };
        let told = differences(&entries(&[("a", 0), ("b", 0), ("c", 0)]), &entries(&[("a", 0), ("b", 1), ("d", 0)]));
        let told: Vec<_> = told.iter().map(|(change, (name, _))| (*change, name.as_str())).collect();
        assert_eq!(told, [(Change::Gone, "c"), (Change::Changed, "b"), (Change::New, "d")]);
    }
}
