//! Other clusters, as the services of this one see them: whom they ask, and who asks them.
//!
//! A *peer* is a cluster that this node calls; whichever node answers there speaks for it. A *caller* is a node of
//! another cluster that has called this one. What crosses is what would cross between two nodes of one cluster, and it
//! crosses once: what came from a caller is passed on inside this cluster only.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::convert;
use super::ends::VaultsAfar;
use super::links::{AskError, FarHalf, LinkRefused};
use super::proto::{
    CircuitOpen, Locate, MailMoved, MailMoving, OwnersQuery, PullPage, PullRequest, frame::Body, reply,
};
use super::shares::Party;
use crate::domain::ids::NodeId;
use crate::domain::offload::Room;
use crate::domain::principal::{Principal, Standing};
use crate::runtime::slot::Slot;

/// How long a peer may take to say who owns a name, or whether it has somebody. Inside a cluster nobody is absent on silence;
/// a peer that is silent is taken to have, and to own, nothing, or one that is down would keep every client from hearing that
/// somebody is absent.
const PATIENCE: Duration = Duration::from_millis(1500);

/// How often it is looked whether a link stands again.
const RELINKED: Duration = Duration::from_millis(50);

/// What a peer says of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// That it has them, and how firmly.
    Has(Standing),
    /// That it has not.
    HasNot,
    /// That it has too much to do to say; or it has been asked too much to be asked that as well.
    Later,
    /// Nothing, in time.
    Nothing,
}

/// The pause before a peer that has too much to do is asked again.
const BUSY_PAUSE: Duration = Duration::from_millis(200);

/// A cluster that this node calls, by where the operator says that it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerName(pub Arc<str>);

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One call that a node of another cluster has made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Caller(pub u64);

/// What a peer answered for blobs that were offered to it, and why it said no more.
pub type Answers = (Vec<MailMoved>, Option<AskError>);

/// The way to other clusters.
pub trait Regions: Send + Sync {
    /// The peers that can be asked now.
    fn peers(&self) -> Vec<PeerName>;

    /// All that this node calls, be they there or not.
    fn all_peers(&self) -> Vec<PeerName>;

    /// Those that do not leave service, and those whose link has just ended, or has yet to be made: it may stand again in
    /// a moment.
    fn serving_peers(&self) -> Vec<PeerName>;

    /// Says something to a peer: to one node of it, or to the cluster as a whole.
    ///
    /// # Errors
    /// [`LinkRefused`], at once.
    fn send(&self, peer: &PeerName, node: Option<&NodeId>, body: Body) -> Result<(), LinkRefused>;

    /// Asks a peer: one node of it, or the cluster as a whole. [`AskError`] after `patience` at most.
    fn ask(
        &self,
        peer: &PeerName,
        node: Option<&NodeId>,
        body: Body,
        patience: Duration,
    ) -> BoxFuture<'static, Result<reply::Body, AskError>>;

    /// Asks a node of a peer for a part of a mailbox. [`AskError`] after `patience` at most.
    fn pull(
        &self,
        peer: &PeerName,
        node: &NodeId,
        what: PullRequest,
        patience: Duration,
    ) -> BoxFuture<'static, Result<PullPage, AskError>>;

    /// The peers that can be asked now and do not leave service, and how much they store.
    fn rooms(&self) -> Vec<(PeerName, Room)>;

    /// Whether a peer is one that this node calls, be it there or not.
    fn knows(&self, peer: &PeerName) -> bool;

    /// Where clients reach a peer, if it has ever said so.
    fn public_url(&self, peer: &PeerName) -> Option<String>;

    /// Offers blobs to a peer, to be kept there: what it answers, in their order, and, if that is not all, why.
    fn offload(&self, peer: &PeerName, blobs: Vec<MailMoving>, patience: Duration) -> BoxFuture<'static, Answers>;

    /// Has a peer connect a circuit: the half there, or the status with which it refuses. [`AskError`] after `patience` at
    /// most.
    fn circuit(
        &self,
        peer: &PeerName,
        open: CircuitOpen,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Result<FarHalf, i32>, AskError>>;

    /// Tells a caller something about a node of this cluster that it asked to be told of.
    ///
    /// # Errors
    /// [`LinkRefused`], at once.
    fn tell(&self, caller: Caller, about: &NodeId, body: Body) -> Result<(), LinkRefused>;

    /// Answers a caller's question.
    fn reply(&self, caller: Caller, ask: u64, body: reply::Body);

    /// Whose share of what is bounded a caller's is, while its call lasts.
    fn party(&self, caller: Caller) -> Option<Party>;
}

/// A service that other clusters speak to. Called in the order of arrival; must not block.
pub trait FromRegions: Send + Sync {
    /// A caller says something, or asks if `ask` is not zero: one node of this cluster, or all of it.
    fn asked(&self, caller: Caller, ask: u64, node: Option<NodeId>, body: Body);

    /// A caller asks a node of this cluster for a part of a mailbox; in words why not, if it cannot be had.
    fn pulled(&self, node: NodeId, what: PullRequest) -> BoxFuture<'static, Result<PullPage, String>>;

    /// A caller offers blobs, to be kept here; what becomes of each, in their order. What is taken is durable.
    fn offered(&self, blobs: Vec<MailMoving>) -> BoxFuture<'static, Vec<MailMoved>>;

    /// A call has ended: what the caller asked to be told of is void.
    fn hung_up(&self, caller: Caller);

    /// A peer tells something about one of its nodes.
    fn told(&self, peer: &PeerName, about: NodeId, body: Body);

    /// A link to a peer is new: what was said on an older one is void.
    fn peer_up(&self, peer: &PeerName);

    /// A peer is none any more: it is told nothing of what is still to be told.
    fn peer_gone(&self, peer: &PeerName);
}

/// Both directions, once they are there.
#[derive(Default)]
pub struct Afar {
    /// The way out; empty without federation.
    pub out: Slot<dyn Regions>,
    /// The service of mailboxes.
    pub mailbox: Slot<dyn FromRegions>,
    /// The service of vaults.
    pub vault: Slot<dyn VaultsAfar>,
}

impl Afar {
    /// The peers that can be asked now.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerName> {
        self.out.get().map(|out| out.peers()).unwrap_or_default()
    }

    /// Whether there may be other clusters to ask.
    #[must_use]
    pub fn is_federated(&self) -> bool {
        self.out.is_filled()
    }

    /// What a peer says in time of a vault, or of a libp2p peer, once there is one of `places` to ask it. One that has too
    /// much to do is asked again meanwhile, and one whose link has just ended is waited for.
    pub async fn word_of(&self, peer: &PeerName, whom: &Principal, places: &Semaphore) -> Word {
        let until = Instant::now() + PATIENCE;
        // Who could not even be asked has not been silent.
        let Ok(Ok(_place)) = timeout(PATIENCE, places.acquire()).await else { return Word::Later };
        let Some(out) = self.out.get() else { return Word::Nothing };
        let locate = Body::Locate(Locate { principal: Some(convert::principal(whom)) });
        loop {
            match ask_again(&*out, peer, &locate, until).await {
                Ok(reply::Body::Located(located)) => {
                    return convert::standing_from(located.standing()).map_or(Word::HasNot, Word::Has);
                }
                // Whichever node answers next is asked.
                Err(AskError::Refused(LinkRefused::Gone)) if Instant::now() + RELINKED < until => sleep(RELINKED).await,
                Err(AskError::Busy) => return Word::Later,
                Ok(_) | Err(_) => return Word::Nothing,
            }
        }
    }

    /// A peer that says that a key owns a name, and the key, as far as those that can be asked say in time.
    ///
    /// # Errors
    /// [`AskError::Busy`] if none says so and one has too much to do to say: the name may be owned there.
    pub async fn owner(&self, principal: &Principal) -> Result<Option<(PeerName, Bytes)>, AskError> {
        let asked = self.peers().into_iter().map(|peer| async move {
            let owners = self.owners_at(&peer, std::slice::from_ref(principal)).await?;
            Ok(owners.into_iter().next().flatten().map(|key| (peer, key)))
        });
        let mut owner = Ok(None);
        for said in join_all(asked).await {
            match said {
                Ok(Some(found)) => return Ok(Some(found)),
                Err(AskError::Busy) => owner = Err(AskError::Busy),
                Ok(None) | Err(_) => {}
            }
        }
        owner
    }

    /// The keys that own these at one peer. One that has too much to do is asked again, as long as it may take.
    ///
    /// # Errors
    /// [`AskError`] if it does not say in time.
    pub async fn owners_at(&self, peer: &PeerName, names: &[Principal]) -> Result<Vec<Option<Bytes>>, AskError> {
        let out = self.out.get().ok_or(LinkRefused::Gone)?;
        let query = OwnersQuery { principals: names.iter().map(convert::principal).collect() };
        match ask_again(&*out, peer, &Body::OwnersQuery(query), Instant::now() + PATIENCE).await? {
            reply::Body::Owners(found) => {
                Ok(found.keys.into_iter().map(|key| Some(key).filter(|key| !key.is_empty())).collect())
            }
            _ => Err(AskError::Failed("it says something else".to_owned())),
        }
    }

    /// Lets go of both.
    pub fn clear(&self) {
        self.out.clear();
        self.mailbox.clear();
        self.vault.clear();
    }
}

/// Asks a peer as a whole, and again until then as long as it has too much to do.
async fn ask_again(out: &dyn Regions, peer: &PeerName, body: &Body, until: Instant) -> Result<reply::Body, AskError> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match out.ask(peer, None, body.clone(), left).await {
            Err(AskError::Busy) if Instant::now() + BUSY_PAUSE < until => sleep(BUSY_PAUSE).await,
            said => return said,
        }
    }
}
