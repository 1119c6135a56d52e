//! What lies elsewhere: what is done with here is told there, and the other way round.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt, stream};

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

/// Mailboxes that are asked about at one time.
const AT_ONCE: usize = 16;

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
        let mut asked: BTreeMap<(bool, Bytes, MailboxKey), Vec<MessageKey>> = BTreeMap::new();
        for Elsewhere { mailbox, id, owed, place, .. } in part {
            asked.entry((owed, place, mailbox)).or_default().push(id.message());
        }
        let asked = asked.into_iter().map(|((owed, place, mailbox), messages)| async move {
            let done = match owed {
                true => self.tell_all(&place, mailbox, messages).await,
                false => self.ask_done(&place, mailbox, messages).await,
            };
            done.into_iter().map(move |message| (mailbox, message))
        });
        stream::iter(asked).buffer_unordered(AT_ONCE).flat_map(stream::iter).collect().await
    }

    /// Tells whoever has these that they are done with; those of which they have heard.
    async fn tell_all(&self, place: &Bytes, mailbox: MailboxKey, messages: Vec<MessageKey>) -> Vec<MessageKey> {
        let mut told = Vec::new();
        for message in messages {
            // Who does not hear one hears no other now.
            if !self.tell_place(place, mailbox, message, Tell::Nothing).await {
                break;
            }
            told.push(message);
        }
        told
    }

    /// Asks a peer which of these are done with there.
    async fn ask_done(&self, place: &Bytes, mailbox: MailboxKey, messages: Vec<MessageKey>) -> Vec<MessageKey> {
        let (Some(peer), Some(out)) = (peer_at(place), self.inner.cluster.afar.out.get()) else { return Vec::new() };
        let known = MailKnown { mailbox: convert::mailbox(&mailbox), messages: convert::messages(&messages) };
        match out.ask(&peer, None, Body::MailKnown(known), PATIENCE).await {
            Ok(reply::Body::MailDone(known)) => {
                let done = convert::messages_from(&known.messages);
                done.into_iter().filter(|message| messages.contains(message)).collect()
            }
            _ => Vec::new(),
        }
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
