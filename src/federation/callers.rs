//! The nodes of other clusters that have called, and what one party may have of what there is.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::inflow::READING;
use super::proof::PeerProof;
use super::proto::frame::Body;
use super::queue::Queue;
use crate::cluster::links::LinkRefused;
use crate::cluster::links::accept::Doors;
use crate::cluster::proto::{Reply, reply};
use crate::cluster::shares::{Limits, Party, Place, Places, Shares};
use crate::security::peer_tls::Shown;

/// Links, of which a node has one to each address that it calls, and for a while those that it has lost.
const LINKS: Limits = Limits { party: 8, group: 64, all: 256 };

/// Connections: a link has up to four.
const CONNECTIONS: Limits = Limits { party: 4 * LINKS.party, group: 4 * LINKS.group, all: 4 * LINKS.all };

/// Circuits that come from other clusters. With what is under way of each a party fills 128 MiB, and all 512 MiB.
pub const CIRCUITS: Limits = Limits { party: 256, group: 512, all: 1024 };

/// Streams on which blobs are offered: a node offers on four at most, and on one more what was left open.
const OFFERS: Limits = Limits { party: 16, group: 32, all: 64 };

/// Pages that are being read: those of two connections' streams.
const PULLS: Limits = Limits { party: 128, group: 256, all: 512 };

/// Questions that are worked on; more are answered with a failure.
const QUESTIONS: Limits = Limits { party: 256, group: 1024, all: 4096 };

/// Everybody who has called.
pub struct Callers {
    links: Mutex<HashMap<u64, Caller>>,
    last: AtomicU64,
    questions: Arc<Mutex<Shares>>,
    places: Places,
    /// Connections, by whom they are made.
    pub doors: Doors,
    /// Streams on which blobs are offered.
    pub offers: Places,
    /// Pages that are being read.
    pub pulls: Places,
    /// Circuits.
    pub circuits: Places,
    /// Bytes of long messages that are being read.
    pub reading: Places,
}

/// A node of another cluster that has called; clones are of the same link.
#[derive(Clone)]
pub struct Caller {
    /// Frames on their way to it.
    pub queue: Queue,
    party: Party,
    open: Arc<Open>,
}

/// Its questions that are not answered yet.
struct Open {
    count: AtomicUsize,
    party: Party,
    of_all: Arc<Mutex<Shares>>,
}

/// A link, until this is dropped.
pub struct Standing {
    callers: Arc<Callers>,
    /// Its number.
    pub number: u64,
    _place: Place,
}

impl Callers {
    /// Nobody yet.
    pub fn new(proof: &PeerProof) -> Self {
        let proof = proof.clone();
        let whose = move |address: IpAddr, shown: &Shown| proof.party(address, shown);
        Self {
            links: Mutex::default(),
            last: AtomicU64::new(0),
            questions: Arc::new(Mutex::new(Shares::new(QUESTIONS))),
            places: Places::new(LINKS),
            doors: Doors::new(CONNECTIONS, Arc::new(whose)),
            offers: Places::new(OFFERS),
            pulls: Places::new(PULLS),
            circuits: Places::new(CIRCUITS),
            reading: Places::new(READING),
        }
    }

    /// One more link of that party; `None` if it has as many as it may have.
    pub fn begin(self: &Arc<Self>, party: &Party, queue: &Queue) -> Option<Standing> {
        let place = self.places.take(party, 1)?;
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let open = Open { count: AtomicUsize::new(0), party: party.clone(), of_all: self.questions.clone() };
        let caller = Caller { queue: queue.clone(), party: party.clone(), open: Arc::new(open) };
        self.links.lock().insert(number, caller);
        Some(Standing { callers: self.clone(), number, _place: place })
    }

    /// The link of that number.
    pub fn get(&self, number: u64) -> Option<Caller> {
        self.links.lock().get(&number).cloned()
    }

    /// Whose that link is.
    pub fn party(&self, number: u64) -> Option<Party> {
        self.links.lock().get(&number).map(|caller| caller.party.clone())
    }

    /// Whether nobody has called.
    pub fn is_empty(&self) -> bool {
        self.links.lock().is_empty()
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.callers.links.lock().remove(&self.number);
    }
}

impl Caller {
    /// A question begins, if `ask` is one's number; false if its party asks too much at a time.
    pub fn may_ask(&self, ask: u64) -> bool {
        let may = ask == 0 || self.open.of_all.lock().take(&self.party, 1);
        if may && ask != 0 {
            self.open.count.fetch_add(1, Ordering::AcqRel);
        }
        may
    }

    /// A question has been worked on.
    pub fn answered(&self) {
        let open = &self.open.count;
        let lowered = open.fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| open.checked_sub(1));
        if lowered.is_ok() {
            self.open.of_all.lock().give_back(&self.party, 1);
        }
    }

    /// Answers a question.
    ///
    /// # Errors
    /// [`LinkRefused`], at once; the queue has counted it.
    pub fn reply(&self, ask: u64, body: reply::Body) -> Result<(), LinkRefused> {
        self.queue.push(0, Body::Reply(Reply { ask, body: Some(body) }))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.of_all.lock().give_back(&self.party, self.count.load(Ordering::Acquire));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::metrics::Metrics;

    #[test]
    fn what_a_party_asks_is_counted_over_all_its_links_and_forgotten_with_each() {
        let callers = Arc::new(Callers::new(&PeerProof::Nothing));
        let relay = |name: &str| Party::Relay(name.parse().unwrap(), IpAddr::from([10, 0, 0, 1]).into());
        let (queue, _batches) = Queue::new(Metrics::new());
        let link = |name: &str| callers.begin(&relay(name), &queue).unwrap();
        let (one, other, neighbour) = (link("a"), link("a"), link("b"));
        let caller = |standing: &Standing| callers.get(standing.number).unwrap();
        let asks = |standing: &Standing| (1..=300).filter(|ask| caller(standing).may_ask(*ask)).count();
        assert_eq!([asks(&one), asks(&other), asks(&neighbour)], [256, 0, 256]);
        caller(&one).answered();
        assert_eq!(asks(&other), 1);
        (0..2).for_each(|_| caller(&other).answered());
        assert_eq!(asks(&other), 1, "an answer too many gives nothing back");
        assert!(caller(&one).may_ask(0), "what is no question costs nothing");
        drop(one);
        assert_eq!(asks(&other), 255);
        assert!(callers.party(neighbour.number) == Some(relay("b")) && callers.get(1).is_none());
    }
}
