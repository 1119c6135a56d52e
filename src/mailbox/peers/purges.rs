//! Purges that reach every node: obeyed at once by those that are there, and kept for those that are not.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use prost::Message;
use tokio::sync::oneshot;

use super::calls::counted;
use super::convert;
use super::todo::Audience;
use crate::cluster::proto::{MailPurge, frame::Body};
use crate::domain::clock::{Epoch, Millis};
use crate::domain::mailbox::MailboxKey;
use crate::mailbox::MailboxService;
use crate::runtime::backoff::Backoff;
use crate::runtime::time;
use crate::store::{Record, StoreError};

/// How long others may take to empty a mailbox before the client is answered without them.
const PATIENCE: Duration = Duration::from_secs(2);

/// Waits between attempts to have a node that did not answer obey.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

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
        let purge = MailPurge { until_ms: time::now().0, epoch, ..what };
        // What is there goes whatever its time: the clock may have run back.
        let here = self.obey(&MailPurge { your_until_ms: u64::MAX, ..purge.clone() }).await?;
        let near = self.others().into_iter().map(Audience::Node);
        let everybody = near.chain(self.inner.cluster.afar.peers().into_iter().map(Audience::Peer));
        Ok(here + self.purge_at(everybody, &purge).await)
    }

    /// Has this cluster obey a purge of another; how many blobs that deleted, as far as its nodes answered in time. Of
    /// one that names nothing, the time here.
    ///
    /// # Errors
    /// When this node's store fails; a part may be deleted then.
    pub(super) async fn purge_near(&self, purge: &MailPurge) -> Result<u64, StoreError> {
        let here = self.obey(purge).await?;
        if key(purge).is_none() {
            return Ok(here);
        }
        let others = self.others().into_iter().map(Audience::Node);
        if purge.your_until_ms > 0 {
            // That time is this node's.
            return Ok(here + self.purge_at(others, &MailPurge { your_until_ms: 0, ..purge.clone() }).await);
        }
        let others: Vec<_> = others.collect();
        let repeated = join_all(others.iter().map(|other| self.ask_purge(other, purge))).await;
        Ok(here + repeated.into_iter().flatten().sum::<u64>())
    }

    async fn purge_at(&self, others: impl Iterator<Item = Audience>, purge: &MailPurge) -> u64 {
        let asked = others.map(|other| {
            let (this, purge, (sender, answer)) = (self.clone(), purge.clone(), oneshot::channel());
            // Goes on though the client is answered without it. After a restart it is told when the link is new.
            self.until_stopped(async move {
                sender.send(this.insist_on(&other, purge).await).unwrap_or_default();
            });
            tokio::time::timeout(PATIENCE, answer)
        });
        let answers = join_all(asked).await;
        answers.into_iter().filter_map(|answer| answer.ok()?.ok()).sum()
    }

    async fn ask_purge(&self, other: &Audience, purge: &MailPurge) -> Option<u64> {
        counted(self.ask_audience(other, Body::MailPurge(purge.clone())).await).ok()
    }

    fn is_live(&self, other: &Audience) -> bool {
        match other {
            Audience::Node(run) => self.inner.cluster.nodes().is_live(run),
            Audience::Peer(peer) => self.inner.cluster.afar.peers().contains(peer),
        }
    }

    /// Has somebody obey, however often they must be asked; how many blobs that deleted. Who is not there any more is
    /// told when they are back.
    async fn insist_on(&self, other: &Audience, mut purge: MailPurge) -> u64 {
        let (mut backoff, begun) = (Backoff::new(RETRY.0, RETRY.1), Instant::now());
        while self.is_live(other) {
            if purge.your_until_ms == 0
                && let Some(theirs) = self.ask_purge(other, &MailPurge::default()).await
                // Later, the client has been answered, and what came since must stay.
                && begun.elapsed() < PATIENCE
            {
                purge.your_until_ms = theirs;
            }
            if (purge.your_until_ms > 0 || begun.elapsed() >= PATIENCE)
                && let Some(count) = self.ask_purge(other, &purge).await
            {
                return count;
            }
            tokio::time::sleep(backoff.next(rand::random())).await;
        }
        0
    }

    /// Obeys a purge, unless it is repeated, and it or a later one of the same was obeyed before; how many blobs that
    /// deleted. Of one that names nothing, the time here.
    ///
    /// # Errors
    /// When the store fails; a part may be deleted then.
    pub(super) async fn obey(&self, purge: &MailPurge) -> Result<u64, StoreError> {
        let (now, records) = (time::now(), &self.inner.records);
        let Some(key) = key(purge) else { return Ok(now.0) };
        let known = records.get(&key, now).await?;
        let newest = known.as_ref().and_then(|record| MailPurge::decode(record.value.clone()).ok());
        let is_known = newest.is_some_and(|newest| newest.epoch >= purge.epoch);
        if is_known && purge.your_until_ms == 0 {
            return Ok(0);
        }
        let until = Millis(purge.until_ms.max(purge.your_until_ms));
        let mut deleted = self.empty_all(purge, until).await?;
        if is_known {
            return Ok(deleted);
        }
        if known.is_none() && self.inner.peers.purges.fetch_add(1, Ordering::Relaxed) >= MAX_KEPT {
            self.inner.metrics.drop_one("mailbox", "purges_kept");
            return Ok(deleted);
        }
        let kept = MailPurge { your_until_ms: 0, ..purge.clone() }.encode_to_vec();
        // What it would delete has expired by then.
        let ttl = self.inner.settings.ttl;
        records.put(key, Record::until(kept, Millis(purge.until_ms).plus(ttl)), now).await?;
        // Whoever took something in meanwhile, and did not find this purge yet, is found now.
        deleted += self.empty_all(purge, Millis(purge.until_ms)).await?;
        Ok(deleted)
    }

    async fn empty_all(&self, purge: &MailPurge, until: Millis) -> Result<u64, StoreError> {
        let mut deleted = 0;
        for mailbox in self.emptied_by(purge).await? {
            deleted += self.empty(mailbox, until).await?;
        }
        Ok(deleted)
    }

    /// Up to which moment a mailbox was purged, as far as this node knows; `client`: whose device has it, if one has.
    ///
    /// # Errors
    /// When the store fails.
    pub(in crate::mailbox) async fn purged_until(
        &self,
        mailbox: &MailboxKey,
        client: Option<&str>,
    ) -> Result<Millis, StoreError> {
        let purge = match client {
            Some(client) => MailPurge { devices_of: client.to_owned(), ..MailPurge::default() },
            None => MailPurge { mailbox: convert::mailbox(mailbox), ..MailPurge::default() },
        };
        let Some(key) = key(&purge) else { return Ok(Millis(0)) };
        let known = self.inner.records.get(&key, time::now()).await?;
        let newest = known.and_then(|record| MailPurge::decode(record.value).ok());
        Ok(Millis(newest.map_or(0, |newest| newest.until_ms)))
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
