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
//! # Backends
//!
//! | backend | survives | bound |
//! |---|---|---|
//! | [`MemoryRecords`] | nothing | bytes, given at its start |
//! | [`RocksStore`] | the process and the machine's restart | the disk |
//!
//! One suite of tests (`contract.rs`) says the above in code, and both pass it.

mod error;
mod memory;
mod records;
mod rocks;

#[cfg(test)]
mod contract;

pub use error::StoreError;
pub use memory::MemoryRecords;
pub use records::{
    Applied, MAX_CHANGE_BYTES, MAX_CHANGE_WRITES, MAX_KEY_BYTES, MAX_PAGE_BYTES, MAX_PAGE_RECORDS, MAX_VALUE_BYTES,
    Record, Records, Write,
};
pub use rocks::RocksStore;
