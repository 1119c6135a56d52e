//! The id of a stored blob: a UUID of version 7 (RFC 9562, section 5.7) that tells its time and its message.

use std::fmt;
use std::str::FromStr;

use uuid::{Uuid, Variant};

use super::MessageKey;
use crate::domain::clock::Millis;

/// The last millisecond that 48 bits can say: in the year 10889.
const LAST_MILLIS: u64 = (1 << 48) - 1;

/// Bits of the counter within one millisecond.
const COUNTER_BITS: u32 = 12;

/// Length of the only text form that clients use: 32 digits and four hyphens.
const TEXT_BYTES: usize = 36;

/// The order of storing: a millisecond and a counter within it. Larger than every one given out before.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Stamp(u64);

impl Stamp {
    /// The next after `self`: that of `now`, unless the clock stands, or ran back, or too many have come within one
    /// millisecond; then the least that is larger. `None` past the year 10889.
    #[must_use]
    pub fn next(self, now: Millis) -> Option<Self> {
        let next = (now.0.min(LAST_MILLIS) << COUNTER_BITS).max(self.0 + 1);
        (next >> COUNTER_BITS <= LAST_MILLIS).then_some(Self(next))
    }

    /// Its number, of 60 bits.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }

    /// From its number; `None` if that has more than 60 bits.
    #[must_use]
    pub fn new(number: u64) -> Option<Self> {
        (number >> COUNTER_BITS <= LAST_MILLIS).then_some(Self(number))
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 >> COUNTER_BITS, self.0 & ((1 << COUNTER_BITS) - 1))
    }
}

/// The id of a stored blob. In order of storing, for the blobs of one store.
///
/// RFC 9562, section 6.2, method 1: 48 bits of milliseconds, a counter of 12 bits in `rand_a`; and in the 62 bits
/// of `rand_b` the [`MessageKey`]. So an id that a client acknowledges leads any node to the message, wherever
/// copies of it lie.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlobId([u8; 16]);

impl BlobId {
    /// The id of a message that was stored at `stamp`.
    #[must_use]
    pub fn new(stamp: Stamp, message: MessageKey) -> Self {
        let (millis, counter) = (stamp.0 >> COUNTER_BITS, stamp.0 & ((1 << COUNTER_BITS) - 1));
        let high = millis << 16 | 0x7 << COUNTER_BITS | counter;
        let low = u64::from_be_bytes(message.to_bytes()) | 0b10 << 62;
        Self((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
    }

    /// The least there can be of those stored after `moment`; `None` if none can be.
    #[must_use]
    pub fn first_after(moment: Millis) -> Option<Self> {
        let next = moment.0.checked_add(1).filter(|next| *next <= LAST_MILLIS)?;
        Some(Self::new(Stamp(next << COUNTER_BITS), MessageKey([0; 8])))
    }

    /// From its bytes; `None` if they are no UUID of version 7.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        let uuid = Uuid::from_bytes(bytes);
        (uuid.get_version_num() == 7 && uuid.get_variant() == Variant::RFC4122).then_some(Self(bytes))
    }

    /// Its bytes, in the order of storing.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// When it was stored.
    #[must_use]
    pub fn time(self) -> Millis {
        Millis(self.stamp().0 >> COUNTER_BITS)
    }

    /// When it was stored, among all in its store.
    #[must_use]
    pub fn stamp(self) -> Stamp {
        let number = u128::from_be_bytes(self.0);
        let (millis, counter) = ((number >> 80) as u64, (number >> 64) as u64 & ((1 << COUNTER_BITS) - 1));
        Stamp(millis << COUNTER_BITS | counter)
    }

    /// Which message it is.
    #[must_use]
    pub fn message(self) -> MessageKey {
        let [.., a, b, c, d, e, f, g, h] = self.0;
        MessageKey([a & 0x3f, b, c, d, e, f, g, h])
    }
}

impl fmt::Display for BlobId {
    /// Lower-case digits in five groups, as RFC 9562, section 4, writes them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_bytes(self.0).as_hyphenated().fmt(f)
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no blob id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a UUID of version 7 in five groups of digits")]
pub struct NotABlobId;

impl FromStr for BlobId {
    type Err = NotABlobId;

    /// Digits in either case.
    fn from_str(text: &str) -> Result<Self, NotABlobId> {
        let uuid = Uuid::try_parse(text).ok().filter(|_| text.len() == TEXT_BYTES).ok_or(NotABlobId)?;
        Self::from_bytes(uuid.into_bytes()).ok_or(NotABlobId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(bits: u64) -> MessageKey {
        MessageKey::from_bytes((bits & (u64::MAX >> 2)).to_be_bytes()).unwrap()
    }

    fn id(stamp: u64, bits: u64) -> BlobId {
        BlobId::new(Stamp::new(stamp & (u64::MAX >> 4)).unwrap(), message(bits))
    }

    #[test]
    fn it_is_the_uuid_that_the_rfc_lays_out() {
        // The time of RFC 9562, appendix A.6: 2022-02-22 14:22:22 at UTC-5.
        let stamp = Stamp::new(0x017f_22e2_79b0 << 12 | 0xcc3).unwrap();
        let id = BlobId::new(stamp, message(0x18c4_dc0c_0c07_398f));
        assert_eq!(id.to_string(), "017f22e2-79b0-7cc3-98c4-dc0c0c07398f");
        assert_eq!(id.time(), Millis(1_645_557_742_000));
    }

    #[test]
    fn what_is_no_such_uuid_is_refused() {
        for text in [
            "",
            "017f22e2-79b0-4cc3-98c4-dc0c0c07398f",
            "017f22e2-79b0-7cc3-18c4-dc0c0c07398f",
            "017f22e279b07cc398c4dc0c0c07398f",
            "{017f22e2-79b0-7cc3-98c4-dc0c0c07398f}",
            "017f22e2-79b0-7cc3-98c4-dc0c0c07398g",
        ] {
            assert_eq!(text.parse::<BlobId>(), Err(NotABlobId), "{text}");
        }
    }

    #[test]
    fn stamps_grow_though_the_clock_stands_runs_back_or_overflows() {
        let start = Stamp::default().next(Millis(1_000)).unwrap();
        let same = start.next(Millis(1_000)).unwrap();
        let back = same.next(Millis(10)).unwrap();
        assert!(start < same && same < back);
        let many = (0..10_000).fold(start, |last, _| last.next(Millis(1_000)).unwrap());
        assert_eq!(BlobId::new(many, message(0)).time(), Millis(1_002));
        assert_eq!(many.next(Millis(2_000)).map(|next| BlobId::new(next, message(0)).time()), Some(Millis(2_000)));
    }

    #[test]
    fn no_stamp_comes_after_the_last() {
        let last = Stamp::new((1 << 60) - 1).unwrap();
        assert_eq!(last.next(Millis(0)), None);
        assert_eq!(Stamp::new(1 << 60), None);
        assert_eq!(BlobId::first_after(Millis(u64::MAX)), None);
    }

    proptest! {
        #[test]
        fn it_tells_its_stamp_and_its_message(stamp: u64, bits: u64) {
            let id = id(stamp, bits);
            prop_assert_eq!(id.stamp().get(), stamp & (u64::MAX >> 4));
            prop_assert_eq!(id.message(), message(bits));
            prop_assert_eq!(BlobId::from_bytes(id.to_bytes()), Some(id));
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            prop_assert_eq!(id.to_string().to_uppercase().parse(), Ok(id));
        }

        #[test]
        fn ids_are_in_the_order_of_their_stamps(a: (u64, u64), b: (u64, u64)) {
            let (a, b) = (id(a.0, a.1), id(b.0, b.1));
            prop_assert_eq!(a.cmp(&b), (a.stamp(), a.message()).cmp(&(b.stamp(), b.message())));
        }

        #[test]
        fn the_first_after_a_moment_parts_the_ids(moment in 0..LAST_MILLIS, stamp: u64, bits: u64) {
            let id = id(stamp, bits);
            prop_assert_eq!(id < BlobId::first_after(Millis(moment)).unwrap(), id.time() <= Millis(moment));
        }
    }
}
