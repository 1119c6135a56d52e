//! What must lie in the mailboxes, by what senders and recipients have been answered.

use std::collections::{HashMap, HashSet};

/// What is known of a message on its recipient's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Nobody has asked for its deletion.
    Waits,
    /// Its deletion was asked for, and no answer showed that it is durable.
    Unsure,
    /// Its deletion is durable: it must never come again.
    Gone,
}

#[derive(Debug)]
struct Message {
    recipient: usize,
    /// Whether a `Stored` was read: only then must it be there.
    stored: bool,
    fate: Fate,
    /// The id under which it comes.
    blob: Option<String>,
    /// Whether its sender was told `Delivered`.
    told: bool,
}

/// All messages ever sent, by their `message_id`s. What breaks a promise is an error that says so.
#[derive(Debug, Default)]
pub struct Model {
    messages: HashMap<String, Message>,
    /// Recipients with a purge in flight: what is sent to them meanwhile may fall to it.
    purging: HashSet<usize>,
    pub tally: Tally,
}

/// How much of everything there was, so that a run that proves nothing does not pass.
#[derive(Debug, Default)]
pub struct Tally {
    pub stored: usize,
    pub deleted: usize,
    pub purges: usize,
    /// Messages whose answer a kill swallowed, each time that their mailbox is looked through.
    pub unanswered: usize,
    /// Those of them that were on disk all the same.
    pub unanswered_but_stored: usize,
    /// Deletions without an answer that a kill had let happen, and that it had prevented.
    pub unsure_and_gone: usize,
    pub unsure_and_there: usize,
}

impl Model {
    /// A message is about to be sent, maybe again.
    pub fn sends(&mut self, label: &str, recipient: usize) {
        let fate = if self.purging.contains(&recipient) { Fate::Unsure } else { Fate::Waits };
        let message = Message { recipient, stored: false, fate, blob: None, told: false };
        self.messages.entry(label.to_owned()).or_insert(message);
    }

    /// `Stored` was read.
    pub fn stored(&mut self, label: &str) {
        self.tally.stored += 1;
        self.message(label).stored = true;
    }

    /// `Delivered` was read.
    pub fn told(&mut self, label: &str) -> Result<(), String> {
        match std::mem::replace(&mut self.message(label).told, true) {
            true => Err(format!("{label} was reported as delivered twice")),
            false => Ok(()),
        }
    }

    /// The messages whose names begin so, whose answer was lost, with their recipients.
    pub fn unanswered(&self, prefix: &str) -> Vec<(String, usize)> {
        let mut lost: Vec<_> = self
            .messages
            .iter()
            .filter(|(label, message)| !message.stored && label.starts_with(prefix))
            .map(|(label, message)| (label.clone(), message.recipient))
            .collect();
        lost.sort_unstable();
        lost
    }

    /// A blob has come. `purged` says that the connection on which it comes has purged the mailbox before: what was
    /// already on its way then may still come.
    pub fn came(&mut self, recipient: usize, label: &str, blob: &str, purged: bool) -> Result<(), String> {
        let Some(message) = self.messages.get_mut(label) else { return Err(format!("{label} was never sent")) };
        if message.recipient != recipient {
            return Err(format!("{label} came to {recipient}: {message:?}"));
        }
        if message.fate == Fate::Gone && !purged {
            return Err(format!("{label} came again after its deletion: {message:?}"));
        }
        match message.blob.replace(blob.to_owned()) {
            Some(known) if known != blob => Err(format!("{label} is two blobs, {known} and {blob}")),
            _ => Ok(()),
        }
    }

    /// Its acknowledgment is about to be sent.
    pub fn acknowledges(&mut self, label: &str) {
        let message = self.message(label);
        if message.fate == Fate::Waits {
            message.fate = Fate::Unsure;
        }
    }

    /// A purge is about to be sent; the messages that it must delete.
    pub fn purges(&mut self, recipient: usize) -> Vec<String> {
        self.purging.insert(recipient);
        let mut certain = Vec::new();
        for (label, message) in &mut self.messages {
            if message.recipient == recipient && message.fate != Fate::Gone {
                message.fate = Fate::Unsure;
                certain.extend(message.stored.then(|| label.clone()));
            }
        }
        certain
    }

    /// A purge was answered.
    pub fn purged(&mut self, recipient: usize) {
        self.purging.remove(&recipient);
        self.tally.purges += 1;
    }

    /// An answer showed that these are deleted.
    pub fn deleted(&mut self, labels: impl IntoIterator<Item = String>) {
        for label in labels {
            self.tally.deleted += 1;
            self.message(&label).fate = Fate::Gone;
        }
    }

    /// Compares with all that lies in a mailbox while nothing is in flight; from then on that is what is known.
    pub fn holds(&mut self, recipient: usize, there: &HashSet<String>) -> Result<(), String> {
        self.purging.remove(&recipient);
        for (label, message) in &mut self.messages {
            if message.recipient != recipient {
                continue;
            }
            match (there.contains(label), message.fate) {
                (false, Fate::Waits) if message.stored => return Err(format!("{label} is lost: {message:?}")),
                (false, Fate::Unsure) if message.stored => {
                    message.fate = Fate::Gone;
                    self.tally.unsure_and_gone += 1;
                }
                (true, Fate::Unsure) => {
                    message.fate = Fate::Waits;
                    self.tally.unsure_and_there += 1;
                }
                // That it came after all is an error already.
                (_, Fate::Gone | Fate::Waits) | (false, Fate::Unsure) => {}
            }
            self.tally.unanswered += usize::from(!message.stored);
            self.tally.unanswered_but_stored += usize::from(!message.stored && there.contains(label));
        }
        Ok(())
    }

    fn message(&mut self, label: &str) -> &mut Message {
        self.messages.get_mut(label).unwrap_or_else(|| panic!("{label} was never sent"))
    }
}
