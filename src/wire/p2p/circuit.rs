//! Messages of circuit relay version 2, HOP between a peer and its relay and STOP between a relay and the peer that is
//! reached (specs/relay/circuit-v2.md, "Protobuf"). Framed by [`super::delimited`].

use bytes::Bytes;
use prost::Message;

/// Largest message of either protocol, its length not counted. Stock clients read no more.
pub const MAX_MESSAGE_BYTES: usize = 4096;

/// Longest peer id: a hash of 64 bytes and what says which.
pub const MAX_PEER_BYTES: usize = 70;

/// What became of something (specification, "Status codes").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// It is done.
    Ok,
    /// No place is given.
    ReservationRefused,
    /// A limit is reached.
    ResourceLimitExceeded,
    /// The peer may not do this.
    PermissionDenied,
    /// The other peer could not be reached.
    ConnectionFailed,
    /// The other peer has no place here.
    NoReservation,
    /// The message could not be read.
    MalformedMessage,
    /// Another message was due.
    UnexpectedMessage,
}

/// All of them, with their numbers.
const STATUSES: [(Status, i32); 8] = [
    (Status::Ok, 100),
    (Status::ReservationRefused, 200),
    (Status::ResourceLimitExceeded, 201),
    (Status::PermissionDenied, 202),
    (Status::ConnectionFailed, 203),
    (Status::NoReservation, 204),
    (Status::MalformedMessage, 400),
    (Status::UnexpectedMessage, 401),
];

impl Status {
    /// Its number on the wire.
    #[must_use]
    pub fn code(self) -> i32 {
        // The table has every status: a test walks through them.
        STATUSES.iter().find(|(status, _)| *status == self).map_or(0, |(_, code)| *code)
    }

    /// The status of that number.
    #[must_use]
    pub fn from_code(code: i32) -> Option<Self> {
        STATUSES.iter().find(|(_, known)| *known == code).map(|(status, _)| *status)
    }

    /// One word for figures and logs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ReservationRefused => "refused",
            Self::ResourceLimitExceeded => "limit",
            Self::PermissionDenied => "denied",
            Self::ConnectionFailed => "failed",
            Self::NoReservation => "no_reservation",
            Self::MalformedMessage => "malformed",
            Self::UnexpectedMessage => "unexpected",
        }
    }
}

/// How much a circuit may carry and how long it may last; a member that is nothing does not limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limit {
    /// Seconds.
    pub seconds: Option<u32>,
    /// Bytes in each direction.
    pub bytes: Option<u64>,
}

impl Limit {
    /// As it is sent; not at all if nothing is limited.
    fn message(self) -> Option<LimitMessage> {
        (self != Self::default()).then_some(LimitMessage { duration: self.seconds, data: self.bytes })
    }
}

/// What a peer asks of a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HopRequest {
    /// A place here.
    Reserve,
    /// A circuit to the peer of that id.
    Connect {
        /// The id in its binary form.
        target: Bytes,
    },
}

/// A place that is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// Until when, in seconds since 1970.
    pub expire: u64,
    /// Where the relay is reached: each ends in its peer id. At least one.
    pub addresses: Vec<Vec<u8>>,
    /// The signed voucher.
    pub voucher: Vec<u8>,
    /// What circuits to the peer may carry.
    pub limit: Limit,
}

/// Reads what a peer asks.
///
/// # Errors
/// The status that says why it is no request.
pub fn read_hop(message: &[u8]) -> Result<HopRequest, Status> {
    let message = HopMessage::decode(message).map_err(|_| Status::MalformedMessage)?;
    // A number that is not known must not pass for the first one, as it does in decoders that have a default.
    match message.kind {
        Some(HOP_RESERVE) => Ok(HopRequest::Reserve),
        Some(HOP_CONNECT) => {
            let target = message.peer.and_then(|peer| peer.id).ok_or(Status::MalformedMessage)?;
            let fits = !target.is_empty() && target.len() <= MAX_PEER_BYTES;
            if fits { Ok(HopRequest::Connect { target }) } else { Err(Status::MalformedMessage) }
        }
        Some(HOP_STATUS) => Err(Status::UnexpectedMessage),
        _ => Err(Status::MalformedMessage),
    }
}

/// The answer to either request that says nothing but `status`; with `limit`, of a circuit that stands.
#[must_use]
pub fn hop_status(status: Status, limit: Limit) -> Vec<u8> {
    let message = HopMessage {
        kind: Some(HOP_STATUS),
        limit: limit.message(),
        status: Some(status.code()),
        ..HopMessage::default()
    };
    super::delimited::framed(&message)
}

/// The answer to a peer that is given a place. Addresses that would make it too long for clients are left out from the
/// end; the first always fits.
#[must_use]
pub fn hop_granted(granted: &Granted) -> Vec<u8> {
    let mut reservation = ReservationMessage {
        expire: Some(granted.expire),
        addrs: granted.addresses.iter().map(|address| Bytes::copy_from_slice(address)).collect(),
        voucher: Some(Bytes::copy_from_slice(&granted.voucher)),
    };
    loop {
        let message = HopMessage {
            kind: Some(HOP_STATUS),
            reservation: Some(reservation.clone()),
            limit: granted.limit.message(),
            status: Some(Status::Ok.code()),
            ..HopMessage::default()
        };
        if message.encoded_len() < MAX_MESSAGE_BYTES || reservation.addrs.len() <= 1 {
            return super::delimited::framed(&message);
        }
        reservation.addrs.pop();
    }
}

/// What a relay says to the peer that is reached: the peer of the id `source` wants to be connected.
#[must_use]
pub fn stop_connect(source: &[u8], limit: Limit) -> Vec<u8> {
    let peer = PeerMessage { id: Some(Bytes::copy_from_slice(source)), addrs: Vec::new() };
    let message =
        StopMessage { kind: Some(STOP_CONNECT), peer: Some(peer), limit: limit.message(), ..StopMessage::default() };
    super::delimited::framed(&message)
}

/// What the peer that is reached answers, as the relay passes it on to who asked: its own refusals for limits and
/// permission as they are, all others as an unexpected answer.
///
/// # Errors
/// The status for who asked.
pub fn read_stop(message: &[u8]) -> Result<(), Status> {
    let message = StopMessage::decode(message).map_err(|_| Status::MalformedMessage)?;
    if message.kind != Some(STOP_STATUS) {
        return Err(Status::UnexpectedMessage);
    }
    match message.status.and_then(Status::from_code) {
        Some(Status::Ok) => Ok(()),
        Some(refused @ (Status::ResourceLimitExceeded | Status::PermissionDenied)) => Err(refused),
        _ => Err(Status::UnexpectedMessage),
    }
}

const HOP_RESERVE: i32 = 0;
const HOP_CONNECT: i32 = 1;
const HOP_STATUS: i32 = 2;
const STOP_CONNECT: i32 = 0;
const STOP_STATUS: i32 = 1;

#[derive(Clone, PartialEq, Message)]
struct HopMessage {
    #[prost(int32, optional, tag = "1")]
    kind: Option<i32>,
    #[prost(message, optional, tag = "2")]
    peer: Option<PeerMessage>,
    #[prost(message, optional, tag = "3")]
    reservation: Option<ReservationMessage>,
    #[prost(message, optional, tag = "4")]
    limit: Option<LimitMessage>,
    #[prost(int32, optional, tag = "5")]
    status: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct StopMessage {
    #[prost(int32, optional, tag = "1")]
    kind: Option<i32>,
    #[prost(message, optional, tag = "2")]
    peer: Option<PeerMessage>,
    #[prost(message, optional, tag = "3")]
    limit: Option<LimitMessage>,
    #[prost(int32, optional, tag = "4")]
    status: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct PeerMessage {
    #[prost(bytes = "bytes", optional, tag = "1")]
    id: Option<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    addrs: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct ReservationMessage {
    #[prost(uint64, optional, tag = "1")]
    expire: Option<u64>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    addrs: Vec<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    voucher: Option<Bytes>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct LimitMessage {
    #[prost(uint32, optional, tag = "1")]
    duration: Option<u32>,
    #[prost(uint64, optional, tag = "2")]
    data: Option<u64>,
}

#[cfg(test)]
mod tests;
