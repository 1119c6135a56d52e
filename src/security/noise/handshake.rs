//! One message each way, after which both sides have the same two keys.

use std::sync::Arc;

use snow::{Builder, HandshakeState};

use super::key::StaticKey;
use super::transport::Transport;
use super::{HANDSHAKE_BYTES, KEY_BYTES, MAX_MESSAGE_BYTES, NoiseError, PATTERN};

/// The relay's side. Clones share the key.
#[derive(Debug, Clone)]
pub struct Responder {
    key: Arc<StaticKey>,
}

impl Responder {
    /// Answers those who know this key's public half.
    #[must_use]
    pub fn new(key: StaticKey) -> Self {
        Self { key: Arc::new(key) }
    }

    /// The key that clients must know.
    #[must_use]
    pub fn key(&self) -> &StaticKey {
        &self.key
    }

    /// Reads a client's message, and returns the answer to it with what the connection goes on with. A payload in
    /// the message must be sealed like the rest of it, and is not looked at: no client sends one.
    ///
    /// Costs three multiplications on the curve.
    ///
    /// # Errors
    /// [`NoiseError::Handshake`]; [`NoiseError::Broken`] if there is no randomness.
    pub fn respond(&self, message: &[u8]) -> Result<([u8; HANDSHAKE_BYTES], Transport), NoiseError> {
        if !(HANDSHAKE_BYTES..=MAX_MESSAGE_BYTES).contains(&message.len()) {
            return Err(NoiseError::Handshake);
        }
        let mut state = builder()?
            .local_private_key(self.key.private())
            .and_then(Builder::build_responder)
            .map_err(|_| NoiseError::Broken)?;
        let mut payload = vec![0; message.len() - HANDSHAKE_BYTES];
        state.read_message(message, &mut payload).map_err(|_| NoiseError::Handshake)?;
        let answer = write(&mut state)?;
        Ok((answer, Transport::new(state)?))
    }
}

/// A client's side: for tools and tests.
#[derive(Debug)]
pub struct Initiator {
    state: HandshakeState,
}

impl Initiator {
    /// Begins with the relay that has this public key: what comes next, and the message for the relay.
    ///
    /// # Errors
    /// [`NoiseError::Broken`] if there is no randomness.
    pub fn start(relay: &[u8; KEY_BYTES]) -> Result<(Self, [u8; HANDSHAKE_BYTES]), NoiseError> {
        let mut state =
            builder()?.remote_public_key(relay).and_then(Builder::build_initiator).map_err(|_| NoiseError::Broken)?;
        let message = write(&mut state)?;
        Ok((Self { state }, message))
    }

    /// Reads the relay's answer.
    ///
    /// # Errors
    /// [`NoiseError::Handshake`] if it is not that of the relay with the key.
    pub fn finish(mut self, answer: &[u8]) -> Result<Transport, NoiseError> {
        self.state.read_message(answer, &mut []).map_err(|_| NoiseError::Handshake)?;
        Transport::new(self.state)
    }
}

fn builder<'a>() -> Result<Builder<'a>, NoiseError> {
    Ok(Builder::new(PATTERN.parse().map_err(|_| NoiseError::Broken)?))
}

fn write(state: &mut HandshakeState) -> Result<[u8; HANDSHAKE_BYTES], NoiseError> {
    let mut message = [0; HANDSHAKE_BYTES];
    match state.write_message(&[], &mut message) {
        Ok(HANDSHAKE_BYTES) => Ok(message),
        _ => Err(NoiseError::Broken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn responder(seed: u8) -> Responder {
        Responder::new(StaticKey::from_private([seed; KEY_BYTES]).unwrap())
    }

    #[test]
    fn both_sides_end_with_a_transport_to_each_other() {
        let relay = responder(7);
        let (client, message) = Initiator::start(relay.key().public()).unwrap();
        let (answer, mut relay) = relay.respond(&message).unwrap();
        let mut client = client.finish(&answer).unwrap();
        assert_eq!(relay.open(&client.seal(b"to the relay").unwrap()).unwrap(), b"to the relay");
        assert_eq!(client.open(&relay.seal(b"to the client").unwrap()).unwrap(), b"to the client");
    }

    #[test]
    fn a_client_that_takes_the_relay_for_another_gets_no_answer() {
        let (_, message) = Initiator::start(responder(8).key().public()).unwrap();
        assert_eq!(responder(7).respond(&message).err(), Some(NoiseError::Handshake));
    }

    #[test]
    fn a_client_takes_no_answer_but_that_of_the_relay() {
        let relay = responder(7);
        let start = || Initiator::start(relay.key().public()).unwrap();
        let (client, message) = start();
        let (good, _) = relay.respond(&message).unwrap();
        let (of_another, _) = relay.respond(&start().1).unwrap();
        assert!(client.finish(&of_another).is_err());
        for bad in [&good[..47], &[0; HANDSHAKE_BYTES], &[&good[..], b"x"].concat()] {
            let (client, _) = start();
            assert_eq!(client.finish(bad).err(), Some(NoiseError::Handshake));
        }
    }

    #[test]
    fn every_byte_and_the_length_of_the_first_message_count() {
        let relay = responder(7);
        let (_, message) = Initiator::start(relay.key().public()).unwrap();
        for at in [0, 15, 30, 32, 47] {
            let mut bent = message;
            bent[at] ^= 1;
            assert_eq!(relay.respond(&bent).err(), Some(NoiseError::Handshake), "{at}");
        }
        for bad in [&[][..], &message[..47], &[&message[..], &[0; 16]].concat(), &[0; MAX_MESSAGE_BYTES + 1]] {
            assert_eq!(relay.respond(bad).err(), Some(NoiseError::Handshake), "{} bytes", bad.len());
        }
        assert!(relay.respond(&message).is_ok(), "what was refused has spoilt nothing");
    }

    /// Spelled out, so that another pattern or a prologue here is found.
    #[test]
    fn the_pattern_is_that_of_the_sheet() {
        let relay = responder(7);
        let mut client = Builder::new("Noise_NK_25519_ChaChaPoly_BLAKE2s".parse().unwrap())
            .remote_public_key(relay.key().public())
            .unwrap()
            .build_initiator()
            .unwrap();
        let mut buffer = [0; 128];
        // With a payload, which a client might send one day.
        let length = client.write_message(b"hello", &mut buffer).unwrap();
        assert_eq!(length, HANDSHAKE_BYTES + 5);
        let (answer, mut relay) = relay.respond(&buffer[..length]).unwrap();
        assert_eq!(client.read_message(&answer, &mut buffer), Ok(0));
        let mut client = client.into_transport_mode().unwrap();
        let length = client.write_message(b"frame", &mut buffer).unwrap();
        assert_eq!(relay.open(&buffer[..length]).unwrap(), b"frame");
    }
}
