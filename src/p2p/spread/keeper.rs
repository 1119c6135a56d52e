//! What makes entries durable: one task writes them all, so nothing older overtakes what is newer.
//!
//! It is given keys, and writes what is known under them at that moment. However often one is given meanwhile, it is written
//! once; so what waits is never more than what is known.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use crate::observe::log_gate::LogGate;
use crate::runtime::time;
use crate::store::{Applied, Records, StoreError, Write};

/// Entries in one change: of the largest, half of what a change may hold.
const BATCH: usize = 64;

/// An entry was not made durable; the log says why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store failed")]
pub struct NotKept;

/// Who waits until what is known under a key is durable.
type Waiting = Vec<oneshot::Sender<Result<(), NotKept>>>;

/// What makes durable what is known under keys, as far as anything is.
type Look<T> = Box<dyn Fn(&[T]) -> Vec<Write> + Send + Sync>;

/// What is to be written.
struct Wanted<T> {
    /// What somebody waits for: it comes first, however much there is of the other.
    urgent: HashMap<T, Waiting>,
    other: HashSet<T>,
}

/// Writes entries of one kind.
pub struct Keeper<T> {
    name: &'static str,
    records: Arc<dyn Records>,
    look: Look<T>,
    wanted: Mutex<Wanted<T>>,
    wake: Notify,
    failures: Mutex<LogGate>,
}

impl<T: Clone + Eq + Hash> Wanted<T> {
    /// So many of what is wanted, and who waits for any of it.
    fn take(&mut self, most: usize) -> (Vec<T>, Waiting) {
        let mut keys: Vec<_> = self.urgent.keys().take(most).cloned().collect();
        let waiting = keys.iter().filter_map(|key| self.urgent.remove(key)).flatten().collect();
        for key in &keys {
            self.other.remove(key);
        }
        let others: Vec<_> = self.other.iter().take(most - keys.len()).cloned().collect();
        for key in &others {
            self.other.remove(key);
        }
        keys.extend(others);
        (keys, waiting)
    }
}

impl<T: Clone + Eq + Hash> Keeper<T> {
    /// Writes what `look` finds there, once it runs; logs call it by that name.
    pub fn new(
        name: &'static str,
        records: Arc<dyn Records>,
        look: impl Fn(&[T]) -> Vec<Write> + Send + Sync + 'static,
    ) -> Self {
        let failures = Mutex::new(LogGate::once_a_minute());
        let wanted = Mutex::new(Wanted { urgent: HashMap::new(), other: HashSet::new() });
        Self { name, records, look: Box::new(look), wanted, wake: Notify::new(), failures }
    }

    /// Something new is known under these.
    pub fn mark(&self, keys: Vec<T>) {
        self.wanted.lock().other.extend(keys);
        self.wake.notify_one();
    }

    /// The same of one; ends once that, or what is newer still, is durable.
    ///
    /// # Errors
    /// When the store fails, or the node stops.
    pub async fn keep(&self, key: T) -> Result<(), NotKept> {
        let (done, kept) = oneshot::channel();
        self.wanted.lock().urgent.entry(key).or_default().push(done);
        self.wake.notify_one();
        kept.await.unwrap_or(Err(NotKept))
    }

    /// Writes until `stop`, and then what is left.
    pub async fn run(&self, stop: &CancellationToken) {
        while stop.run_until_cancelled(self.wake.notified()).await.is_some() {
            while self.write_some().await {}
        }
        while self.write_some().await {}
    }

    /// Writes some of what is wanted; false if nothing is.
    async fn write_some(&self) -> bool {
        // Taken before anybody looks at what is known: what comes from now on is wanted once more.
        let (keys, waiting) = self.wanted.lock().take(BATCH);
        if keys.is_empty() {
            return false;
        }
        let done = self.apply((self.look)(&keys)).await.map_err(|error| {
            if let Some(left_out) = self.failures.lock().pass("failed", Instant::now()) {
                tracing::warn!(%error, left_out, "entries were not made durable: {}", self.name);
            }
            NotKept
        });
        for waiting in waiting {
            // Who asked may have gone.
            waiting.send(done).unwrap_or_default();
        }
        true
    }

    async fn apply(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        match self.records.apply(writes, time::now()).await? {
            Applied::Done | Applied::Refused { .. } => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::Millis;
    use crate::store::{MemoryRecords, Record};

    /// What is known, by key.
    type Known = Arc<Mutex<HashMap<u8, u8>>>;

    /// A keeper of that, which ends once it has written all.
    fn keeper(known: &Known, bytes: usize) -> (Arc<MemoryRecords>, Keeper<u8>, CancellationToken) {
        let (records, known, stop) = (Arc::new(MemoryRecords::new(bytes)), known.clone(), CancellationToken::new());
        let look = move |keys: &[u8]| {
            let known = known.lock();
            let put = |key: &u8| Some((vec![*key], vec![*known.get(key)?]));
            let puts = keys.iter().filter_map(put);
            puts.map(|(key, value)| Write::Put { key: key.into(), record: Record::lasting(value) }).collect()
        };
        stop.cancel();
        (records.clone(), Keeper::new("test", records, look), stop)
    }

    async fn kept(records: &MemoryRecords) -> Vec<(u8, u8)> {
        let kept = records.scan(&[], None, usize::MAX, Millis(1)).await.unwrap();
        kept.into_iter().map(|(key, record)| (key[0], record.value[0])).collect()
    }

    #[tokio::test]
    async fn what_is_written_is_what_is_known_at_that_moment() {
        let known = Known::default();
        let (records, keeper, stop) = keeper(&known, 1 << 20);
        known.lock().extend([(1, 1), (2, 1)]);
        keeper.mark(vec![1, 2, 3]);
        known.lock().insert(1, 2);
        keeper.mark(vec![1]);
        keeper.run(&stop).await;
        assert_eq!(kept(&records).await, [(1, 2), (2, 1)]);
        assert!(!keeper.write_some().await, "nothing is left");
    }

    #[tokio::test]
    async fn what_somebody_waits_for_comes_first() {
        let (_, keeper, _) = keeper(&Known::default(), 1 << 20);
        keeper.mark((0..200).collect());
        let waits = std::pin::pin!(keeper.keep(7));
        assert!(futures::poll!(waits).is_pending());
        let (keys, waiting) = keeper.wanted.lock().take(2);
        assert_eq!((keys[0], keys.len(), waiting.len()), (7, 2, 1));
        assert_eq!(keeper.wanted.lock().other.len(), 198);
    }

    #[tokio::test]
    async fn who_waits_is_told_once_it_is_durable_and_when_it_is_not() {
        let known = Known::default();
        known.lock().extend((0..200).map(|key| (key, key)));
        let (records, keeper, stop) = keeper(&known, 1 << 20);
        keeper.mark((0..200).collect());
        assert_eq!(keeper.wanted.lock().take(BATCH).0.len(), BATCH, "no more at once");
        keeper.mark((0..200).collect());
        let (one, same, ()) = tokio::join!(keeper.keep(7), keeper.keep(7), keeper.run(&stop));
        assert_eq!((one, same, kept(&records).await.len()), (Ok(()), Ok(()), 200));
        let (_, keeper, stop) = self::keeper(&known, 0);
        assert_eq!(tokio::join!(keeper.keep(7), keeper.run(&stop)).0, Err(NotKept));
    }
}
