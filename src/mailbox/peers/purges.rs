//! Purges that reach every node: obeyed at once by those that are there, and kept for those that are not.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use prost::Message;

use super::calls::{PATIENCE, counted};
use super::convert;
use super::todo::Audience;
use crate::cluster::links::{AskError, LinkRefused};
use crate::cluster::proto::{MailPurge, frame::Body};
use crate::domain::clock::{Epoch, Millis};
use crate::domain::mailbox::MailboxKey;
use crate::mailbox::MailboxService;
use crate::runtime::backoff::Backoff;
use crate::runtime::time;
use crate::store::{Record, StoreError};

/// Waits between attempts to have a node that did not answer obey.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Purges that are read from the store at a time.
const PAGE: usize = 256;

/// Most purges that are kept for nodes that are away: some 30 MiB. Beyond, a node that was away may have kept what was
/// purged, until it is purged again or expires.
const MAX_KEPT: usize = 1 << 17;

const PREFIX: &[u8] = b"purged/";

impl MailboxService {
    /// Empties a mailbox on all nodes; how many blobs that were, as far as they answered in time.
    ///
    /// # Errors
    /// When this node's store fails; a part may be deleted then.
    pub(in crate::mailbox) async fn purge_mailbox(&self, mailbox: MailboxKey) -> Result<u64, StoreError> {
        self.purge_all(MailPurge { mailbox: convert::mailbox(&mailbox), ..MailPurge::default() }).await
    }

    /// Empties the mailboxes of all devices of a client on all nodes; how many messages that were.
    ///
    /// # Errors
    /// When this node's store fails; a part may be deleted then.
    pub(in crate::mailbox) async fn purge_devices_of(&self, client: &str) -> Result<u64, StoreError> {
        self.purge_all(MailPurge { devices_of: client.to_owned(), ..MailPurge::default() }).await
    }

    async fn purge_all(&self, what: MailPurge) -> Result<u64, StoreError> {
        let epoch = self.inner.cluster.claims.next_epoch(Epoch(0)).0;
        let purge = MailPurge { until_ms: time::now().0, epoch, now: true, ..what };
        let here = self.obey(&purge).await?;
        let near = self.others().into_iter().map(Audience::Node);
        let everybody = near.chain(self.inner.cluster.afar.peers().into_iter().map(Audience::Peer)).collect();
        Ok(here + self.purge_at(everybody, &purge).await)
    }

    /// Has this cluster obey a purge of another; how many blobs that deleted, as far as its nodes answered in time.
    ///
    /// # Errors
    /// When this node's store fails; a part may be deleted then.
    pub(super) async fn purge_near(&self, purge: &MailPurge) -> Result<u64, StoreError> {
        let here = self.obey(purge).await?;
        Ok(here + self.purge_at(self.others().into_iter().map(Audience::Node).collect(), purge).await)
    }

    async fn purge_at(&self, others: Vec<Audience>, purge: &MailPurge) -> u64 {
        let asked = others.iter().map(|other| self.ask_purge(other, purge));
        let mut deleted = 0;
        for (other, answer) in others.iter().zip(join_all(asked).await) {
            match answer {
                Ok(count) => deleted += count,
                Err(_) => self.insist_on(other.clone(), purge.clone()),
            }
        }
        deleted
    }

    async fn ask_purge(&self, other: &Audience, purge: &MailPurge) -> Result<u64, AskError> {
        let (cluster, purge) = (&self.inner.cluster, Body::MailPurge(purge.clone()));
        counted(match other {
            Audience::Node(run) => cluster.links.ask(run, purge, PATIENCE).await,
            Audience::Peer(peer) => {
                cluster.afar.out.get().ok_or(LinkRefused::Gone)?.ask(peer, None, purge, PATIENCE).await
            }
        })
    }

    /// Has somebody who is there, and did not answer, obey later. Who is not there is told when they are back.
    fn insist_on(&self, other: Audience, purge: MailPurge) {
        let (this, purge) = (self.clone(), MailPurge { now: false, ..purge });
        self.inner.supervisor.spawn_quiet(async move {
            let mut backoff = Backoff::new(RETRY.0, RETRY.1);
            let gone = AskError::Refused(LinkRefused::Gone);
            while this.ask_purge(&other, &purge).await.is_err_and(|error| error != gone) {
                tokio::time::sleep(backoff.next(rand::random())).await;
            }
        });
    }

    /// Obeys a purge, unless it or a later one of the same was obeyed before; how many blobs that deleted.
    ///
    /// # Errors
    /// When the store fails; a part may be deleted then.
    pub(super) async fn obey(&self, purge: &MailPurge) -> Result<u64, StoreError> {
        let Some(key) = key(purge) else { return Ok(0) };
        let (now, records) = (time::now(), &self.inner.records);
        let known = records.get(&key, now).await?;
        let newest = known.as_ref().and_then(|record| MailPurge::decode(record.value.clone()).ok());
        let is_known = newest.is_some_and(|newest| newest.epoch >= purge.epoch);
        if is_known && !purge.now {
            return Ok(0);
        }
        // What is there now goes whatever its time: its clock may be ahead.
        let until = Millis(if purge.now { u64::MAX } else { purge.until_ms });
        let mut deleted = 0;
        for mailbox in self.emptied_by(purge).await? {
            deleted += self.empty(mailbox, until).await?;
        }
        if is_known {
            return Ok(deleted);
        }
        if known.is_none() && self.inner.peers.purges.fetch_add(1, Ordering::Relaxed) >= MAX_KEPT {
            self.inner.metrics.drop_one("mailbox", "purges_kept");
            return Ok(deleted);
        }
        let kept = MailPurge { now: false, ..purge.clone() }.encode_to_vec();
        // What it would delete has expired by then.
        let ttl = self.inner.settings.ttl;
        records.put(key, Record::until(kept, Millis(purge.until_ms).plus(ttl)), now).await?;
        Ok(deleted)
    }

    /// Counts the purges that are kept.
    ///
    /// # Errors
    /// When the store fails.
    pub(in crate::mailbox) async fn count_purges(&self) -> Result<(), StoreError> {
        let (mut count, mut after) = (0, None::<Bytes>);
        loop {
            let page = self.inner.records.scan(PREFIX, after.as_deref(), PAGE, time::now()).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            count += page.len();
        }
        self.inner.peers.purges.store(count, Ordering::Relaxed);
        Ok(())
    }

    async fn emptied_by(&self, purge: &MailPurge) -> Result<Vec<MailboxKey>, StoreError> {
        match purge.devices_of.as_str() {
            "" => Ok(convert::mailbox_from(&purge.mailbox).into_iter().collect()),
            client => self.device_mailboxes(client).await,
        }
    }

    /// The purges that this node has obeyed, after the one at a key.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) async fn obeyed(&self, after: Option<&[u8]>) -> Result<Vec<(Bytes, MailPurge)>, StoreError> {
        let page = self.inner.records.scan(PREFIX, after, PAGE, time::now()).await?;
        let decoded = page.into_iter().map(|(key, record)| (key, MailPurge::decode(record.value).unwrap_or_default()));
        Ok(decoded.collect())
    }
}

fn key(purge: &MailPurge) -> Option<Bytes> {
    match purge.devices_of.as_str() {
        "" => Some(
            [PREFIX, b"mailbox/", hex::encode(convert::mailbox_from(&purge.mailbox)?.0).as_bytes()].concat().into(),
        ),
        client => Some([PREFIX, b"devices/", client.as_bytes()].concat().into()),
    }
}
