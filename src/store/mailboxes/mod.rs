//! Blobs that wait for a recipient: the types of the contract, and its bounds. The promises are in [`super`].
//!
//! | file | holds |
//! |---|---|
//! | `layout` | keys and values as bytes |
//! | `changes` | what a put, an acknowledgment, a deletion changes |
//! | `counts` | how much is stored, as changes find and leave it |
//! | `reads` | pages, and the lists that purges and sweeps work off |
//! | `entries` | what is known of a message, as bytes |
//! | `moves` | blobs that go from one store to another |
//! | `calls` | [`Mailboxes`] for every backend, in these terms |
//! | `check` | whether what is stored makes sense, for who reads a backup |
//! | `upgrade` | what is written anew of what older formats wrote |

mod calls;
mod changes;
mod check;
mod counts;
mod entries;
mod layout;
mod moves;
mod reads;
mod upgrade;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::StoreError;
use crate::domain::clock::Millis;
use crate::domain::mailbox::{BlobId, Full, Holdings, MailboxKey, MessageKey, Place, Quota, SenderKey};

pub use calls::SWEEP_STEP;
pub(super) use check::Audit;
pub use moves::{AgeCursor, Carried, Elsewhere, Held, Left, MAX_WHERE_BYTES, Moving, Oldest, Taken};
pub(super) use upgrade::{REBUILDS, Rebuild};

/// Largest body, in bytes.
pub const MAX_BODY_BYTES: usize = 16 << 20;

/// Largest header, in bytes: what a recipient is told besides the body.
pub const MAX_HEADER_BYTES: usize = 1024;

/// Largest receipt, in bytes: what it takes to tell the sender.
pub const MAX_RECEIPT_BYTES: usize = 512;

/// Most messages in one call: few enough that nobody else's change waits long behind theirs.
pub const MAX_MESSAGES: usize = 256;

/// Most blobs in one page.
pub const MAX_PAGE_BLOBS: usize = 1024;

/// A page ends with the blob that brings it to this many bytes, at most.
pub const MAX_PAGE_BLOB_BYTES: usize = 16 << 20;

/// Most messages that are remembered as done; above it, a sweep forgets the oldest before their time. A few
/// hundred MiB of disk.
pub const MAX_DONE: u64 = 4 << 20;

/// Most counts in one part of a walk along all mailboxes.
pub const MAX_TALLIES: usize = 4096;

/// The moments that a call goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The time of the call.
    pub now: Millis,
    /// What was stored at or before this has expired.
    pub horizon: Millis,
}

impl Moment {
    /// Whether what was stored at `time` has expired.
    #[must_use]
    pub fn is_past(&self, time: Millis) -> bool {
        time <= self.horizon
    }

    /// When what was stored at `time` expires, if the horizon keeps its distance.
    #[must_use]
    pub fn end_of(&self, time: Millis) -> Millis {
        time.plus(self.lifetime())
    }

    /// How long what is stored lasts.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        self.now.since(self.horizon)
    }
}

/// A blob to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBlob {
    /// Where.
    pub mailbox: MailboxKey,
    /// Which message it is.
    pub message: MessageKey,
    /// What orders it before the order of storing does: see [`Place`].
    pub rank: u64,
    /// Whose share of the mailbox it counts against.
    pub from: SenderKey,
    /// What the recipient is told with it: opaque here, at most [`MAX_HEADER_BYTES`].
    pub header: Bytes,
    /// What it takes to tell the sender: opaque here, at most [`MAX_RECEIPT_BYTES`].
    pub receipt: Bytes,
    /// What was sent: at most [`MAX_BODY_BYTES`].
    pub body: Bytes,
}

/// What became of a put that met no error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Put {
    /// It is stored.
    Stored(BlobId),
    /// The message is there already, under this id.
    Duplicate(BlobId),
    /// The message was here, and was acknowledged or purged not long ago.
    Done,
    /// Nothing is stored: there is no room.
    Refused(Full),
}

/// A blob that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBlob {
    /// Where it stands; its id says when it came, and which message it is.
    pub place: Place,
    /// What came as its header.
    pub header: Bytes,
    /// What came as its body.
    pub body: Bytes,
}

/// How much a page may hold. It holds one blob if there is one, however large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimit {
    /// At most this many blobs, and at most [`MAX_PAGE_BLOBS`].
    pub blobs: usize,
    /// It ends with the blob that brings headers and bodies to this many bytes, or to [`MAX_PAGE_BLOB_BYTES`].
    pub bytes: usize,
}

/// A part of a mailbox, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// What waits.
    pub blobs: Vec<StoredBlob>,
    /// Whether more waits behind it.
    pub more: bool,
}

/// What an acknowledgment changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acked {
    /// A blob is deleted.
    Blob {
        /// Where it stood.
        place: Place,
        /// What came as its receipt.
        receipt: Bytes,
    },
    /// It was moved elsewhere; that it is done with is kept until [`Mailboxes::settle`].
    Moved {
        /// Where.
        place: Bytes,
    },
}

/// What a mailbox knows of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Nothing, or nothing any more.
    Absent,
    /// It waits at that place.
    Live(Place),
    /// It was moved elsewhere, and is not known to be done with.
    Moved,
    /// It was acknowledged or purged not long ago.
    Done,
}

/// What a sweep deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sweep {
    /// Blobs that had expired.
    pub blobs: usize,
    /// Messages that no longer need be remembered.
    pub done: usize,
}

/// How much is stored in some of the mailboxes, with what has expired and is not yet swept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tallies {
    /// The mailboxes of this part; there may be none in it.
    pub mailboxes: Vec<(MailboxKey, Holdings)>,
    /// Where the next part begins; `None` after the last.
    pub next: Option<TallyCursor>,
}

/// A place in a walk along all mailboxes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TallyCursor(Bytes);

/// Blobs by mailbox, in order. What every backend promises is written in [`super`].
#[async_trait]
pub trait Mailboxes: Send + Sync {
    /// Stores a blob, unless its message is known or there is no room by `quota`.
    async fn put(&self, blob: NewBlob, quota: Quota, at: Moment) -> Result<Put, StoreError>;

    /// What waits in a mailbox after a place (`None`: from its front).
    async fn page(
        &self,
        mailbox: MailboxKey,
        after: Option<Place>,
        limit: PageLimit,
        at: Moment,
    ) -> Result<Page, StoreError>;

    /// The blob that waits at a place.
    async fn get(&self, mailbox: MailboxKey, place: Place, at: Moment) -> Result<Option<StoredBlob>, StoreError>;

    /// Deletes the blobs of these messages (at most [`MAX_MESSAGES`]), and remembers each message that had one as
    /// done for as long as `remember`. Answers for each message what that changed.
    async fn ack(
        &self,
        mailbox: MailboxKey,
        messages: Vec<MessageKey>,
        at: Moment,
        remember: Duration,
    ) -> Result<Vec<Option<Acked>>, StoreError>;

    /// What the mailbox knows of each of these messages (at most [`MAX_MESSAGES`]).
    async fn known(&self, mailbox: MailboxKey, messages: Vec<MessageKey>, at: Moment)
    -> Result<Vec<Known>, StoreError>;

    /// Notes that the blobs of these messages (at most [`MAX_MESSAGES`]) have reached the recipient. Answers the
    /// receipt of each for which this is new: for one message once, whatever restarts.
    async fn mark_delivered(
        &self,
        mailbox: MailboxKey,
        messages: Vec<MessageKey>,
        at: Moment,
    ) -> Result<Vec<Option<Bytes>>, StoreError>;

    /// Deletes everything in a mailbox that was there before the call and was stored at or before `until`, and
    /// remembers each message as done for as long as `remember`. Answers how many were deleted that had not expired. Of
    /// what was moved elsewhere it is kept until [`Mailboxes::settle`] that it is done with.
    ///
    /// In steps: what an error interrupts is partly done.
    async fn purge(
        &self,
        mailbox: MailboxKey,
        until: Millis,
        at: Moment,
        remember: Duration,
    ) -> Result<u64, StoreError>;

    /// How much is stored in a mailbox, with what has expired and is not yet swept.
    async fn holdings(&self, mailbox: MailboxKey) -> Result<Holdings, StoreError>;

    /// How much is stored in all mailboxes, with what has expired and is not yet swept.
    async fn usage(&self) -> Result<Holdings, StoreError>;

    /// A part of the counts of all mailboxes, after looking at [`MAX_TALLIES`] of them and of their senders' at most.
    /// A mailbox that holds something from the first call to the last is in one part, whatever else comes and goes.
    async fn tallies(&self, from: Option<TallyCursor>) -> Result<Tallies, StoreError>;

    /// Deletes at most `limit` of the blobs that have expired, the oldest first, then of the messages that need no
    /// longer be remembered. Less than `limit` in all means that nothing is left to sweep.
    ///
    /// In steps of [`SWEEP_STEP`]: what an error interrupts is partly done. A caller that sweeps that many at a
    /// time, and waits between for a few times as long as the sweep took, is not felt by others.
    async fn sweep(&self, at: Moment, limit: usize) -> Result<Sweep, StoreError>;

    /// The oldest blobs after one, whole, of those that were moved at most `hops` times. A part may be empty though
    /// others follow.
    async fn oldest(
        &self,
        after: Option<AgeCursor>,
        hops: u8,
        limit: PageLimit,
        at: Moment,
    ) -> Result<Oldest, StoreError>;

    /// The blob that waits at a place, whole.
    async fn whole(&self, mailbox: MailboxKey, place: Place, at: Moment) -> Result<Option<Carried>, StoreError>;

    /// Stores a blob of another store as it stood there, unless its message is known, it has expired, or there is no
    /// room by `quota`. If its message waits here and would end before it, that ends later from now on, as far as its age
    /// lets it.
    async fn take_in(&self, blob: Carried, quota: Quota, at: Moment) -> Result<Taken, StoreError>;

    /// What there is of each of these messages (at most [`MAX_MESSAGES`]).
    async fn held(&self, messages: Vec<(MailboxKey, MessageKey)>, at: Moment) -> Result<Vec<Held>, StoreError>;

    /// Deletes blobs (at most [`MAX_MESSAGES`]) that lie at another place too, whose name has at most
    /// [`MAX_WHERE_BYTES`], and remembers until they end that they lie there: all in one write.
    async fn moved(&self, moving: Vec<Moving>, place: Bytes, at: Moment) -> Result<Vec<Left>, StoreError>;

    /// Of these messages (at most [`MAX_MESSAGES`]), those whose blobs were moved are done with where they lie, and
    /// remembered as done for as long as `remember`. Answers how many those are.
    async fn settle(
        &self,
        messages: Vec<(MailboxKey, MessageKey)>,
        at: Moment,
        remember: Duration,
    ) -> Result<usize, StoreError>;

    /// At most `limit` of what was moved elsewhere and has not ended, of one mailbox or of all, after a message in the
    /// order of mailboxes. Less than `limit` does not mean that none follows, unless there is nothing.
    async fn elsewhere(
        &self,
        of: Option<MailboxKey>,
        after: Option<(MailboxKey, MessageKey)>,
        limit: usize,
        at: Moment,
    ) -> Result<Vec<Elsewhere>, StoreError>;
}

/// Checks a blob against the bounds.
fn check_sizes(header: &[u8], receipt: &[u8], body: &[u8]) -> Result<(), StoreError> {
    for (part, bytes, max) in [
        ("body", body.len(), MAX_BODY_BYTES),
        ("header", header.len(), MAX_HEADER_BYTES),
        ("receipt", receipt.len(), MAX_RECEIPT_BYTES),
    ] {
        if bytes > max {
            return Err(StoreError::BlobTooLarge { part, bytes, max });
        }
    }
    Ok(())
}

/// Checks the messages of a call against the bound.
fn check_messages(messages: &[MessageKey]) -> Result<(), StoreError> {
    check_count(messages.len())
}

fn check_count(messages: usize) -> Result<(), StoreError> {
    match messages {
        0..=MAX_MESSAGES => Ok(()),
        messages => Err(StoreError::TooManyMessages { messages, max: MAX_MESSAGES }),
    }
}
