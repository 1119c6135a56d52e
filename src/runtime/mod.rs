//! How the process runs: named tasks under one supervisor, retries that back off, and time.

pub mod backoff;
pub mod leaving;
pub mod outbox;
pub mod session;
pub mod sessions;
pub mod slot;
pub mod supervisor;
pub mod time;
