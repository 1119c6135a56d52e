//! A walk along the oldest blobs: which are offered next, and to whom.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Instant;

use smallvec::SmallVec;

use super::awaited::{Awaiting, Pace};
use super::notes::{Item, Note};
use crate::cluster::regions::PeerName;
use crate::domain::mailbox::{Place, charge};
use crate::domain::offload::{Room, roomiest};
use crate::mailbox::MailboxService;
use crate::mailbox::labels::BlobHeader;
use crate::store::{AgeCursor, Carried, PageLimit, StoreError};

/// Blobs that are offered at a time.
pub const BATCH: PageLimit = PageLimit { blobs: 256, bytes: 1 << 20 };

/// Who has refused a blob in this walk.
pub type Refusers = SmallVec<[PeerName; 2]>;

/// A walk along the oldest blobs.
pub struct Walk {
    /// Batches that a peer is offered before it has answered for the first of them.
    in_flight: usize,
    after: Option<AgeCursor>,
    is_over: bool,
    /// Peers that take nothing more this time.
    shut: BTreeSet<PeerName>,
    /// What was read and is not offered yet, or was refused and goes to others: no more is read before it is gone.
    waiting: VecDeque<(Carried, Refusers)>,
}

/// Blobs that are to be offered to a peer, under a note that is durable.
pub struct Batch {
    pub note: Note,
    pub blobs: Vec<Carried>,
    pub awaiting: Awaiting,
    /// Who has refused some of them before.
    pub refusers: HashMap<Item, Refusers>,
}

impl Batch {
    /// What they are charged.
    pub fn bytes(&self) -> u64 {
        self.blobs.iter().map(|blob| charge(blob.body.len())).sum()
    }
}

impl Walk {
    /// One from the oldest on, that offers a peer so many batches at once.
    pub fn new(in_flight: usize) -> Self {
        Self { in_flight, after: None, is_over: false, shut: BTreeSet::new(), waiting: VecDeque::new() }
    }

    /// A peer takes nothing more.
    pub fn shut(&mut self, peer: PeerName) {
        self.shut.insert(peer);
    }
}

impl MailboxService {
    /// The next blobs of about so many bytes, and a durable note that they are offered to the peer with most room that
    /// does not refuse them. `None` if there are none, or whoever is to have them has not answered for earlier ones.
    pub(super) async fn next_batch(&self, walk: &mut Walk, bytes: u64) -> Result<Option<Batch>, StoreError> {
        let offered = self.offered().await?;
        loop {
            if walk.waiting.is_empty() && !self.read_on(walk).await? {
                return Ok(None);
            }
            let Some((peer, chosen)) = self.choose(walk, bytes) else {
                // What nobody takes is left out; what waits for somebody stays.
                if walk.waiting.is_empty() { continue } else { return Ok(None) }
            };
            let items = offered.add(chosen.iter().map(|(blob, _)| item(blob)).collect());
            let note = Note::new(peer, items);
            let now = Instant::now();
            let Some(awaiting) = self.inner.offload.awaited.begin(&note, now).filter(|_| !note.items.is_empty()) else {
                continue;
            };
            if let Err(error) = self.keep_note(&note).await {
                offered.remove(&note.items);
                return Err(error);
            }
            let (mut blobs, mut refusers) = (Vec::with_capacity(chosen.len()), HashMap::new());
            for (blob, by) in chosen.into_iter().filter(|(blob, _)| note.items.contains(&item(blob))) {
                if !by.is_empty() {
                    refusers.insert(item(&blob), by);
                }
                blobs.push(blob);
            }
            return Ok(Some(Batch { note, blobs, awaiting, refusers }));
        }
    }

    /// Some blobs were refused by a peer: they go to others, if there are any that have not refused them.
    pub(super) async fn try_others(
        &self,
        walk: &mut Walk,
        peer: &PeerName,
        refused: Vec<Item>,
        mut refusers: HashMap<Item, Refusers>,
    ) -> Result<(), StoreError> {
        let rooms = self.rooms(&walk.shut);
        for item in refused {
            let mut by = refusers.remove(&item).unwrap_or_default();
            by.push(peer.clone());
            if rooms.keys().any(|other| !by.contains(other)) {
                let place = Place { rank: 0, id: item.1 };
                // As it is now: it may have been delivered meanwhile, or be gone.
                let blob = self.inner.store.whole(item.0, place, self.moment()).await?;
                walk.waiting.extend(blob.map(|blob| (blob, by)));
            }
        }
        Ok(())
    }

    /// Reads the next blobs; false if there are none, or nobody takes any.
    async fn read_on(&self, walk: &mut Walk) -> Result<bool, StoreError> {
        while walk.waiting.is_empty() {
            if walk.is_over || self.rooms(&walk.shut).is_empty() {
                return Ok(false);
            }
            let oldest = self.inner.store.oldest(walk.after, 0, BATCH, self.moment()).await?;
            (walk.after, walk.is_over) = (oldest.next, oldest.next.is_none());
            walk.waiting.extend(oldest.blobs.into_iter().filter(may_move).map(|blob| (blob, Refusers::new())));
        }
        Ok(true)
    }

    /// The first that go to one peer, of about so many bytes, and who that is. Leaves out what nobody takes.
    fn choose(&self, walk: &mut Walk, bytes: u64) -> Option<(PeerName, Vec<(Carried, Refusers)>)> {
        let (now, awaited) = (Instant::now(), &self.inner.offload.awaited);
        let mut rooms = self.rooms(&walk.shut);
        let pace = |peer: &PeerName| (peer.clone(), awaited.pace(peer, walk.in_flight, now));
        let paces: HashMap<_, _> = rooms.keys().map(pace).collect();
        rooms.retain(|peer, _| paces.get(peer) != Some(&Pace::Slow));
        if rooms.is_empty() {
            return None;
        }
        let refusals = self.inner.offload.refusals.lock();
        let (mut to, mut chosen, mut body_bytes, mut needed) = (None, Vec::new(), 0, bytes);
        for (blob, by) in std::mem::take(&mut walk.waiting) {
            let takes = |peer: &PeerName| !by.contains(peer) && !refusals.has(peer, blob.place.id, now);
            let takers = rooms.iter().filter(|(peer, _)| takes(peer));
            let Some(peer) = self.roomiest(takers) else { continue };
            let fits = chosen.len() < BATCH.blobs && body_bytes < BATCH.bytes && needed > 0;
            let is_next = to.as_ref().map_or(paces.get(&peer) == Some(&Pace::Free), |to| *to == peer);
            if fits && is_next {
                body_bytes += blob.body.len();
                needed = needed.saturating_sub(charge(blob.body.len()));
                to = Some(peer);
                chosen.push((blob, by));
            } else {
                walk.waiting.push_back((blob, by));
            }
        }
        Some((to?, chosen))
    }

    /// The peers that take blobs, and how much room they have.
    pub(super) fn rooms(&self, shut: &BTreeSet<PeerName>) -> HashMap<PeerName, Room> {
        let rooms = self.inner.cluster.afar.out.get().map(|out| out.rooms()).unwrap_or_default();
        let (refusals, now) = (self.inner.offload.refusals.lock(), Instant::now());
        let is_open = |peer: &PeerName| !shut.contains(peer) && !refusals.is_shut(peer, now);
        rooms.into_iter().filter(|(peer, _)| is_open(peer)).collect()
    }

    /// Which of these has most room.
    pub(super) fn roomiest<'a>(&self, rooms: impl Iterator<Item = (&'a PeerName, &'a Room)>) -> Option<PeerName> {
        let refuse = self.inner.settings.offload?.refuse;
        roomiest(rooms.map(|(peer, room)| (peer, *room)), refuse).cloned()
    }
}

fn item(blob: &Carried) -> Item {
    (blob.mailbox, blob.place.id)
}

/// Whether a blob may move: messages between devices stay where their client's devices are known.
pub fn may_move(blob: &Carried) -> bool {
    blob.place.rank == 0 && BlobHeader::decode(&blob.header).is_some()
}
