//! Whether a message is of the peer that it says.

use libp2p::PeerId;
use libp2p::identity::PublicKey;

use crate::wire::p2p::pubsub::Published;

/// The peer that has signed the message: the one that it names as its source, or none (specs/pubsub, "Message Signing").
#[must_use]
pub fn signer(message: &Published) -> Option<PeerId> {
    let source = PeerId::from_bytes(&message.source).ok()?;
    let key = match &message.key {
        Some(key) => PublicKey::try_decode_protobuf(key).ok()?,
        None => inlined(&source)?,
    };
    let good = key.to_peer_id() == source && key.verify(&message.signed_bytes(), &message.signature);
    good.then_some(source)
}

/// The key that an id consists of; those of long keys are their hashes (specs/peer-ids, "Peer Ids"), and no peer with such a
/// key can connect here either.
fn inlined(id: &PeerId) -> Option<PublicKey> {
    const IDENTITY: u64 = 0;

    let hash = id.as_ref();
    (hash.code() == IDENTITY).then(|| PublicKey::try_decode_protobuf(hash.digest()).ok()).flatten()
}

#[cfg(test)]
pub mod tests {
    use libp2p::identity::Keypair;
    use prost::Message;

    use super::*;
    use crate::wire::p2p::pubsub::read_message;

    #[derive(Clone, PartialEq, Message)]
    struct Said {
        #[prost(bytes = "vec", tag = "1")]
        from: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        data: Vec<u8>,
        #[prost(bytes = "vec", tag = "3")]
        seqno: Vec<u8>,
        #[prost(string, tag = "4")]
        topic: String,
        #[prost(bytes = "vec", tag = "5")]
        signature: Vec<u8>,
        #[prost(bytes = "vec", tag = "6")]
        key: Vec<u8>,
    }

    fn unsigned(source: &PeerId, number: u64, topic: &str) -> Said {
        let (from, seqno) = (source.to_bytes(), number.to_be_bytes().to_vec());
        Said { from, data: b"hello".to_vec(), seqno, topic: topic.to_owned(), ..Said::default() }
    }

    fn signed(key: &Keypair, said: Said) -> Said {
        let signature = key.sign(&[b"libp2p-pubsub:", &said.encode_to_vec()[..]].concat()).unwrap();
        Said { signature, ..said }
    }

    fn read(said: &Said) -> Published {
        read_message(said.encode_to_vec().into()).unwrap()
    }

    /// A message of one and the same peer, not truly signed.
    pub fn said(number: u64, topic: &str) -> Published {
        let source = PeerId::from_bytes(&[0, 1, 9]).unwrap();
        read(&Said { signature: vec![1], ..unsigned(&source, number, topic) })
    }

    #[test]
    fn a_message_is_its_signers_and_nobody_elses() {
        let (key, other) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
        let (id, another) = (key.public().to_peer_id(), other.public().to_peer_id());
        let good = signed(&key, unsigned(&id, 1, "x"));
        assert_eq!(signer(&read(&good)), Some(id));
        let with_key = Said { key: key.public().encode_protobuf(), ..good.clone() };
        assert_eq!(signer(&read(&with_key)), Some(id), "said twice");
        for bad in [
            Said { key: other.public().encode_protobuf(), ..good.clone() },
            Said { key: b"no key".to_vec(), ..good.clone() },
            Said { data: b"hellp".to_vec(), ..good.clone() },
            Said { seqno: vec![0; 8], ..good.clone() },
            Said { topic: "y".to_owned(), ..good.clone() },
            Said { from: another.to_bytes(), ..good },
            signed(&other, unsigned(&id, 1, "x")),
            signed(&key, Said { from: b"nobody".to_vec(), ..unsigned(&id, 1, "x") }),
        ] {
            assert_eq!(signer(&read(&bad)), None, "{bad:?}");
        }
    }
}
