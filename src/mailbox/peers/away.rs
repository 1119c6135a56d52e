//! Which nodes there are that may hold something and cannot be told of an acknowledgment now.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::calls::Heard;
use crate::domain::ids::NodeId;
use crate::domain::mailbox::MailboxKey;
use crate::mailbox::MailboxService;
use crate::mailbox::acks::Unheard;
use crate::mailbox::flow::Whereabouts;
use crate::mailbox::noting::Noter;
use crate::observe::metrics::count;
use crate::runtime::time;
use crate::store::{Record, StoreError};

/// Keys of the nodes that were seen in the cluster.
const PREFIX: &[u8] = b"seen/";

/// Most nodes that are remembered.
const MAX_SEEN: usize = 256;

impl MailboxService {
    /// As [`MailboxService::note_seen`], beside.
    pub(super) fn note_seen_soon(&self) {
        let this = self.clone();
        self.inner.supervisor.spawn_quiet(async move { this.note_seen().await });
    }

    /// Remembers which other nodes are in the cluster now, for as long as blobs live that one of them may hold.
    pub(in crate::mailbox) async fn note_seen(&self) {
        let settings = &self.inner.settings;
        // Until they are noted the next time, and some more.
        let until = time::now().plus(settings.ttl + 2 * settings.cleanup_interval);
        for run in self.others() {
            let record = Record::until(Bytes::new(), until);
            if let Err(error) = self.inner.records.put(key(&run.node), record, time::now()).await {
                return self.store_failed("nodes seen", &error);
            }
        }
    }

    /// Who may hold a message that nobody knows who was told that it is done with; nobody, if it must not be noted for
    /// them, because too many are of its mailbox.
    ///
    /// # Errors
    /// When the store fails.
    pub(in crate::mailbox) async fn unheard(
        &self,
        mailbox: MailboxKey,
        heard: &Heard,
        by: Noter,
    ) -> Result<Unheard, StoreError> {
        let mut unheard = self.away(heard).await?;
        if let Some(out) = self.inner.cluster.afar.out.get() {
            // Which of its nodes holds it is not known, and does not matter.
            let me = &self.inner.cluster.me.node;
            let peers = out.all_peers().into_iter().map(|peer| Whereabouts::Afar(peer, me.clone()));
            unheard.extend(peers.filter(|peer| !heard.by(peer)));
        }
        Ok(self.if_noted(mailbox, unheard, by))
    }

    /// The same, of the nodes of this cluster only.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) async fn unheard_near(
        &self,
        mailbox: MailboxKey,
        heard: &Heard,
        by: Noter,
    ) -> Result<Unheard, StoreError> {
        Ok(self.if_noted(mailbox, self.away(heard).await?, by))
    }

    fn if_noted(&self, mailbox: MailboxKey, unheard: Unheard, by: Noter) -> Unheard {
        if unheard.is_empty() {
            return unheard;
        }
        match self.inner.rates.note(mailbox, by) {
            Ok(()) => unheard,
            Err(limited) => {
                count(&self.inner.metrics.mailbox.not_noted, limited);
                Unheard::new()
            }
        }
    }

    /// The other nodes of this cluster that are there, or were not long ago, and have not heard.
    async fn away(&self, heard: &Heard) -> Result<Unheard, StoreError> {
        let seen = self.inner.records.scan(PREFIX, None, MAX_SEEN, time::now()).await?;
        let name = |key: &Bytes| std::str::from_utf8(&key[PREFIX.len()..]).ok()?.parse::<NodeId>().ok();
        let mut nodes: BTreeSet<_> = seen.iter().filter_map(|(key, _)| name(key)).collect();
        nodes.extend(self.others().into_iter().map(|run| run.node));
        nodes.remove(&self.inner.cluster.me.node);
        Ok(nodes.into_iter().map(Whereabouts::Near).filter(|node| !heard.by(node)).collect())
    }
}

fn key(node: &NodeId) -> Bytes {
    [PREFIX, node.as_str().as_bytes()].concat().into()
}
