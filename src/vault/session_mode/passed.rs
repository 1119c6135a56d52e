//! How many messages of a session one end has sent and heard, by which a loss between the nodes is noticed.

/// The counts of one end of a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passed {
    sent: u64,
    heard: u64,
}

impl Passed {
    /// The number of the next message that this end sends.
    pub fn send(&mut self) -> u64 {
        self.sent += 1;
        self.sent
    }

    /// Takes note of a message of the other end; false if one before it is missing.
    pub fn hear(&mut self, seq: u64) -> bool {
        let next = seq == self.heard + 1;
        self.heard += u64::from(next);
        next
    }

    /// How many messages this end has sent.
    #[must_use]
    pub fn sent(self) -> u64 {
        self.sent
    }

    /// Whether this end has heard all of the `sent` messages of the other.
    #[must_use]
    pub fn has_heard(self, sent: u64) -> bool {
        self.heard == sent
    }
}
