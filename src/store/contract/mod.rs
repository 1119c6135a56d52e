//! What the contracts promise, in code: every backend passes all of it.

mod mailboxes;
mod records;
