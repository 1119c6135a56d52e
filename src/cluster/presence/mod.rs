//! Presence: which node holds which principal. A one-hop directory over the live nodes, two owners a key.
//!
//! Every node announces what it holds to the owners, once; nothing is refreshed. An entry is good for as long
//! as its node is in the live view with the same generation. What may have been missed is said again: to a node
//! whose link is new, everything that it owns, while the node doubts what it was told before; after a change of
//! the view, what has new owners.
//!
//! Nobody is reported absent on the word of an owner alone: before that, every live node is asked whether it
//! holds the principal itself. So churn can make a lookup slower, but never wrong. Nor is anybody reported absent
//! while all who owned the principal have just been lost ([`lost`]).

pub mod directory;
mod lookup;
pub mod lost;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::cluster::convert;
use crate::cluster::links::Links;
use crate::cluster::proto::{self, Located as LocatedReply, frame::Body, reply};
use crate::cluster::view::View;
use crate::domain::clock::Epoch;
use crate::domain::ids::NodeRun;
use crate::domain::principal::{Principal, Standing};
use crate::observe::metrics::Metrics;
use crate::runtime::supervisor::Supervisor;
use crate::runtime::time;

use directory::{Directory, Found};
pub use lookup::Located;
use lost::LostNodes;

/// Announcements between two pauses when much is said again: keeps the links free for traffic.
const PACE: usize = 2_000;

/// How often lost entries are settled and failed announcements said again.
const TICK: Duration = Duration::from_millis(200);

/// A node's part of presence; clones share it.
#[derive(Clone)]
pub struct Presence {
    inner: Arc<Inner>,
}

struct Inner {
    me: NodeRun,
    view: watch::Receiver<Arc<View>>,
    links: Links,
    grace: Duration,
    held: Mutex<HashMap<Principal, (Epoch, Standing)>>,
    directory: Mutex<Directory>,
    lost: Mutex<LostNodes>,
    /// Nodes to which everything that they own is to be said again.
    behind: Mutex<HashSet<NodeRun>>,
    metrics: Arc<Metrics>,
}

impl Presence {
    /// Nothing held, nothing known. `grace`: how long requests wait for a principal whose node has died.
    #[must_use]
    pub fn new(
        me: NodeRun,
        view: watch::Receiver<Arc<View>>,
        links: Links,
        grace: Duration,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (held, directory, behind) = (Mutex::default(), Mutex::default(), Mutex::default());
        let lost = Mutex::default();
        Self { inner: Arc::new(Inner { me, view, links, grace, held, directory, lost, behind, metrics }) }
    }

    /// Follows the view until the node stops.
    pub fn start(&self, supervisor: &Supervisor) {
        let (this, stop) = (self.clone(), supervisor.token());
        supervisor.spawn("presence", async move {
            stop.run_until_cancelled(this.follow()).await;
            Ok::<(), std::convert::Infallible>(())
        });
    }

    /// This node holds `principal` since `epoch`: tells the owners.
    pub fn hold(&self, principal: &Principal, epoch: Epoch, standing: Standing) {
        self.inner.held.lock().insert(principal.clone(), (epoch, standing));
        let view = self.view();
        for owner in view.owners(principal.hash()) {
            self.announce_to(&owner.run, principal, epoch, standing);
        }
    }

    /// This node no longer holds `principal`, unless it has a claim newer than `epoch`.
    pub fn release(&self, principal: &Principal, epoch: Epoch) {
        {
            let mut held = self.inner.held.lock();
            if held.get(principal).is_some_and(|(newest, _)| *newest <= epoch) {
                held.remove(principal);
            }
        }
        let view = self.view();
        for owner in view.owners(principal.hash()) {
            if owner.run == self.inner.me {
                self.inner.directory.lock().withdraw(principal, &self.inner.me, epoch);
            } else {
                let body = proto::Withdraw { principal: Some(convert::principal(principal)), epoch: epoch.0 };
                // An owner that misses this sends requests here, is told that nobody is here, and asks everybody.
                self.inner.links.send(&owner.run, Body::Withdraw(body)).unwrap_or_default();
            }
        }
    }

    /// Whether this node itself holds `principal`.
    #[must_use]
    pub fn held(&self, principal: &Principal) -> Option<(Epoch, Standing)> {
        self.inner.held.lock().get(principal).copied()
    }

    /// The newest epoch that this node has heard of for `principal`.
    #[must_use]
    pub fn newest_epoch(&self, principal: &Principal) -> Epoch {
        let here = self.held(principal).map_or(Epoch::default(), |(epoch, _)| epoch);
        self.inner.directory.lock().newest_epoch(principal).max(here)
    }

    /// A link to `peer` is new: what was said to it may be lost.
    pub fn link_up(&self, peer: &NodeRun) {
        self.inner.behind.lock().insert(peer.clone());
    }

    /// A stream from `peer` begins: what it has said before is in doubt, because a withdrawal may be missing. It
    /// says again what it holds.
    pub fn stream_opened(&self, peer: &NodeRun) {
        self.inner.directory.lock().doubt(peer, time::now());
    }

    /// Another node's announcement.
    pub fn announced(&self, from: &NodeRun, principal: &Principal, epoch: Epoch, standing: Standing) {
        self.inner.directory.lock().announce(principal, from, epoch, standing);
    }

    /// Another node's withdrawal.
    pub fn withdrawn(&self, from: &NodeRun, principal: &Principal, epoch: Epoch) {
        self.inner.directory.lock().withdraw(principal, from, epoch);
    }

    /// As an owner: where is `principal`?
    #[must_use]
    pub fn answer_locate(&self, principal: &Principal) -> reply::Body {
        reply::Body::Located(match self.find(principal, &self.view()) {
            Some(Found::At { run, epoch, standing }) => convert::located(&run, epoch, standing),
            Some(Found::Lost(wait)) => {
                LocatedReply { lost_wait_ms: u64::try_from(wait.as_millis()).unwrap_or(1).max(1), ..Default::default() }
            }
            None => LocatedReply::default(),
        })
    }

    /// What this node's own directory says.
    fn find(&self, principal: &Principal, view: &View) -> Option<Found> {
        self.inner.directory.lock().find(principal, |run| view.is_live(run), time::now(), self.inner.grace)
    }

    /// As any node: does it hold `principal` itself?
    #[must_use]
    pub fn answer_holds(&self, principal: &Principal) -> reply::Body {
        reply::Body::Located(match self.held(principal) {
            Some((epoch, standing)) => convert::located(&self.inner.me, epoch, standing),
            None => LocatedReply::default(),
        })
    }

    /// How long `principal` must not be reported absent, because all who owned it have just been lost.
    fn lost_with_its_owners(&self, principal: &Principal) -> Option<Duration> {
        let mut lost = self.inner.lost.lock();
        lost.observe(&self.view(), time::now(), self.inner.grace);
        lost.owned(principal.hash(), time::now(), self.inner.grace)
    }

    fn view(&self) -> Arc<View> {
        self.inner.view.borrow().clone()
    }

    fn announce_to(&self, owner: &NodeRun, principal: &Principal, epoch: Epoch, standing: Standing) {
        if *owner == self.inner.me {
            return self.inner.directory.lock().announce(principal, owner, epoch, standing);
        }
        let body = proto::Announce {
            principal: Some(convert::principal(principal)),
            epoch: epoch.0,
            standing: convert::standing(standing).into(),
        };
        if self.inner.links.send(owner, Body::Announce(body)).is_err() {
            self.inner.behind.lock().insert(owner.clone());
        }
    }

    async fn follow(&self) {
        let mut changes = self.inner.view.clone();
        let mut before = changes.borrow_and_update().clone();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let now = changes.borrow_and_update().clone();
                    self.settle(&now);
                    self.keep_owned(&now);
                    self.say_again(&now, |p, owner| !before.owners(p.hash()).any(|o| o.run == *owner)).await;
                    before = now;
                }
                _ = tick.tick() => {
                    self.settle(&before);
                    let behind = std::mem::take(&mut *self.inner.behind.lock());
                    if !behind.is_empty() {
                        self.say_again(&before, |_, owner| behind.contains(owner)).await;
                    }
                }
            }
        }
    }

    /// Forgets what others own now: they are told by the nodes that hold it.
    fn keep_owned(&self, view: &View) {
        let owns = |p: &Principal| view.owners(p.hash()).any(|owner| owner.run == self.inner.me);
        self.inner.directory.lock().keep_owned(owns);
    }

    fn settle(&self, view: &View) {
        self.inner.lost.lock().observe(&self.view(), time::now(), self.inner.grace);
        let mut directory = self.inner.directory.lock();
        directory.settle(|run| view.is_live(run), time::now(), self.inner.grace);
        self.inner.metrics.cluster.presence_entries.set(directory.len() as i64);
    }

    /// Announces everything held to those of its owners that `to` picks, paced.
    async fn say_again(&self, view: &View, to: impl Fn(&Principal, &NodeRun) -> bool) {
        let held: Vec<_> = self.inner.held.lock().iter().map(|(p, (e, s))| (p.clone(), *e, *s)).collect();
        for (said, (principal, epoch, standing)) in held.into_iter().enumerate() {
            // What has been withdrawn or renewed meanwhile has been said by whoever did it.
            if self.held(&principal) != Some((epoch, standing)) {
                continue;
            }
            for owner in view.owners(principal.hash()) {
                if to(&principal, &owner.run) {
                    self.announce_to(&owner.run, &principal, epoch, standing);
                }
            }
            if said % PACE == PACE - 1 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}
