//! Blobs that are offered to a peer, and by callers. Streams of their own, on a connection of their own, so that nothing
//! else waits behind them; what is not read yet waits at its sender.

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, stream};
use http::uri::PathAndQuery;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::{Request, Status, Streaming};

use super::inflow::PeerCodec;
use super::peer::Peer;
use super::proof::Side;
use super::proto::OffloadPart;
use super::{Inner, call, ways};
use crate::cluster::links::AskError;
use crate::cluster::proto::{MailMoveOutcome, MailMoved, MailMoving};
use crate::cluster::regions;
use crate::cluster::shares::Place;
use crate::security::peer_tls::Shown;

const OFFLOAD: PathAndQuery = PathAndQuery::from_static("/waystation.federation.v1.Federation/Offload");

/// Blobs that are taken in side by side, of one call: they share group commits.
const CHUNK_BLOBS: usize = 256;

/// Bytes of bodies in such a chunk, but for the one that brings it there.
const CHUNK_BYTES: usize = 2 << 20;

/// Answers that wait to be read.
const WAITING: usize = 2 * CHUNK_BLOBS;

/// A caller that offers so many blobs that are not fit is hung up on.
const MAX_UNFIT: usize = 64;

/// What is answered to a caller.
pub type Answers = ReceiverStream<Result<MailMoved, Status>>;

/// Offers blobs to a peer: what it answers, in their order, and, if that is not all, why.
pub async fn offer(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    blobs: Vec<MailMoving>,
    patience: Duration,
) -> regions::Answers {
    let mut answers = Vec::with_capacity(blobs.len());
    let failed = |status: &Status| AskError::Failed(status.message().to_owned());
    let error = match timeout(patience, exchange(inner, peer, blobs, &mut answers)).await {
        Ok(Ok(())) => None,
        Ok(Err(status)) => Some(failed(&status)),
        Err(_) => Some(AskError::TimedOut),
    };
    (answers, error)
}

async fn exchange(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    blobs: Vec<MailMoving>,
    answers: &mut Vec<MailMoved>,
) -> Result<(), Status> {
    let channel = peer.offers(|| call::channel(inner, peer)).map_err(ways::gone)?;
    let hello = OffloadPart { hello: Some(inner.hello()), blob: None };
    let parts = blobs.into_iter().map(|blob| OffloadPart { hello: None, blob: Some(blob) });
    let parts = stream::iter(std::iter::once(hello).chain(parts));
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let codec = PeerCodec::<OffloadPart, MailMoved>::default();
    let mut said = grpc.streaming(Request::new(parts), OFFLOAD, codec).await?.into_inner();
    while let Some(answer) = said.message().await? {
        answers.push(answer);
    }
    Ok(())
}

/// Reads what a caller offers, and answers. `place` is given back at the end.
pub fn answer(inner: &Arc<Inner>, place: Place, shown: Shown, parts: Streaming<OffloadPart>) -> Answers {
    let (sender, receiver) = mpsc::channel(WAITING);
    let (inner, stop) = (inner.clone(), inner.supervisor.token());
    inner.clone().supervisor.spawn_quiet(async move {
        let read = async {
            tokio::select! {
                read = read(&inner, parts, &sender) => read,
                unfit = inner.settings.proof.lapsed(Side::Called, &shown) => {
                    inner.refuse(unfit.reason, &unfit.detail);
                    Err(Status::permission_denied(unfit.detail))
                }
            }
        };
        if let Some(Err(status)) = stop.run_until_cancelled(read).await {
            // Nobody may listen any more.
            sender.send(Err(status)).await.unwrap_or_default();
        }
        drop(place);
    });
    ReceiverStream::new(receiver)
}

async fn read(
    inner: &Inner,
    mut parts: Streaming<OffloadPart>,
    answers: &mpsc::Sender<Result<MailMoved, Status>>,
) -> Result<(), Status> {
    let mut unfit = 0;
    loop {
        let chunk = chunk(&mut parts, 2 * inner.settings.timeout).await?;
        if chunk.is_empty() {
            return Ok(());
        }
        let service = inner.cluster.afar.mailbox.get();
        let service = service.ok_or_else(|| Status::unavailable("this node is starting or has stopped"))?;
        for moved in service.offered(chunk).await {
            unfit += usize::from(moved.outcome() == MailMoveOutcome::Unfit);
            answers.send(Ok(moved)).await.map_err(|_| Status::cancelled("nobody listens"))?;
        }
        if unfit >= MAX_UNFIT {
            inner.refuse("unfit_blobs", "it offers blobs that are damaged, dated ahead, or have moved before");
            return Err(Status::invalid_argument("too many blobs that are not fit"));
        }
    }
}

/// What has come, and at least one; empty at the end.
async fn chunk(parts: &mut Streaming<OffloadPart>, patience: Duration) -> Result<Vec<MailMoving>, Status> {
    let late = |_| Status::deadline_exceeded("nothing came for too long");
    let (mut chunk, mut bytes) = (Vec::new(), 0);
    let mut next = timeout(patience, parts.message()).await.map_err(late)??;
    while let Some(part) = next.take() {
        let blob = part.blob.ok_or_else(|| Status::invalid_argument("a part without a blob"))?;
        bytes += blob.body.len();
        chunk.push(blob);
        if chunk.len() < CHUNK_BLOBS && bytes < CHUNK_BYTES {
            next = parts.message().now_or_never().transpose()?.flatten();
        }
    }
    Ok(chunk)
}
