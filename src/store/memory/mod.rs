//! The backend that survives nothing: for trials, and for nodes that are told to keep nothing.

mod mailboxes;
mod records;

pub use mailboxes::MemoryMailboxes;
pub use records::MemoryRecords;
