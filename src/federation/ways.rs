//! What the services see of other clusters.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::{Request, Status};

use super::answer::PAGE_LIMIT;
use super::inflow::PeerCodec;
use super::peer::Peer;
use super::proto::{Mail, PullRequest, frame};
use super::{Federation, Inner, call, circuits, offload, vaults};
use crate::cluster::links::asks::said;
use crate::cluster::links::{AskError, FarHalf, LinkRefused};
use crate::cluster::proto::{self, CircuitOpen, MailMoving, PullPage, frame::Body, reply};
use crate::cluster::regions::{Answers, Caller, PeerName, Regions};
use crate::cluster::shares::Party;
use crate::domain::ids::NodeId;
use crate::domain::offload::Room;

const PULL: PathAndQuery = PathAndQuery::from_static("/waystation.federation.v1.Federation/Pull");

impl Regions for Federation {
    fn peers(&self) -> Vec<PeerName> {
        self.inner.peers.read().values().filter(|peer| peer.is_up()).map(|peer| peer.name.clone()).collect()
    }

    fn all_peers(&self) -> Vec<PeerName> {
        self.inner.peers.read().keys().cloned().collect()
    }

    fn serving_peers(&self) -> Vec<PeerName> {
        self.inner.peers.read().values().filter(|peer| peer.serves()).map(|peer| peer.name.clone()).collect()
    }

    fn send(&self, peer: &PeerName, node: Option<&NodeId>, body: Body) -> Result<(), LinkRefused> {
        self.peer(peer)?.push(0, vaults::wrapped(node, body))
    }

    fn ask(
        &self,
        peer: &PeerName,
        node: Option<&NodeId>,
        body: Body,
        patience: Duration,
    ) -> BoxFuture<'static, Result<reply::Body, AskError>> {
        let asked = self.peer(peer).and_then(|peer| {
            let (number, answer) = peer.asks.open();
            peer.push(number.get(), vaults::wrapped(node, body)).map(|()| answer)
        });
        async move {
            let answer = asked?;
            match tokio::time::timeout(patience, answer).await {
                Ok(Ok(answer)) => said(answer),
                Ok(Err(_)) | Err(_) => Err(AskError::TimedOut),
            }
        }
        .boxed()
    }

    fn pull(
        &self,
        peer: &PeerName,
        node: &NodeId,
        what: proto::PullRequest,
        patience: Duration,
    ) -> BoxFuture<'static, Result<PullPage, AskError>> {
        let (inner, peer) = (self.inner.clone(), self.peer(peer));
        let request = PullRequest { hello: Some(inner.hello()), node: node.to_string(), what: Some(what) };
        async move {
            let peer = peer?;
            match tokio::time::timeout(patience, pull(&inner, &peer, request)).await {
                Ok(Ok(page)) => Ok(page),
                Ok(Err(status)) => Err(AskError::Failed(status.message().to_owned())),
                Err(_) => Err(AskError::TimedOut),
            }
        }
        .boxed()
    }

    fn rooms(&self) -> Vec<(PeerName, Room)> {
        let peers = self.inner.peers.read();
        peers.values().filter_map(|peer| Some((peer.name.clone(), peer.room()?))).collect()
    }

    fn knows(&self, peer: &PeerName) -> bool {
        self.inner.peers.read().contains_key(peer)
    }

    fn public_url(&self, peer: &PeerName) -> Option<String> {
        Some(self.peer(peer).ok()?.status().public_url).filter(|url| !url.is_empty())
    }

    fn offload(&self, peer: &PeerName, blobs: Vec<MailMoving>, patience: Duration) -> BoxFuture<'static, Answers> {
        let (inner, peer) = (self.inner.clone(), self.peer(peer));
        async move {
            match peer {
                Ok(peer) => offload::offer(&inner, &peer, blobs, patience).await,
                Err(refused) => (Vec::new(), Some(refused.into())),
            }
        }
        .boxed()
    }

    fn circuit(
        &self,
        peer: &PeerName,
        open: CircuitOpen,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Result<FarHalf, i32>, AskError>> {
        let (inner, peer) = (self.inner.clone(), self.peer(peer));
        async move {
            match tokio::time::timeout(patience, circuits::open(&inner, &peer?, open)).await {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(status)) => Err(AskError::Failed(status.message().to_owned())),
                Err(_) => Err(AskError::TimedOut),
            }
        }
        .boxed()
    }

    fn tell(&self, caller: Caller, about: &NodeId, body: Body) -> Result<(), LinkRefused> {
        let state = self.inner.callers.get(caller.0);
        state.ok_or(LinkRefused::Gone)?.queue.push(0, vaults::wrapped(Some(about), body))
    }

    fn reply(&self, caller: Caller, ask: u64, body: reply::Body) {
        if let Some(state) = self.inner.callers.get(caller.0).filter(|_| ask != 0) {
            state.answered();
            // An answer that cannot be sent is a question that times out; the queue has counted it.
            state.reply(ask, body).unwrap_or_default();
        }
    }

    fn party(&self, caller: Caller) -> Option<Party> {
        self.inner.callers.party(caller.0)
    }
}

impl Federation {
    fn peer(&self, name: &PeerName) -> Result<Arc<Peer>, LinkRefused> {
        self.inner.peers.read().get(name).cloned().ok_or(LinkRefused::Gone)
    }
}

pub fn mail(node: Option<&NodeId>, body: Body) -> frame::Body {
    let node = node.map(ToString::to_string).unwrap_or_default();
    frame::Body::Mail(Mail { node, frame: Some(body.into()) })
}

pub fn gone(refused: LinkRefused) -> Status {
    Status::unavailable(refused.to_string())
}

async fn pull(inner: &Arc<Inner>, peer: &Arc<Peer>, request: PullRequest) -> Result<PullPage, Status> {
    let channel = peer.pulls(|| call::channel(inner, peer)).map_err(gone)?;
    let mut grpc = Grpc::new(channel).max_decoding_message_size(PAGE_LIMIT);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let page = grpc.unary(Request::new(request), PULL, PeerCodec::<PullRequest, PullPage>::default()).await?;
    Ok(page.into_inner())
}
