//! How much may be stored: for one mailbox, for one sender in it, and in all.

/// What a blob is charged besides its body: its entries in the indexes with their keys, what tells the recipient
/// and the sender of it, and what RocksDB adds to each. About that much for the clients there are.
pub const BLOB_OVERHEAD_BYTES: u64 = 512;

/// What a blob with a body of this many bytes is charged.
#[must_use]
pub fn charge(body_bytes: usize) -> u64 {
    body_bytes as u64 + BLOB_OVERHEAD_BYTES
}

/// Blobs, and the bytes they are charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Holdings {
    /// How many.
    pub blobs: u64,
    /// The sum of their charges: see [`charge`].
    pub bytes: u64,
}

impl Holdings {
    /// With one blob more.
    #[must_use]
    pub fn plus(self, charge: u64) -> Self {
        Self { blobs: self.blobs.saturating_add(1), bytes: self.bytes.saturating_add(charge) }
    }

    /// With one blob less; `None` if there is no such blob in them.
    #[must_use]
    pub fn minus(self, charge: u64) -> Option<Self> {
        Some(Self { blobs: self.blobs.checked_sub(1)?, bytes: self.bytes.checked_sub(charge)? })
    }
}

/// The most that may be held. `None`: no such limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Blobs in one mailbox.
    pub blobs: Option<u64>,
    /// Bytes in one mailbox.
    pub bytes: Option<u64>,
    /// Blobs of one sender in one mailbox.
    pub sender_blobs: Option<u64>,
    /// Bytes of one sender in one mailbox.
    pub sender_bytes: Option<u64>,
    /// Bytes in the whole store.
    pub total_bytes: u64,
}

impl Quota {
    /// Which limit a store would break that held this much.
    #[must_use]
    pub fn broken_by(&self, mailbox: Holdings, sender: Holdings, total: Holdings) -> Option<Full> {
        let over = |held: u64, most: Option<u64>| most.is_some_and(|most| held > most);
        if total.bytes > self.total_bytes {
            Some(Full::Store)
        } else if over(mailbox.blobs, self.blobs) || over(mailbox.bytes, self.bytes) {
            Some(Full::Mailbox)
        } else if over(sender.blobs, self.sender_blobs) || over(sender.bytes, self.sender_bytes) {
            Some(Full::Sender)
        } else {
            None
        }
    }
}

/// What has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Full {
    /// The mailbox.
    Mailbox,
    /// The sender's share of the mailbox.
    Sender,
    /// The store.
    Store,
    /// The disk, down to its reserve.
    Disk,
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Quota =
        Quota { blobs: None, bytes: None, sender_blobs: None, sender_bytes: None, total_bytes: u64::MAX };

    #[test]
    fn each_limit_holds_up_to_and_including_its_number() {
        let held = Holdings { blobs: 3, bytes: 100 };
        let nothing = Holdings::default();
        let broken = |quota: Quota| quota.broken_by(held, held, held);
        assert_eq!(broken(FREE), None);
        assert_eq!(broken(Quota { blobs: Some(3), bytes: Some(100), ..FREE }), None);
        assert_eq!(broken(Quota { blobs: Some(2), ..FREE }), Some(Full::Mailbox));
        assert_eq!(broken(Quota { bytes: Some(99), ..FREE }), Some(Full::Mailbox));
        assert_eq!(broken(Quota { sender_blobs: Some(2), ..FREE }), Some(Full::Sender));
        assert_eq!(broken(Quota { sender_bytes: Some(99), ..FREE }), Some(Full::Sender));
        assert_eq!(broken(Quota { total_bytes: 99, ..FREE }), Some(Full::Store));
        assert_eq!(Quota { blobs: Some(2), ..FREE }.broken_by(nothing, held, held), None);
    }

    #[test]
    fn what_was_added_can_be_taken_away_once() {
        let one = Holdings::default().plus(charge(10));
        assert_eq!(one.minus(charge(10)), Some(Holdings::default()));
        assert_eq!(Holdings::default().minus(charge(10)), None);
        assert_eq!(one.minus(charge(11)), None);
    }
}
