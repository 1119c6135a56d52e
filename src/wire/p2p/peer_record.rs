//! Peer records (libp2p RFC 0003): where a peer says that it is, in a signed envelope.

use bytes::Bytes;
use prost::Message;

/// A form in which records are signed: what the signature is for, and the payload's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// What the signature is for.
    pub domain: &'static str,
    /// The payload's type in the envelope.
    pub payload_type: &'static [u8],
}

/// The number of the form of the specification.
pub const STANDARD: usize = 0;

/// The number of the form of rust-libp2p's rendezvous.
pub const LEGACY: usize = 1;

/// The forms that there are: that of the specification, which go and js write, and that of rust-libp2p's rendezvous. Who
/// writes one reads no other.
pub const FORMS: [Form; 2] = [
    Form { domain: "libp2p-peer-record", payload_type: &[0x03, 0x01] },
    Form { domain: "libp2p-routing-state", payload_type: b"/libp2p/routing-state-record" },
];

/// Most addresses in a record.
pub const MAX_ADDRESSES: usize = 64;

/// Where a peer says that it is.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PeerRecord {
    /// The peer.
    #[prost(bytes = "bytes", tag = "1")]
    pub peer_id: Bytes,
    /// The larger is the newer.
    #[prost(uint64, tag = "2")]
    pub seq: u64,
    /// Where.
    #[prost(message, repeated, tag = "3")]
    pub addresses: Vec<Address>,
}

/// An address of a record.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Address {
    /// In its binary form.
    #[prost(bytes = "bytes", tag = "1")]
    pub multiaddr: Bytes,
}
