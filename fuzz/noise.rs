//! Noise: what a stranger sends as the first message, and what comes between sealed messages.

use std::sync::LazyLock;

use bolero::check;
use waystation::security::noise::{
    HANDSHAKE_BYTES, Initiator, KEY_BYTES, MAX_MESSAGE_BYTES, NoiseError, Responder, StaticKey, TAG_BYTES, Transport,
};
use waystation::wire::vauchi::frame::{NOISE_MAGIC, NOISE_START_BYTES, starts_noise};

/// Fewer than elsewhere: each costs multiplications on a curve, in an unoptimised build.
const ITERATIONS: usize = 50;

static RELAY: LazyLock<Responder> =
    LazyLock::new(|| Responder::new(StaticKey::from_private([7; KEY_BYTES]).expect("any 32 bytes are a key")));

/// Nobody who has not made it for the relay's key gets an answer to a first message.
#[test]
fn first_message() {
    check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
        assert_eq!(RELAY.respond(input).err(), Some(NoiseError::Handshake));
        let (_, good) = Initiator::start(RELAY.key().public()).unwrap();
        let on_the_wire = [&NOISE_MAGIC[..], &good].concat();
        assert_eq!((on_the_wire.len(), HANDSHAKE_BYTES), (NOISE_START_BYTES, NOISE_START_BYTES - NOISE_MAGIC.len()));
        assert!(starts_noise(&on_the_wire));
        // A payload that was not sealed with the rest.
        let longer = [&good[..], input].concat();
        assert_eq!(RELAY.respond(&longer).is_ok(), input.is_empty());
    });
}

/// The input is a frame, and what a stranger slips in before it.
#[test]
fn transport_message() {
    check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
        let (mut client, mut relay) = connected();
        one_way(&mut client, &mut relay, input);
        one_way(&mut relay, &mut client, input);
    });
}

fn one_way(from: &mut Transport, to: &mut Transport, input: &[u8]) {
    assert_eq!(to.open(input), Err(NoiseError::Sealed));
    let message = from.seal(input).unwrap();
    assert_eq!(message.len(), input.len() + TAG_BYTES);
    assert!(message.len() <= MAX_MESSAGE_BYTES);
    assert_eq!(from.open(&message), Err(NoiseError::Sealed));
    assert_eq!(to.open(&message).as_deref(), Ok(input));
}

fn connected() -> (Transport, Transport) {
    let (client, message) = Initiator::start(RELAY.key().public()).unwrap();
    let (answer, relay) = RELAY.respond(&message).unwrap();
    (client.finish(&answer).unwrap(), relay)
}
