//! What a relay signs for a peer that has a place at it (circuit relay version 2, "Reservation vouchers").

use bytes::Bytes;
use prost::Message;

/// What the signature is for.
pub const DOMAIN: &str = "libp2p-relay-rsvp";

/// The payload's type in the envelope: the multicodec `libp2p-relay-rsvp`.
pub const PAYLOAD_TYPE: [u8; 2] = [0x03, 0x02];

/// That a relay keeps a place for a peer.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Voucher {
    /// The relay's peer id.
    #[prost(bytes = "bytes", tag = "1")]
    pub relay: Bytes,
    /// The peer's id.
    #[prost(bytes = "bytes", tag = "2")]
    pub peer: Bytes,
    /// Until when, in seconds since 1970.
    #[prost(uint64, tag = "3")]
    pub expiration: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_in_the_order_of_their_numbers() {
        let voucher = Voucher { relay: vec![1].into(), peer: vec![2].into(), expiration: 300 };
        assert_eq!(voucher.encode_to_vec(), [0x0a, 1, 1, 0x12, 1, 2, 0x18, 0xac, 0x02]);
    }
}
