//! Whether a peer record may be told to others: one that clients cannot read would spoil the whole answer for them.

use libp2p::core::SignedEnvelope;
use libp2p::{Multiaddr, PeerId};
use prost::Message;

use crate::wire::p2p::peer_record::{FORMS, MAX_ADDRESSES, PeerRecord};
use crate::wire::p2p::rendezvous::Status;

/// Checks a record that `peer`, who has proven its id, wants to be told to others; the number of its form.
///
/// # Errors
/// The status that says why not.
pub fn check(record: &[u8], peer: &PeerId) -> Result<usize, Status> {
    let envelope = SignedEnvelope::from_protobuf_encoding(record).map_err(|_| Status::InvalidSignedPeerRecord)?;
    let opened = FORMS.iter().enumerate().find_map(|(number, form)| {
        let opened = envelope.payload_and_signing_key(form.domain.to_owned(), form.payload_type).ok()?;
        Some((number, opened))
    });
    let (form, (payload, key)) = opened.ok_or(Status::InvalidSignedPeerRecord)?;
    let record = PeerRecord::decode(payload).map_err(|_| Status::InvalidSignedPeerRecord)?;
    let whose = PeerId::from_bytes(&record.peer_id).map_err(|_| Status::InvalidSignedPeerRecord)?;
    if key.to_peer_id() != whose {
        return Err(Status::InvalidSignedPeerRecord);
    }
    if whose != *peer {
        return Err(Status::NotAuthorized);
    }
    let readable = |bytes: &[u8]| Multiaddr::try_from(bytes.to_vec()).is_ok();
    let good =
        record.addresses.len() <= MAX_ADDRESSES && record.addresses.iter().all(|address| readable(&address.multiaddr));
    if good { Ok(form) } else { Err(Status::InvalidSignedPeerRecord) }
}

#[cfg(test)]
mod tests {
    use libp2p::core::PeerRecord as Stock;
    use libp2p::identity::Keypair;

    use super::*;
    use crate::wire::p2p::peer_record::{Address, LEGACY};

    fn signed(key: &Keypair, whose: PeerId, form: usize, addresses: &[&[u8]]) -> Vec<u8> {
        let addresses = addresses.iter().map(|bytes| Address { multiaddr: bytes.to_vec().into() }).collect();
        let payload = PeerRecord { peer_id: whose.to_bytes().into(), seq: 1, addresses }.encode_to_vec();
        let form = FORMS[form];
        let envelope = SignedEnvelope::new(key, form.domain.to_owned(), form.payload_type.to_vec(), payload).unwrap();
        envelope.into_protobuf_encoding()
    }

    #[test]
    fn both_forms_are_taken_and_that_of_rust_as_it_writes_it() {
        let key = Keypair::generate_ed25519();
        let id = key.public().to_peer_id();
        let address: Multiaddr = "/ip4/192.0.2.1/tcp/1".parse().unwrap();
        for form in 0..FORMS.len() {
            assert_eq!(check(&signed(&key, id, form, &[&address.to_vec()]), &id), Ok(form));
        }
        let stock = Stock::new(&key, vec![address]).unwrap();
        assert_eq!(check(&stock.to_signed_envelope().into_protobuf_encoding(), &id), Ok(LEGACY));
    }

    #[test]
    fn what_is_not_the_peers_own_word_is_refused() {
        let (key, other) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
        let (id, another) = (key.public().to_peer_id(), other.public().to_peer_id());
        let good = signed(&key, id, 0, &[]);
        assert_eq!(check(&good, &another), Err(Status::NotAuthorized));
        let bad = Err(Status::InvalidSignedPeerRecord);
        assert_eq!(check(&signed(&other, id, 0, &[]), &id), bad, "signed by another");
        assert_eq!(check(&signed(&key, id, 0, &[b"no address"]), &id), bad);
        assert_eq!(check(&signed(&key, id, 0, &vec![&[][..]; MAX_ADDRESSES + 1]), &id), bad);
        for at in 0..good.len() {
            let mut damaged = good.clone();
            damaged[at] ^= 1;
            assert!(check(&damaged, &id).is_err(), "byte {at}");
        }
        assert_eq!(check(&[], &id), bad);
    }
}
