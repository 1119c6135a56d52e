//! Circuits between clusters: a call each, on a connection of their own for each link, and the question who has a place
//! where.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt, stream};
use http::uri::PathAndQuery;
use tokio::sync::mpsc;
use tonic::client::Grpc;
use tonic::{Request, Status, Streaming};

use super::inflow::PeerCodec;
use super::peer::Peer;
use super::proof::Side;
use super::proto::CircuitCall;
use super::window::{Window, half};
use super::{Federation, Inner, call, ways};
use crate::cluster::convert;
use crate::cluster::links::circuits::{PART_LIMIT, PARTS, status};
use crate::cluster::links::{FarHalf, Reach};
use crate::cluster::presence::Located;
use crate::cluster::proto::{self, CircuitOpen, CircuitPart, Locate, circuit_part::Part, reply};
use crate::cluster::regions::{Caller, Regions};
use crate::cluster::shares::{Party, Place};
use crate::domain::principal::{Kind, Principal};
use crate::security::peer_tls::Shown;

const CIRCUIT: PathAndQuery = PathAndQuery::from_static("/waystation.federation.v1.Federation/Circuit");

/// What is answered to a caller.
pub type Answer = Pin<Box<dyn Stream<Item = Result<CircuitPart, Status>> + Send>>;

/// Has a peer connect a circuit: the half there, or the status with which it refuses.
pub async fn open(inner: &Arc<Inner>, peer: &Arc<Peer>, open: CircuitOpen) -> Result<Result<FarHalf, i32>, Status> {
    let channel = peer.circuits(|| call::channel(inner, peer)).map_err(ways::gone)?;
    let mut grpc = Grpc::new(channel).max_decoding_message_size(PART_LIMIT);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let window = Window::new();
    let (sender, parts) = mpsc::channel(PARTS);
    let part = Some(CircuitPart { part: Some(Part::Open(open)) });
    let first = stream::iter([CircuitCall { hello: Some(inner.hello()), part }]);
    let others = window.0.outgoing(parts).map(|part| CircuitCall { hello: None, part: Some(part) });
    let codec = PeerCodec::<CircuitCall, CircuitPart>::default();
    let mut answer = grpc.streaming(Request::new(first.chain(others)), CIRCUIT, codec).await?.into_inner();
    let (ended, distrusted) = (peer.ended.clone(), peer.trust());
    let ended = async move {
        tokio::select! {
            () = ended.cancelled() => {}
            () = distrusted.cancelled() => {}
        }
    };
    let answered = status(&mut answer).await?;
    Ok(answered.map(|()| half(window, sender, answer, ended, (), &inner.supervisor)))
}

/// A caller wants its half of a circuit connected to one in this cluster; `place` is given back at the end.
pub fn answer(
    inner: &Arc<Inner>,
    (party, place): (Party, Arc<Place>),
    shown: Shown,
    first: Option<CircuitPart>,
    calls: Streaming<CircuitCall>,
) -> Result<Answer, Status> {
    let Some(Part::Open(open)) = first.and_then(|part| part.part) else {
        return Err(Status::invalid_argument("nothing was asked for"));
    };
    let exchange = inner.cluster.links.exchange();
    let exchange = exchange.ok_or_else(|| Status::unavailable("this node keeps no circuits"))?;
    let window = Window::new();
    let (sender, parts) = mpsc::channel(PARTS);
    let outgoing = window.0.outgoing(parts);
    let incoming = calls.map(|call| Ok(call?.part.unwrap_or_default()));
    let lapsed = {
        let inner = inner.clone();
        async move {
            let unfit = inner.settings.proof.lapsed(Side::Called, &shown).await;
            inner.refuse(unfit.reason, &unfit.detail);
        }
    };
    let half = half(window, sender, incoming, lapsed, place, &inner.supervisor);
    exchange.circuit(Reach::Cluster(party), open, half);
    Ok(outgoing.map(Ok).boxed())
}

/// Whether a libp2p peer is asked for.
pub fn is_of_peer(locate: &Locate) -> bool {
    peer(locate).is_some()
}

fn peer(locate: &Locate) -> Option<Principal> {
    convert::principal_from(locate.principal.as_ref()).filter(|principal| principal.kind == Kind::Peer)
}

/// A caller asks whether a libp2p peer has its place in this cluster.
pub fn locate(inner: &Arc<Inner>, caller: u64, ask: u64, locate: &Locate) {
    let Some(principal) = peer(locate) else { return };
    inner.metrics.federation.lookups_answered.inc();
    let inner = inner.clone();
    inner.clone().supervisor.spawn_quiet(async move {
        let presence = &inner.cluster.presence;
        let standing = match presence.held(&principal) {
            Some((_, standing)) => Ok(Some(standing)),
            None => match presence.locate(&principal).await {
                Located::At { standing, .. } => Ok(Some(standing)),
                Located::Absent | Located::Lost(_) => Ok(None),
                Located::Unreachable => Err("a node is silent".to_owned()),
            },
        };
        let body = match standing {
            Ok(standing) => {
                let standing = standing.map_or(proto::Standing::Unspecified, convert::standing).into();
                reply::Body::Located(proto::Located { standing, ..proto::Located::default() })
            }
            Err(why) => reply::Body::Failed(why),
        };
        Federation { inner }.reply(Caller(caller), ask, body);
    });
}
