//! A way to other clusters on which offers of blobs, and questions, meet what a test wants them to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use waystation::cluster::links::{AskError, FarHalf, LinkRefused};
use waystation::cluster::proto::{CircuitOpen, MailMoved, MailMoving, PullPage, PullRequest, frame::Body, reply};
use waystation::cluster::regions::{Answers, Caller, PeerName, Regions};
use waystation::cluster::shares::Party;
use waystation::domain::ids::NodeId;
use waystation::domain::offload::Room;

use super::TestNode;

type Fails = dyn FnMut(&Body) -> bool + Send;
type Change = dyn FnMut(&mut Vec<MailMoving>) + Send;
type Lose = dyn FnMut(&mut Vec<MailMoved>) + Send;

/// What happens to offers, on their way there and back, and which questions get there. Everything else passes.
pub struct Offers {
    real: Arc<dyn Regions>,
    is_asked: Mutex<fn(&Body) -> bool>,
    fails: Mutex<Box<Fails>>,
    there: Mutex<Box<Change>>,
    back: Arc<Mutex<Box<Lose>>>,
    /// Peers that take whatever they are offered or asked, and say nothing.
    silent: Mutex<Vec<PeerName>>,
    unanswered: AtomicUsize,
    /// Peers that are not seen to have room.
    full: Mutex<Vec<PeerName>>,
}

impl Offers {
    /// From now on the offers of this node go through `there`, and their answers through `back`.
    pub fn of(
        node: &TestNode,
        there: impl FnMut(&mut Vec<MailMoving>) + Send + 'static,
        back: impl FnMut(&mut Vec<MailMoved>) + Send + 'static,
    ) -> Arc<Self> {
        let out = &node.node().cluster.afar.out;
        let real = out.get().unwrap();
        let back: Box<Lose> = Box::new(back);
        let (there, back) = (Mutex::new(Box::new(there) as Box<Change>), Arc::new(Mutex::new(back)));
        let this = Arc::new(Self {
            real,
            is_asked: Mutex::new(|_| true),
            fails: Mutex::new(Box::new(|_| false)),
            there,
            back,
            silent: Mutex::default(),
            unanswered: AtomicUsize::new(0),
            full: Mutex::default(),
        });
        out.clear();
        out.fill(this.clone());
        this
    }

    /// From now on nothing that this node offers gets there.
    pub fn held(node: &TestNode) -> Arc<Self> {
        Self::of(node, |blobs| blobs.clear(), |_| ())
    }

    /// They go through `there`, and their answers through `back`, from now on.
    pub fn change(
        &self,
        there: impl FnMut(&mut Vec<MailMoving>) + Send + 'static,
        back: impl FnMut(&mut Vec<MailMoved>) + Send + 'static,
    ) {
        *self.back.lock() = Box::new(back);
        *self.there.lock() = Box::new(there);
    }

    /// Only such questions are asked from now on; others are not answered.
    pub fn ask_only(&self, is_asked: fn(&Body) -> bool) {
        *self.is_asked.lock() = is_asked;
    }

    /// Such questions are answered with a failure from now on.
    pub fn fail(&self, fails: impl FnMut(&Body) -> bool + Send + 'static) {
        *self.fails.lock() = Box::new(fails);
    }

    /// That peer says nothing any more.
    pub fn silence(&self, peer: &PeerName) {
        self.silent.lock().push(peer.clone());
    }

    /// How many offers were made to peers that say nothing.
    pub fn unanswered(&self) -> usize {
        self.unanswered.load(Ordering::Relaxed)
    }

    /// These peers, and no others, seem to have no room from now on.
    pub fn seem_full(&self, peers: &[PeerName]) {
        *self.full.lock() = peers.to_vec();
    }

    /// They go through unharmed again.
    pub fn mend(&self) {
        self.change(|_| (), |_| ());
    }
}

impl Regions for Offers {
    fn peers(&self) -> Vec<PeerName> {
        self.real.peers()
    }

    fn all_peers(&self) -> Vec<PeerName> {
        self.real.all_peers()
    }

    fn serving_peers(&self) -> Vec<PeerName> {
        self.real.serving_peers()
    }

    fn send(&self, peer: &PeerName, node: Option<&NodeId>, body: Body) -> Result<(), LinkRefused> {
        self.real.send(peer, node, body)
    }

    fn ask(
        &self,
        peer: &PeerName,
        node: Option<&NodeId>,
        body: Body,
        patience: Duration,
    ) -> BoxFuture<'static, Result<reply::Body, AskError>> {
        if !(self.is_asked.lock())(&body) {
            return async { Err(AskError::TimedOut) }.boxed();
        }
        if (self.fails.lock())(&body) {
            return async { Err(AskError::Failed("as the test wants it".to_owned())) }.boxed();
        }
        if self.silent.lock().contains(peer) {
            return tokio::time::sleep(patience).map(|()| Err(AskError::TimedOut)).boxed();
        }
        self.real.ask(peer, node, body, patience)
    }

    fn pull(
        &self,
        peer: &PeerName,
        node: &NodeId,
        what: PullRequest,
        patience: Duration,
    ) -> BoxFuture<'static, Result<PullPage, AskError>> {
        self.real.pull(peer, node, what, patience)
    }

    fn rooms(&self) -> Vec<(PeerName, Room)> {
        let full = self.full.lock();
        self.real.rooms().into_iter().filter(|(peer, _)| !full.contains(peer)).collect()
    }

    fn knows(&self, peer: &PeerName) -> bool {
        self.real.knows(peer)
    }

    fn public_url(&self, peer: &PeerName) -> Option<String> {
        self.real.public_url(peer)
    }

    fn offload(&self, peer: &PeerName, mut blobs: Vec<MailMoving>, patience: Duration) -> BoxFuture<'static, Answers> {
        let of = blobs.len();
        if self.silent.lock().contains(peer) {
            self.unanswered.fetch_add(1, Ordering::Relaxed);
            return tokio::time::sleep(patience).map(|()| (Vec::new(), Some(AskError::TimedOut))).boxed();
        }
        (self.there.lock())(&mut blobs);
        let offered = self.real.offload(peer, blobs, patience);
        let back = self.back.clone();
        async move {
            let (mut answers, error) = offered.await;
            (back.lock())(&mut answers);
            let error = error.or_else(|| (answers.len() < of).then_some(AskError::TimedOut));
            (answers, error)
        }
        .boxed()
    }

    fn circuit(
        &self,
        peer: &PeerName,
        open: CircuitOpen,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Result<FarHalf, i32>, AskError>> {
        self.real.circuit(peer, open, patience)
    }

    fn tell(&self, caller: Caller, about: &NodeId, body: Body) -> Result<(), LinkRefused> {
        self.real.tell(caller, about, body)
    }

    fn reply(&self, caller: Caller, ask: u64, body: reply::Body) {
        self.real.reply(caller, ask, body);
    }

    fn party(&self, caller: Caller) -> Option<Party> {
        self.real.party(caller)
    }
}
