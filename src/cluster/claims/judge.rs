//! The owner's part in claims: judging them, and handing bindings on when owners change.

use std::collections::HashSet;
use std::time::Duration;

use futures::future::join_all;

use crate::cluster::convert;
use crate::cluster::proto::claim_verdict::Outcome;
use crate::cluster::proto::{self, ClaimVerdict, frame::Body, reply};
use crate::cluster::view::View;
use crate::domain::clock::{Epoch, Millis};
use crate::domain::ids::NodeRun;
use crate::domain::principal::Principal;
use crate::store::StoreError;

use super::bindings::{Binding, Merged};
use super::{Claims, log_store};

/// How long a node may take to say which binding it knows.
const PATIENCE: Duration = Duration::from_millis(500);

/// Bindings handed on between two pauses.
const PACE: usize = 500;

impl Claims {
    /// As an owner: may whoever proved that key use that name?
    pub async fn judge(&self, claim: &proto::Claim) -> ClaimVerdict {
        let Some(principal) = convert::principal_from(claim.principal.as_ref()) else {
            return verdict(Outcome::Unavailable);
        };
        match self.weigh(&principal, claim).await {
            Ok(verdict) => verdict,
            Err(error) => {
                log_store(&error);
                verdict(Outcome::Unavailable)
            }
        }
    }

    async fn weigh(&self, principal: &Principal, claim: &proto::Claim) -> Result<ClaimVerdict, StoreError> {
        let known = match self.inner.bindings.get(principal).await? {
            Some(binding) => Some(binding),
            None if self.is_first_owner(principal) => match self.bind(principal, claim).await? {
                Ok(binding) => binding,
                Err(outcome) => return Ok(verdict(outcome)),
            },
            None => None,
        };
        if known.as_ref().is_some_and(|binding| binding.key != claim.key) {
            return Ok(verdict(Outcome::KeyMismatch));
        }
        let until = Millis(claim.nonce_until_ms);
        if !self.inner.bindings.spend(principal, &claim.nonce, &claim.attempt, until).await? {
            return Ok(verdict(Outcome::NonceReused));
        }
        let outcome = if known.is_some() { Outcome::Granted } else { Outcome::Unbound };
        Ok(ClaimVerdict {
            outcome: outcome.into(),
            newest_epoch: self.inner.presence.newest_epoch(principal).0,
            bound_at: known.map_or(0, |binding| binding.bound_at.0),
        })
    }

    fn is_first_owner(&self, principal: &Principal) -> bool {
        let view = self.inner.view.borrow();
        view.owners(principal.hash()).next().is_some_and(|owner| owner.run == self.inner.me)
    }

    /// The binding of a name that this node has none of: another node's, or a new one if the claim may make it.
    async fn bind(
        &self,
        principal: &Principal,
        claim: &proto::Claim,
    ) -> Result<Result<Option<Binding>, Outcome>, StoreError> {
        let (found, silent) = self.ask_everybody(principal).await;
        if let Some(binding) = found {
            return Ok(Ok(Some(self.inner.bindings.merge(principal, binding).await?.standing)));
        }
        if silent {
            // Whoever is silent may know one: it answers soon, or leaves the view.
            return Ok(Err(Outcome::Unavailable));
        }
        if !claim.may_bind {
            return Ok(Ok(None));
        }
        let offered = Binding { key: claim.key.clone(), bound_at: self.next_epoch(Epoch::default()) };
        let merged = self.inner.bindings.merge(principal, offered).await?;
        self.note(principal, &merged);
        Ok(Ok(Some(self.spread(principal, merged.standing).await?)))
    }

    /// Tells every node of a new binding, and obeys an older one that any of them knows.
    async fn spread(&self, principal: &Principal, binding: Binding) -> Result<Binding, StoreError> {
        let view = self.inner.view.borrow().clone();
        let told = view.others().map(|member| {
            let (run, body) = (member.run.clone(), Body::Bound(bound(principal, &binding)));
            async move { self.inner.links.ask(&run, body, PATIENCE).await }
        });
        let mut standing = binding.clone();
        for answer in join_all(told).await {
            if let Ok(reply::Body::Binding(found)) = answer
                && let Some(other) = binding_from(&found)
                && other.beats(&standing)
            {
                standing = other;
            }
        }
        if standing != binding {
            let merged = self.inner.bindings.merge(principal, standing).await?;
            self.note(principal, &merged);
            return Ok(merged.standing);
        }
        Ok(standing)
    }

    /// What the other nodes know of `principal`, and whether one of them was silent.
    pub(super) async fn ask_everybody(&self, principal: &Principal) -> (Option<Binding>, bool) {
        let view = self.inner.view.borrow().clone();
        let query = proto::BindingQuery { principal: Some(convert::principal(principal)) };
        let asked = view.others().map(|member| {
            let (run, body) = (member.run.clone(), Body::BindingQuery(query.clone()));
            async move { self.inner.links.ask(&run, body, PATIENCE).await }
        });
        let (mut best, mut silent) = (None::<Binding>, false);
        for answer in join_all(asked).await {
            match answer {
                Ok(reply::Body::Binding(found)) => {
                    if let Some(binding) = binding_from(&found)
                        && best.as_ref().is_none_or(|known| binding.beats(known))
                    {
                        best = Some(binding);
                    }
                }
                _ => silent = true,
            }
        }
        (best, silent)
    }

    /// As any node: which binding of that name does it know?
    pub async fn answer_query(&self, query: &proto::BindingQuery) -> reply::Body {
        let Some(principal) = convert::principal_from(query.principal.as_ref()) else {
            return reply::Body::Failed("unknown kind of principal".to_owned());
        };
        match self.inner.bindings.get(&principal).await {
            Ok(found) => reply::Body::Binding(found.map_or_else(Default::default, |b| binding_found(&b))),
            Err(error) => {
                log_store(&error);
                reply::Body::Failed(error.to_string())
            }
        }
    }

    /// Another node's binding: obeyed if it stands, kept if this node owns the name or had one for it. Whoever
    /// sent one that does not stand is told of the one that does.
    pub async fn answer_bound(&self, from: &NodeRun, offered: &proto::Bound) -> reply::Body {
        let Some((principal, binding)) = convert::principal_from(offered.principal.as_ref())
            .map(|principal| (principal, Binding { key: offered.key.clone(), bound_at: Epoch(offered.bound_at) }))
        else {
            return reply::Body::Failed("unknown kind of principal".to_owned());
        };
        self.inner.clock.lock().see(crate::runtime::time::now(), binding.bound_at);
        match self.heed(&principal, binding.clone()).await {
            Ok(standing) => {
                if standing != binding {
                    let body = Body::Bound(bound(&principal, &standing));
                    self.inner.links.send(from, body).unwrap_or_default();
                }
                reply::Body::Binding(binding_found(&standing))
            }
            Err(error) => {
                log_store(&error);
                reply::Body::Failed(error.to_string())
            }
        }
    }

    async fn heed(&self, principal: &Principal, binding: Binding) -> Result<Binding, StoreError> {
        let owns = self.inner.view.borrow().owners(principal.hash()).any(|owner| owner.run == self.inner.me);
        let known = self.inner.bindings.get(principal).await?;
        let merged = match &known {
            None if !owns => Merged { standing: binding, changed: true },
            _ => self.inner.bindings.merge(principal, binding).await?,
        };
        self.note(principal, &merged);
        if merged.changed && known.is_some() {
            self.correct(principal, &merged.standing);
        }
        Ok(merged.standing)
    }

    /// Tells every node of a binding that has replaced another: any of them may have let that one's key in.
    fn correct(&self, principal: &Principal, standing: &Binding) {
        let view = self.inner.view.borrow().clone();
        for member in view.others() {
            let body = Body::Bound(bound(principal, standing));
            // A node that misses it refuses the key at its next registration.
            self.inner.links.send(&member.run, body).unwrap_or_default();
        }
    }

    /// Hands the bindings that have new owners to them, paced. Owners that do not answer are told later, by
    /// [`Claims::catch_up`].
    pub async fn hand_on(&self, before: &View, now: &View) {
        let is_new = |p: &Principal, owner: &NodeRun| !before.owners(p.hash()).any(|known| known.run == *owner);
        let silent = self.offer(now, is_new).await;
        self.inner.behind.lock().extend(silent);
    }

    /// Hands everything that they own to the nodes that did not answer when they were told.
    pub async fn catch_up(&self) {
        let behind = std::mem::take(&mut *self.inner.behind.lock());
        if behind.is_empty() {
            return;
        }
        let view = self.inner.view.borrow().clone();
        let silent = self.offer(&view, |_, owner| behind.contains(owner)).await;
        self.inner.behind.lock().extend(silent);
    }

    /// Offers bindings to those of their owners that `to` picks, paced; returns who has not answered. Whoever has
    /// an older binding says so, and is obeyed.
    async fn offer(&self, view: &View, to: impl Fn(&Principal, &NodeRun) -> bool) -> HashSet<NodeRun> {
        let (mut after, mut silent) = (None, HashSet::new());
        loop {
            let page = match self.inner.bindings.page(after.as_deref(), PACE).await {
                Ok(page) => page,
                Err(error) => {
                    log_store(&error);
                    return silent;
                }
            };
            let Some((last, ..)) = page.last() else { return silent };
            after = Some(last.clone());
            let mut offers = Vec::new();
            for (_, principal, binding) in &page {
                let owners = view.owners(principal.hash()).map(|owner| &owner.run).filter(|run| **run != self.inner.me);
                for owner in owners.filter(|run| !silent.contains(*run) && to(principal, run)) {
                    let body = Body::Bound(bound(principal, binding));
                    offers.push(async move { (owner, self.inner.links.ask(owner, body, PATIENCE).await) });
                }
            }
            for (owner, answer) in join_all(offers).await {
                if answer.is_err() {
                    silent.insert(owner.clone());
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn verdict(outcome: Outcome) -> ClaimVerdict {
    ClaimVerdict { outcome: outcome.into(), newest_epoch: 0, bound_at: 0 }
}

fn bound(principal: &Principal, binding: &Binding) -> proto::Bound {
    proto::Bound {
        principal: Some(convert::principal(principal)),
        key: binding.key.clone(),
        bound_at: binding.bound_at.0,
    }
}

fn binding_found(binding: &Binding) -> proto::BindingFound {
    proto::BindingFound { key: binding.key.clone(), bound_at: binding.bound_at.0 }
}

fn binding_from(found: &proto::BindingFound) -> Option<Binding> {
    (!found.key.is_empty()).then(|| Binding { key: found.key.clone(), bound_at: Epoch(found.bound_at) })
}
