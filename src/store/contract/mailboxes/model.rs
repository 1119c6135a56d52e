//! What the contract of the mailboxes says, with nothing clever about it: one map of blobs, one of what is done.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::domain::clock::Millis;
use crate::domain::mailbox::{
    BLOB_OVERHEAD_BYTES, BlobId, Full, Holdings, MailboxKey, MessageKey, Place, Quota, SenderKey, Stamp,
};
use crate::store::{Acked, Known, Moment, NewBlob, Page, PageLimit, Put, StoredBlob, Sweep};

/// All mailboxes.
#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    blobs: BTreeMap<(MailboxKey, Place), Blob>,
    done: BTreeMap<(MailboxKey, MessageKey), Millis>,
    last: u64,
}

#[derive(Debug, Clone)]
struct Blob {
    new: NewBlob,
    delivered: bool,
}

impl Model {
    pub(super) fn put(&mut self, new: NewBlob, quota: Quota, at: Moment) -> Put {
        let mut after = self.clone();
        let put = after.try_put(&new, quota, at);
        match put {
            Put::Stored(_) => *self = after,
            Put::Refused(Full::Mailbox | Full::Sender) => {
                self.blobs.retain(|(mailbox, place), _| *mailbox != new.mailbox || place.id.time() > at.horizon);
                let mut after = self.clone();
                let put = after.try_put(&new, quota, at);
                if matches!(put, Put::Stored(_)) {
                    *self = after;
                }
                return put;
            }
            Put::Duplicate(_) | Put::Done | Put::Refused(_) => {}
        }
        put
    }

    fn try_put(&mut self, new: &NewBlob, quota: Quota, at: Moment) -> Put {
        let known = (new.mailbox, new.message);
        if let Some(place) = self.live(known.0, known.1, at) {
            return Put::Duplicate(place.id);
        }
        if self.done.get(&known).is_some_and(|until| at.now < *until) {
            return Put::Done;
        }
        self.done.remove(&known);
        self.blobs.retain(|(mailbox, place), _| (*mailbox, place.id.message()) != known);
        self.last = (at.now.0 << 12).max(self.last + 1);
        let id = BlobId::new(Stamp::new(self.last).unwrap(), new.message);
        let place = Place { rank: new.rank, id };
        self.blobs.insert((new.mailbox, place), Blob { new: new.clone(), delivered: false });
        let over = |held: u64, most: Option<u64>| most.is_some_and(|most| held > most);
        let mailbox = self.held(|blob| blob.mailbox == new.mailbox);
        let sender = self.held(|blob| blob.mailbox == new.mailbox && blob.from == new.from);
        if self.usage().bytes > quota.total_bytes {
            Put::Refused(Full::Store)
        } else if over(mailbox.blobs, quota.blobs) || over(mailbox.bytes, quota.bytes) {
            Put::Refused(Full::Mailbox)
        } else if over(sender.blobs, quota.sender_blobs) || over(sender.bytes, quota.sender_bytes) {
            Put::Refused(Full::Sender)
        } else {
            Put::Stored(id)
        }
    }

    pub(super) fn page(&self, mailbox: MailboxKey, after: Option<Place>, limit: PageLimit, at: Moment) -> Page {
        let mut page = Page::default();
        let mut bytes = 0;
        for ((_, place), blob) in self.blobs.iter().filter(|((of, _), _)| *of == mailbox) {
            if place.id.time() <= at.horizon || after.is_some_and(|after| *place <= after) {
                continue;
            }
            let enough = page.blobs.len() >= limit.blobs || bytes >= limit.bytes;
            if enough && !page.blobs.is_empty() {
                page.more = true;
                break;
            }
            bytes += blob.new.header.len() + blob.new.body.len();
            page.blobs.push(blob.stored(*place));
        }
        page
    }

    pub(super) fn get(&self, mailbox: MailboxKey, place: Place, at: Moment) -> Option<StoredBlob> {
        let blob = self.blobs.get(&(mailbox, place)).filter(|_| place.id.time() > at.horizon)?;
        Some(blob.stored(place))
    }

    pub(super) fn ack(
        &mut self,
        mailbox: MailboxKey,
        messages: &[MessageKey],
        at: Moment,
        remember: Duration,
    ) -> Vec<Option<Acked>> {
        let ack = |message: &MessageKey| {
            let place = self.live(mailbox, *message, at)?;
            let blob = self.blobs.remove(&(mailbox, place))?;
            self.remember(mailbox, *message, at, remember);
            Some(Acked { place, receipt: blob.new.receipt })
        };
        messages.iter().map(ack).collect()
    }

    pub(super) fn known(&self, mailbox: MailboxKey, messages: &[MessageKey], at: Moment) -> Vec<Known> {
        let is_done = |message: &MessageKey| self.done.get(&(mailbox, *message)).is_some_and(|until| at.now < *until);
        let known = |message: &MessageKey| match self.live(mailbox, *message, at) {
            Some(place) => Known::Live(place),
            None if is_done(message) => Known::Done,
            None => Known::Absent,
        };
        messages.iter().map(known).collect()
    }

    pub(super) fn mark_delivered(
        &mut self,
        mailbox: MailboxKey,
        messages: &[MessageKey],
        at: Moment,
    ) -> Vec<Option<Bytes>> {
        let mark = |message: &MessageKey| {
            let place = self.live(mailbox, *message, at)?;
            let blob = self.blobs.get_mut(&(mailbox, place)).filter(|blob| !blob.delivered)?;
            blob.delivered = true;
            Some(blob.new.receipt.clone())
        };
        messages.iter().map(mark).collect()
    }

    pub(super) fn purge(&mut self, mailbox: MailboxKey, until: Millis, at: Moment, remember: Duration) -> u64 {
        let of_mailbox = self.places().into_iter().filter(|(of, place)| *of == mailbox && place.id.time() <= until);
        let mut purged = 0;
        for (_, place) in of_mailbox {
            self.blobs.remove(&(mailbox, place));
            if place.id.time() > at.horizon {
                self.remember(mailbox, place.id.message(), at, remember);
                purged += 1;
            }
        }
        purged
    }

    pub(super) fn sweep(&mut self, at: Moment, limit: usize) -> Sweep {
        let mut expired: Vec<_> =
            self.places().into_iter().filter(|(_, place)| place.id.time() <= at.horizon).collect();
        expired.sort_by_key(|(_, place)| place.id);
        expired.truncate(limit);
        expired.iter().for_each(|key| drop(self.blobs.remove(key)));
        let over = self.done.iter().filter(|(_, until)| **until <= at.now);
        let mut over: Vec<_> = over.map(|(key, until)| (*until, *key)).collect();
        over.sort();
        over.truncate(limit - expired.len());
        over.iter().for_each(|(_, key)| assert!(self.done.remove(key).is_some()));
        Sweep { blobs: expired.len(), done: over.len() }
    }

    pub(super) fn holdings(&self, mailbox: MailboxKey) -> Holdings {
        self.held(|blob| blob.mailbox == mailbox)
    }

    pub(super) fn usage(&self) -> Holdings {
        self.held(|_| true)
    }

    /// Every blob's mailbox and place.
    pub(super) fn places(&self) -> Vec<(MailboxKey, Place)> {
        self.blobs.keys().copied().collect()
    }

    fn live(&self, mailbox: MailboxKey, message: MessageKey, at: Moment) -> Option<Place> {
        let mut of_message = self.blobs.keys().filter(|(of, place)| (*of, place.id.message()) == (mailbox, message));
        of_message.next().map(|(_, place)| *place).filter(|place| place.id.time() > at.horizon)
    }

    fn remember(&mut self, mailbox: MailboxKey, message: MessageKey, at: Moment, remember: Duration) {
        if !remember.is_zero() {
            self.done.insert((mailbox, message), at.now.plus(remember));
        }
    }

    fn held(&self, counts: impl Fn(&NewBlob) -> bool) -> Holdings {
        let counted = self.blobs.values().filter(|blob| counts(&blob.new));
        counted.fold(Holdings::default(), |held, blob| Holdings {
            blobs: held.blobs + 1,
            bytes: held.bytes + blob.new.body.len() as u64 + BLOB_OVERHEAD_BYTES,
        })
    }
}

impl Blob {
    fn stored(&self, place: Place) -> StoredBlob {
        StoredBlob { place, header: self.new.header.clone(), body: self.new.body.clone() }
    }
}

/// A blob that says little: for scripts.
pub(super) fn blob(mailbox: MailboxKey, message: MessageKey, from: u8, rank: u64, body: Bytes) -> NewBlob {
    let (header, receipt) = (Bytes::from(vec![from; 2]), Bytes::from(vec![b'r', from]));
    NewBlob { mailbox, message, rank, from: SenderKey([from; 16]), header, receipt, body }
}
