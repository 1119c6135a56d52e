//! One request as a node remembers it: from its acceptance until its answer has been kept long enough.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use smallvec::SmallVec;
use subtle::ConstantTimeEq;
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::domain::clock::Millis;
use crate::domain::ids::{NodeRun, RequestId};
use crate::runtime::outbox::Outbox;
use crate::wire::dcp::envelope::RecordId;
use crate::wire::dcp::frame;

use super::refusal::Refusal;

/// What a record costs in memory beside its texts, roughly, in bytes.
const OVERHEAD: usize = 512;

/// Most other nodes that are told of the end of one record: an agent that moves on more often is told by the
/// nodes that it came to last.
pub const MAX_SHARERS: usize = 4;

/// Most other clusters that may have one record at a time.
pub const MAX_ABROAD: usize = 3;

/// Most nodes that are remembered to have had one record, those that had it last.
const MAX_FORMER: usize = 4;

/// Unguessable: whoever has it is the submitter of a request.
#[derive(Clone, Copy)]
pub struct PollToken(pub [u8; 16]);

impl PollToken {
    /// From its 32 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        hex::FromHex::from_hex(text).ok().map(Self)
    }

    /// As 32 hexadecimal digits.
    #[must_use]
    pub fn to_text(self) -> String {
        hex::encode(self.0)
    }
}

impl PartialEq for PollToken {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl std::fmt::Debug for PollToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PollToken(…)")
    }
}

/// Who submitted a request, as far as anybody knows: agents prove nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Submitter {
    /// Where it came from, trusted proxies aside.
    pub address: IpAddr,
    /// What it was given for polls, if it came by HTTP.
    pub token: Option<PollToken>,
}

impl Submitter {
    /// Whether `asker` may have what this submitter asked for: same address, or the token.
    #[must_use]
    pub fn admits(&self, asker: &Self) -> bool {
        self.address == asker.address || (self.token.is_some() && self.token == asker.token)
    }
}

/// An agent's socket, as far as its requests are concerned.
#[derive(Debug)]
pub struct AgentSocket {
    /// Where its frames go.
    pub outbox: Outbox,
    /// Requests of it that have no answer yet.
    pub pending: AtomicUsize,
}

/// Who is told what becomes of a request.
#[derive(Debug)]
pub enum Waiter {
    /// An agent's socket.
    Socket(Arc<AgentSocket>),
    /// An HTTP request that waits to know whether it is accepted.
    Http(oneshot::Sender<Outcome>),
    /// Nobody now; somebody may poll, or repeat it.
    Nobody,
}

/// What an HTTP request is told.
#[derive(Debug)]
pub enum Outcome {
    /// Accepted: 202.
    Accepted {
        /// Requests that the vault's limit leaves, if it is known.
        remaining: Option<u32>,
    },
    /// Answered already: 200. A frame for an agent.
    Answered(Utf8Bytes),
    /// The same request waits already: 409.
    Duplicate,
    /// Refused, or given up.
    Refused(Refusal),
}

impl Waiter {
    /// A waiter for an agent's socket, which counts as waiting from now on.
    #[must_use]
    pub fn socket(socket: &Arc<AgentSocket>) -> Self {
        socket.pending.fetch_add(1, Ordering::Relaxed);
        Self::Socket(socket.clone())
    }

    /// Whether anybody is there to be told.
    #[must_use]
    pub fn is_there(&self) -> bool {
        match self {
            Self::Socket(socket) => !socket.outbox.is_closed(),
            Self::Http(http) => !http.is_closed(),
            Self::Nobody => false,
        }
    }

    /// The request is accepted.
    pub fn accept(&mut self, request: &RequestId, remaining: Option<u32>, now: Millis) {
        match self {
            // A socket that takes nothing more is closing; its agent knows.
            Self::Socket(socket) => socket.outbox.text(frame::accepted(request.as_str(), now)).unwrap_or_default(),
            Self::Http(_) => self.tell(Outcome::Accepted { remaining }),
            Self::Nobody => {}
        }
    }

    /// The request is answered; whether anybody was there to hear it.
    pub fn answer(&mut self, answer: &Utf8Bytes) -> bool {
        match std::mem::replace(self, Self::Nobody) {
            Self::Socket(socket) => {
                socket.pending.fetch_sub(1, Ordering::Relaxed);
                socket.outbox.text(answer.clone()).is_ok()
            }
            Self::Http(http) => http.send(Outcome::Answered(answer.clone())).is_ok(),
            Self::Nobody => false,
        }
    }

    /// The request is refused or given up.
    pub fn refuse(&mut self, request: &RequestId, refusal: Refusal, now: Millis) {
        match std::mem::replace(self, Self::Nobody) {
            Self::Socket(socket) => {
                socket.pending.fetch_sub(1, Ordering::Relaxed);
                let frame = frame::error(refusal.code(), &refusal.to_string(), Some(request.as_str()), now);
                socket.outbox.text(frame).unwrap_or_default();
            }
            Self::Http(http) => drop(http.send(Outcome::Refused(refusal))),
            Self::Nobody => {}
        }
    }

    /// Another waiter takes the place of this one.
    pub fn replace(&mut self, next: Self) {
        if let Self::Socket(socket) = std::mem::replace(self, next) {
            socket.pending.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn tell(&mut self, outcome: Outcome) {
        if let Self::Http(http) = std::mem::replace(self, Self::Nobody) {
            // Whoever has stopped waiting polls, or does not care.
            drop(http.send(outcome));
        }
    }
}

/// Where the answer is awaited.
#[derive(Debug)]
pub enum Origin {
    /// At this node.
    Here(Waiter),
    /// At another node, which is told.
    There(NodeRun),
}

/// Where the vault is that the request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// At this node; delivered to the socket of that number, if to any.
    Home(Option<u64>),
    /// At that node, which has been sent the request.
    Away(NodeRun),
    /// It is being looked for, or waited for.
    Nowhere,
}

/// One request.
#[derive(Debug)]
pub struct Record {
    /// Submitter and envelope.
    pub id: RecordId,
    /// The agent's name for it.
    pub request: RequestId,
    /// Orders it among all requests of its vault: when it came to the node that took it from its agent, in
    /// milliseconds since 1970, and a counter in the lower 16 bits.
    pub order: u64,
    /// The text for the vault; empty once answered.
    pub frame: Utf8Bytes,
    /// The text for the agent, once answered.
    pub answer: Option<Utf8Bytes>,
    /// When it ends, answered or not.
    pub expires: Millis,
    /// When it came to this node.
    pub begun: Millis,
    /// Who submitted it.
    pub submitter: Submitter,
    /// What is traced of it, until it is answered.
    pub span: tracing::Span,
    /// Where the answer is awaited.
    pub origin: Origin,
    /// Where its vault is.
    pub place: Place,
    /// Whether it has come from another cluster, and no agent of this one has sent it: it goes to no third one, nor
    /// back, whoever awaits it.
    pub crossed: bool,
    /// The other clusters that it was sent to and that have not refused it, in that order: what they say of it counts,
    /// wherever the vault is now. See [`MAX_ABROAD`].
    pub abroad: SmallVec<[NodeRun; 1]>,
    /// When it was sent to the last of them.
    pub abroad_since: Millis,
    /// Whether its agent has been told that it is accepted.
    pub accepted: bool,
    /// Other nodes that have it and are told of its end: one that keeps it in case this one dies, and those to
    /// which its agent has sent it again. Once answered: those that could not be told yet. See [`MAX_SHARERS`].
    pub sharers: SmallVec<[NodeRun; 1]>,
    /// Nodes of this cluster that it was sent to before it was thought to be elsewhere. Each may have it still, for an
    /// agent of its own or for a session that the vault has there, and is told of its answer. See [`MAX_FORMER`].
    pub former: SmallVec<[NodeRun; 1]>,
    /// How often it has been sent to a node that did not have the vault.
    pub misses: u8,
    /// How often it has been delivered to a socket of the vault.
    pub deliveries: u8,
    /// Orders the deliveries at this node; that of its last one.
    pub delivered: u64,
}

impl Record {
    /// `node` has it as well, and is told of its end.
    pub fn share_with(&mut self, node: NodeRun) {
        let awaited_there = matches!(&self.origin, Origin::There(origin) if *origin == node);
        if !awaited_there && !self.sharers.contains(&node) {
            if self.sharers.len() >= MAX_SHARERS {
                self.sharers.remove(0);
            }
            self.sharers.push(node);
        }
    }

    /// Its vault is thought to be there from now on.
    pub fn moves_to(&mut self, place: Place) {
        let before = std::mem::replace(&mut self.place, place);
        if let Place::Away(node) = &before
            && before != self.place
            && !node.is_afar()
        {
            self.former.retain(|known| known != node);
            self.former.truncate(MAX_FORMER - 1);
            self.former.insert(0, node.clone());
        }
    }

    /// It is sent to that cluster, or again: one that it was sent to before has no say any more if there are too many.
    pub fn goes_abroad(&mut self, peer: &NodeRun, now: Millis) {
        if !self.abroad.contains(peer) {
            if self.abroad.len() >= MAX_ABROAD {
                self.abroad.remove(0);
            }
            self.abroad.push(peer.clone());
            self.abroad_since = now;
        }
    }

    /// Roughly its bytes in memory.
    #[must_use]
    pub fn weight(&self) -> usize {
        OVERHEAD + self.frame.len() + self.answer.as_ref().map_or(0, |answer| answer.len())
    }

    /// Whether it waits for its answer.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.answer.is_none()
    }
}
