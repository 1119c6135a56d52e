//! The shared records of pairing, typed: JSON values under a kind and an id.

use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{PairingError, is_id};
use crate::cluster::claims::Claims;
use crate::cluster::proto::SharedRecord;
use crate::cluster::shared::Shared;
use crate::domain::clock::{Epoch, Millis};
use crate::store::StoreError;

/// Records that every node finds, whichever of them stored one. The largest version of a record stands.
#[async_trait]
pub trait Facts: Send + Sync {
    /// The record of that kind and id. The id is not empty.
    async fn fetch(&self, kind: &str, id: &str) -> Result<Option<SharedRecord>, StoreError>;

    /// The records of that kind and tag, each once; the first [`MAX_TAGGED`](crate::cluster::shared::MAX_TAGGED)
    /// of a node at least.
    async fn fetch_tagged(&self, kind: &str, tag: &str) -> Result<Vec<SharedRecord>, StoreError>;

    /// Stores a record; durable when this returns.
    async fn store(&self, record: SharedRecord) -> Result<(), StoreError>;

    /// A version larger than `seen`.
    fn next_version(&self, seen: u64) -> u64;
}

/// The cluster's records.
#[derive(Clone)]
pub struct ClusterFacts {
    /// Where they are.
    pub shared: Shared,
    /// What numbers their versions.
    pub claims: Claims,
}

#[async_trait]
impl Facts for ClusterFacts {
    async fn fetch(&self, kind: &str, id: &str) -> Result<Option<SharedRecord>, StoreError> {
        self.shared.fetch(kind, id).await
    }

    async fn fetch_tagged(&self, kind: &str, tag: &str) -> Result<Vec<SharedRecord>, StoreError> {
        self.shared.fetch_tagged(kind, tag).await
    }

    async fn store(&self, record: SharedRecord) -> Result<(), StoreError> {
        self.shared.store(record).await
    }

    fn next_version(&self, seen: u64) -> u64 {
        // A version from a clock far ahead is not followed by ours, but must still be replaced.
        self.claims.next_epoch(Epoch(seen)).0.max(seen.saturating_add(1))
    }
}

/// A record as it was read.
pub(super) struct Found<T> {
    pub(super) value: T,
    pub(super) tag: String,
    pub(super) version: u64,
    pub(super) expires: Millis,
}

/// Where a record goes and how long it stays.
pub(super) struct Place<'a> {
    pub(super) kind: &'a str,
    pub(super) id: &'a str,
    pub(super) tag: &'a str,
    /// The version that it replaces; 0 for none.
    pub(super) seen: u64,
    pub(super) expires: Millis,
}

/// The live record of that kind and id; none for an id that no record can have.
pub(super) async fn read<T: DeserializeOwned>(
    facts: &dyn Facts,
    kind: &str,
    id: &str,
    now: Millis,
) -> Result<Option<Found<T>>, PairingError> {
    if !is_id(id) {
        return Ok(None);
    }
    match facts.fetch(kind, id).await? {
        Some(record) if now.0 < record.expires_ms => decode(record).map(Some),
        _ => Ok(None),
    }
}

/// The live records of that kind and tag with their ids.
pub(super) async fn tagged<T: DeserializeOwned>(
    facts: &dyn Facts,
    kind: &str,
    tag: &str,
    now: Millis,
) -> Result<Vec<(String, T)>, PairingError> {
    let live = facts.fetch_tagged(kind, tag).await?.into_iter().filter(|record| now.0 < record.expires_ms);
    live.map(|mut record| Ok((std::mem::take(&mut record.id), decode(record)?.value))).collect()
}

/// Stores `value`.
pub(super) async fn write<T: Serialize + Sync>(
    facts: &dyn Facts,
    place: Place<'_>,
    value: &T,
) -> Result<(), PairingError> {
    let record = SharedRecord {
        kind: place.kind.to_owned(),
        id: place.id.to_owned(),
        tag: place.tag.to_owned(),
        value: serde_json::to_vec(value)?.into(),
        version: facts.next_version(place.seen),
        expires_ms: place.expires.0,
    };
    Ok(facts.store(record).await?)
}

fn decode<T: DeserializeOwned>(record: SharedRecord) -> Result<Found<T>, PairingError> {
    Ok(Found {
        value: serde_json::from_slice(&record.value)?,
        tag: record.tag,
        version: record.version,
        expires: Millis(record.expires_ms),
    })
}

#[cfg(test)]
pub(super) mod fake {
    //! Records in one map.

    use std::collections::BTreeMap;

    use parking_lot::Mutex;

    use super::*;

    /// Records of one process, which may be told to fail.
    #[derive(Default)]
    pub(crate) struct MemoryFacts {
        records: Mutex<BTreeMap<(String, String), SharedRecord>>,
        last: std::sync::atomic::AtomicU64,
        pub(crate) broken: std::sync::atomic::AtomicBool,
    }

    impl MemoryFacts {
        fn check(&self) -> Result<(), StoreError> {
            if self.broken.load(std::sync::atomic::Ordering::Relaxed) { Err(StoreError::Stopped) } else { Ok(()) }
        }
    }

    #[async_trait]
    impl Facts for MemoryFacts {
        async fn fetch(&self, kind: &str, id: &str) -> Result<Option<SharedRecord>, StoreError> {
            assert!(!id.is_empty(), "an empty id asks for a tag");
            self.check()?;
            Ok(self.records.lock().get(&(kind.to_owned(), id.to_owned())).cloned())
        }

        async fn fetch_tagged(&self, kind: &str, tag: &str) -> Result<Vec<SharedRecord>, StoreError> {
            self.check()?;
            let records = self.records.lock();
            Ok(records.values().filter(|record| record.kind == kind && record.tag == tag).cloned().collect())
        }

        async fn store(&self, record: SharedRecord) -> Result<(), StoreError> {
            self.check()?;
            let key = (record.kind.clone(), record.id.clone());
            let mut records = self.records.lock();
            assert!(records.get(&key).is_none_or(|old| old.version < record.version), "a stale version: {record:?}");
            records.insert(key, record);
            Ok(())
        }

        fn next_version(&self, seen: u64) -> u64 {
            let last = self.last.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            assert!(seen <= last, "a version that nobody made");
            last + 1
        }
    }
}
