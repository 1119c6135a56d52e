//! Pure rules: no input or output, no clock, no randomness of their own. Whatever changes from run to run
//! (`now`, fresh identifiers) is passed in, so every rule here can be tested by calling it.

pub mod clock;
pub mod ids;
pub mod limits;
pub mod mailbox;
pub mod offload;
pub mod placement;
pub mod principal;

use sha2::{Digest, Sha256};

/// SHA-256 over parts, each behind its length: `("ab", "c")` and `("a", "bc")` differ.
#[must_use]
pub fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}
