//! What is known of a message on all nodes: whether it is done with, and where copies of it wait.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures::future::try_join_all;

use super::calls::PATIENCE;
use super::convert;
use super::insist::Insistence;
use crate::cluster::proto::{MailDone, MailKnown, SharedRecord, frame::Body, reply};
use crate::domain::ids::{NodeId, NodeRun};
use crate::domain::mailbox::{MailboxKey, MessageKey, Place};
use crate::mailbox::MailboxService;
use crate::mailbox::flow::Whereabouts;
use crate::runtime::time;
use crate::store::{Known, StoreError};

/// The kind of the shared records that say that a message is done with, tagged with its mailbox.
const DONE: &str = "mail-done";

/// How long a live node is asked: longer than one that was killed stays in the view, or one that has come back takes for
/// its links on a busy machine.
const INSISTENCE: Insistence = Insistence { length: Duration::from_secs(10), pause: PAUSE };

/// How long it is tried to have the owners of a note keep it, and with what pause: until one that was killed is out of
/// the view, on a busy machine too.
const NOTED: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);

/// What is known of some messages.
#[derive(Debug, Default)]
pub(in crate::mailbox) struct Knowledge {
    /// Those that are acknowledged or purged, as far as anybody remembers.
    pub done: HashSet<MessageKey>,
    /// Where the others wait; without a node: here.
    pub waiting: Vec<(Option<NodeId>, Place)>,
}

impl From<Knowledge> for MailDone {
    /// For whoever asks, to whom all that is behind this node lies here.
    fn from(known: Knowledge) -> Self {
        let messages = known.done.into_iter().map(convert::message).collect();
        let waiting = known.waiting.into_iter().map(|(_, place)| convert::place(place)).collect();
        Self { messages, waiting }
    }
}

impl MailboxService {
    /// What is known of these messages. What others have purged is purged here as well when this returns.
    ///
    /// # Errors
    /// When this node's store fails.
    pub(in crate::mailbox) async fn known(
        &self,
        mailbox: MailboxKey,
        messages: Vec<MessageKey>,
    ) -> Result<Knowledge, StoreError> {
        let mut knowledge = self.known_elsewhere(mailbox, &messages).await;
        let here = self.known_here(mailbox, messages).await?;
        knowledge.done.extend(here.done);
        knowledge.waiting.extend(here.waiting);
        Ok(knowledge)
    }

    /// What the other nodes know. A copy may come once more if one that is live does not say.
    async fn known_elsewhere(&self, mailbox: MailboxKey, messages: &[MessageKey]) -> Knowledge {
        let ask = |run| self.ask_known(run, mailbox, messages);
        let mut knowledge = Knowledge::default();
        for (run, answer) in INSISTENCE.until_all_say(|| self.others(), &self.inner.peers.silent, ask).await {
            knowledge.done.extend(convert::messages_from(&answer.messages));
            let places = answer.waiting.iter().filter_map(convert::place_from);
            knowledge.waiting.extend(places.map(|place| (Some(run.node.clone()), place)));
        }
        knowledge
    }

    async fn ask_known(&self, run: NodeRun, mailbox: MailboxKey, messages: &[MessageKey]) -> Option<MailDone> {
        let known = MailKnown { mailbox: convert::mailbox(&mailbox), messages: convert::messages(messages) };
        match self.inner.cluster.links.ask(&run, Body::MailKnown(known), PATIENCE).await {
            Ok(reply::Body::MailDone(done)) => Some(done),
            _ => None,
        }
    }

    /// What this node knows of these messages.
    ///
    /// # Errors
    /// When the store fails.
    pub(in crate::mailbox) async fn known_here(
        &self,
        mailbox: MailboxKey,
        messages: Vec<MessageKey>,
    ) -> Result<Knowledge, StoreError> {
        let (shared, mut knowledge) = (&self.inner.cluster.shared, Knowledge::default());
        let known = self.inner.store.known(mailbox, messages.clone(), self.moment()).await?;
        let noted = if shared.count_tagged_here(DONE, &hex::encode(mailbox.0)).await? > 0 {
            let ids: Vec<_> = messages.iter().map(|message| done_id(mailbox, *message)).collect();
            try_join_all(ids.iter().map(|id| shared.is_here(DONE, id))).await?
        } else {
            vec![false; messages.len()]
        };
        for ((message, known), noted) in messages.into_iter().zip(known).zip(noted) {
            match known {
                Known::Live(place) if !noted => knowledge.waiting.push((None, place)),
                Known::Absent | Known::Moved if !noted => {}
                Known::Absent | Known::Moved | Known::Live(_) | Known::Done => drop(knowledge.done.insert(message)),
            }
        }
        Ok(knowledge)
    }

    /// Whether this node keeps a note that a message is done with.
    ///
    /// # Errors
    /// When the store fails.
    pub(in crate::mailbox) async fn is_noted_done(
        &self,
        mailbox: MailboxKey,
        message: MessageKey,
    ) -> Result<bool, StoreError> {
        self.inner.cluster.shared.is_here(DONE, &done_id(mailbox, message)).await
    }

    /// Notes that a message is done with of which copies lie where they cannot be deleted now. Durable here when this
    /// returns, and with the note's owners unless they are live and silent; those holders are none of them.
    ///
    /// # Errors
    /// When the store fails.
    pub(in crate::mailbox) async fn note_done(
        &self,
        mailbox: MailboxKey,
        message: MessageKey,
        holders: &[Whereabouts],
    ) -> Result<(), StoreError> {
        let record = SharedRecord {
            kind: DONE.to_owned(),
            id: done_id(mailbox, message),
            tag: hex::encode(mailbox.0),
            version: 1,
            // The copy is gone by then.
            expires_ms: time::now().plus(self.inner.settings.ttl).0,
            ..SharedRecord::default()
        };
        self.inner.metrics.mailbox.noted_done.inc();
        let begun = Instant::now();
        let near = holders.iter().filter_map(|holder| match holder {
            Whereabouts::Near(node) => Some(node.clone()),
            Whereabouts::Afar(..) => None,
        });
        let near: Vec<_> = near.collect();
        while !self.inner.cluster.shared.store_without(&record, &near).await? && begun.elapsed() < NOTED {
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }
}

fn done_id(mailbox: MailboxKey, message: MessageKey) -> String {
    format!("{}{}", hex::encode(mailbox.0), hex::encode(message.to_bytes()))
}
