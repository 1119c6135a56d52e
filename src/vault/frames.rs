//! Between the vault service's records and the frames that nodes send each other.

use std::time::Duration;

use bytes::Bytes;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::cluster::convert;
use crate::cluster::proto::{self, Bits, Deliver, frame::Body, refused::Reason};
use crate::domain::clock::Millis;
use crate::domain::ids::{NodeRun, RequestId, VaultId};
use crate::observe::trace;
use crate::wire::dcp::envelope::RecordId;

use super::record::{Origin, Place, PollToken, Record, Submitter};
use super::refusal::Refusal;

/// A record on its way to another node, which answers to whoever awaits it.
#[must_use]
pub fn deliver(vault: &VaultId, record: &Record) -> Deliver {
    let origin = match &record.origin {
        // Whoever sends it.
        Origin::Here(_) => None,
        Origin::There(node) => Some(node).filter(|node| !node.is_afar()),
    };
    Deliver {
        record_id: id_bits(record.id),
        vault_id: vault.as_str().to_owned(),
        request_id: record.request.as_str().to_owned(),
        frame: record.frame.clone().into(),
        expires_ms: record.expires.0,
        address: Some(convert::address(record.submitter.address)),
        token: record.submitter.token.map(|token| convert::bits(token.0)),
        origin_node: origin.map(|run| run.node.to_string()).unwrap_or_default(),
        origin_generation: origin.map_or(0, |run| run.generation.0),
        accepted: record.accepted,
        answer: record.answer.clone().map(Bytes::from).unwrap_or_default(),
        hops: 1,
        traceparent: trace::traceparent_of(&record.span).unwrap_or_default(),
        order: record.order,
        crossings: u32::from(record.crossed),
        ..Deliver::default()
    }
}

/// A record that another node shall keep in case this one dies.
#[must_use]
pub fn guard(vault: &VaultId, record: &Record, me: &NodeRun) -> Deliver {
    let home = match &record.place {
        Place::Home(_) => Some(me),
        Place::Away(node) => Some(node).filter(|node| !node.is_afar()),
        Place::Nowhere => None,
    };
    Deliver {
        guard: true,
        home_node: home.map(|run| run.node.to_string()).unwrap_or_default(),
        home_generation: home.map_or(0, |run| run.generation.0),
        ..deliver(vault, record)
    }
}

/// What a [`Deliver`] says, checked.
#[derive(Debug)]
pub struct Delivered {
    /// Submitter and envelope.
    pub id: RecordId,
    /// The agent's name for the request.
    pub request: RequestId,
    /// The text for the vault; empty for a kept answer.
    pub frame: Utf8Bytes,
    /// The text for the agent, if the request is answered.
    pub answer: Option<Utf8Bytes>,
    /// When the request ends.
    pub expires: Millis,
    /// Who submitted it.
    pub submitter: Submitter,
    /// Where the answer is awaited.
    pub origin: NodeRun,
    /// Orders the requests that its node took from agents; zero if that node does not say.
    pub order: u64,
    /// The span that it belongs to; empty while nothing is traced.
    pub traceparent: String,
    /// Whether its agent has been told that it is accepted.
    pub accepted: bool,
    /// Whether it has come from another cluster.
    pub crossed: bool,
    /// Only to be kept, for a vault at `home`.
    pub guard: bool,
    /// Where the vault is, for one to be kept.
    pub home: Option<NodeRun>,
}

/// Checks a [`Deliver`]; nothing if it is malformed or has been forwarded before.
#[must_use]
pub fn delivered(wire: Deliver, from: &NodeRun) -> Option<Delivered> {
    if wire.hops > 1 || wire.crossings > 1 {
        return None;
    }
    let answer = if wire.answer.is_empty() { None } else { Some(text(wire.answer)?) };
    Some(Delivered {
        id: id_from(wire.record_id.as_ref())?,
        request: wire.request_id.as_str().into(),
        frame: text(wire.frame)?,
        answer,
        expires: Millis(wire.expires_ms),
        submitter: submitter(wire.address.as_ref(), wire.token.as_ref())?,
        origin: convert::node_run(&wire.origin_node, wire.origin_generation).unwrap_or_else(|| from.clone()),
        order: wire.order,
        traceparent: wire.traceparent,
        accepted: wire.accepted,
        crossed: wire.crossings > 0,
        guard: wire.guard,
        home: convert::node_run(&wire.home_node, wire.home_generation),
    })
}

/// A text that came from another node; nothing if it is no UTF-8. It came as a part of the buffer of a whole batch,
/// and would keep all of that in memory, so it is copied unless it is most of it.
#[must_use]
pub fn text(bytes: Bytes) -> Option<Utf8Bytes> {
    /// Half of the chunks in which batches are read.
    const LARGE: usize = 16 << 10;
    if bytes.len() > LARGE { Utf8Bytes::try_from(bytes).ok() } else { str::from_utf8(&bytes).ok().map(Utf8Bytes::from) }
}

/// A submitter from its address and its token, which may be absent.
#[must_use]
pub fn submitter(address: Option<&Bits>, token: Option<&Bits>) -> Option<Submitter> {
    let token = token.map(|bits| PollToken(convert::bits_from(bits)));
    Some(Submitter { address: convert::address_from(address?), token })
}

/// The request was accepted at its home; `remaining` is what the vault's limit leaves, if it was asked now.
#[must_use]
pub fn accepted(vault: &VaultId, request: &RequestId, id: RecordId, remaining: Option<u32>) -> Body {
    Body::Accepted(proto::Accepted {
        record_id: id_bits(id),
        vault_id: vault.as_str().to_owned(),
        request_id: request.as_str().to_owned(),
        remaining,
    })
}

/// The request was answered.
#[must_use]
pub fn answer(vault: &VaultId, request: &RequestId, id: RecordId, frame: &Utf8Bytes) -> Body {
    Body::Answer(proto::Answer {
        record_id: id_bits(id),
        vault_id: vault.as_str().to_owned(),
        request_id: request.as_str().to_owned(),
        frame: frame.clone().into(),
    })
}

/// The vault is not where the request was sent.
#[must_use]
pub fn not_here(vault: &VaultId, request: &RequestId, id: RecordId) -> Body {
    refusal(vault, request, id, Reason::NotHere, Duration::ZERO)
}

/// The request was refused or given up at its home.
#[must_use]
pub fn refused(vault: &VaultId, request: &RequestId, id: RecordId, why: &Refusal) -> Body {
    let (reason, wait) = match why {
        Refusal::VaultLimit(_, wait) => (Reason::RateLimited, *wait),
        Refusal::Full => (Reason::Full, Duration::ZERO),
        Refusal::Expired => (Reason::Expired, Duration::ZERO),
        Refusal::NotConnected(_) => (Reason::NotConnected, Duration::ZERO),
        // What concerns only the node that says so is no word on the vault.
        _ => (Reason::NotHere, Duration::ZERO),
    };
    refusal(vault, request, id, reason, wait)
}

fn refusal(vault: &VaultId, request: &RequestId, id: RecordId, reason: Reason, wait: Duration) -> Body {
    Body::Refused(proto::Refused {
        record_id: id_bits(id),
        vault_id: vault.as_str().to_owned(),
        request_id: request.as_str().to_owned(),
        reason: reason.into(),
        retry_after_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
    })
}

/// A record's id for the wire.
#[must_use]
pub fn id_bits(id: RecordId) -> Option<Bits> {
    Some(convert::bits(id.0))
}

/// A record's id from the wire.
#[must_use]
pub fn id_from(bits: Option<&Bits>) -> Option<RecordId> {
    bits.map(|bits| RecordId(convert::bits_from(bits)))
}
