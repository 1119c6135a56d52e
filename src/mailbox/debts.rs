//! What a holder could not be told while it said nothing.

use super::session::Over;
use crate::domain::mailbox::MessageKey;

/// Most acknowledgments that a holder still has to hear of, and most messages that it still has to note.
const MAX: usize = 256;

/// An acknowledgment that a holder has not heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owed {
    pub over: Over,
    pub message: MessageKey,
    /// Whether the recipient said that it received it.
    pub received: bool,
}

/// What a holder is still to be told by one session. What does not fit, it is told on another occasion: of an
/// acknowledgment there is a note, and a message that was sent is noted with its acknowledgment.
#[derive(Debug, Default)]
pub(super) struct Debts {
    acknowledgments: Vec<Owed>,
    sent: Vec<MessageKey>,
}

impl Debts {
    /// An acknowledgment could not be told.
    pub fn owe(&mut self, owed: Owed) {
        if self.acknowledgments.len() < MAX {
            self.acknowledgments.push(owed);
        }
    }

    /// These were sent, and the holder could not note it.
    pub fn owe_sent(&mut self, messages: &[MessageKey]) {
        let room = MAX.saturating_sub(self.sent.len());
        self.sent.extend(messages.iter().take(room));
    }

    /// Whether anything that was sent is still to be noted.
    pub fn owes_sent(&self) -> bool {
        !self.sent.is_empty()
    }

    /// The acknowledgments that are still to be told.
    pub fn take(&mut self) -> Vec<Owed> {
        std::mem::take(&mut self.acknowledgments)
    }

    /// What was sent, and is still to be noted.
    pub fn take_sent(&mut self) -> Vec<MessageKey> {
        std::mem::take(&mut self.sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_owed_is_taken_once_in_order_and_not_too_much() {
        let (mut debts, message) = (Debts::default(), |n: usize| MessageKey::of("s", "r", &n.to_string()));
        let owed = |n| Owed { over: Over::Blobs, message: message(n), received: false };
        let messages: Vec<_> = (0..=MAX).map(message).collect();
        debts.owe_sent(&messages[..2]);
        debts.owe_sent(&messages[2..]);
        assert!(debts.owes_sent());
        (0..=MAX).for_each(|n| debts.owe(owed(n)));
        assert_eq!(debts.take_sent(), messages[..MAX]);
        assert_eq!(debts.take(), (0..MAX).map(owed).collect::<Vec<_>>());
        assert!(debts.take_sent().is_empty() && debts.take().is_empty());
    }
}
