//! Which key owns which name, on this node's disk.
//!
//! Of two bindings of one name the older stands, and of two made at the same epoch the smaller key: every node
//! decides alike, whichever it hears of first.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::domain::clock::{Epoch, Millis};
use crate::domain::principal::{Kind, Principal};
use crate::runtime::time;
use crate::store::{Applied, Record, Records, StoreError, Write};

const PREFIX: &[u8] = b"bind/";

/// A name's owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The public key.
    pub key: Bytes,
    /// When it was first used for that name.
    pub bound_at: Epoch,
}

impl Binding {
    /// Whether this binding stands against `other`.
    #[must_use]
    pub fn beats(&self, other: &Self) -> bool {
        (self.bound_at, &self.key) < (other.bound_at, &other.key)
    }
}

/// What [`Bindings::merge`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The binding that stands now.
    pub standing: Binding,
    /// Whether that is another than this node had, or its first.
    pub changed: bool,
}

/// The bindings that this node keeps.
#[derive(Clone)]
pub struct Bindings {
    records: Arc<dyn Records>,
}

impl Bindings {
    /// Kept in `records`.
    #[must_use]
    pub fn new(records: Arc<dyn Records>) -> Self {
        Self { records }
    }

    /// The binding of `principal`, if this node keeps one.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn get(&self, principal: &Principal) -> Result<Option<Binding>, StoreError> {
        let found = self.records.get(&row(principal), time::now()).await?;
        Ok(found.and_then(|record| decode(&record.value)))
    }

    /// Takes note of a binding; the one that stands is durable when this returns.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn merge(&self, principal: &Principal, offered: Binding) -> Result<Merged, StoreError> {
        let key = row(principal);
        loop {
            let known = self.records.get(&key, time::now()).await?;
            let binding = known.as_ref().and_then(|record| decode(&record.value));
            if let Some(binding) = &binding
                && (*binding == offered || binding.beats(&offered))
            {
                return Ok(Merged { standing: binding.clone(), changed: false });
            }
            let write = Write::PutIf {
                key: key.clone(),
                expected: known.map(|record| record.value),
                record: Record::lasting(encode(&offered)),
            };
            // Refused: another caller was faster; look again. Each round somebody's older binding has won.
            if self.records.apply(vec![write], time::now()).await? == Applied::Done {
                let changed = binding.is_none_or(|binding| binding.key != offered.key);
                return Ok(Merged { standing: offered, changed });
            }
        }
    }

    /// Up to `limit` bindings in order, from the one after `after`; each with where to go on.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn page(
        &self,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Principal, Binding)>, StoreError> {
        let rows = self.records.scan(PREFIX, after, limit, time::now()).await?;
        let parse = |(row, record): (Bytes, Record)| {
            let (kind, name) = row[PREFIX.len()..].split_first()?;
            let kind = match kind {
                b'v' => Kind::Vault,
                b's' => Kind::Session,
                b'm' => Kind::Mailbox,
                b'p' => Kind::Peer,
                _ => return None,
            };
            let name = std::str::from_utf8(name).ok()?.into();
            Some((row.clone(), Principal { kind, name }, decode(&record.value)?))
        };
        Ok(rows.into_iter().filter_map(parse).collect())
    }

    /// Remembers a nonce until `until`; false if it has been spent on another attempt.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn spend(
        &self,
        principal: &Principal,
        nonce: &[u8],
        attempt: &Bytes,
        until: Millis,
    ) -> Result<bool, StoreError> {
        let hash = crate::domain::digest(&[&[principal.kind.byte()], principal.name.as_bytes(), nonce]);
        let key = Bytes::from([b"nonce/".as_slice(), &hash].concat());
        if self.records.put_new(key.clone(), Record::until(attempt.clone(), until), time::now()).await? {
            return Ok(true);
        }
        Ok(self.records.get(&key, time::now()).await?.is_some_and(|spent| spent.value == *attempt))
    }
}

fn row(principal: &Principal) -> Bytes {
    Bytes::from([PREFIX, &[principal.kind.byte()], principal.name.as_bytes()].concat())
}

fn encode(binding: &Binding) -> Bytes {
    let mut value = BytesMut::with_capacity(8 + binding.key.len());
    value.put_u64(binding.bound_at.0);
    value.put_slice(&binding.key);
    value.freeze()
}

fn decode(value: &Bytes) -> Option<Binding> {
    let bound_at = u64::from_be_bytes(value.get(..8)?.try_into().ok()?);
    Some(Binding { key: value.slice(8..), bound_at: Epoch(bound_at) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryRecords;

    fn binding(key: &'static [u8], at: u64) -> Binding {
        Binding { key: Bytes::from_static(key), bound_at: Epoch(at) }
    }

    #[tokio::test]
    async fn the_older_binding_stands_whichever_comes_first() {
        for order in [[binding(b"late", 9), binding(b"early", 3)], [binding(b"early", 3), binding(b"late", 9)]] {
            let bindings = Bindings::new(Arc::new(MemoryRecords::new(1 << 20)));
            let vault = Principal::vault("v");
            for offered in order {
                bindings.merge(&vault, offered).await.unwrap();
            }
            assert_eq!(bindings.get(&vault).await.unwrap(), Some(binding(b"early", 3)));
        }
    }

    #[tokio::test]
    async fn a_nonce_is_spent_once_for_each_name() {
        let bindings = Bindings::new(Arc::new(MemoryRecords::new(1 << 20)));
        let until = Millis(u64::MAX);
        let (one, two) = (Bytes::from_static(b"1"), Bytes::from_static(b"2"));
        assert!(bindings.spend(&Principal::vault("v"), b"n", &one, until).await.unwrap());
        assert!(bindings.spend(&Principal::vault("v"), b"n", &one, until).await.unwrap(), "the same attempt again");
        assert!(!bindings.spend(&Principal::vault("v"), b"n", &two, until).await.unwrap());
        assert!(bindings.spend(&Principal::vault("w"), b"n", &two, until).await.unwrap());
    }

    #[tokio::test]
    async fn pages_go_through_all_bindings() {
        let bindings = Bindings::new(Arc::new(MemoryRecords::new(1 << 20)));
        for name in ["a", "b", "c"] {
            bindings.merge(&Principal::vault(name), binding(b"k", 1)).await.unwrap();
        }
        let first = bindings.page(None, 2).await.unwrap();
        let rest = bindings.page(Some(&first[1].0), 2).await.unwrap();
        let names: Vec<_> = first.iter().chain(&rest).map(|(_, p, _)| p.name.to_string()).collect();
        assert_eq!(names, ["a", "b", "c"]);
    }
}
