//! Signing what a peer may show of its place.

use libp2p::PeerId;
use libp2p::identity::{Keypair, SigningError};
use prost::Message;

use crate::wire::p2p::envelope::{Envelope, signed_bytes};
use crate::wire::p2p::voucher::{DOMAIN, PAYLOAD_TYPE, Voucher};

/// That the relay with `key` keeps a place for `peer` until `expiration`, in seconds since 1970; an envelope.
///
/// # Errors
/// When the key cannot sign.
pub fn voucher(key: &Keypair, peer: PeerId, expiration: u64) -> Result<Vec<u8>, SigningError> {
    let relay = key.public().to_peer_id().to_bytes().into();
    let payload = Voucher { relay, peer: peer.to_bytes().into(), expiration }.encode_to_vec();
    let signature = key.sign(&signed_bytes(DOMAIN, &PAYLOAD_TYPE, &payload))?;
    let envelope = Envelope {
        public_key: key.public().encode_protobuf().into(),
        payload_type: PAYLOAD_TYPE.to_vec().into(),
        payload: payload.into(),
        signature: signature.into(),
    };
    Ok(envelope.encode_to_vec())
}

#[cfg(test)]
mod tests {
    use libp2p::core::SignedEnvelope;

    use super::*;

    #[test]
    fn other_implementations_verify_it() {
        let (key, peer) = (Keypair::generate_ed25519(), PeerId::random());
        let envelope = SignedEnvelope::from_protobuf_encoding(&voucher(&key, peer, 1_795_271_152).unwrap()).unwrap();
        let (payload, signer) = envelope.payload_and_signing_key(DOMAIN.to_owned(), &PAYLOAD_TYPE).unwrap();
        assert_eq!(signer, &key.public());
        let voucher = Voucher::decode(payload).unwrap();
        assert_eq!(PeerId::from_bytes(&voucher.relay).unwrap(), key.public().to_peer_id());
        assert_eq!(PeerId::from_bytes(&voucher.peer).unwrap(), peer);
        assert_eq!(voucher.expiration, 1_795_271_152);
    }
}
