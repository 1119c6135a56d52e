//! Who may do what, and how it is proven.

pub mod ed25519;
