//! What outlives a connection, and, with RocksDB, the process: the contracts in words, and who keeps them.
//!
//! # Records
//!
//! [`Records`] holds small values by key, each with an optional moment of expiry: key bindings, nonces, pairing
//! claims. Whoever calls it may rely on this, whichever backend stands behind it:
//!
//! 1. **A record is there until its moment, and not at it.** It is live while `now < expires`. From then on no
//!    read shows it and no condition counts it, whether or not anything has swept it.
//! 2. **A change is whole.** [`Records::apply`] does all of its writes or none. They take effect in their order:
//!    a condition sees the writes before it in the same change.
//! 3. **Changes stand in one line.** Each sees the whole of every change before it. Of many callers who each ask
//!    for the same key to be put only if it is new, exactly one gets it.
//! 4. **Done means durable.** When `apply` answers [`Applied::Done`], a backend that survives its process has the
//!    change on disk. After [`StoreError::Write`] or [`StoreError::Stopped`] the change may or may not be found
//!    later; any other error means that none of it was done.
//! 5. **A scan is in key order**, shows live records only, and resumes after any key.
//! 6. **A sweep pays for what it deletes**, not for what lives: it walks an index ordered by expiry, and deletes
//!    a record only if the record itself still expires when the index says.
//! 7. **Everything has a bound**: [`MAX_KEY_BYTES`], [`MAX_VALUE_BYTES`], [`MAX_CHANGE_WRITES`],
//!    [`MAX_CHANGE_BYTES`], [`MAX_PAGE_RECORDS`], [`MAX_PAGE_BYTES`].
//!
//! `now` is the caller's. It should not run backwards: what was swept at a later moment stays gone.
//!
//! A caller that stops waiting for `apply` (drops its future) does not undo it.
//!
//! # Mailboxes
//!
//! [`Mailboxes`] holds blobs that wait for a recipient. Whoever calls it may rely on this:
//!
//! 1. **Stored means durable.** When `put` answers [`Put::Stored`], a backend that survives its process has the blob
//!    on disk, with everything that finds it. The same holds for what `ack`, `mark_delivered` and `purge` answer.
//!    After [`StoreError::Write`] or [`StoreError::Stopped`] it may or may not be found later, but never in part.
//! 2. **A message is one blob.** While its blob is there, the same message put into the same mailbox again is a
//!    [`Put::Duplicate`], and so while its blob lies elsewhere; after it was acknowledged or purged it is [`Put::Done`]
//!    for as long as that call said. Then, or once its blob has expired, it is a new message.
//! 3. **A mailbox is in the order of [`Place`](crate::domain::mailbox::Place)s**, and ids grow in the order of storing, over restarts and clocks
//!    that run back. So of two blobs of one rank the later stands behind the earlier, and a reader who goes on
//!    after the last place that he saw misses none of what was put. What is taken in from another store stands where it
//!    stood there, which may be before that place. Pages never tear: one shows the mailbox at one moment.
//! 4. **A blob is there until it expires, and not after.** It has expired if its id's time is at or before the
//!    caller's horizon, or once it ends, if it was taken in with an end of its own. From then on no read shows it, no acknowledgment or mark finds it, and its message is a new
//!    one, whether or not anything has swept it. Only counts and quotas include it until it is swept.
//! 5. **What is deleted stays deleted**, and gives its bytes back at once. An acknowledgment deletes the blob of its
//!    message whatever its id.
//! 6. **Quotas are exact**: a blob is refused if and only if with it a limit would be broken, whoever puts at the
//!    same time. A refusal leaves nothing. Before a mailbox or a sender's share of it refuses a blob, what has
//!    expired in that mailbox is deleted (as far as a look at a thousand messages finds it).
//! 7. **A message is marked delivered once**, whoever asks at the same time and whatever restarts.
//! 8. **Costs do not grow** with the depth of a mailbox or the number of mailboxes: `put`, `ack`, `mark_delivered`,
//!    `known`, `holdings` and `usage` look up keys and never walk. `page` pays for what it shows, `sweep` for what it
//!    deletes, and `tallies` for a bounded part of all counts. Only `purge`, and a `put` for which a mailbox has no room, look at more than they touch.
//! 9. **Everything has a bound**: [`MAX_BODY_BYTES`], [`MAX_HEADER_BYTES`], [`MAX_RECEIPT_BYTES`], [`MAX_MESSAGES`],
//!    [`MAX_PAGE_BLOBS`], [`MAX_PAGE_BLOB_BYTES`], [`MAX_DONE`]; and the quota.
//!
//! 10. **A blob that moves is never nowhere.** `take_in` answers [`Taken::Stored`] once it is as durable as after a put,
//!     and [`Taken::Duplicate`] if its message waits here already and does not end before it; one that does is made to
//!     last longer, unless that is by no more than a thousandth of its life, or there is no room to write it.
//!     `moved` deletes it where it was and remembers where it lies in one write, only if it is that very blob. A
//!     message that was moved is not done: nobody is told so before
//!     it is acknowledged. That is durable with the acknowledgment, and kept until `settle` says that it was heard there.
//!
//! A caller that stops waiting for a change (drops its future) does not undo it.
//!
//! # Backends
//!
//! | backend | survives | bound |
//! |---|---|---|
//! | [`MemoryRecords`] | nothing | bytes, given at its start |
//! | [`MemoryMailboxes`] | nothing | the quota that comes with each put |
//! | [`RocksStore`], both contracts | the process and the machine's restart | the disk, less a reserve |
//!
//! The rules of the mailboxes are written once, over keyed values that change one change after the other
//! (`backend`, `stage`); a backend says how these are kept. One suite of tests (`contract`) says the above in code,
//! and every backend passes it.

mod backend;
mod error;
mod mailboxes;
mod memory;
mod records;
mod rocks;
mod stage;
mod swept;

#[cfg(test)]
mod contract;

pub use error::StoreError;
pub use mailboxes::{
    Acked, AgeCursor, Carried, Elsewhere, Held, Known, Left, MAX_BODY_BYTES, MAX_DONE, MAX_HEADER_BYTES, MAX_MESSAGES,
    MAX_PAGE_BLOB_BYTES, MAX_PAGE_BLOBS, MAX_RECEIPT_BYTES, MAX_TALLIES, MAX_WHERE_BYTES, Mailboxes, Moment, Moving,
    NewBlob, Oldest, Page, PageLimit, Put, SWEEP_STEP, StoredBlob, Sweep, Taken, Tallies, TallyCursor,
};
pub use memory::{MemoryMailboxes, MemoryRecords};
pub use records::{
    Applied, MAX_CHANGE_BYTES, MAX_CHANGE_WRITES, MAX_KEY_BYTES, MAX_PAGE_BYTES, MAX_PAGE_RECORDS, MAX_VALUE_BYTES,
    Record, Records, Write,
};
pub use rocks::{RocksOptions, RocksStore, Soundness, verify};
