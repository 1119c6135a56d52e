//! Claims: a client that proves its key owns its name from then on, on every node and after every restart.
//!
//! The first of a name's two owners makes the binding, after it has asked every other node whether it knows one;
//! it is durable there, on the second owner and on the node that the client came to before the client is told.
//! Should two nodes still make two (a split, or two views of who is first), the older one stands as soon as they
//! hear of each other, and whoever holds the other is told.

pub mod bindings;
mod judge;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::cluster::convert;
use crate::cluster::links::Links;
use crate::cluster::presence::Presence;
use crate::cluster::proto::claim_verdict::Outcome;
use crate::cluster::proto::{self, ClaimVerdict, frame::Body, reply};
use crate::cluster::view::View;
use crate::domain::clock::{Epoch, HybridClock, Millis};
use crate::domain::ids::NodeRun;
use crate::domain::principal::Principal;
use crate::runtime::time;
use crate::store::{Records, StoreError};

use bindings::{Binding, Bindings};

/// How long an owner may take over a claim: it may have to ask everybody itself.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// How long a claim is attempted, and with what pause: long enough for two dead owners to leave the view, on a busy
/// machine too.
const PERSISTENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(250);

/// What a client proved. Its signature has been checked.
#[derive(Debug, Clone)]
pub struct Proof {
    /// The public key.
    pub key: Bytes,
    /// The nonce, as bytes.
    pub nonce: Bytes,
    /// Until when the nonce must be remembered.
    pub nonce_until: Millis,
}

/// Why a claim was not granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// Another key owns the name.
    #[error("another key owns that name")]
    KeyMismatch,
    /// The proof has been used before.
    #[error("that proof has been used before")]
    NonceReused,
    /// Nobody owns the name, and this claim was not to bind it.
    #[error("nobody owns that name")]
    Unbound,
    /// The owners of the name could not be asked; try again.
    #[error("the claim could not be checked; try again")]
    Unavailable,
}

/// Told that a name has, as far as this node knows, another owner than before: the name, and the owner's key.
pub type Rebound = dyn Fn(&Principal, &Bytes) + Send + Sync;

/// A node's part in claims; clones share it.
#[derive(Clone)]
pub struct Claims {
    inner: Arc<Inner>,
}

struct Inner {
    me: NodeRun,
    view: watch::Receiver<Arc<View>>,
    links: Links,
    presence: Presence,
    bindings: Bindings,
    clock: Mutex<HybridClock>,
    rebound: RwLock<Vec<Arc<Rebound>>>,
    /// Nodes that did not answer when bindings were handed to them.
    behind: Mutex<HashSet<NodeRun>>,
}

impl Claims {
    /// Claims kept in `records`.
    #[must_use]
    pub fn new(
        me: NodeRun,
        view: watch::Receiver<Arc<View>>,
        links: Links,
        presence: Presence,
        records: Arc<dyn Records>,
    ) -> Self {
        let (bindings, clock, rebound) = (Bindings::new(records), Mutex::default(), RwLock::default());
        let behind = Mutex::default();
        Self { inner: Arc::new(Inner { me, view, links, presence, bindings, clock, rebound, behind }) }
    }

    /// Says who else is told when a name is bound anew.
    pub fn on_rebound(&self, rebound: Arc<Rebound>) {
        self.inner.rebound.write().push(rebound);
    }

    /// Nobody is told any more: the node has stopped.
    pub fn let_go(&self) {
        self.inner.rebound.write().clear();
    }

    /// A new epoch, larger than `seen` and all before.
    pub fn next_epoch(&self, seen: Epoch) -> Epoch {
        let mut clock = self.inner.clock.lock();
        clock.see(time::now(), seen);
        clock.tick(time::now())
    }

    /// Claims `principal` with `proof`; with `may_bind`, a name that nobody owns becomes this key's. Returns an
    /// epoch for the session, newer than any known.
    ///
    /// # Errors
    /// [`ClaimError`].
    pub async fn claim(&self, principal: &Principal, proof: &Proof, may_bind: bool) -> Result<Epoch, ClaimError> {
        if let Some(known) = self.known(principal).await
            && known.key != proof.key
        {
            return Err(ClaimError::KeyMismatch);
        }
        // The same for every attempt: an owner that has spent the nonce on this claim grants it again.
        let attempt = rand::random();
        let begun = Instant::now();
        loop {
            match self.attempt(principal, proof, may_bind, attempt).await {
                Err(ClaimError::Unavailable) if begun.elapsed() < PERSISTENCE => tokio::time::sleep(PAUSE).await,
                Err(error) => return Err(error),
                Ok(verdict) => return self.granted(principal, proof, &verdict).await,
            }
        }
    }

    /// The key that owns `principal`, as far as any live node knows.
    pub async fn owner_of(&self, principal: &Principal) -> Option<Bytes> {
        match self.known(principal).await {
            Some(binding) => Some(binding.key),
            None => self.ask_everybody(principal).await.0.map(|binding| binding.key),
        }
    }

    /// Whether a key owns `principal`. Unlike [`Claims::owner_of`], says nothing while a live node is silent: it
    /// may know one.
    ///
    /// # Errors
    /// [`ClaimError::Unavailable`]: try again; the silent node answers soon, or leaves the view.
    pub async fn is_owned(&self, principal: &Principal) -> Result<bool, ClaimError> {
        match self.inner.bindings.get(principal).await {
            Ok(Some(_)) => return Ok(true),
            Ok(None) => {}
            Err(error) => {
                log_store(&error);
                return Err(ClaimError::Unavailable);
            }
        }
        match self.ask_everybody(principal).await {
            (Some(_), _) => Ok(true),
            (None, false) => Ok(false),
            (None, true) => Err(ClaimError::Unavailable),
        }
    }

    async fn attempt(
        &self,
        principal: &Principal,
        proof: &Proof,
        may_bind: bool,
        attempt: [u8; 16],
    ) -> Result<ClaimVerdict, ClaimError> {
        let view = self.inner.view.borrow().clone();
        let claim = proto::Claim {
            principal: Some(convert::principal(principal)),
            key: proof.key.clone(),
            nonce: proof.nonce.clone(),
            nonce_until_ms: proof.nonce_until.0,
            may_bind,
            attempt: attempt.to_vec().into(),
        };
        let asked = view.owners(principal.hash()).map(|owner| {
            let (run, claim) = (owner.run.clone(), claim.clone());
            async move {
                if run == self.inner.me {
                    return Some(self.judge(&claim).await);
                }
                match self.inner.links.ask(&run, Body::Claim(claim), PATIENCE).await {
                    Ok(reply::Body::Claim(verdict)) => Some(verdict),
                    _ => None,
                }
            }
        });
        let verdicts = join_all(asked).await;
        let outcome = |wanted| verdicts.iter().flatten().find(|v| v.outcome() == wanted);
        if outcome(Outcome::KeyMismatch).is_some() {
            return Err(ClaimError::KeyMismatch);
        }
        if outcome(Outcome::NonceReused).is_some() {
            return Err(ClaimError::NonceReused);
        }
        if outcome(Outcome::Granted).is_some() {
            let newest = verdicts.iter().flatten().map(|v| v.newest_epoch).max().unwrap_or(0);
            let oldest = verdicts.iter().flatten().map(|v| v.bound_at).filter(|at| *at > 0).min().unwrap_or(0);
            return Ok(ClaimVerdict { outcome: 0, newest_epoch: newest, bound_at: oldest });
        }
        let all_unbound = verdicts.iter().all(|v| v.as_ref().is_some_and(|v| v.outcome() == Outcome::Unbound));
        Err(if all_unbound && !may_bind { ClaimError::Unbound } else { ClaimError::Unavailable })
    }

    async fn granted(&self, principal: &Principal, proof: &Proof, verdict: &ClaimVerdict) -> Result<Epoch, ClaimError> {
        let binding = Binding { key: proof.key.clone(), bound_at: Epoch(verdict.bound_at) };
        match self.inner.bindings.merge(principal, binding).await {
            Ok(merged) if merged.standing.key == proof.key => {}
            Ok(_) => return Err(ClaimError::KeyMismatch),
            Err(error) => {
                log_store(&error);
                return Err(ClaimError::Unavailable);
            }
        }
        let newest = Epoch(verdict.newest_epoch).max(self.inner.presence.newest_epoch(principal));
        Ok(self.next_epoch(newest))
    }

    async fn known(&self, principal: &Principal) -> Option<Binding> {
        match self.inner.bindings.get(principal).await {
            Ok(binding) => binding,
            Err(error) => {
                log_store(&error);
                None
            }
        }
    }

    fn note(&self, principal: &Principal, merged: &bindings::Merged) {
        if merged.changed {
            let told = self.inner.rebound.read().clone();
            told.iter().for_each(|rebound| rebound(principal, &merged.standing.key));
        }
    }
}

fn log_store(error: &StoreError) {
    tracing::error!(%error, "the store of claims failed");
}
