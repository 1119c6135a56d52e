//! Peers that have their places in other clusters: who says so is asked for the circuit.

use std::collections::HashMap;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use libp2p::PeerId;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::cluster::absences::Absences;
use crate::cluster::proto::CircuitOpen;
use crate::cluster::regions::{PATIENCE, PeerName};
use crate::observe::metrics::count;
use crate::runtime::time;
use crate::wire::p2p::circuit::Status;

use super::connect::{FAR_PATIENCE, Half, refused};
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
        let ask = |cluster: PeerName| async move { (self.has_it(&cluster, &target).await, cluster) };
        let mut asked: FuturesUnordered<_> = clusters.into_iter().map(ask).collect();
        let mut connected = None;
        while let Some((has_it, cluster)) = asked.next().await {
            match has_it {
                Some(true) => {
                    connected = Some(self.at_cluster(&cluster, source, target).await);
                    if matches!(connected, Some(Ok(_))) {
                        break;
                    }
                }
                Some(false) => {
                    if !afar.absences.lock().note(&target, &cluster, time::now()) {
                        self.inner.metrics.drop_one("circuits", "absences");
                    }
                }
                None => drop(figures.silent.inc()),
            }
        }
        count(&figures.lookups, if connected.is_some() { "found" } else { "absent" });
        connected
    }

    /// Whether the cluster has the peer, if it says so in time.
    async fn has_it(&self, cluster: &PeerName, peer: &PeerId) -> Option<bool> {
        let places = self.inner.afar.questions_to(cluster);
        let asking = async {
            let _place = places.acquire().await.ok()?;
            self.inner.cluster.afar.standing_at(cluster, &principal(peer)).await
        };
        timeout(PATIENCE, asking).await.ok().flatten().map(|standing| standing.is_some())
    }

    async fn at_cluster(&self, cluster: &PeerName, source: PeerId, target: PeerId) -> Result<Half, NotConnected> {
        let gone = (Status::ConnectionFailed, "region_failed");
        let open = CircuitOpen { hello: None, source: source.to_bytes().into(), target: target.to_bytes().into() };
        let asked = self.inner.cluster.afar.out.get().ok_or(gone)?.circuit(cluster, open, FAR_PATIENCE);
        match asked.await {
            Ok(answered) => answered.map(|half| Half::Afar(Box::new(half))).map_err(refused),
            Err(error) => {
                tracing::debug!(peer = %cluster, %error, "a circuit was not connected");
                Err(gone)
            }
        }
    }
}
