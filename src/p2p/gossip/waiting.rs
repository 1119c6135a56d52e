//! Messages that wait to be sent, of all peers together: how much memory they take, and for how long.
//!
//! A message is in memory once, in however many queues it stands. It is given up, wherever it still stands, when it is too old,
//! or when a new one has no room and it is the oldest. So who reads slowly, or not at all, misses messages, and takes
//! nobody's memory for longer than that.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::limits::kib;

/// How long a message may wait.
pub const AGE: Duration = Duration::from_secs(20);

/// Messages that have gone are looked for in the list when it has grown to this, or to twice what it had then.
const FEW: usize = 1024;

/// A message that is sent to many peers.
#[derive(Debug)]
pub struct Parcel {
    bytes: usize,
    born: Instant,
    /// Or why it is given up.
    content: Mutex<Result<Content, &'static str>>,
}

#[derive(Debug)]
struct Content {
    framed: Bytes,
    waiting_bytes: Gauge,
    _room: OwnedSemaphorePermit,
}

impl Drop for Content {
    fn drop(&mut self) {
        self.waiting_bytes.dec_by(self.framed.len() as i64);
    }
}

impl Parcel {
    /// How long it is, or was.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What to send at `now`: an RPC, with its length before it.
    ///
    /// # Errors
    /// Why there is nothing to be sent any more, in one word for figures.
    pub fn framed(&self, now: Instant) -> Result<Bytes, &'static str> {
        if self.is_old(now) {
            self.give_up("old");
        }
        self.content.lock().as_ref().map(|content| content.framed.clone()).map_err(|why| *why)
    }

    /// Why nobody gets it any more, if so.
    pub fn given_up(&self) -> Option<&'static str> {
        self.content.lock().as_ref().err().copied()
    }

    fn is_old(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.born) >= AGE
    }

    fn give_up(&self, why: &'static str) {
        let mut content = self.content.lock();
        if content.is_ok() {
            *content = Err(why);
        }
    }
}

/// All that wait.
#[derive(Debug)]
pub struct Waiting {
    /// KiB that they may take, and how many of them are free.
    kib: usize,
    room: Arc<Semaphore>,
    list: Mutex<List>,
    bytes: Gauge,
}

#[derive(Debug, Default)]
struct List {
    oldest_first: VecDeque<Weak<Parcel>>,
    /// How long it was when those that have gone were last looked for.
    looked_at: usize,
}

impl Waiting {
    /// So many KiB at once; `bytes` tells how much there is.
    pub fn new(kib: usize, bytes: &Gauge) -> Self {
        Self { kib, room: Arc::new(Semaphore::new(kib)), list: Mutex::default(), bytes: bytes.clone() }
    }

    /// A message that waits from `now` on; the oldest are given up for it. None, if it is larger than all that may wait.
    pub fn parcel(&self, framed: Bytes, now: Instant) -> Option<Arc<Parcel>> {
        let takes = kib(framed.len()).get();
        if takes as usize > self.kib {
            return None;
        }
        let mut list = self.list.lock();
        list.expire(now);
        let room = loop {
            match self.room.clone().try_acquire_many_owned(takes) {
                Ok(room) => break room,
                Err(_) => list.shed()?,
            }
        };
        self.bytes.inc_by(framed.len() as i64);
        let bytes = framed.len();
        let content = Content { framed, waiting_bytes: self.bytes.clone(), _room: room };
        let parcel = Arc::new(Parcel { bytes, born: now, content: Mutex::new(Ok(content)) });
        list.push(&parcel);
        Some(parcel)
    }

    /// Gives up what is too old at `now`.
    pub fn expire(&self, now: Instant) {
        self.list.lock().expire(now);
    }
}

impl List {
    fn push(&mut self, parcel: &Arc<Parcel>) {
        if self.oldest_first.len() >= FEW.max(2 * self.looked_at) {
            self.oldest_first.retain(|known| known.strong_count() > 0);
            self.looked_at = self.oldest_first.len();
        }
        self.oldest_first.push_back(Arc::downgrade(parcel));
    }

    fn expire(&mut self, now: Instant) {
        while let Some(oldest) = self.oldest_first.front() {
            match oldest.upgrade() {
                Some(parcel) if !parcel.is_old(now) => return,
                Some(parcel) => parcel.give_up("old"),
                None => {}
            }
            self.oldest_first.pop_front();
        }
    }

    /// Gives up the oldest, if there is one.
    fn shed(&mut self) -> Option<()> {
        let oldest = self.oldest_first.pop_front()?;
        if let Some(parcel) = oldest.upgrade() {
            parcel.give_up("memory");
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: usize) -> Bytes {
        vec![0; bytes].into()
    }

    #[test]
    fn the_oldest_make_room_and_what_never_fits_is_refused() {
        let (gauge, now) = (Gauge::default(), Instant::now());
        let waiting = Waiting::new(4, &gauge);
        let parcels: Vec<_> = (0..4).map(|_| waiting.parcel(message(1024), now).unwrap()).collect();
        let large = waiting.parcel(message(1500), now).unwrap();
        let given_up: Vec<_> = parcels.iter().map(|parcel| parcel.given_up()).collect();
        assert_eq!(given_up, [Some("memory"), Some("memory"), None, None]);
        assert_eq!((parcels[0].framed(now), large.framed(now)), (Err("memory"), Ok(message(1500))));
        assert_eq!(gauge.get(), 2048 + 1500);
        assert!(waiting.parcel(message(5000), now).is_none() && large.given_up().is_none());
        drop((parcels, large));
        assert_eq!(gauge.get(), 0);
    }

    #[test]
    fn what_is_old_is_given_up_wherever_it_stands() {
        let (waiting, now) = (Waiting::new(4, &Gauge::default()), Instant::now());
        let [first, second] = [0, 10].map(|secs| waiting.parcel(message(1), now + Duration::from_secs(secs)).unwrap());
        waiting.expire(now + AGE);
        assert_eq!((first.given_up(), second.given_up()), (Some("old"), None));
        assert_eq!(waiting.room.available_permits(), 3);
    }

    #[test]
    fn the_list_does_not_grow_by_what_has_gone() {
        let (waiting, now) = (Waiting::new(4, &Gauge::default()), Instant::now());
        let stays = waiting.parcel(message(1), now).unwrap();
        for _ in 0..10 * FEW {
            drop(waiting.parcel(message(1), now).unwrap());
        }
        assert!(waiting.list.lock().oldest_first.len() <= FEW + 1);
        assert_eq!(stays.given_up(), None);
    }
}
