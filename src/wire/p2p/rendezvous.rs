//! Messages of the rendezvous protocol (specs/rendezvous, "Protobuf"). Framed by [`super::delimited`].

use bytes::Bytes;
use prost::Message;

/// Largest request: the largest peer record, a namespace, and what says so.
pub const MAX_REQUEST_BYTES: usize = 5 << 10;

/// Longest namespace.
pub const MAX_NAMESPACE_BYTES: usize = 255;

/// Largest signed peer record.
pub const MAX_RECORD_BYTES: usize = 4 << 10;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// It is done.
    Ok,
    /// No such namespace may be.
    InvalidNamespace,
    /// The record is none, or not signed by its peer.
    InvalidSignedPeerRecord,
    /// It may not last so long, or so short.
    InvalidTtl,
    /// The cookie is of another namespace, or none.
    InvalidCookie,
    /// The record is another peer's, or the peer may not ask this.
    NotAuthorized,
    /// The relay failed.
    InternalError,
    /// The relay keeps no more.
    Unavailable,
}

impl Status {
    /// Its number on the wire.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::Ok => 0,
            Self::InvalidNamespace => 100,
            Self::InvalidSignedPeerRecord => 101,
            Self::InvalidTtl => 102,
            Self::InvalidCookie => 103,
            Self::NotAuthorized => 200,
            Self::InternalError => 300,
            Self::Unavailable => 400,
        }
    }

    /// One word for figures.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::InvalidNamespace => "namespace",
            Self::InvalidSignedPeerRecord => "record",
            Self::InvalidTtl => "ttl",
            Self::InvalidCookie => "cookie",
            Self::NotAuthorized => "not_authorized",
            Self::InternalError => "failed",
            Self::Unavailable => "full",
        }
    }

    /// What a person may read of it.
    fn text(self) -> &'static str {
        match self {
            Self::Ok => "",
            Self::InvalidNamespace => "a namespace has 1 to 255 bytes",
            Self::InvalidSignedPeerRecord => "this is no peer record signed by its peer",
            Self::InvalidTtl => "a registration may last from 2 hours to 3 days",
            Self::InvalidCookie => "this cookie is of another namespace",
            Self::NotAuthorized => "not allowed",
            Self::InternalError => "the relay failed, try again",
            Self::Unavailable => "no more registrations are taken, try again later",
        }
    }
}

/// What a peer asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// To be found in a namespace.
    Register {
        /// The namespace.
        namespace: String,
        /// Its signed peer record.
        record: Bytes,
        /// For how many seconds.
        ttl: Option<u64>,
    },
    /// Not to be found there any more. Not answered.
    Unregister {
        /// The namespace.
        namespace: String,
    },
    /// Who is to be found.
    Discover {
        /// In that namespace; or in all.
        namespace: Option<String>,
        /// How many at most.
        limit: Option<u64>,
        /// What an earlier answer ended with.
        cookie: Option<Bytes>,
    },
}

/// Somebody who is to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where.
    pub namespace: String,
    /// The signed peer record, as it was registered.
    pub record: Bytes,
    /// For how many seconds it was registered.
    pub ttl: u64,
}

/// A message that is no request, and the answer that it gets; none, if it is not known to what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoRequest(pub Option<Vec<u8>>);

/// Reads what a peer asks.
///
/// # Errors
/// [`NoRequest`].
pub fn read(message: &[u8]) -> Result<Request, NoRequest> {
    let message = RendezvousMessage::decode(message).map_err(|_| NoRequest(None))?;
    match message.kind {
        Some(REGISTER) => {
            let refused = |status| NoRequest(Some(registered(status, 0)));
            let register = message.register.ok_or_else(|| refused(Status::InvalidNamespace))?;
            let namespace =
                register.ns.filter(|ns| is_namespace(ns)).ok_or_else(|| refused(Status::InvalidNamespace))?;
            let record = register.signed_peer_record.filter(|record| record.len() <= MAX_RECORD_BYTES);
            let record = record.ok_or_else(|| refused(Status::InvalidSignedPeerRecord))?;
            Ok(Request::Register { namespace, record, ttl: register.ttl })
        }
        Some(UNREGISTER) => {
            let namespace = message.unregister.and_then(|unregister| unregister.ns).filter(|ns| is_namespace(ns));
            namespace.map(|namespace| Request::Unregister { namespace }).ok_or(NoRequest(None))
        }
        Some(DISCOVER) => {
            let discover = message.discover.unwrap_or_default();
            // Left out or empty: all of them.
            let namespace = discover.ns.filter(|ns| !ns.is_empty());
            if namespace.as_ref().is_some_and(|ns| !is_namespace(ns)) {
                return Err(NoRequest(Some(refused(Status::InvalidNamespace))));
            }
            Ok(Request::Discover {
                namespace,
                limit: discover.limit.filter(|limit| *limit > 0),
                cookie: discover.cookie.filter(|cookie| !cookie.is_empty()),
            })
        }
        _ => Err(NoRequest(None)),
    }
}

fn is_namespace(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_NAMESPACE_BYTES
}

/// The answer to a registration: for how many seconds it holds, if it does.
#[must_use]
pub fn registered(status: Status, ttl: u64) -> Vec<u8> {
    // Clients want the status written out, and the time with a good one.
    let ok = status == Status::Ok;
    let response = RegisterResponse {
        status: Some(status.code()),
        status_text: (!ok).then(|| status.text().to_owned()),
        ttl: ok.then_some(ttl),
    };
    let message = RendezvousMessage {
        kind: Some(REGISTER_RESPONSE),
        register_response: Some(response),
        ..RendezvousMessage::default()
    };
    super::delimited::framed(&message)
}

/// The answer to a discovery: who was found, and what to ask for the rest with.
#[must_use]
pub fn discovered(found: Vec<Found>, cookie: Vec<u8>) -> Vec<u8> {
    let registration = |found: Found| Register {
        ns: Some(found.namespace),
        signed_peer_record: Some(found.record),
        ttl: Some(found.ttl),
    };
    discover_response(DiscoverResponse {
        registrations: found.into_iter().map(registration).collect(),
        cookie: Some(cookie.into()),
        status: Some(Status::Ok.code()),
        status_text: None,
    })
}

/// The answer to a discovery that is refused.
#[must_use]
pub fn refused(status: Status) -> Vec<u8> {
    let status_text = Some(status.text().to_owned());
    discover_response(DiscoverResponse { status: Some(status.code()), status_text, ..DiscoverResponse::default() })
}

fn discover_response(response: DiscoverResponse) -> Vec<u8> {
    let message = RendezvousMessage {
        kind: Some(DISCOVER_RESPONSE),
        discover_response: Some(response),
        ..RendezvousMessage::default()
    };
    super::delimited::framed(&message)
}

const REGISTER: i32 = 0;
const REGISTER_RESPONSE: i32 = 1;
const UNREGISTER: i32 = 2;
const DISCOVER: i32 = 3;
const DISCOVER_RESPONSE: i32 = 4;

#[derive(Clone, PartialEq, Message)]
struct RendezvousMessage {
    #[prost(int32, optional, tag = "1")]
    kind: Option<i32>,
    #[prost(message, optional, tag = "2")]
    register: Option<Register>,
    #[prost(message, optional, tag = "3")]
    register_response: Option<RegisterResponse>,
    #[prost(message, optional, tag = "4")]
    unregister: Option<Unregister>,
    #[prost(message, optional, tag = "5")]
    discover: Option<Discover>,
    #[prost(message, optional, tag = "6")]
    discover_response: Option<DiscoverResponse>,
}

#[derive(Clone, PartialEq, Message)]
struct Register {
    #[prost(string, optional, tag = "1")]
    ns: Option<String>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    signed_peer_record: Option<Bytes>,
    #[prost(uint64, optional, tag = "3")]
    ttl: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct RegisterResponse {
    #[prost(int32, optional, tag = "1")]
    status: Option<i32>,
    #[prost(string, optional, tag = "2")]
    status_text: Option<String>,
    #[prost(uint64, optional, tag = "3")]
    ttl: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct Unregister {
    #[prost(string, optional, tag = "1")]
    ns: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Discover {
    #[prost(string, optional, tag = "1")]
    ns: Option<String>,
    #[prost(uint64, optional, tag = "2")]
    limit: Option<u64>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    cookie: Option<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct DiscoverResponse {
    #[prost(message, repeated, tag = "1")]
    registrations: Vec<Register>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    cookie: Option<Bytes>,
    #[prost(int32, optional, tag = "3")]
    status: Option<i32>,
    #[prost(string, optional, tag = "4")]
    status_text: Option<String>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        hex::decode(hex.replace(' ', "")).unwrap()
    }

    #[test]
    fn requests_are_read_as_clients_write_them() {
        assert_eq!(read(&bytes("08 03 2a 00")), Ok(Request::Discover { namespace: None, limit: None, cookie: None }));
        let peers = Request::Discover { namespace: Some("dusk/peers".into()), limit: None, cookie: None };
        assert_eq!(read(&bytes("08 03 2a 0c 0a 0a 64 75 73 6b 2f 70 65 65 72 73")), Ok(peers));
        assert_eq!(read(&bytes("08 02 22 03 0a 01 78")), Ok(Request::Unregister { namespace: "x".into() }));
        let register = Request::Register { namespace: "x".into(), record: vec![9].into(), ttl: Some(7200) };
        assert_eq!(read(&bytes("08 00 12 09 0a 01 78 12 01 09 18 a0 38")), Ok(register));
    }

    #[test]
    fn answers_have_the_bytes_of_the_sheet() {
        assert_eq!(registered(Status::Ok, 7200), bytes("09 08 01 1a 05 08 00 18 a0 38"));
        assert_eq!(discovered(Vec::new(), vec![1; 8]), bytes("10 08 04 32 0c 12 08 01 01 01 01 01 01 01 01 18 00"));
    }

    #[test]
    fn what_is_no_request_is_answered_if_it_is_known_to_what() {
        let told = |status| Err(NoRequest(Some(registered(status, 0))));
        assert_eq!(read(&bytes("08 00")), told(Status::InvalidNamespace));
        assert_eq!(read(&bytes("08 00 12 03 0a 01 78")), told(Status::InvalidSignedPeerRecord));
        let long = RendezvousMessage {
            kind: Some(DISCOVER),
            discover: Some(Discover { ns: Some("n".repeat(256)), ..Discover::default() }),
            ..RendezvousMessage::default()
        };
        assert_eq!(read(&long.encode_to_vec()), Err(NoRequest(Some(refused(Status::InvalidNamespace)))));
        for unknown in ["", "08 01", "08 07", "08 02 22 00", "ff"] {
            assert_eq!(read(&bytes(unknown)), Err(NoRequest(None)), "{unknown}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_messages_are_read_or_refused(message: Vec<u8>) {
            let _any = read(&message);
        }
    }
}
