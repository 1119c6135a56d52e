//! The contract of [`Records`] in code: see the foot of the file for the backends.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use proptest::collection::vec;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::domain::clock::Millis;
use crate::store::{
    Applied, MAX_CHANGE_WRITES, MAX_KEY_BYTES, MAX_PAGE_RECORDS, MAX_VALUE_BYTES, MemoryRecords, Record, Records,
    RocksStore, StoreError, Write,
};

const NOW: Millis = Millis(1_000);
const LATER: Millis = Millis(2_000);
const MUCH_LATER: Millis = Millis(3_000);

/// A backend under test.
trait Backend {
    /// Whether a store opened again has what it had.
    const DURABLE: bool;
    /// How many scripts to play: fewer where opening a store syncs files.
    const SCRIPTS: u32;

    fn open(directory: &Path) -> Arc<dyn Records>;
}

struct Memory;

impl Backend for Memory {
    const DURABLE: bool = false;
    const SCRIPTS: u32 = 256;

    fn open(_: &Path) -> Arc<dyn Records> {
        Arc::new(MemoryRecords::new(64 << 20))
    }
}

struct Rocks;

impl Backend for Rocks {
    const DURABLE: bool = true;
    const SCRIPTS: u32 = 24;

    fn open(directory: &Path) -> Arc<dyn Records> {
        Arc::new(RocksStore::open(directory).unwrap())
    }
}

/// What the contract says, with nothing clever about it: the whole store is one map.
#[derive(Debug, Clone, Default)]
struct Model(BTreeMap<Bytes, Record>);

impl Model {
    fn get(&self, key: &[u8], now: Millis) -> Option<Record> {
        self.0.get(key).filter(|record| record.is_live(now)).cloned()
    }

    fn apply(&mut self, writes: &[Write], now: Millis) -> Applied {
        let mut after = self.clone();
        for (index, write) in writes.iter().cloned().enumerate() {
            let live = after.get(write.key(), now);
            let (key, record) = match write {
                Write::Put { key, record } => (key, Some(record)),
                Write::PutNew { key, record } if live.is_none() => (key, Some(record)),
                Write::PutIf { key, expected, record } if expected == live.map(|live| live.value) => {
                    (key, Some(record))
                }
                Write::Delete { key } => (key, None),
                Write::PutNew { .. } | Write::PutIf { .. } => return Applied::Refused { index },
            };
            match record {
                Some(record) => after.0.insert(key, record),
                None => after.0.remove(&key),
            };
        }
        *self = after;
        Applied::Done
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize, now: Millis) -> Vec<(Bytes, Record)> {
        let shown = |key: &Bytes| key.starts_with(prefix) && after.is_none_or(|after| key.as_ref() > after);
        let live = self.0.iter().filter(|(key, record)| shown(key) && record.is_live(now));
        live.take(limit).map(|(key, record)| (key.clone(), record.clone())).collect()
    }

    fn sweep(&mut self, now: Millis, limit: usize) -> usize {
        let mut expired: Vec<_> = self
            .0
            .iter()
            .filter(|(_, record)| !record.is_live(now))
            .map(|(key, record)| (record.expires, key))
            .collect();
        expired.sort();
        let swept: Vec<_> = expired.into_iter().take(limit).map(|(_, key)| key.clone()).collect();
        swept.iter().for_each(|key| drop(self.0.remove(key)));
        swept.len()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Get(Bytes, Millis),
    /// Changes handed in at once: they share a group commit where there is one.
    Together(Vec<Vec<Write>>, Millis),
    Scan(Bytes, Option<Bytes>, usize, Millis),
    Sweep(Millis, usize),
    Reopen,
}

/// Few keys, one the prefix of another, so that steps meet; and the bytes where the order of keys is delicate.
fn key() -> impl Strategy<Value = Bytes> {
    vec(prop_oneof![Just(0), Just(b'a'), Just(u8::MAX)], 0..3).prop_map(Bytes::from)
}

fn value() -> impl Strategy<Value = Bytes> {
    prop_oneof![Just(Bytes::new()), Just(Bytes::from_static(b"x")), Just(Bytes::from_static(b"y"))]
}

fn moment() -> impl Strategy<Value = Millis> {
    (0_u64..8).prop_map(Millis)
}

fn record() -> impl Strategy<Value = Record> {
    (value(), prop::option::of(moment())).prop_map(|(value, expires)| Record { value, expires })
}

fn write() -> impl Strategy<Value = Write> {
    prop_oneof![
        (key(), record()).prop_map(|(key, record)| Write::Put { key, record }),
        (key(), record()).prop_map(|(key, record)| Write::PutNew { key, record }),
        (key(), prop::option::of(value()), record()).prop_map(|(key, expected, record)| Write::PutIf {
            key,
            expected,
            record
        }),
        key().prop_map(|key| Write::Delete { key }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (key(), moment()).prop_map(|(key, now)| Step::Get(key, now)),
        6 => (vec(vec(write(), 0..4), 1..5), moment()).prop_map(|(changes, now)| Step::Together(changes, now)),
        3 => (key(), prop::option::of(key()), 0_usize..6, moment())
            .prop_map(|(prefix, after, limit, now)| Step::Scan(prefix, after, limit, now)),
        2 => (moment(), 0_usize..4).prop_map(|(now, limit)| Step::Sweep(now, limit)),
        1 => Just(Step::Reopen),
    ]
}

async fn play<B: Backend>(steps: &[Step]) {
    let directory = TempDir::new().unwrap();
    let mut store = B::open(directory.path());
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Get(key, now) => assert_eq!(store.get(key, *now).await.unwrap(), model.get(key, *now), "{step:?}"),
            Step::Together(changes, now) => {
                let answers = join_all(changes.iter().map(|writes| store.apply(writes.clone(), *now))).await;
                for (writes, answer) in changes.iter().zip(answers) {
                    assert_eq!(answer.unwrap(), model.apply(writes, *now), "{step:?}");
                }
            }
            Step::Scan(prefix, after, limit, now) => assert_eq!(
                store.scan(prefix, after.as_deref(), *limit, *now).await.unwrap(),
                model.scan(prefix, after.as_deref(), *limit, *now),
                "{step:?}"
            ),
            Step::Sweep(now, limit) => {
                assert_eq!(store.sweep(*now, *limit).await.unwrap(), model.sweep(*now, *limit), "{step:?}");
            }
            Step::Reopen if B::DURABLE => {
                drop(store);
                store = B::open(directory.path());
            }
            Step::Reopen => {}
        }
    }
    assert_eq!(store.scan(&[], None, MAX_PAGE_RECORDS, Millis(0)).await.unwrap(), {
        model.scan(&[], None, MAX_PAGE_RECORDS, Millis(0))
    });
}

/// Any script of steps goes as the model says.
fn any_script_goes_as_the_model_says<B: Backend>() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let config = ProptestConfig { cases: B::SCRIPTS, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(steps in vec(step(), 1..40))| runtime.block_on(play::<B>(&steps)));
}

async fn of_many_who_put_the_same_new_key_one_wins<B: Backend>() {
    let directory = TempDir::new().unwrap();
    let store = B::open(directory.path());
    let callers = (0..200_u32).map(|caller| {
        let store = store.clone();
        tokio::spawn(async move {
            let value = caller.to_string();
            store.put_new("nonce".into(), Record::lasting(value.clone()), NOW).await.unwrap().then_some(value)
        })
    });
    let winners: Vec<_> = join_all(callers).await.into_iter().filter_map(|caller| caller.unwrap()).collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(store.get(b"nonce", NOW).await.unwrap().unwrap().value, winners[0]);
}

async fn an_expired_record_is_absent_at_once<B: Backend>() {
    let directory = TempDir::new().unwrap();
    let store = B::open(directory.path());
    let claim = Record::until("claim", LATER);
    store.put("k".into(), claim.clone(), NOW).await.unwrap();
    assert_eq!(store.get(b"k", Millis(LATER.0 - 1)).await.unwrap(), Some(claim));
    assert_eq!(store.get(b"k", LATER).await.unwrap(), None);
    assert_eq!(store.scan(b"k", None, 10, LATER).await.unwrap(), []);
    assert!(store.put_new("k".into(), Record::lasting("next"), LATER).await.unwrap());
}

async fn a_sweep_deletes_what_expired_and_nothing_else<B: Backend>() {
    let directory = TempDir::new().unwrap();
    let store = B::open(directory.path());
    for i in 0..600_u32 {
        store.put(format!("old/{i}").into(), Record::until("x", LATER), NOW).await.unwrap();
    }
    store.put("young".into(), Record::until("x", MUCH_LATER), NOW).await.unwrap();
    store.put("lasting".into(), Record::lasting("x"), NOW).await.unwrap();
    assert_eq!(store.sweep(Millis(LATER.0 - 1), 1_000).await.unwrap(), 0);
    assert_eq!(store.sweep(LATER, 500).await.unwrap(), 500);
    assert_eq!(store.sweep(LATER, 500).await.unwrap(), 100);
    assert_eq!(store.sweep(LATER, 500).await.unwrap(), 0);
    // At an earlier moment the swept would show, if they were there.
    let left: Vec<_> = store.scan(b"", None, 10, NOW).await.unwrap().into_iter().map(|(key, _)| key).collect();
    assert_eq!(left, ["lasting", "young"]);
}

async fn a_renewed_record_outlives_its_first_moment<B: Backend>() {
    let directory = TempDir::new().unwrap();
    let store = B::open(directory.path());
    let renewed = Record::until("x", MUCH_LATER);
    store.put("k".into(), Record::until("x", LATER), NOW).await.unwrap();
    store.put("k".into(), renewed.clone(), NOW).await.unwrap();
    assert_eq!(store.sweep(LATER, 10).await.unwrap(), 0);
    assert_eq!(store.get(b"k", LATER).await.unwrap(), Some(renewed));
    assert_eq!(store.sweep(MUCH_LATER, 10).await.unwrap(), 1);
}

async fn what_is_too_large_is_refused_by_name<B: Backend>() {
    let directory = TempDir::new().unwrap();
    let store = B::open(directory.path());
    let put = |key: usize, value: usize| Write::Put {
        key: vec![b'k'; key].into(),
        record: Record::lasting(vec![b'v'; value]),
    };
    assert_eq!(store.apply(vec![put(MAX_KEY_BYTES, MAX_VALUE_BYTES)], NOW).await, Ok(Applied::Done));
    assert!(matches!(store.apply(vec![put(MAX_KEY_BYTES + 1, 0)], NOW).await, Err(StoreError::KeyTooLong { .. })));
    assert!(matches!(store.apply(vec![put(1, MAX_VALUE_BYTES + 1)], NOW).await, Err(StoreError::ValueTooLarge { .. })));
    let many = vec![put(1, 0); MAX_CHANGE_WRITES + 1];
    assert!(matches!(store.apply(many, NOW).await, Err(StoreError::ChangeTooLarge { .. })));
    let large = vec![put(1, MAX_VALUE_BYTES); 17];
    assert!(matches!(store.apply(large, NOW).await, Err(StoreError::ChangeTooLarge { .. })));
}

async fn a_large_scan_comes_in_pages<B: Backend>() {
    let directory = TempDir::new().unwrap();
    let store = B::open(directory.path());
    let keys: Vec<Bytes> = (0..40_u32).map(|i| format!("p/{i:02}").into()).collect();
    for key in &keys {
        store.put(key.clone(), Record::lasting(vec![0; MAX_VALUE_BYTES]), NOW).await.unwrap();
    }
    let (mut seen, mut pages) = (Vec::<Bytes>::new(), 0);
    loop {
        let page = store.scan(b"p/", seen.last().map(AsRef::as_ref), usize::MAX, NOW).await.unwrap();
        if page.is_empty() {
            break;
        }
        pages += 1;
        seen.extend(page.into_iter().map(|(key, _)| key));
    }
    assert_eq!(seen, keys);
    assert!(pages > 1, "2.5 MiB came in one page");
}

/// Every test of the contract, for one backend.
macro_rules! contract {
    ($name:ident, $backend:ty, [$($promise:ident),* $(,)?]) => {
        mod $name {
            use super::*;

            #[test]
            fn any_script_goes_as_the_model_says() {
                super::any_script_goes_as_the_model_says::<$backend>();
            }

            $(
                #[tokio::test]
                async fn $promise() {
                    super::$promise::<$backend>().await;
                }
            )*
        }
    };
    ($($name:ident: $backend:ty),* $(,)?) => {
        $(
            contract!($name, $backend, [
                of_many_who_put_the_same_new_key_one_wins,
                an_expired_record_is_absent_at_once,
                a_sweep_deletes_what_expired_and_nothing_else,
                a_renewed_record_outlives_its_first_moment,
                what_is_too_large_is_refused_by_name,
                a_large_scan_comes_in_pages,
            ]);
        )*
    };
}

contract!(memory: Memory, rocks: Rocks);
