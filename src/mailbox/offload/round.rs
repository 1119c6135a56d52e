//! Which blobs go, and to whom, until there is room.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;

use super::notes::Note;
use super::send::Sent;
use crate::cluster::regions::PeerName;
use crate::domain::mailbox::charge;
use crate::domain::offload::{Room, roomiest};
use crate::mailbox::MailboxService;
use crate::mailbox::labels::BlobHeader;
use crate::store::{AgeCursor, Carried, PageLimit, StoreError};

/// Blobs that are offered at a time.
const BATCH: PageLimit = PageLimit { blobs: 128, bytes: 2 << 20 };

/// Batches whose answers are not all in.
const IN_FLIGHT: usize = 2;

/// The least rest between two batches. Otherwise it rests as long as the batch took, so that others get the disk too.
const LEAST_REST: Duration = Duration::from_millis(1);

/// How far blobs are moved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// Until no more than this part of what may be stored is.
    Below(f64),
    /// The same, without a rest between two batches.
    Fast(f64),
}

impl Goal {
    fn part(self) -> f64 {
        match self {
            Self::Below(part) | Self::Fast(part) => part,
        }
    }
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// Blobs that have moved, by peer.
    pub blobs: u64,
    /// The bytes that they were charged.
    pub bytes: u64,
    /// Blobs that were refused.
    pub refused: u64,
    /// Bytes that are still too many.
    pub left: u64,
    /// How much went to whom: blobs, and bytes.
    pub to: HashMap<PeerName, (u64, u64)>,
}

impl Progress {
    fn add(&mut self, peer: &PeerName, sent: Sent) {
        self.blobs += sent.blobs;
        self.bytes += sent.bytes;
        self.refused += sent.refused;
        let to = self.to.entry(peer.clone()).or_default();
        (to.0, to.1) = (to.0 + sent.blobs, to.1 + sent.bytes);
    }
}

/// A walk along the oldest blobs.
struct Walk {
    after: Option<AgeCursor>,
    is_over: bool,
    /// Peers that take nothing more this time.
    shut: BTreeSet<PeerName>,
}

impl MailboxService {
    /// Moves the oldest blobs to peers until the goal is reached, nothing is left that may move, or nobody takes more.
    /// One at a time does; others wait.
    ///
    /// # Errors
    /// When the store fails; what was moved before stays moved.
    pub async fn offload(&self, goal: Goal, mut tell: impl FnMut(&Progress)) -> Result<Progress, StoreError> {
        let turn = self.inner.offload.turn.clone().acquire_owned().await;
        let (mut progress, mut flying) = (Progress::default(), FuturesUnordered::new());
        let mut walk = Walk { after: None, is_over: false, shut: BTreeSet::new() };
        let mut under_way = 0;
        loop {
            progress.left = self.room().await?.above(goal.part());
            tell(&progress);
            let begun = Instant::now();
            while flying.len() < IN_FLIGHT && progress.left > under_way {
                let Some((note, blobs)) = self.next_batch(&mut walk, progress.left - under_way).await? else { break };
                let bytes: u64 = blobs.iter().map(|blob| charge(blob.body.len())).sum();
                under_way += bytes;
                let peer = note.peer.clone();
                let active = Active { service: self, key: note.key.clone() };
                flying.push(async move {
                    let sent = self.offer(note, blobs).await;
                    drop(active);
                    (peer, bytes, sent)
                });
            }
            let Some((peer, bytes, sent)) = flying.next().await else { break };
            under_way -= bytes;
            let sent = sent?;
            progress.add(&peer, sent);
            if sent.shut {
                walk.shut.insert(peer);
            }
            if matches!(goal, Goal::Below(_)) {
                tokio::time::sleep(begun.elapsed().max(LEAST_REST)).await;
            }
        }
        drop(turn);
        if progress.blobs + progress.refused > 0 {
            let Progress { blobs, bytes, refused, left, .. } = progress;
            tracing::info!(blobs, bytes, refused, left, "moved blobs to other clusters");
        }
        Ok(progress)
    }

    /// What would move, and to whom: blobs and bytes, as far as can be said before anybody is asked.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn offload_plan(&self, part: f64) -> Result<Progress, StoreError> {
        let (mut plan, mut rooms) = (Progress::default(), self.rooms(&BTreeSet::new()));
        plan.left = self.room().await?.above(part);
        let mut after = None;
        while plan.left > 0 {
            let oldest = self.inner.store.oldest(after, 0, BATCH, self.moment()).await?;
            for blob in oldest.blobs.iter().filter(|blob| may_move(blob)) {
                let Some(peer) = self.roomiest(&rooms).filter(|_| plan.left > 0) else { return Ok(plan) };
                let bytes = charge(blob.body.len());
                plan.add(&peer, Sent { blobs: 1, bytes, ..Sent::default() });
                plan.left = plan.left.saturating_sub(bytes);
                if let Some(room) = rooms.get_mut(&peer) {
                    room.used += bytes;
                }
            }
            after = oldest.next;
            if after.is_none() {
                break;
            }
        }
        Ok(plan)
    }

    /// The next blobs of about so many bytes, and a durable note that they are offered to the peer with most room.
    async fn next_batch(&self, walk: &mut Walk, bytes: u64) -> Result<Option<(Note, Vec<Carried>)>, StoreError> {
        let offered = self.offered().await?;
        while !walk.is_over {
            let Some(peer) = self.roomiest(&self.rooms(&walk.shut)) else { return Ok(None) };
            let mut oldest = self.inner.store.oldest(walk.after, 0, BATCH, self.moment()).await?;
            let mut needed = bytes;
            {
                let (refusals, now) = (self.inner.offload.refusals.lock(), Instant::now());
                oldest.blobs.retain(|blob| {
                    let goes = needed > 0 && may_move(blob) && !refusals.has(&peer, blob.place.id, now);
                    needed -= if goes { needed.min(charge(blob.body.len())) } else { 0 };
                    goes
                });
            }
            // What is not needed now may be later, in another round.
            (walk.after, walk.is_over) = (oldest.next, oldest.next.is_none());
            let items = offered.add(oldest.blobs.iter().map(|blob| (blob.mailbox, blob.place.id)).collect());
            oldest.blobs.retain(|blob| items.contains(&(blob.mailbox, blob.place.id)));
            if items.is_empty() {
                continue;
            }
            let note = Note::new(peer, items);
            self.inner.offload.active.lock().insert(note.key.clone());
            if let Err(error) = self.keep_note(&note).await {
                self.inner.offload.active.lock().remove(&note.key);
                offered.remove(&note.items);
                return Err(error);
            }
            return Ok(Some((note, oldest.blobs)));
        }
        Ok(None)
    }

    /// The peers that take blobs, and how much room they have.
    fn rooms(&self, shut: &BTreeSet<PeerName>) -> HashMap<PeerName, Room> {
        let rooms = self.inner.cluster.afar.out.get().map(|out| out.rooms()).unwrap_or_default();
        let (refusals, now) = (self.inner.offload.refusals.lock(), Instant::now());
        let is_open = |peer: &PeerName| !shut.contains(peer) && !refusals.is_shut(peer, now);
        rooms.into_iter().filter(|(peer, _)| is_open(peer)).collect()
    }

    fn roomiest(&self, rooms: &HashMap<PeerName, Room>) -> Option<PeerName> {
        let refuse = self.inner.settings.offload?.refuse;
        roomiest(rooms.iter().map(|(peer, room)| (peer.clone(), *room)), refuse)
    }
}

/// A note whose answers are awaited. If that is broken off, the note is settled like any other.
struct Active<'a> {
    service: &'a MailboxService,
    key: Bytes,
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.service.inner.offload.active.lock().remove(&self.key);
    }
}

/// Whether a blob may move: messages between devices stay where their client's devices are known.
fn may_move(blob: &Carried) -> bool {
    blob.place.rank == 0 && BlobHeader::decode(&blob.header).is_some()
}
