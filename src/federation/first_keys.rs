//! The keys of relays that no certificate names: each relay has the one that it was first seen with, and each key speaks
//! for the one relay that it first spoke for.
//!
//! All nodes of a cluster know the same: a key is met for the first time only once every other live node has said that it
//! has not met it, nor the relay. It is then kept, durably, as other shared records are, and by every node that meets it
//! again. Should two nodes have met two keys at the same time, or in two halves of a cluster that were apart, the older
//! stands as soon as they hear of each other.

use std::sync::Arc;

use bytes::Bytes;

use super::proof::Unfit;
use crate::cluster::proto::SharedRecord;
use crate::cluster::shared::Shared;
use crate::domain::clock::Millis;
use crate::domain::ids::NodeId;
use crate::runtime::time;
use crate::security::relay_certificate::KeyDigest;
use crate::store::{Records, StoreError};

/// Kinds of the shared records: of a relay its key, and of a key its relay.
const KEY_OF: &str = "relay-key";
const RELAY_OF: &str = "key-relay";

/// Where a node kept what only it had met, before all of them knew the same.
const ONCE_KEPT: &[u8] = b"relay/";

/// Keys that a node has met first, at most: a federation has fewer, and a stranger cannot fill the disk.
const MAX_REMEMBERED: usize = 1000;

/// The last moment that has a year of four digits: what is remembered is not forgotten.
const NEVER_MS: u64 = 253_402_300_799_999;

/// What this node knows of the keys of relays.
pub struct FirstKeys {
    shared: Shared,
    records: Arc<dyn Records>,
}

/// What is known already.
enum Known {
    /// This relay has this key, and the other way round.
    Both,
    /// Neither.
    Nothing,
}

impl FirstKeys {
    /// Kept in `shared`; what this node alone once kept is in `records`.
    pub fn new(shared: Shared, records: Arc<dyn Records>) -> Self {
        Self { shared, records }
    }

    /// Whether the key is the one of that relay, and of no other, as far as any node knows; now it is, if neither was met
    /// before.
    pub async fn meet(&self, relay: &NodeId, key: KeyDigest) -> Result<(), Unfit> {
        self.hand_over(relay).await.map_err(broken)?;
        if let Known::Both = self.known(relay, key).await? {
            return Ok(());
        }
        if self.shared.count_here(RELAY_OF, MAX_REMEMBERED).await.map_err(broken)? >= MAX_REMEMBERED {
            return Err(Unfit::new("too_many_keys", "the keys of too many relays are remembered"));
        }
        // The key first: a key that speaks for two relays at two nodes at once takes neither from its owner.
        for (kind, id, value) in [
            (RELAY_OF, key.to_string(), Bytes::copy_from_slice(relay.as_str().as_bytes())),
            (KEY_OF, relay.to_string(), Bytes::copy_from_slice(&key.0)),
        ] {
            self.shared.store(record(kind, id, value, time::now())).await.map_err(broken)?;
            // Another node may have met another meanwhile.
            self.known(relay, key).await?;
        }
        tracing::info!(%relay, %key, "remembered the key of a relay");
        Ok(())
    }

    /// The same, as far as this node itself knows: for calls beside a link, of whoever has one.
    pub async fn has_met(&self, relay: &NodeId, key: KeyDigest) -> Result<bool, Unfit> {
        let known = self.shared.fetch_here(KEY_OF, relay.as_str()).await.map_err(broken)?;
        Ok(known.is_some_and(|known| known.value == key.0.as_slice()))
    }

    /// The relay that has that key, as far as any node knows.
    pub async fn relay_of(&self, key: KeyDigest) -> Result<Option<String>, Unfit> {
        let (known, _) = self.shared.fetch_from_all(RELAY_OF, &key.to_string()).await.map_err(broken)?;
        Ok(known.and_then(|known| String::from_utf8(known.value.into()).ok()))
    }

    /// Tells the others what this node alone once kept of a relay. It is older than what any of them has met since.
    async fn hand_over(&self, relay: &NodeId) -> Result<(), StoreError> {
        let row = Bytes::from([ONCE_KEPT, relay.as_str().as_bytes()].concat());
        if let Some(kept) = self.records.get(&row, time::now()).await? {
            self.shared.store(record(KEY_OF, relay.to_string(), kept.value, Millis(0))).await?;
            self.records.delete(row, time::now()).await?;
        }
        Ok(())
    }

    async fn known(&self, relay: &NodeId, key: KeyDigest) -> Result<Known, Unfit> {
        let id = key.to_string();
        let asked = tokio::try_join!(
            self.shared.fetch_from_all(KEY_OF, relay.as_str()),
            self.shared.fetch_from_all(RELAY_OF, &id)
        );
        let ((its_key, all_said), (its_relay, _)) = asked.map_err(broken)?;
        match (&its_key, &its_relay) {
            (Some(first), _) if first.value != key.0.as_slice() => Err(Unfit::new("other_key", {
                let first = hex::encode(&first.value);
                format!(
                    "relay {relay} has the key {key} and had {first} before: if that is right, list it in \
                     RELAY_FEDERATION_PINS"
                )
            })),
            (_, Some(first)) if first.value != relay.as_str() => Err(Unfit::new("other_relay", {
                let first = String::from_utf8_lossy(&first.value);
                format!(
                    "the key {key} is that of relay {first}, and comes as {relay}: give each relay a key of its own, \
                     or a certificate that names it, or list it in RELAY_FEDERATION_PINS"
                )
            })),
            (Some(_), Some(_)) => Ok(Known::Both),
            _ if all_said => Ok(Known::Nothing),
            _ => Err(Unfit::new(
                "unsure",
                "a node of this cluster does not say whether it has met that relay: call again",
            )),
        }
    }
}

/// The older stands: of two versions, the larger does.
fn record(kind: &str, id: String, value: Bytes, met: Millis) -> SharedRecord {
    let tie = u64::from(rand::random::<u16>());
    let version = u64::MAX - (met.0 << 16 | tie);
    SharedRecord { kind: kind.to_owned(), id, tag: String::new(), value, version, expires_ms: NEVER_MS }
}

fn broken(error: StoreError) -> Unfit {
    Unfit::new("store", format!("its key cannot be looked up: {error}"))
}
