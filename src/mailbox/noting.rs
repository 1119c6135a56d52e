//! How many notes a node makes that messages are done with which nobody here is known to have been sent. A client can name
//! any message, and a mailbox that no key owns is anybody's: so each mailbox has a share, and whoever has the note made.
//!
//! Half of all notes are kept for sessions that have proven their key. Keys are made in a moment, so of either half one
//! address has an eighth; of the half of those who have proven none, the nodes of one other cluster have a quarter.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::DefaultClock;

use super::rates::Limited;
use super::session::{Session, short};
use crate::cluster::shares::{Group, Party};
use crate::domain::mailbox::MailboxKey;
use crate::security::address::AddressKey;
use crate::security::limiter::{ConnectionLimiter, DigestKey, KeyedLimiter};

/// Most notes of one mailbox in the time that a note lasts. So at most twice as many are open that this node has made.
const OF_MAILBOX: NonZeroU32 = NonZeroU32::new(4096).unwrap();

/// The same of all mailboxes of owners that have proven their key, and of all others: some 40 MiB each.
const HALF: NonZeroU32 = NonZeroU32::new(1 << 16).unwrap();

/// The same of one address, in either half: two mailboxes' share.
const OF_ADDRESS: NonZeroU32 = NonZeroU32::new(HALF.get() / 8).unwrap();

/// The same of all nodes of one other cluster, which ask for all its clients.
const OF_CLUSTER: NonZeroU32 = NonZeroU32::new(HALF.get() / 4).unwrap();

/// Mailboxes, and addresses, whose notes are counted one by one; all others have one share together.
const TRACKED: usize = 1 << 16;

/// The same of other clusters.
const TRACKED_CLUSTERS: usize = 256;

/// Who has a note made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noter {
    /// A session from that address that has proven its key, which owns the mailbox.
    Owner(AddressKey),
    /// A session from that address that has proven nothing.
    Anybody(AddressKey),
    /// A node of another cluster.
    Cluster(Group),
}

impl Noter {
    /// A session.
    pub fn of(session: &Session) -> Self {
        match session.who.key {
            Some(_) => Self::Owner(session.door),
            None => Self::Anybody(session.door),
        }
    }

    /// A node of another cluster.
    pub fn afar(party: &Party) -> Self {
        Self::Cluster(party.group())
    }
}

/// The notes that may be made.
pub(super) struct Notes {
    of_mailbox: KeyedLimiter<MailboxKey>,
    owners: Half,
    others: Half,
    of_cluster: KeyedLimiter<DigestKey>,
}

struct Half {
    all: ConnectionLimiter,
    of_address: KeyedLimiter<AddressKey>,
}

impl Half {
    fn new(ttl: Duration) -> Self {
        let of_address = KeyedLimiter::over(OF_ADDRESS, ttl, TRACKED, DefaultClock::default());
        Self { all: ConnectionLimiter::over(HALF, ttl), of_address }
    }
}

impl Notes {
    /// All that may be made in `ttl`, which is as long as a note lasts.
    pub fn new(ttl: Duration) -> Self {
        Self {
            of_mailbox: KeyedLimiter::over(OF_MAILBOX, ttl, TRACKED, DefaultClock::default()),
            owners: Half::new(ttl),
            others: Half::new(ttl),
            of_cluster: KeyedLimiter::over(OF_CLUSTER, ttl, TRACKED_CLUSTERS, DefaultClock::default()),
        }
    }

    /// Charges a note of a mailbox to who has it made: their own share first, so that they use up nobody else's once it is
    /// spent.
    ///
    /// # Errors
    /// Which share is used up.
    pub fn check(&self, mailbox: MailboxKey, by: Noter) -> Result<(), Limited> {
        let half = if let Noter::Owner(_) = by { &self.owners } else { &self.others };
        match by {
            Noter::Owner(address) | Noter::Anybody(address) => {
                half.of_address.check(address).map_err(|_| "address")?;
            }
            Noter::Cluster(group) => {
                let key = DigestKey(short(&[b"group", group.to_string().as_bytes()]));
                self.of_cluster.check(key).map_err(|_| "cluster")?;
            }
        }
        self.of_mailbox.check(mailbox).map_err(|_| "mailbox")?;
        if half.all.check() { Ok(()) } else { Err("all") }
    }

    /// Forgets what no longer limits anybody.
    pub fn sweep(&self) {
        self.of_mailbox.sweep();
        self.owners.of_address.sweep();
        self.others.of_address.sweep();
        self.of_cluster.sweep();
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn address(n: u8) -> AddressKey {
        IpAddr::from([192, 0, 2, n]).into()
    }

    fn spent(notes: &Notes, name: &str, by: Noter, times: u32) -> u32 {
        let passes = |_: &u32| notes.check(MailboxKey::blobs(name), by).is_ok();
        u32::try_from((0..times).filter(passes).count()).unwrap()
    }

    fn all_of(notes: &Notes, by: Noter) -> u32 {
        (0..40).map(|n| spent(notes, &format!("{by:?} {n}"), by, OF_MAILBOX.get())).sum()
    }

    fn notes() -> Notes {
        Notes::new(Duration::from_secs(7_776_000))
    }

    #[test]
    fn a_mailbox_and_an_address_have_a_share_each() {
        let (notes, by) = (notes(), Noter::Anybody(address(1)));
        assert_eq!(spent(&notes, "one", by, 5000), 4096);
        assert_eq!(notes.check(MailboxKey::blobs("one"), by), Err("mailbox"));
        // What was refused has cost its address all the same.
        assert_eq!(all_of(&notes, by), OF_ADDRESS.get() - 5001);
        assert_eq!(notes.check(MailboxKey::blobs("other"), by), Err("address"));
        assert_eq!(notes.check(MailboxKey::blobs("other"), Noter::Anybody(address(2))), Ok(()));
    }

    #[test]
    fn whoever_has_proven_nothing_leaves_owners_theirs_from_however_many_addresses() {
        let notes = notes();
        let all: u32 = (0..20).map(|n| all_of(&notes, Noter::Anybody(address(n)))).sum();
        assert_eq!(all, HALF.get());
        assert_eq!(notes.check(MailboxKey::blobs("b"), Noter::Anybody(address(99))), Err("all"));
        assert_eq!(notes.check(MailboxKey::blobs("b"), Noter::Owner(address(99))), Ok(()));
        let all: u32 = (0..20).map(|n| all_of(&notes, Noter::Owner(address(n)))).sum();
        assert_eq!(all, HALF.get() - 1);
    }

    #[test]
    fn keys_that_one_address_makes_up_get_it_no_more() {
        let notes = notes();
        assert_eq!(all_of(&notes, Noter::Owner(address(1))), OF_ADDRESS.get());
        assert_eq!(notes.check(MailboxKey::blobs("b"), Noter::Owner(address(2))), Ok(()));
    }

    #[test]
    fn a_cluster_has_a_quarter_under_whatever_names() {
        let (notes, home) = (notes(), IpAddr::from([192, 0, 2, 1]));
        let relay = |n: u32| Noter::afar(&Party::Relay(format!("relay-{n}").parse().unwrap(), home.into()));
        let all: u32 = (0..8).map(|n| all_of(&notes, relay(n))).sum();
        assert_eq!(all, OF_CLUSTER.get());
        assert_eq!(notes.check(MailboxKey::blobs("b"), Noter::afar(&Party::at([192, 0, 2, 2].into()))), Ok(()));
    }
}
