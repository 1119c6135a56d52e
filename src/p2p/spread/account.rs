//! Whose share of the memory an entry is in.

use crate::domain::placement::KeyHash;
use crate::security::address::AddressKey;

/// The address from which an entry came to the cluster, as a number that is the same at every node and after a restart. It
/// is a digest, and no secret: whoever has it finds an address of IPv4 by trying all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Account(u64);

/// Says that an entry is on nobody's account.
const NOBODY: u64 = 0;

impl Account {
    /// As it is told to other nodes, and kept on disk.
    #[must_use]
    pub fn tell(this: Option<Self>) -> u64 {
        this.map_or(NOBODY, |account| account.0)
    }

    /// What was told.
    #[must_use]
    pub fn heard(told: u64) -> Option<Self> {
        (told != NOBODY).then_some(Self(told))
    }
}

impl From<AddressKey> for Account {
    fn from(address: AddressKey) -> Self {
        Self(KeyHash::of(&[b"account", address.to_string().as_bytes()]).0.max(NOBODY + 1))
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn an_address_has_the_same_account_everywhere_and_no_other_has_it() {
        let account = |address: &str| Account::from(AddressKey::from(address.parse::<IpAddr>().unwrap()));
        assert_ne!(account("192.0.2.1"), account("192.0.2.2"));
        assert_eq!(account("2001:db8::1"), account("2001:db8::2"), "one network");
        // Nodes of all releases must agree.
        assert_eq!(Account::tell(Some(account("192.0.2.1"))), KeyHash::of(&[b"account", b"192.0.2.1"]).0);
        for some in [None, Some(account("192.0.2.1"))] {
            assert_eq!(Account::heard(Account::tell(some)), some);
        }
    }
}
