//! What must lie in the mailboxes, by what senders and recipients have been answered.

use std::collections::{BTreeSet, HashMap, HashSet};

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
    /// The nodes that it was sent to.
    nodes: BTreeSet<usize>,
    /// Whether a `Stored` was read: only then must it be there.
    stored: bool,
    fate: Fate,
    /// How its deletion was asked for last.
    by: &'static str,
    /// The id under which it comes.
    blob: Option<String>,
    /// Whether its sender was told `Delivered`.
    told: bool,
}

/// Why a message may come after its deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MayBe {
    /// For no reason.
    Nothing,
    /// The connection on which it comes has purged the mailbox, and it was already on its way.
    OnItsWay,
    /// It was sent to another node, too, and the only one that knew what became of it is dead.
    PutTwice,
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
    /// Messages that were sent to another node because their answer was lost.
    pub put_twice: usize,
    /// Those of them that came once more while nodes were killed, on the same connection or after their deletion.
    pub put_twice_and_came_again: usize,
}

impl Model {
    /// A message is about to be sent, maybe again.
    pub fn sends(&mut self, label: &str, recipient: usize, node: usize) {
        let fate = if self.purging.contains(&recipient) { Fate::Unsure } else { Fate::Waits };
        let new =
            || Message { recipient, nodes: BTreeSet::new(), stored: false, fate, by: "", blob: None, told: false };
        let message = self.messages.entry(label.to_owned()).or_insert_with(new);
        self.tally.put_twice += usize::from(!message.nodes.is_empty() && !message.nodes.contains(&node));
        message.nodes.insert(node);
    }

    /// `Stored` was read.
    pub fn stored(&mut self, label: &str) {
        self.tally.stored += 1;
        self.message(label).stored = true;
    }

    /// `Delivered` was read.
    pub fn told(&mut self, label: &str) -> Result<(), String> {
        let message = self.message(label);
        match std::mem::replace(&mut message.told, true) {
            true if message.nodes.len() == 1 => Err(format!("{label} was reported as delivered twice")),
            _ => Ok(()),
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

    /// A blob has come.
    pub fn came(&mut self, recipient: usize, label: &str, blob: &str, may_be: MayBe) -> Result<(), String> {
        let Some(message) = self.messages.get_mut(label) else { return Err(format!("{label} was never sent")) };
        if message.recipient != recipient {
            return Err(format!("{label} came to {recipient}: {message:?}"));
        }
        let copies = message.nodes.len() > 1;
        match may_be {
            _ if message.fate != Fate::Gone => {}
            MayBe::OnItsWay => {}
            MayBe::PutTwice if copies => self.tally.put_twice_and_came_again += 1,
            MayBe::PutTwice | MayBe::Nothing => {
                return Err(format!("{label} came again after its deletion: {message:?}"));
            }
        }
        match message.blob.replace(blob.to_owned()) {
            Some(known) if known != blob && !copies => Err(format!("{label} is two blobs, {known} and {blob}")),
            _ => Ok(()),
        }
    }

    /// A blob has come that came before on the same connection.
    pub fn came_twice(&mut self, label: &str, may_be: MayBe) -> Result<(), String> {
        let message = self.message(label);
        if may_be == MayBe::PutTwice && message.nodes.len() > 1 {
            self.tally.put_twice_and_came_again += 1;
            return Ok(());
        }
        Err(format!("{label} came twice on one connection: {message:?}"))
    }

    /// Its acknowledgment is about to be sent.
    pub fn acknowledges(&mut self, label: &str) {
        let message = self.message(label);
        if message.fate == Fate::Waits {
            (message.fate, message.by) = (Fate::Unsure, "an acknowledgment");
        }
    }

    /// A purge is about to be sent; the messages that it must delete.
    pub fn purges(&mut self, recipient: usize) -> Vec<String> {
        self.purging.insert(recipient);
        let mut certain = Vec::new();
        for (label, message) in &mut self.messages {
            if message.recipient == recipient && message.fate != Fate::Gone {
                (message.fate, message.by) = (Fate::Unsure, "a purge");
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

    /// Compares with all that lies in a mailbox while nothing is sent. From then on that is what is known, if `still`
    /// says that nothing is in flight: otherwise a deletion without an answer may yet happen.
    pub fn holds(&mut self, recipient: usize, there: &HashSet<String>, still: bool) -> Result<(), String> {
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
                    if still {
                        message.fate = Fate::Waits;
                    }
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
