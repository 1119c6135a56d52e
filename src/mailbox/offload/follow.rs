//! What lies elsewhere: what is done with here is told there, and the other way round.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// Mailboxes that one peer is asked about at one time.
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

    /// Walks along all that lies elsewhere, and forgets what is done with of what lies at a place, until whoever has it
    /// does not say.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) async fn follow(&self, place: &Bytes) -> Result<(), StoreError> {
        let (mut after, mut seen) = (None, 0_i64);
        let silent = AtomicBool::new(false);
        loop {
            let begun = Instant::now();
            let part = self.inner.store.elsewhere(None, after, MAX_MESSAGES, self.moment()).await?;
            let Some(last) = part.last() else { break };
            after = Some(last.cursor());
            seen += i64::try_from(part.len()).unwrap_or(i64::MAX);
            let done = self.done_at(place, part, &silent).await;
            seen -= i64::try_from(done.len()).unwrap_or(i64::MAX);
            self.settle_moved(done).await?;
            if silent.load(Ordering::Relaxed) {
                return Ok(());
            }
            tokio::time::sleep(begun.elapsed() * REST).await;
        }
        self.inner.metrics.offload.hints.set(seen);
        Ok(())
    }

    /// Those of a part that lie at a place and are done with, as far as whoever has them says so now.
    async fn done_at(&self, place: &Bytes, part: Vec<Elsewhere>, silent: &AtomicBool) -> Vec<(MailboxKey, MessageKey)> {
        let mut asked: BTreeMap<(bool, MailboxKey), Vec<MessageKey>> = BTreeMap::new();
        for Elsewhere { mailbox, id, owed, .. } in part.into_iter().filter(|one| one.place == *place) {
            asked.entry((owed, mailbox)).or_default().push(id.message());
        }
        let asked = asked.into_iter().map(|((owed, mailbox), messages)| async move {
            // Who does not say one thing says no other now.
            let said = match owed {
                _ if silent.load(Ordering::Relaxed) => None,
                true => self.tell_all(place, mailbox, messages).await,
                false => self.ask_done(place, mailbox, messages).await,
            };
            silent.fetch_or(said.is_none(), Ordering::Relaxed);
            said.unwrap_or_default().into_iter().map(move |message| (mailbox, message))
        });
        stream::iter(asked).buffer_unordered(AT_ONCE).flat_map(stream::iter).collect().await
    }

    /// Tells whoever has these that they are done with; those of which they have heard, or `None` if of none.
    async fn tell_all(&self, place: &Bytes, mailbox: MailboxKey, messages: Vec<MessageKey>) -> Option<Vec<MessageKey>> {
        let mut told = Vec::new();
        for message in messages {
            // Who does not hear one hears no other now.
            if !self.tell_place(place, mailbox, message, Tell::Nothing).await {
                break;
            }
            told.push(message);
        }
        Some(told).filter(|told| !told.is_empty())
    }

    /// Asks a peer which of these are done with there; `None` if it does not say.
    async fn ask_done(&self, place: &Bytes, mailbox: MailboxKey, messages: Vec<MessageKey>) -> Option<Vec<MessageKey>> {
        // Other nodes of this cluster say so by themselves.
        let Some(peer) = peer_at(place) else { return Some(Vec::new()) };
        let known = MailKnown { mailbox: convert::mailbox(&mailbox), messages: convert::messages(&messages) };
        let out = self.inner.cluster.afar.out.get()?;
        match out.ask(&peer, None, Body::MailKnown(known), PATIENCE).await {
            Ok(reply::Body::MailDone(known)) => {
                let done = convert::messages_from(&known.messages);
                Some(done.into_iter().filter(|message| messages.contains(message)).collect())
            }
            _ => None,
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
