//! Who may come in, and how often: client addresses behind proxies, and the limits at the door.

pub mod address;
pub mod admission;
pub mod limiter;
pub mod proxies;
