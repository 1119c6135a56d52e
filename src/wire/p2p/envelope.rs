//! Signed envelopes (libp2p RFC 0002): who says something, as what, and the proof of it.

use bytes::Bytes;
use prost::Message;

/// Something that was signed. The key is a `PublicKey` message of libp2p.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Envelope {
    /// The key of who signed it.
    #[prost(bytes = "bytes", tag = "1")]
    pub public_key: Bytes,
    /// As what.
    #[prost(bytes = "bytes", tag = "2")]
    pub payload_type: Bytes,
    /// What.
    #[prost(bytes = "bytes", tag = "3")]
    pub payload: Bytes,
    /// The signature of [`signed_bytes`].
    #[prost(bytes = "bytes", tag = "5")]
    pub signature: Bytes,
}

/// What the signature of an envelope covers: each part behind its length (RFC 0002, "Signature production").
#[must_use]
pub fn signed_bytes(domain: &str, payload_type: &[u8], payload: &[u8]) -> Vec<u8> {
    let parts = [domain.as_bytes(), payload_type, payload];
    let mut signed = Vec::with_capacity(parts.iter().map(|part| part.len() + 5).sum());
    for part in parts {
        prost::encoding::encode_varint(part.len() as u64, &mut signed);
        signed.extend_from_slice(part);
    }
    signed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_has_its_length_before_it() {
        assert_eq!(signed_bytes("ab", &[3, 2], &[0; 200])[..8], [2, b'a', b'b', 2, 3, 2, 200, 1]);
    }
}
