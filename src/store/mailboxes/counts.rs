//! How much is stored, as changes find and leave it: in all, in a mailbox, and of a sender in it.
//!
//! Most mailboxes that hold something hold it of one sender. Its share stands in the entry of the mailbox, so that a
//! put writes one entry for both; the shares of further senders have entries of their own.

use super::layout::{
    TOTALS, Tally, Totals, decode_share, decode_tally, decode_totals, encode_share, encode_tally, encode_totals,
    share_key, tally_key, unreadable,
};
use crate::domain::clock::Millis;
use crate::domain::mailbox::{Holdings, MailboxKey, SenderKey};
use crate::store::StoreError;
use crate::store::stage::{Family, Stage};

/// How much is stored in all.
pub(super) fn totals(stage: &Stage<'_>) -> Result<Totals, StoreError> {
    Ok(stage.get(Family::Usage, TOTALS)?.map(|value| decode_totals(&value)).transpose()?.unwrap_or_default())
}

/// Writes how much is stored in all.
pub(super) fn set_totals(stage: &mut Stage<'_>, totals: &Totals) {
    // The last word of a group is written once, however many changes are in it.
    stage.put(Family::Usage, TOTALS, &encode_totals(totals));
}

/// Notes that nothing in a mailbox was stored before `since`.
pub(super) fn set_oldest(stage: &mut Stage<'_>, mailbox: MailboxKey, since: Millis) -> Result<(), StoreError> {
    if let Some(tally) = tally(stage, mailbox)? {
        let since = since.max(tally.since);
        stage.put(Family::Usage, &tally_key(mailbox), &encode_tally(&Tally { since, ..tally }));
    }
    Ok(())
}

/// How much is stored in a mailbox, and of one sender in it.
pub(super) struct Counts {
    mailbox: MailboxKey,
    sender: SenderKey,
    tally: Tally,
    share: Holdings,
    /// Whether the share has an entry of its own.
    is_apart: bool,
}

impl Counts {
    /// Reads them.
    pub(super) fn of(stage: &Stage<'_>, mailbox: MailboxKey, sender: SenderKey) -> Result<Self, StoreError> {
        let tally = tally(stage, mailbox)?.unwrap_or_default();
        let (share, is_apart) = match tally.first {
            Some((first, share)) if first == sender => (share, false),
            // Nothing is left for anybody else.
            first if first.map_or(0, |(_, share)| share.blobs) == tally.held.blobs => (Holdings::default(), false),
            _ => match stage.get(Family::Usage, &share_key(mailbox, sender))? {
                Some(value) => (decode_share(&value)?, true),
                None => (Holdings::default(), false),
            },
        };
        Ok(Self { mailbox, sender, tally, share, is_apart })
    }

    /// What the mailbox holds.
    pub(super) fn held(&self) -> Holdings {
        self.tally.held
    }

    /// What it holds of the sender.
    pub(super) fn share(&self) -> Holdings {
        self.share
    }

    /// A moment before which nothing in it was stored.
    pub(super) fn since(&self) -> Millis {
        self.tally.since
    }

    /// Writes them with one blob more, which was stored at `time`.
    pub(super) fn add(mut self, stage: &mut Stage<'_>, charge: u64, time: Millis) {
        self.tally.since = if self.tally.held.blobs == 0 { time } else { self.tally.since.min(time) };
        self.tally.held = self.tally.held.plus(charge);
        self.share = self.share.plus(charge);
        self.write(stage);
    }

    /// Writes them with one blob less.
    pub(super) fn take(mut self, stage: &mut Stage<'_>, charge: u64) -> Result<(), StoreError> {
        let miscounted = || unreadable("the count of a mailbox");
        self.tally.held = self.tally.held.minus(charge).ok_or_else(miscounted)?;
        self.share = self.share.minus(charge).ok_or_else(miscounted)?;
        self.write(stage);
        Ok(())
    }

    fn write(mut self, stage: &mut Stage<'_>) {
        let is_first = !self.is_apart && self.tally.first.is_none_or(|(first, _)| first == self.sender);
        let share = Some(self.share).filter(|share| share.blobs > 0);
        if is_first {
            self.tally.first = share.map(|share| (self.sender, share));
        } else {
            let key = share_key(self.mailbox, self.sender);
            match share {
                Some(share) => stage.put(Family::Usage, &key, &encode_share(share)),
                None => stage.delete(Family::Usage, &key),
            }
        }
        match self.tally.held.blobs {
            0 => stage.delete(Family::Usage, &tally_key(self.mailbox)),
            _ => stage.put(Family::Usage, &tally_key(self.mailbox), &encode_tally(&self.tally)),
        }
    }
}

fn tally(stage: &Stage<'_>, mailbox: MailboxKey) -> Result<Option<Tally>, StoreError> {
    stage.get(Family::Usage, &tally_key(mailbox))?.map(|value| decode_tally(&value)).transpose()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;

    use super::*;
    use crate::store::stage::{Changes, Lookup};

    /// What is stored, by key.
    #[derive(Default)]
    struct Stored(BTreeMap<Bytes, Bytes>);

    impl Lookup for Stored {
        fn get(&self, _: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
            Ok(self.0.get(key).cloned())
        }
    }

    impl Stored {
        fn change(&mut self, change: impl FnOnce(&mut Stage<'_>)) {
            let mut stage = Stage::new(self);
            change(&mut stage);
            stage.keep();
            let changes: Changes = stage.into_changes();
            for (_, key, value) in changes.iter() {
                match value {
                    Some(value) => drop(self.0.insert(Bytes::copy_from_slice(key), value.to_bytes())),
                    None => drop(self.0.remove(key)),
                }
            }
        }

        fn add(&mut self, sender: SenderKey) {
            self.change(|stage| Counts::of(stage, MAILBOX, sender).unwrap().add(stage, 10, Millis(1)));
        }

        fn take(&mut self, sender: SenderKey) {
            self.change(|stage| Counts::of(stage, MAILBOX, sender).unwrap().take(stage, 10).unwrap());
        }

        fn blobs(&self, sender: SenderKey) -> (u64, u64) {
            let stage = Stage::new(self);
            let counts = Counts::of(&stage, MAILBOX, sender).unwrap();
            (counts.held().blobs, counts.share().blobs)
        }
    }

    const MAILBOX: MailboxKey = MailboxKey([1; 32]);
    const A: SenderKey = SenderKey([b'a'; 16]);
    const B: SenderKey = SenderKey([b'b'; 16]);
    const C: SenderKey = SenderKey([b'c'; 16]);

    #[test]
    fn each_sender_has_its_share_whoever_was_first() {
        let mut stored = Stored::default();
        for sender in [A, A, B, A, C] {
            stored.add(sender);
        }
        assert_eq!((stored.blobs(A), stored.blobs(B), stored.blobs(C)), ((5, 3), (5, 1), (5, 1)));
        assert_eq!(stored.0.len(), 3, "the first has no entry of its own");
        for _ in 0..3 {
            stored.take(A);
        }
        // The place of the first is free: who has an entry of its own keeps it, so no share is in two places.
        stored.add(B);
        stored.add(A);
        assert_eq!((stored.blobs(A), stored.blobs(B), stored.blobs(C)), ((4, 1), (4, 2), (4, 1)));
        for sender in [B, C, A, B] {
            stored.take(sender);
        }
        assert_eq!(stored.0.len(), 0, "{:?}", stored.0);
    }

    #[test]
    fn a_share_that_has_an_entry_of_its_own_though_it_is_the_only_one_keeps_it() {
        // As the format 3 had it.
        let held = Holdings { blobs: 2, bytes: 20 };
        let tally = encode_tally(&Tally { held, since: Millis(1), first: None });
        let mut stored = Stored::default();
        stored.0.insert(Bytes::copy_from_slice(&tally_key(MAILBOX)), Bytes::copy_from_slice(&tally));
        let share = Bytes::copy_from_slice(&encode_share(held));
        stored.0.insert(Bytes::copy_from_slice(&share_key(MAILBOX, A)), share);
        assert_eq!((stored.blobs(A), stored.blobs(B)), ((2, 2), (2, 0)));
        stored.add(A);
        stored.add(B);
        assert_eq!((stored.blobs(A), stored.blobs(B)), ((4, 3), (4, 1)));
        for sender in [A, B, A, A] {
            stored.take(sender);
        }
        assert_eq!(stored.0.len(), 0, "{:?}", stored.0);
    }

    #[test]
    fn nobody_takes_what_they_have_not() {
        let mut stored = Stored::default();
        stored.add(A);
        let mut stage = Stage::new(&stored);
        let counts = Counts::of(&stage, MAILBOX, B).unwrap();
        assert!(matches!(counts.take(&mut stage, 10), Err(StoreError::Read { .. })));
    }
}
