//! Peers that have their places in other clusters: who says so is asked for the circuit.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use futures::future::{FusedFuture, OptionFuture};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use libp2p::PeerId;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::cluster::absences::Absences;
use crate::cluster::regions::{PeerName, Word};
use crate::observe::metrics::count;
use crate::runtime::time;
use crate::wire::p2p::circuit::Status;

use super::connect::{FAR_PATIENCE, Half, open, refused};
use super::hop::NotConnected;
use super::{Circuits, principal};

/// Most questions to one other cluster at a time: a quarter of what it lets one party ask.
const MAX_QUESTIONS: usize = 64;

/// What a node remembers of other clusters for its circuits.
#[derive(Default)]
pub(super) struct Afar {
    absences: Mutex<Absences<PeerId>>,
    /// Bounds the questions to each.
    questions: Mutex<HashMap<PeerName, Arc<Semaphore>>>,
}

impl Afar {
    fn questions_to(&self, cluster: &PeerName) -> Arc<Semaphore> {
        self.questions.lock().entry(cluster.clone()).or_insert_with(|| Arc::new(Semaphore::new(MAX_QUESTIONS))).clone()
    }

    /// Those of `clusters` that may have the peer; nothing is kept for others than `clusters`.
    fn may_have(&self, peer: &PeerId, clusters: Vec<PeerName>) -> Vec<PeerName> {
        self.questions.lock().retain(|cluster, _| clusters.contains(cluster));
        let (absences, now) = (self.absences.lock(), time::now());
        clusters.into_iter().filter(|cluster| !absences.knows(peer, cluster, now)).collect()
    }
}

impl Circuits {
    /// Has another cluster connect the circuit: the first that says that it has the target, and the next if that one cannot.
    /// Nothing, if none has it.
    pub(super) async fn afar(&self, source: PeerId, target: PeerId) -> Option<Result<Half, NotConnected>> {
        let (afar, figures) = (&self.inner.afar, &self.inner.metrics.federation);
        let clusters = afar.may_have(&target, self.inner.cluster.afar.out.get()?.serving_peers());
        if clusters.is_empty() {
            count(&figures.lookups, "known");
            return None;
        }
        let whom = principal(&target);
        let ask = |cluster: PeerName| {
            let (places, whom) = (afar.questions_to(&cluster), &whom);
            async move { (self.inner.cluster.afar.word_of(&cluster, whom, &places).await, cluster) }
        };
        let mut asked: FuturesUnordered<_> = clusters.into_iter().map(ask).collect();
        // The others are heard while one connects: what is asked must not wait for that.
        let (mut have_it, mut connecting, mut connected) = (VecDeque::new(), OptionFuture::default(), None);
        loop {
            if connecting.is_terminated()
                && let Some(cluster) = have_it.pop_front()
            {
                connecting = Some(self.at_cluster(cluster, source, target).boxed().fuse()).into();
            }
            tokio::select! {
                Some((word, cluster)) = asked.next() => match word {
                    Word::Has(_) => have_it.push_back(cluster),
                    Word::HasNot => self.is_absent_at(&target, &cluster),
                    Word::Later => {}
                    Word::Nothing => drop(figures.silent.inc()),
                },
                Some(half) = &mut connecting => {
                    connected = Some(half);
                    if matches!(connected, Some(Ok(_))) {
                        break;
                    }
                }
                else => break,
            }
        }
        count(&figures.lookups, if connected.is_some() { "found" } else { "absent" });
        connected
    }

    /// The cluster is not asked for the peer for a while.
    fn is_absent_at(&self, peer: &PeerId, cluster: &PeerName) {
        if !self.inner.afar.absences.lock().note(peer, cluster, time::now()) {
            self.inner.metrics.drop_one("circuits", "absences");
        }
    }

    async fn at_cluster(&self, cluster: PeerName, source: PeerId, target: PeerId) -> Result<Half, NotConnected> {
        let gone = (Status::ConnectionFailed, "region_failed");
        let asked = self.inner.cluster.afar.out.get().ok_or(gone)?;
        let asked = asked.circuit(&cluster, open(source, target), FAR_PATIENCE);
        match asked.await {
            Ok(answered) => answered.map(|half| Half::Afar(Box::new(half))).map_err(refused),
            Err(error) => {
                tracing::debug!(peer = %cluster, %error, "a circuit was not connected");
                // Whatever it says: who asks again meanwhile need not wait for it.
                self.is_absent_at(&target, &cluster);
                Err(gone)
            }
        }
    }
}
