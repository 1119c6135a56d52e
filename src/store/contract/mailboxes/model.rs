//! What the contract of the mailboxes says, with nothing clever about it: one map of blobs, one of what is done.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::domain::clock::Millis;
use crate::domain::mailbox::{
    BLOB_OVERHEAD_BYTES, BlobId, Full, Holdings, MailboxKey, MessageKey, Place, Quota, SenderKey, Stamp,
};
use crate::domain::offload::moment;
use crate::store::{
    Acked, Carried, Elsewhere, Held, Known, Left, Moment, Moving, NewBlob, Oldest, Page, PageLimit, Put, StoredBlob,
    Sweep, Taken,
};

/// All mailboxes.
#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    blobs: BTreeMap<(MailboxKey, Place), Blob>,
    done: BTreeMap<(MailboxKey, MessageKey), Millis>,
    moved: BTreeMap<(MailboxKey, MessageKey), Elsewhere>,
    last: u64,
    swept: u64,
}

#[derive(Debug, Clone)]
struct Blob {
    new: NewBlob,
    delivered: bool,
    hops: u8,
    ends: Option<Millis>,
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
        if let Some(moved) = self.moved.get(&known).filter(|moved| at.now < moved.until) {
            return Put::Duplicate(moved.id);
        }
        if self.done.get(&known).is_some_and(|until| at.now < *until) {
            return Put::Done;
        }
        self.last = (at.now.0 << 12).max(self.last + 1);
        let id = BlobId::new(Stamp::new(self.last).unwrap(), new.message);
        let blob = Blob { new: new.clone(), delivered: false, hops: 0, ends: None };
        match self.enter(Place { rank: new.rank, id }, blob, quota) {
            Some(full) => Put::Refused(full),
            None => Put::Stored(id),
        }
    }

    /// Puts a blob in the place of what was known of its message; what has no room for it.
    fn enter(&mut self, place: Place, blob: Blob, quota: Quota) -> Option<Full> {
        let (mailbox, message, from) = (blob.new.mailbox, blob.new.message, blob.new.from);
        self.done.remove(&(mailbox, message));
        self.moved.remove(&(mailbox, message));
        self.blobs.retain(|(of, place), _| (*of, place.id.message()) != (mailbox, message));
        self.last = self.last.max(place.id.stamp().get());
        self.blobs.insert((mailbox, place), blob);
        let over = |held: u64, most: Option<u64>| most.is_some_and(|most| held > most);
        let all = self.held(|blob| blob.mailbox == mailbox);
        let sender = self.held(|blob| blob.mailbox == mailbox && blob.from == from);
        if self.usage().bytes > quota.total_bytes {
            Some(Full::Store)
        } else if over(all.blobs, quota.blobs) || over(all.bytes, quota.bytes) {
            Some(Full::Mailbox)
        } else if over(sender.blobs, quota.sender_blobs) || over(sender.bytes, quota.sender_bytes) {
            Some(Full::Sender)
        } else {
            None
        }
    }

    pub(super) fn take_in(&mut self, carried: Carried, at: Moment) -> Taken {
        let Carried { mailbox, place, from, delivered, hops, ends, header, receipt, body } = carried;
        let message = place.id.message();
        let new = NewBlob { mailbox, message, rank: place.rank, from, header, receipt, body };
        let blob = Blob { new, delivered, hops, ends };
        if place.id.stamp().get() < self.swept || blob.is_past(place, at) {
            return Taken::Expired;
        }
        if let Some(here) = self.live(mailbox, message, at) {
            let wanted = blob.end(place, at);
            let Some(old) = self.blobs.get_mut(&(mailbox, here)) else { return Taken::Duplicate(here.id) };
            let (end, latest) = (old.end(here, at), at.end_of(here.id.time()));
            if end < wanted && wanted.min(latest).since(end) > moment(at.lifetime()) {
                old.ends = Some(wanted).filter(|wanted| *wanted < latest);
            }
            let end = old.end(here, at);
            return if end < wanted { Taken::Sooner(here.id, end) } else { Taken::Duplicate(here.id) };
        }
        let is_owed = self.moved.get(&(mailbox, message)).is_some_and(|moved| moved.owed && at.now < moved.until);
        if is_owed || self.done.get(&(mailbox, message)).is_some_and(|until| at.now < *until) {
            return Taken::Done;
        }
        match self.enter(place, blob, super::FREE) {
            Some(full) => Taken::Refused(full),
            None => Taken::Stored,
        }
    }

    /// A store that is opened again may take in what it would not have before.
    pub(super) fn reopened(&mut self) {
        self.swept = 0;
    }

    pub(super) fn moved(&mut self, moving: &[Moving], to: &Bytes, at: Moment) -> Vec<Left> {
        let leave = |Moving { mailbox, id, there }: &Moving| {
            let key = (*mailbox, id.message());
            if let Some(place) = self.live(key.0, key.1, at).filter(|place| place.id == *id)
                && let Some(blob) = self.blobs.remove(&(*mailbox, place))
            {
                let until = blob.ends.unwrap_or(Millis(id.time().0 + at.now.0.saturating_sub(at.horizon.0)));
                let moved = Elsewhere { mailbox: *mailbox, id: *there, until, owed: false, place: to.clone() };
                self.moved.insert(key, moved);
                return Left::Moved;
            }
            let is_owed = self.moved.get(&key).is_some_and(|moved| moved.owed);
            let is_done = self.done.get(&key).is_some_and(|until| at.now < *until);
            if is_owed || is_done { Left::Gone } else { Left::Before }
        };
        moving.iter().map(leave).collect()
    }

    pub(super) fn settle(&mut self, messages: &[(MailboxKey, MessageKey)], at: Moment, remember: Duration) -> usize {
        let mut settled = 0;
        for (mailbox, message) in messages {
            if self.moved.remove(&(*mailbox, *message)).is_some() {
                self.remember(*mailbox, *message, at, remember);
                settled += 1;
            }
        }
        settled
    }

    pub(super) fn elsewhere(&self, of: Option<MailboxKey>, at: Moment) -> Vec<Elsewhere> {
        let all = self.moved.values().filter(|moved| of.is_none_or(|of| of == moved.mailbox));
        all.filter(|moved| at.now < moved.until).cloned().collect()
    }

    pub(super) fn oldest(&self, hops: u8, at: Moment) -> Oldest {
        let here = self.blobs.iter().filter(|((_, place), blob)| !blob.is_past(*place, at) && blob.hops <= hops);
        let mut blobs: Vec<_> = here.map(|((mailbox, place), blob)| blob.carried(*mailbox, *place)).collect();
        blobs.sort_by_key(|blob| (blob.place.id, blob.mailbox));
        Oldest { blobs, next: None }
    }

    pub(super) fn page(&self, mailbox: MailboxKey, after: Option<Place>, limit: PageLimit, at: Moment) -> Page {
        let mut page = Page::default();
        let mut bytes = 0;
        for ((_, place), blob) in self.blobs.iter().filter(|((of, _), _)| *of == mailbox) {
            if blob.is_past(*place, at) || after.is_some_and(|after| *place <= after) {
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
        let blob = self.blobs.get(&(mailbox, place)).filter(|blob| !blob.is_past(place, at))?;
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
            let here = self.moved.get_mut(&(mailbox, *message)).filter(|moved| at.now < moved.until && !moved.owed);
            if let Some(moved) = here {
                moved.owed = true;
                return Some(Acked::Moved { place: moved.place.clone() });
            }
            let place = self.live(mailbox, *message, at)?;
            let blob = self.blobs.remove(&(mailbox, place))?;
            self.remember(mailbox, *message, at, remember);
            Some(Acked::Blob { place, receipt: blob.new.receipt })
        };
        messages.iter().map(ack).collect()
    }

    pub(super) fn known(&self, mailbox: MailboxKey, messages: &[MessageKey], at: Moment) -> Vec<Known> {
        let is_done = |message: &MessageKey| self.done.get(&(mailbox, *message)).is_some_and(|until| at.now < *until);
        let moved = |message: &MessageKey| self.moved.get(&(mailbox, *message)).filter(|moved| at.now < moved.until);
        let known = |message: &MessageKey| match (self.live(mailbox, *message, at), moved(message)) {
            (Some(place), _) => Known::Live(place),
            (None, Some(moved)) if !moved.owed => Known::Moved,
            (None, Some(_)) => Known::Done,
            (None, None) if is_done(message) => Known::Done,
            (None, None) => Known::Absent,
        };
        messages.iter().map(known).collect()
    }

    pub(super) fn held_of(&self, mailbox: MailboxKey, messages: &[MessageKey], at: Moment) -> Vec<Held> {
        let held = |message: &MessageKey| match self.live(mailbox, *message, at) {
            Some(place) => Held::Waits(place.id, self.blobs[&(mailbox, place)].end(place, at)),
            None if self.known(mailbox, &[*message], at) == [Known::Done] => Held::Done,
            None => Held::Nothing,
        };
        messages.iter().map(held).collect()
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
            let Some(blob) = self.blobs.remove(&(mailbox, place)) else { continue };
            if !blob.is_past(place, at) {
                self.remember(mailbox, place.id.message(), at, remember);
                purged += 1;
            }
        }
        let moved = self.moved.values_mut().filter(|moved| moved.mailbox == mailbox && moved.id.time() <= until);
        moved.filter(|moved| at.now < moved.until).for_each(|moved| moved.owed = true);
        purged
    }

    pub(super) fn sweep(&mut self, at: Moment, limit: usize) -> Sweep {
        let mut expired: Vec<_> =
            self.places().into_iter().filter(|(_, place)| place.id.time() <= at.horizon).collect();
        expired.sort_by_key(|(mailbox, place)| (place.id, *mailbox));
        expired.truncate(limit);
        if let Some((_, last)) = expired.last() {
            self.swept = self.swept.max(last.id.stamp().get());
        }
        expired.iter().for_each(|key| drop(self.blobs.remove(key)));
        let ended = self.blobs.iter().filter_map(|(key, blob)| Some((blob.ends?, *key)));
        let mut ended: Vec<_> = ended.filter(|(ends, _)| *ends <= at.now).collect();
        ended.sort();
        ended.truncate(limit - expired.len());
        ended.iter().for_each(|(_, key)| drop(self.blobs.remove(key)));
        let blobs = expired.len() + ended.len();
        let done = self.done.iter().map(|(key, until)| (*until, *key));
        let moved = self.moved.iter().map(|(key, moved)| (moved.until, *key));
        let mut over: Vec<_> = done.chain(moved).filter(|(until, _)| *until <= at.now).collect();
        over.sort();
        over.truncate(limit - blobs);
        over.iter().for_each(|(_, key)| {
            assert!(self.done.remove(key).is_some() ^ self.moved.remove(key).is_some());
        });
        Sweep { blobs, done: over.len() }
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
        of_message.next().map(|(_, place)| *place).filter(|place| !self.blobs[&(mailbox, *place)].is_past(*place, at))
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
    fn is_past(&self, place: Place, at: Moment) -> bool {
        place.id.time() <= at.horizon || self.ends.is_some_and(|ends| ends <= at.now)
    }

    fn end(&self, place: Place, at: Moment) -> Millis {
        let of_age = at.end_of(place.id.time());
        self.ends.map_or(of_age, |ends| ends.min(of_age))
    }

    fn carried(&self, mailbox: MailboxKey, place: Place) -> Carried {
        let NewBlob { from, header, receipt, body, .. } = self.new.clone();
        let Self { delivered, hops, ends, .. } = *self;
        Carried { mailbox, place, from, delivered, hops, ends, header, receipt, body }
    }

    fn stored(&self, place: Place) -> StoredBlob {
        StoredBlob { place, header: self.new.header.clone(), body: self.new.body.clone() }
    }
}

/// The same of another store.
pub(super) fn carried(new: NewBlob, id: BlobId, hops: u8, ends: Option<Millis>) -> Carried {
    let (mailbox, place) = (new.mailbox, Place { rank: new.rank, id });
    Blob { new, delivered: id.stamp().get() % 2 == 1, hops, ends }.carried(mailbox, place)
}

/// A blob that says little: for scripts.
pub(super) fn blob(mailbox: MailboxKey, message: MessageKey, from: u8, rank: u64, body: Bytes) -> NewBlob {
    let (header, receipt) = (Bytes::from(vec![from; 2]), Bytes::from(vec![b'r', from]));
    NewBlob { mailbox, message, rank, from: SenderKey([from; 16]), header, receipt, body }
}
