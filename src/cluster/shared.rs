//! Shared records: small durable facts that every node can find, such as pairing claims.
//!
//! A record lives on the two owners of its id and on the node that wrote it; the largest version stands. It is
//! found by id on this node, then on its owners, then anywhere; or, with all others of its tag, everywhere.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use prost::Message;
use tokio::sync::watch;

use crate::cluster::links::Links;
use crate::cluster::proto::{FetchShared, SharedFound, SharedRecord, StoreShared, frame::Body, reply};
use crate::cluster::view::View;
use crate::domain::clock::Millis;
use crate::domain::ids::{NodeId, NodeRun};
use crate::domain::placement::KeyHash;
use crate::runtime::time;
use crate::store::{Applied, Record, Records, StoreError, Write};

/// How long another node may take.
const PATIENCE: Duration = Duration::from_millis(750);

/// Most records of one tag that one node answers with.
pub const MAX_TAGGED: usize = 100;

/// Records handed on between two pauses.
const PACE: usize = 200;

/// A node's shared records; clones share them.
#[derive(Clone)]
pub struct Shared {
    me: NodeRun,
    view: watch::Receiver<Arc<View>>,
    links: Links,
    records: Arc<dyn Records>,
}

impl Shared {
    /// Kept in `records`.
    #[must_use]
    pub fn new(me: NodeRun, view: watch::Receiver<Arc<View>>, links: Links, records: Arc<dyn Records>) -> Self {
        Self { me, view, links, records }
    }

    /// Stores a record: durable here when this returns, and on its owners unless they are silent.
    ///
    /// # Errors
    /// When this node's store fails.
    pub async fn store(&self, record: SharedRecord) -> Result<(), StoreError> {
        self.store_without(&record, &[]).await.map(|_| ())
    }

    /// As [`Shared::store`], but as if these nodes were not there; false if an owner was silent.
    ///
    /// # Errors
    /// When this node's store fails.
    pub async fn store_without(&self, record: &SharedRecord, gone: &[NodeId]) -> Result<bool, StoreError> {
        self.merge(record).await?;
        let view = self.view.borrow().clone();
        let owners = view.owners_without(place(&record.kind, &record.id), gone);
        let told = owners.filter(|owner| owner.run != self.me).map(|owner| {
            let body = Body::StoreShared(StoreShared { record: Some(record.clone()) });
            self.links.ask(&owner.run, body, PATIENCE)
        });
        let mut all = true;
        for answer in join_all(told).await {
            if let Err(error) = answer {
                tracing::warn!(%error, kind = record.kind, "an owner did not take a record");
                all = false;
            }
        }
        Ok(all)
    }

    /// The record of that kind and id, wherever it is.
    ///
    /// # Errors
    /// When this node's store fails.
    pub async fn fetch(&self, kind: &str, id: &str) -> Result<Option<SharedRecord>, StoreError> {
        let view = self.view.borrow().clone();
        let owners: Vec<_> = view.owners(place(kind, id)).map(|m| m.run.clone()).collect();
        let here = self.read(&row(kind, id)).await?;
        let query = FetchShared { kind: kind.to_owned(), id: id.to_owned(), tag: String::new() };
        let from_owners = self.ask(owners.clone(), &query).await.into_iter().chain(here);
        if let Some(newest) = from_owners.max_by_key(|record| record.version) {
            return Ok(Some(newest));
        }
        let others = view.others().map(|m| m.run.clone()).filter(|run| !owners.contains(run)).collect();
        Ok(self.ask(others, &query).await.into_iter().max_by_key(|record| record.version))
    }

    /// The record of that kind and id of all live nodes, which this node then keeps as well; and whether all of them have
    /// said which they know.
    ///
    /// # Errors
    /// When this node's store fails.
    pub async fn fetch_from_all(&self, kind: &str, id: &str) -> Result<(Option<SharedRecord>, bool), StoreError> {
        let query = FetchShared { kind: kind.to_owned(), id: id.to_owned(), tag: String::new() };
        let others: Vec<_> = self.view.borrow().others().map(|m| m.run.clone()).collect();
        let (found, all_said) = self.ask_all(&others, &query).await;
        for record in found.iter().filter(|record| record.kind == kind && record.id == id) {
            self.merge(record).await?;
        }
        Ok((self.fetch_here(kind, id).await?, all_said))
    }

    /// The record of that kind and id that this node itself keeps.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn fetch_here(&self, kind: &str, id: &str) -> Result<Option<SharedRecord>, StoreError> {
        self.read(&row(kind, id)).await
    }

    /// How many records of that kind this node itself keeps, as far as `most`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn count_here(&self, kind: &str, most: usize) -> Result<usize, StoreError> {
        Ok(self.records.scan(&row(kind, ""), None, most, time::now()).await?.len())
    }

    /// The records of that kind and tag on all nodes, newest version of each, in the order of their ids.
    ///
    /// # Errors
    /// When this node's store fails.
    pub async fn fetch_tagged(&self, kind: &str, tag: &str) -> Result<Vec<SharedRecord>, StoreError> {
        let query = FetchShared { kind: kind.to_owned(), id: String::new(), tag: tag.to_owned() };
        let mut found = self.tagged_here(kind, tag).await?;
        let others = self.view.borrow().others().map(|m| m.run.clone()).collect();
        found.extend(self.ask(others, &query).await);
        found.sort_by(|a, b| (&a.id, b.version).cmp(&(&b.id, a.version)));
        found.dedup_by(|next, kept| next.id == kept.id);
        Ok(found)
    }

    /// How many live records of that kind and tag this node itself keeps; [`MAX_TAGGED`] at most.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn count_tagged_here(&self, kind: &str, tag: &str) -> Result<usize, StoreError> {
        Ok(self.records.scan(&tag_prefix(kind, tag), None, MAX_TAGGED, time::now()).await?.len())
    }

    /// Whether this node itself keeps a live record of that kind and id.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn is_here(&self, kind: &str, id: &str) -> Result<bool, StoreError> {
        Ok(self.records.get(&row(kind, id), time::now()).await?.is_some())
    }

    /// Another node's record.
    pub async fn answer_store(&self, offered: StoreShared) -> reply::Body {
        let Some(record) = offered.record else {
            return reply::Body::Failed("no record".to_owned());
        };
        match self.merge(&record).await {
            Ok(()) => reply::Body::Done(Default::default()),
            Err(error) => reply::Body::Failed(error.to_string()),
        }
    }

    /// Another node's question for this node's own records.
    pub async fn answer_fetch(&self, query: &FetchShared) -> reply::Body {
        let found = match query.id.as_str() {
            "" => self.tagged_here(&query.kind, &query.tag).await,
            id => self.read(&row(&query.kind, id)).await.map(|record| record.into_iter().collect()),
        };
        match found {
            Ok(records) => reply::Body::Shared(SharedFound { records }),
            Err(error) => reply::Body::Failed(error.to_string()),
        }
    }

    /// Hands the records that have new owners to them, paced.
    ///
    /// # Errors
    /// When this node's store fails.
    pub async fn hand_on(&self, before: &View, now: &View) -> Result<(), StoreError> {
        let mut after: Option<Bytes> = None;
        loop {
            let page = self.records.scan(b"shared/", after.as_deref(), PACE, time::now()).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for record in page.into_iter().filter_map(|(_, row)| decode(&row)) {
                let hash = place(&record.kind, &record.id);
                for owner in now.owners(hash).filter(|owner| owner.run != self.me) {
                    if !before.owners(hash).any(|known| known.run == owner.run) {
                        let body = Body::StoreShared(StoreShared { record: Some(record.clone()) });
                        // What does not fit the link is found by asking everybody.
                        self.links.send(&owner.run, body).unwrap_or_default();
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn merge(&self, record: &SharedRecord) -> Result<(), StoreError> {
        let key = row(&record.kind, &record.id);
        let expires = Millis(record.expires_ms);
        loop {
            let known = self.records.get(&key, time::now()).await?;
            if known.as_ref().and_then(decode).is_some_and(|known| known.version >= record.version) {
                return Ok(());
            }
            let mut writes = vec![Write::PutIf {
                key: key.clone(),
                expected: known.map(|row| row.value),
                record: Record::until(record.encode_to_vec(), expires),
            }];
            if !record.tag.is_empty() {
                let tag = [&*tag_prefix(&record.kind, &record.tag), record.id.as_bytes()].concat();
                writes.push(Write::Put { key: tag.into(), record: Record::until(Bytes::new(), expires) });
            }
            // Refused: another version came in between; look again.
            if self.records.apply(writes, time::now()).await? == Applied::Done {
                return Ok(());
            }
        }
    }

    async fn read(&self, key: &[u8]) -> Result<Option<SharedRecord>, StoreError> {
        Ok(self.records.get(key, time::now()).await?.as_ref().and_then(decode))
    }

    async fn tagged_here(&self, kind: &str, tag: &str) -> Result<Vec<SharedRecord>, StoreError> {
        let prefix = tag_prefix(kind, tag);
        let mut found = Vec::new();
        for (key, _) in self.records.scan(&prefix, None, MAX_TAGGED, time::now()).await? {
            if let Ok(id) = std::str::from_utf8(&key[prefix.len()..]) {
                found.extend(self.read(&row(kind, id)).await?);
            }
        }
        Ok(found)
    }

    async fn ask(&self, nodes: Vec<NodeRun>, query: &FetchShared) -> Vec<SharedRecord> {
        self.ask_all(&nodes, query).await.0
    }

    /// What these nodes know, and whether all of them have said so.
    async fn ask_all(&self, nodes: &[NodeRun], query: &FetchShared) -> (Vec<SharedRecord>, bool) {
        let asked = nodes.iter().filter(|run| **run != self.me).map(|run| {
            let body = Body::FetchShared(query.clone());
            self.links.ask(run, body, PATIENCE)
        });
        let (mut records, mut all_said) = (Vec::new(), true);
        for answer in join_all(asked).await {
            match answer {
                Ok(reply::Body::Shared(found)) => records.extend(found.records),
                _ => all_said = false,
            }
        }
        (records, all_said)
    }
}

fn place(kind: &str, id: &str) -> KeyHash {
    KeyHash::of(&[b"shared", kind.as_bytes(), id.as_bytes()])
}

fn row(kind: &str, id: &str) -> Bytes {
    format!("shared/{kind}/{id}").into()
}

fn tag_prefix(kind: &str, tag: &str) -> Bytes {
    // The tag's length keeps tag "a" from listing what is tagged "a/b".
    format!("tag/{kind}/{}/{tag}/", tag.len()).into()
}

fn decode(row: &Record) -> Option<SharedRecord> {
    SharedRecord::decode(row.value.clone()).ok()
}
