//! Frames about vaults, and questions for libp2p peers: which may cross in which direction, and to whom they are handed.

use std::sync::Arc;

use super::peer::Peer;
use super::proto::{Vault, frame};
use super::{Federation, Inner, callers, circuits, ways};
use crate::cluster::links::asks;
use crate::cluster::proto::{Principal, frame::Body, reply};
use crate::cluster::regions::{Caller, Regions};
use crate::domain::ids::NodeId;

/// A frame of the services for a link: one about vaults, or else about mailboxes.
pub fn wrapped(node: Option<&NodeId>, body: Body) -> frame::Body {
    if is_of_caller(&body) || is_of_callee(&body) {
        return frame::Body::Vault(Vault { frame: Some(body.into()) });
    }
    ways::mail(node, body)
}

/// A caller says, or asks, something about a vault.
pub fn asked(inner: &Arc<Inner>, caller: u64, state: &callers::Caller, ask: u64, vault: Vault) {
    if !state.may_ask(ask) {
        return busy(inner, state, ask);
    }
    let refuse = |reason: &'static str| {
        inner.metrics.drop_one("federation", reason);
        Federation { inner: inner.clone() }.reply(Caller(caller), ask, reply::Body::Failed(reason.to_owned()));
    };
    let body = vault.frame.and_then(|frame| frame.body).filter(|body| is_of_caller(body) && has_short_names(body));
    match (body, inner.cluster.afar.vault.get()) {
        // Nobody waits for an answer, and nothing bounds how many such there are.
        (Some(Body::Locate(_)), _) if ask == 0 => refuse("unfit_frame"),
        (Some(Body::Locate(locate)), _) if circuits::is_of_peer(&locate) => {
            circuits::locate(inner, caller, ask, &locate)
        }
        (Some(body), Some(service)) => service.asked(Caller(caller), ask, body),
        _ => refuse("unfit_frame"),
    }
}

/// Refuses a question of somebody who asks too much at a time.
pub fn busy(inner: &Inner, state: &callers::Caller, ask: u64) {
    inner.metrics.drop_one("federation", "busy");
    state.reply(ask, asks::busy()).unwrap_or_default();
}

/// A peer tells something about a vault.
pub fn told(inner: &Inner, peer: &Peer, vault: Vault) {
    let body = vault.frame.and_then(|frame| frame.body).filter(is_of_callee);
    match (body, inner.cluster.afar.vault.get()) {
        (Some(body), Some(service)) => service.told(&peer.name, body),
        _ => inner.metrics.drop_one("federation", "unfit_frame"),
    }
}

/// A link to a peer, as long as it stands: the service of vaults is told when it does, and when it does not any more.
pub struct Standing<'a> {
    inner: &'a Arc<Inner>,
    peer: &'a Peer,
}

impl<'a> Standing<'a> {
    /// It stands from now on, until this is dropped.
    pub fn begin(inner: &'a Arc<Inner>, peer: &'a Peer) -> Self {
        if let Some(service) = inner.cluster.afar.vault.get() {
            service.peer_up(&peer.name);
        }
        Self { inner, peer }
    }
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        self.peer.unlink();
        if let Some(service) = self.inner.cluster.afar.vault.get()
            && !self.inner.supervisor.token().is_cancelled()
        {
            service.peer_down(&self.peer.name);
        }
    }
}

/// Most bytes of a name: those of clients have 256, and a few before that.
const MAX_NAME_BYTES: usize = 320;

/// Whether no name in a question is longer than one that there may be.
pub fn has_short_names(body: &Body) -> bool {
    let is_short = |principal: &Principal| principal.name.len() <= MAX_NAME_BYTES;
    match body {
        Body::Locate(locate) => locate.principal.iter().all(is_short),
        Body::OwnersQuery(query) => query.principals.iter().all(is_short),
        Body::Deliver(deliver) => deliver.vault_id.len().max(deliver.request_id.len()) <= MAX_NAME_BYTES,
        _ => true,
    }
}

fn is_of_caller(body: &Body) -> bool {
    matches!(body, Body::Locate(_) | Body::Deliver(_))
}

fn is_of_callee(body: &Body) -> bool {
    matches!(body, Body::Accepted(_) | Body::Refused(_) | Body::Answer(_) | Body::Announce(_))
}
