//! What came late not long ago: others are told of it again when their links are new.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::domain::mailbox::{MailboxKey, MessageKey, Place};

/// How long it is known what came late. A session that hears nothing of this node for longer finds it on its next
/// connection.
const MEMORY: Duration = Duration::from_secs(600);

/// Most places that are known: some 4 MiB. Beyond, the oldest are forgotten before their time.
const MAX: usize = 1 << 15;

/// Places of what came and may stand behind what sessions were sent already: blobs of other stores, and messages between
/// devices, which versions order.
#[derive(Debug, Default)]
pub struct Latecomers {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    order: VecDeque<(Instant, MailboxKey, Place)>,
    places: HashMap<MailboxKey, VecDeque<Place>>,
}

impl Latecomers {
    /// Something came late.
    pub fn note(&self, mailbox: MailboxKey, place: Place, now: Instant) {
        let mut state = self.state.lock();
        state.forget_old(now);
        if state.order.len() >= MAX {
            state.forget_first();
        }
        state.order.push_back((now, mailbox, place));
        state.places.entry(mailbox).or_default().push_back(place);
    }

    /// These have reached a recipient, and are not late for it any more.
    pub fn reached(&self, mailbox: &MailboxKey, messages: &[MessageKey]) {
        let mut state = self.state.lock();
        if let Some(places) = state.places.get_mut(mailbox) {
            places.retain(|place| !messages.contains(&place.id.message()));
            if places.is_empty() {
                state.places.remove(mailbox);
            }
        }
    }

    /// What came late in a mailbox.
    pub fn of(&self, mailbox: &MailboxKey, now: Instant) -> Vec<Place> {
        let mut state = self.state.lock();
        state.forget_old(now);
        state.places.get(mailbox).map(|places| places.iter().copied().collect()).unwrap_or_default()
    }
}

impl State {
    fn forget_old(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(since, ..)| now.duration_since(*since) >= MEMORY) {
            self.forget_first();
        }
    }

    /// Those of one mailbox stand in the order in which they came; some may have gone.
    fn forget_first(&mut self) {
        let Some((_, mailbox, place)) = self.order.pop_front() else { return };
        if let Some(places) = self.places.get_mut(&mailbox).filter(|places| places.front() == Some(&place)) {
            places.pop_front();
            if places.is_empty() {
                self.places.remove(&mailbox);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::mailbox::{BlobId, Stamp};

    fn place(stamp: u64) -> Place {
        Place { rank: 0, id: BlobId::new(Stamp::new(stamp).unwrap(), MessageKey::of("s", "r", "m")) }
    }

    #[test]
    fn it_is_known_for_a_while_and_of_each_mailbox_by_itself() {
        let (late, now) = (Latecomers::default(), Instant::now());
        let (x, y) = (MailboxKey::blobs("x"), MailboxKey::blobs("y"));
        late.note(x, place(1), now);
        late.note(y, place(2), now);
        late.note(x, place(3), now + MEMORY / 2);
        assert_eq!(late.of(&x, now + MEMORY / 2)[..], [place(1), place(3)]);
        assert_eq!(late.of(&x, now + MEMORY)[..], [place(3)]);
        assert!(late.of(&y, now + MEMORY).is_empty());
        assert!(late.of(&x, now + MEMORY * 2).is_empty() && late.state.lock().places.is_empty());
    }

    #[test]
    fn what_has_reached_a_recipient_is_not_late_any_more() {
        let (late, now, x) = (Latecomers::default(), Instant::now(), MailboxKey::blobs("x"));
        let message = |n: u64| MessageKey::of("s", "r", &n.to_string());
        let place = |n: u64| Place { rank: 0, id: BlobId::new(Stamp::new(n).unwrap(), message(n)) };
        (1..4).for_each(|n| late.note(x, place(n), now + Duration::from_secs(n)));
        late.reached(&x, &[message(1), message(3)]);
        late.reached(&MailboxKey::blobs("y"), &[message(2)]);
        assert_eq!(late.of(&x, now)[..], [place(2)]);
        // Those before it that have gone do not take it with them.
        assert_eq!(late.of(&x, now + Duration::from_secs(1) + MEMORY)[..], [place(2)]);
        late.reached(&x, &[message(2)]);
        assert!(late.of(&x, now).is_empty() && late.state.lock().places.is_empty());
    }

    #[test]
    fn of_too_many_the_oldest_are_forgotten() {
        let (late, now) = (Latecomers::default(), Instant::now());
        let of = |n: u64| MailboxKey::blobs(&n.to_string());
        (0..=MAX as u64).for_each(|n| late.note(of(n), place(n), now));
        assert!(late.of(&of(0), now).is_empty() && !late.of(&of(1), now).is_empty());
        assert_eq!(late.state.lock().order.len(), MAX);
    }
}
