//! What clients of the Vauchi protocol send.

use bolero::check;
use waystation::domain::clock::Millis;
use waystation::wire::vauchi::array;
use waystation::wire::vauchi::frame::DecodeError;
use waystation::wire::vauchi::handshake::{Handshake, is_id};
use waystation::wire::vauchi::incoming::Incoming;
use waystation::wire::vauchi::outgoing::{Outgoing, RelayPayload};
use waystation::wire::vauchi::payload::ClientPayload;

use super::ITERATIONS;

/// 2026-02-13T16:26:40Z, when the worked examples take place.
const NOW: Millis = Millis(1_771_000_000_000);

#[test]
fn incoming() {
    check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
        let message = match Incoming::decode(input) {
            Ok(message) => message,
            Err(error) => return assert_eq!(error == DecodeError::TooShort, input.len() < 4),
        };
        match &message.payload {
            ClientPayload::EncryptedUpdate(update) => assert!(2 * update.ciphertext.len() < input.len()),
            ClientPayload::RecoveryProofQuery(query) => assert!(64 * query.key_hashes.len() < input.len()),
            _ => {}
        }
        let written = message.encode();
        assert_eq!(written[..4], u32::try_from(written.len() - 4).unwrap().to_be_bytes());
        assert_eq!(Incoming::decode(&written), Ok(message));
    });
}

#[test]
fn byte_array() {
    check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
        // White space around it is not the array's.
        let array = input.trim_ascii_end();
        let ours = array::decode(array).filter(|(_, taken)| *taken == array.len()).map(|(bytes, _)| bytes);
        let space = |byte: &u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
        if array.first().is_none_or(|first| !space(first)) && input[array.len()..].iter().all(space) {
            assert_eq!(ours.as_deref(), serde_json::from_slice::<Vec<u8>>(input).ok().as_deref());
        }
        let mut spelled = Vec::new();
        array::write(input, &mut spelled);
        assert_eq!(spelled.len(), array::spelled_len(input));
        let (bytes, taken) = array::decode(&spelled).expect("what was written is an array");
        assert_eq!((&*bytes, taken), (input, spelled.len()));
    });
}

#[test]
fn handshake() {
    check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
        let Ok(Incoming { payload: ClientPayload::Handshake(handshake), .. }) = Incoming::decode(input) else { return };
        let Ok(proof) = handshake.check(NOW) else { return };
        assert!(is_id(handshake.routing_id()) && is_id(&handshake.client_id));
        let Some(proof) = proof else { return };
        assert_eq!(hex::encode(proof.key.0), handshake.client_id);
        assert_eq!(Handshake::plain(&handshake.client_id, None).with_proof(&proof).check(NOW), Ok(Some(proof)));
    });
}

#[test]
fn delivery() {
    check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
        let (id, ciphertext) = input.split_at(input.len() / 2);
        let id = String::from_utf8_lossy(id);
        let payload = RelayPayload::EncryptedUpdate { recipient_id: &id, sender_id: &id, ciphertext };
        let outgoing = Outgoing { message_id: &id, now: NOW, payload };
        let frame = outgoing.encode();
        assert_eq!(outgoing.frame_len(), frame.len());
        let Ok(Incoming { message_id, payload: ClientPayload::EncryptedUpdate(update), .. }) = Incoming::decode(&frame)
        else {
            panic!("a delivery reads as an update");
        };
        assert_eq!((&message_id, &update.recipient_id), (&id, &id));
        assert_eq!((update.sender_id, &*update.ciphertext), (Some(id), ciphertext));
    });
}
