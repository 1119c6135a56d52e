//! How often GIFs are searched for.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::security::address::AddressKey;

/// The bounds on the search for GIFs of a node.
#[derive(Debug, Clone, Copy)]
pub struct GifLimits {
    /// Requests of one peer, per minute.
    pub requests_per_minute: NonZeroU32,
    /// Requests from one address, per minute.
    pub address_requests_per_minute: NonZeroU32,
    /// Calls to the provider, in any minute; an eighth of them for one address.
    pub calls_per_minute: NonZeroU32,
    /// How long a call may take.
    pub patience: Duration,
    /// Memory for answers that are kept, in bytes.
    pub kept_bytes: u64,
    /// Addresses, and peers, whose rates are known one by one.
    pub tracked: usize,
}

/// The part of the calls in any minute that are made for one address.
const ADDRESS_SHARE: usize = 8;

/// A provider counts calls in a minute that may begin at any time, so this does too: after a pause there are no more than
/// after none.
#[derive(Debug)]
pub struct Calls {
    made: Mutex<Made>,
    most: usize,
}

/// The calls that count.
#[derive(Debug, Default)]
struct Made {
    calls: VecDeque<(Instant, Option<AddressKey>)>,
    /// How many of them are for each address.
    of: HashMap<AddressKey, usize>,
}

/// How long a call counts.
const COUNTS: Duration = Duration::from_secs(60);

impl Calls {
    /// None yet, of so many in any minute.
    pub fn new(per_minute: NonZeroU32) -> Self {
        Self { made: Mutex::default(), most: usize::try_from(per_minute.get()).unwrap_or(usize::MAX) }
    }

    /// One more at `now`, for somebody at that address, if it is known.
    ///
    /// # Errors
    /// What is used up, in one word for figures; it is not counted then.
    pub fn take(&self, address: Option<AddressKey>, now: Instant) -> Result<(), &'static str> {
        let mut made = self.made.lock();
        made.forget(now);
        if made.calls.len() >= self.most {
            return Err("rate");
        }
        let share = (self.most / ADDRESS_SHARE).max(1);
        if address.is_some_and(|address| made.of.get(&address).is_some_and(|of| *of >= share)) {
            return Err("address_calls");
        }
        made.calls.push_back((now, address));
        if let Some(address) = address {
            *made.of.entry(address).or_default() += 1;
        }
        Ok(())
    }
}

impl Made {
    /// Those that do not count any more.
    fn forget(&mut self, now: Instant) {
        while let Some((call, address)) = self.calls.front().copied()
            && now.saturating_duration_since(call) >= COUNTS
        {
            self.calls.pop_front();
            let of = address.and_then(|address| Some((address, self.of.get_mut(&address)?)));
            if let Some((address, of)) = of {
                *of -= 1;
                if *of == 0 {
                    self.of.remove(&address);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn no_minute_has_more_calls_than_it_may() {
        let (calls, begun) = (Calls::new(NonZeroU32::new(2).unwrap()), Instant::now());
        let at = |seconds| calls.take(None, begun + Duration::from_secs(seconds)).is_ok();
        assert_eq!([0, 30, 59, 60, 61, 89, 90, 119].map(at), [true, true, false, true, false, false, true, false]);
    }

    #[test]
    fn one_address_has_an_eighth_of_them() {
        let (calls, begun) = (Calls::new(NonZeroU32::new(16).unwrap()), Instant::now());
        let take = |host: u8, seconds| {
            let address = AddressKey::from(IpAddr::from([192, 0, 2, host]));
            calls.take(Some(address), begun + Duration::from_secs(seconds))
        };
        assert_eq!([0, 1, 2].map(|seconds| take(1, seconds)), [Ok(()), Ok(()), Err("address_calls")]);
        assert_eq!(take(1, 60), Ok(()), "the first counts no more");
        assert_eq!(take(1, 60), Err("address_calls"));
        for host in 2..16 {
            assert_eq!(take(host, 60), Ok(()));
        }
        assert_eq!(take(16, 60), Err("rate"));
        assert_eq!(take(1, 200), Ok(()));
        assert_eq!(calls.made.lock().of.len(), 1, "nothing stays behind");
    }
}
