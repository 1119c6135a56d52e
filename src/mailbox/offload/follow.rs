//! What lies elsewhere: what is done with here is told there, and the other way round.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::cluster::proto::{MailKnown, frame::Body, reply};
use crate::cluster::regions::PeerName;
use crate::domain::mailbox::{MailboxKey, MessageKey};
use crate::mailbox::MailboxService;
use crate::mailbox::acks::Tell;
use crate::mailbox::flow::Whereabouts;
use crate::mailbox::peers::{ack, convert};
use crate::store::{Elsewhere, MAX_MESSAGES, StoreError};

/// How long a peer may take to say what it knows.
const PATIENCE: Duration = Duration::from_secs(15);

/// A walk rests so many times as long as its last step took.
const REST: u32 = 4;

impl MailboxService {
    /// A message whose blob was moved is done with, which is durable: tells whoever has it.
    pub(in crate::mailbox) fn pass_on_done(&self, mailbox: MailboxKey, message: MessageKey, place: Bytes, tell: Tell) {
        let this = self.clone();
        self.inner.supervisor.spawn_quiet(async move {
            if this.tell_place(&place, mailbox, message, tell).await
                && let Err(error) = this.settle_moved(vec![(mailbox, message)]).await
            {
                this.store_failed("settle", &error);
            }
        });
    }

    /// Walks along all that lies elsewhere, and forgets what is done with.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) async fn follow(&self) -> Result<(), StoreError> {
        let (mut after, mut hints) = (None, 0_i64);
        loop {
            let begun = Instant::now();
            let part = self.inner.store.elsewhere(None, after, MAX_MESSAGES, self.moment()).await?;
            let Some(last) = part.last() else { break };
            after = Some(last.cursor());
            hints += i64::try_from(part.len()).unwrap_or(i64::MAX);
            let done = self.done_elsewhere(part).await;
            hints -= i64::try_from(done.len()).unwrap_or(i64::MAX);
            self.settle_moved(done).await?;
            tokio::time::sleep(begun.elapsed() * REST).await;
        }
        self.inner.metrics.offload.hints.set(hints);
        Ok(())
    }

    /// Those that are done with where they lie, as far as whoever has them says so now.
    async fn done_elsewhere(&self, part: Vec<Elsewhere>) -> Vec<(MailboxKey, MessageKey)> {
        let mut done = Vec::new();
        let mut asked: BTreeMap<(Bytes, MailboxKey), Vec<MessageKey>> = BTreeMap::new();
        for moved in part {
            let message = moved.id.message();
            if !moved.owed {
                asked.entry((moved.place, moved.mailbox)).or_default().push(message);
            } else if self.tell_place(&moved.place, moved.mailbox, message, Tell::Nothing).await {
                done.push((moved.mailbox, message));
            }
        }
        for ((place, mailbox), messages) in asked {
            let Some(peer) = peer_at(&place) else { continue };
            let known = MailKnown { mailbox: convert::mailbox(&mailbox), messages: convert::messages(&messages) };
            let Some(out) = self.inner.cluster.afar.out.get() else { break };
            if let Ok(reply::Body::MailDone(known)) = out.ask(&peer, None, Body::MailKnown(known), PATIENCE).await {
                let over = convert::messages_from(&known.messages).into_iter().filter(|key| messages.contains(key));
                done.extend(over.map(|message| (mailbox, message)));
            }
        }
        done
    }

    async fn settle_moved(&self, done: Vec<(MailboxKey, MessageKey)>) -> Result<(), StoreError> {
        if !done.is_empty() {
            let memory = self.inner.settings.dedup_memory;
            self.inner.store.settle(done, self.moment(), memory).await?;
        }
        Ok(())
    }

    /// Tells whoever has a message that it is done with; false if they are not known to have heard.
    async fn tell_place(&self, place: &Bytes, mailbox: MailboxKey, message: MessageKey, tell: Tell) -> bool {
        match peer_at(place) {
            Some(peer) => self.tell_peer(&peer, mailbox, message, tell).await,
            // At another node of this cluster.
            None => {
                let heard = self.acknowledge_near(mailbox, message, tell).await;
                self.others().into_iter().all(|run| heard.by(&Whereabouts::Near(run.node)))
            }
        }
    }

    /// Tells a peer that a message is done with; false if it is not known to have heard.
    pub(super) async fn tell_peer(
        &self,
        peer: &PeerName,
        mailbox: MailboxKey,
        message: MessageKey,
        tell: Tell,
    ) -> bool {
        let Some(out) = self.inner.cluster.afar.out.get() else { return false };
        let told = out.ask(peer, None, ack(mailbox, message, tell), PATIENCE).await;
        matches!(told, Ok(reply::Body::Done(_)))
    }
}

/// The peer of the place of a blob that was moved.
pub(super) fn peer_at(place: &[u8]) -> Option<PeerName> {
    std::str::from_utf8(place).ok().filter(|name| !name.is_empty()).map(|name| PeerName(name.into()))
}
