//! What lies elsewhere: what is done with here is told there, and the other way round.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt, stream};

use crate::cluster::links::{AskError, LinkRefused};
use crate::cluster::proto::{MailKnown, frame::Body, reply};
use crate::cluster::regions::PeerName;
use crate::domain::mailbox::{MailboxKey, MessageKey};
use crate::mailbox::MailboxService;
use crate::mailbox::acks::Tell;
use crate::mailbox::peers::{ack, convert};
use crate::store::{Elsewhere, MAX_MESSAGES, StoreError};

/// How long a peer may take to say what it knows.
const PATIENCE: Duration = Duration::from_secs(15);

/// Mailboxes that one peer is asked about at one time.
const AT_ONCE: usize = 16;

/// A message of a mailbox that is done with.
type Done = (MailboxKey, MessageKey);

/// A walk rests so many times as long as its last step took.
const REST: u32 = 4;

impl MailboxService {
    /// A message whose blob was moved is done with, which is durable: tells whoever has it.
    pub(in crate::mailbox) fn pass_on_done(&self, mailbox: MailboxKey, message: MessageKey, place: Bytes, tell: Tell) {
        let this = self.clone();
        // What is not told now is told when it is followed.
        self.until_stopped(async move {
            if this.tell_place(&place, mailbox, message, tell).await.is_ok()
                && let Err(error) = this.settle_moved(vec![(mailbox, message)]).await
            {
                this.store_failed("settle", &error);
            }
        });
    }

    /// Walks along all that lies elsewhere, and forgets what is done with of what lies at a place, until whoever has it
    /// does not answer.
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
    async fn done_at(&self, place: &Bytes, part: Vec<Elsewhere>, silent: &AtomicBool) -> Vec<Done> {
        let mut asked: BTreeMap<(bool, MailboxKey), Vec<MessageKey>> = BTreeMap::new();
        for Elsewhere { mailbox, id, owed, .. } in part.into_iter().filter(|one| one.place == *place) {
            asked.entry((owed, mailbox)).or_default().push(id.message());
        }
        let asked = asked.into_iter().map(|((owed, mailbox), messages)| async move {
            let (done, is_silent) = match owed {
                // Who does not answer one question answers no other now.
                _ if silent.load(Ordering::Relaxed) => return stream::iter(Vec::new()),
                true => self.tell_each(place, messages.into_iter().map(|message| (mailbox, message))).await,
                false => match self.ask_done(place, mailbox, messages).await {
                    Ok(done) => (done.into_iter().map(|message| (mailbox, message)).collect(), false),
                    // What cannot be said of these now may be said of others.
                    Err(error) => (Vec::new(), error.is_silence()),
                },
            };
            silent.fetch_or(is_silent, Ordering::Relaxed);
            stream::iter(done)
        });
        stream::iter(asked).buffer_unordered(AT_ONCE).flatten().collect().await
    }

    /// Tells whoever has these that they are done with, until it does not answer: those of which it has heard, and whether
    /// it does not answer.
    pub(super) async fn tell_each(&self, place: &Bytes, items: impl Iterator<Item = Done>) -> (Vec<Done>, bool) {
        let mut heard = Vec::new();
        for (mailbox, message) in items {
            match self.tell_place(place, mailbox, message, Tell::Nothing).await {
                Ok(()) => heard.push((mailbox, message)),
                Err(error) if error.is_silence() => return (heard, true),
                // That concerns this one.
                Err(error) => tracing::debug!(%error, "a message that is done with could not be told where it lies"),
            }
        }
        (heard, false)
    }

    /// Asks a peer which of these are done with there.
    async fn ask_done(
        &self,
        place: &Bytes,
        mailbox: MailboxKey,
        messages: Vec<MessageKey>,
    ) -> Result<Vec<MessageKey>, AskError> {
        // Other nodes of this cluster say so by themselves.
        let Some(peer) = peer_at(place) else { return Ok(Vec::new()) };
        let known = MailKnown { mailbox: convert::mailbox(&mailbox), messages: convert::messages(&messages) };
        let out = self.inner.cluster.afar.out.get().ok_or(LinkRefused::Gone)?;
        match out.ask(&peer, None, Body::MailKnown(known), PATIENCE).await? {
            reply::Body::MailDone(known) => {
                let done = convert::messages_from(&known.messages);
                Ok(done.into_iter().filter(|message| messages.contains(message)).collect())
            }
            _ => Err(says_something_else()),
        }
    }

    async fn settle_moved(&self, done: Vec<(MailboxKey, MessageKey)>) -> Result<(), StoreError> {
        if !done.is_empty() {
            let memory = self.inner.settings.dedup_memory;
            self.inner.store.settle(done, self.moment(), memory).await?;
        }
        Ok(())
    }

    /// Tells whoever has a message that it is done with.
    ///
    /// # Errors
    /// [`AskError`] if they are not known to have heard.
    async fn tell_place(
        &self,
        place: &Bytes,
        mailbox: MailboxKey,
        message: MessageKey,
        tell: Tell,
    ) -> Result<(), AskError> {
        let Some(peer) = peer_at(place) else {
            // At another node of this cluster.
            return self.acknowledge_near(mailbox, message, tell).await.by_all(&self.others());
        };
        let out = self.inner.cluster.afar.out.get().ok_or(LinkRefused::Gone)?;
        match out.ask(&peer, None, ack(mailbox, message, tell), PATIENCE).await? {
            reply::Body::Done(_) => Ok(()),
            _ => Err(says_something_else()),
        }
    }
}

fn says_something_else() -> AskError {
    AskError::Failed("it says something else".to_owned())
}

/// The peer of the place of a blob that was moved.
pub(super) fn peer_at(place: &[u8]) -> Option<PeerName> {
    std::str::from_utf8(place).ok().filter(|name| !name.is_empty()).map(|name| PeerName(name.into()))
}
