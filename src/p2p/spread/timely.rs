//! What other nodes tell is held against this node's clock.

use std::time::Duration;

use crate::domain::clock::{Epoch, MAX_CLOCK_LEAD, Millis};

use super::book::Entry;

/// Why what a node told is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Untimely {
    /// It makes no sense.
    #[error("it makes no sense to this release")]
    Malformed,
    /// It was made, or ends, too far in the future.
    #[error("by the clock of this node it was made, or ends, too far in the future: look at the clocks of both")]
    Ahead,
    /// It ended long ago.
    #[error("by the clock of this node it ended long ago: look at the clocks of both")]
    Behind,
    /// It has ended.
    #[error("it has ended")]
    Ended,
}

impl Untimely {
    /// Whether an entry, which lasts no longer than `longest`, can be of now.
    ///
    /// # Errors
    /// Why not.
    pub fn check(entry: &impl Entry, longest: Duration, now: Millis) -> Result<(), Self> {
        let until = entry.until();
        if entry.stamp() > latest(now) || until > now.plus(MAX_CLOCK_LEAD).plus(longest) {
            Err(Self::Ahead)
        } else if until.plus(MAX_CLOCK_LEAD) <= now {
            Err(Self::Behind)
        } else if until <= now {
            Err(Self::Ended)
        } else {
            Ok(())
        }
    }

    /// One word for figures.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Ahead => "ahead",
            Self::Behind => "behind",
            Self::Ended => "ended",
        }
    }
}

/// The newest stamp that anybody can have made by now.
#[must_use]
pub fn latest(now: Millis) -> Epoch {
    Epoch((now.plus(MAX_CLOCK_LEAD).0 << 16) | 0xffff)
}

#[cfg(test)]
mod tests {
    use libp2p::PeerId;

    use super::super::account::Account;
    use super::*;

    /// Made and ended then.
    struct Made(Epoch, Millis);

    impl Entry for Made {
        type Key = PeerId;

        fn key(&self) -> PeerId {
            self.peer()
        }

        fn peer(&self) -> PeerId {
            PeerId::random()
        }

        fn stamp(&self) -> Epoch {
            self.0
        }

        fn until(&self) -> Millis {
            self.1
        }

        fn account(&self) -> Option<Account> {
            None
        }

        fn charge(&self) -> usize {
            0
        }
    }

    #[test]
    fn what_a_wild_clock_has_made_is_told_from_what_is_of_now() {
        let hour = u64::try_from(MAX_CLOCK_LEAD.as_millis()).unwrap();
        let now = 10 * hour;
        let check = |made: u64, until: u64| {
            Untimely::check(&Made(Epoch(made << 16), Millis(until)), Duration::from_secs(2 * 3600), Millis(now))
        };
        assert_eq!(check(now, now + 1), Ok(()));
        assert_eq!(check(now + hour, now + 3 * hour), Ok(()), "as far ahead as may be");
        assert_eq!(check(now + hour + 1, now + 2 * hour), Err(Untimely::Ahead));
        assert_eq!(check(now, now + 3 * hour + 1), Err(Untimely::Ahead));
        assert_eq!(check(now, u64::MAX), Err(Untimely::Ahead));
        assert_eq!(check(now - hour, now), Err(Untimely::Ended));
        assert_eq!(check(now - 3 * hour, now - hour), Err(Untimely::Behind));
    }
}
