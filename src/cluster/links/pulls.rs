//! Parts of mailboxes that other nodes hold: calls on a connection of their own, so that a big answer holds up no
//! frame. An answer is bounded by what was asked for, and read as it comes, so nothing waits in between.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::{Request, Status};

use crate::cluster::proto::{MailMoved, MailMoving, MoveReply, MoveRequest, PullPage, PullRequest};
use crate::domain::ids::NodeRun;

use super::client::{channel, hello};
use super::counted::NodeCodec;
use super::{AskError, BATCH_LIMIT, Inner, LinkRefused, Links, Peer};

const PULL: PathAndQuery = PathAndQuery::from_static("/waystation.cluster.v1.Cluster/Pull");
const MOVE: PathAndQuery = PathAndQuery::from_static("/waystation.cluster.v1.Cluster/Move");

/// Answers of this node that are read from its store, or written, at one time; more wait.
pub const PULLS: usize = 64;

/// Who answers other nodes that ask for a part of a mailbox, or have blobs to be kept here.
pub trait Holder: Send + Sync {
    /// What the request asks for; in words why not, if it cannot be had.
    fn pull(&self, request: PullRequest) -> BoxFuture<'static, Result<PullPage, String>>;

    /// Keeps blobs of a node that is emptied; what becomes of each, in their order. What is taken is durable.
    fn keep(&self, blobs: Vec<MailMoving>) -> BoxFuture<'static, Vec<MailMoved>>;
}

impl Links {
    /// Says who answers other nodes. Later calls have no effect.
    pub fn hold_with(&self, holder: Arc<dyn Holder>) {
        self.inner.holder.fill(holder);
    }

    /// Asks that run of that node for a part of a mailbox; `request` need not say who asks.
    ///
    /// # Errors
    /// [`AskError`]; `patience` at most after the call.
    pub async fn pull(&self, to: &NodeRun, mut request: PullRequest, patience: Duration) -> Result<PullPage, AskError> {
        let inner = &self.inner;
        let known = inner.peers.read().get(&to.node).filter(|peer| peer.run == *to).cloned();
        let peer = known.filter(|peer| !inner.settings.cut.is_cut(peer.gossip)).ok_or(LinkRefused::Gone)?;
        request.hello = Some(hello(inner));
        match tokio::time::timeout(patience, call(inner, &peer, request)).await {
            Ok(Ok(page)) => Ok(page),
            Ok(Err(status)) => Err(AskError::Failed(status.message().to_owned())),
            Err(_) => Err(AskError::TimedOut),
        }
    }
}

impl Links {
    /// Has that run of that node keep blobs; what it answers for each, in their order.
    ///
    /// # Errors
    /// [`AskError`]; `patience` at most after the call.
    pub async fn move_to(
        &self,
        to: &NodeRun,
        blobs: Vec<MailMoving>,
        patience: Duration,
    ) -> Result<Vec<MailMoved>, AskError> {
        let inner = &self.inner;
        let known = inner.peers.read().get(&to.node).filter(|peer| peer.run == *to).cloned();
        let peer = known.filter(|peer| !inner.settings.cut.is_cut(peer.gossip)).ok_or(LinkRefused::Gone)?;
        let request = MoveRequest { hello: Some(hello(inner)), blobs };
        let moving = async {
            let channel = peer.pulls.get_or_init(|| channel(inner, &peer)).clone();
            let mut grpc = Grpc::new(channel).max_encoding_message_size(BATCH_LIMIT);
            grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            grpc.unary(Request::new(request), MOVE, NodeCodec::<MoveRequest, MoveReply>::default()).await
        };
        match tokio::time::timeout(patience, moving).await {
            Ok(Ok(reply)) => Ok(reply.into_inner().blobs),
            Ok(Err(status)) => Err(AskError::Failed(status.message().to_owned())),
            Err(_) => Err(AskError::TimedOut),
        }
    }
}

async fn call(inner: &Arc<Inner>, peer: &Arc<Peer>, request: PullRequest) -> Result<PullPage, Status> {
    let channel = peer.pulls.get_or_init(|| channel(inner, peer)).clone();
    let mut grpc = Grpc::new(channel).max_decoding_message_size(BATCH_LIMIT);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let page = grpc.unary(Request::new(request), PULL, NodeCodec::<PullRequest, PullPage>::default()).await?;
    Ok(page.into_inner())
}

impl Inner {
    /// Answers another node.
    pub async fn pulled(&self, request: PullRequest) -> Result<PullPage, Status> {
        let _place = self.pulls.acquire().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let holder = self.holder.get().ok_or_else(|| Status::unavailable("this node is starting or has stopped"))?;
        holder.pull(request).await.map_err(Status::internal)
    }

    /// Keeps blobs of another node.
    pub async fn moved(&self, blobs: Vec<MailMoving>) -> Result<Vec<MailMoved>, Status> {
        let _place = self.pulls.acquire().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let holder = self.holder.get().ok_or_else(|| Status::unavailable("this node is starting or has stopped"))?;
        Ok(holder.keep(blobs).await)
    }
}
