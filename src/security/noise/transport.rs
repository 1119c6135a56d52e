//! What a connection goes on with after the handshake: frames, sealed one by one.

use std::fmt;

use snow::{HandshakeState, TransportState};

use super::{MAX_FRAME_BYTES, NoiseError, TAG_BYTES};

/// Seals frames for the other side and opens its own. Each way counts its messages: they are opened in the order in
/// which they were sealed, each once.
pub struct Transport {
    state: TransportState,
}

impl Transport {
    pub(super) fn new(handshake: HandshakeState) -> Result<Self, NoiseError> {
        handshake.into_transport_mode().map(|state| Self { state }).map_err(|_| NoiseError::Broken)
    }

    /// The message that carries `frame`: [`TAG_BYTES`] longer.
    ///
    /// # Errors
    /// [`NoiseError::TooLarge`] above [`MAX_FRAME_BYTES`]: the next frame is sealed as if this one had not come.
    pub fn seal(&mut self, frame: &[u8]) -> Result<Vec<u8>, NoiseError> {
        if frame.len() > MAX_FRAME_BYTES {
            return Err(NoiseError::TooLarge(frame.len()));
        }
        let mut message = vec![0; frame.len() + TAG_BYTES];
        self.state.write_message(frame, &mut message).map_err(|_| NoiseError::Broken)?;
        Ok(message)
    }

    /// The frame in `message`, if that is the next one that the other side sealed.
    ///
    /// # Errors
    /// [`NoiseError::Sealed`]: the next message is opened as if this one had not come.
    pub fn open(&mut self, message: &[u8]) -> Result<Vec<u8>, NoiseError> {
        // A longer message than there can be is not given memory first.
        let length = message.len().checked_sub(TAG_BYTES).filter(|length| *length <= MAX_FRAME_BYTES);
        let mut frame = vec![0; length.ok_or(NoiseError::Sealed)?];
        self.state.read_message(message, &mut frame).map_err(|_| NoiseError::Sealed)?;
        Ok(frame)
    }
}

/// Shows nothing: there are keys in it.
impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::security::noise::{Initiator, KEY_BYTES, MAX_MESSAGE_BYTES, Responder, StaticKey};

    /// The client's end and the relay's.
    fn pair() -> (Transport, Transport) {
        let relay = Responder::new(StaticKey::from_private([7; KEY_BYTES]).unwrap());
        let (client, message) = Initiator::start(relay.key().public()).unwrap();
        let (answer, relay) = relay.respond(&message).unwrap();
        (client.finish(&answer).unwrap(), relay)
    }

    #[test]
    fn the_longest_frame_fits_and_one_byte_more_does_not() {
        let (mut client, mut relay) = pair();
        let longest = vec![0xff; MAX_FRAME_BYTES];
        assert_eq!(longest.len(), 65_519);
        let too_long = vec![0xff; MAX_FRAME_BYTES + 1];
        let error = client.seal(&too_long).unwrap_err();
        assert_eq!(error, NoiseError::TooLarge(65_520));
        assert!(error.to_string().contains("65519"), "{error}");
        let message = client.seal(&longest).unwrap();
        assert_eq!(message.len(), MAX_MESSAGE_BYTES);
        assert!(relay.open(&message).unwrap() == longest, "the refused frame has taken a number");
        assert_eq!(relay.open(&vec![0; MAX_MESSAGE_BYTES + 1]), Err(NoiseError::Sealed));
    }

    #[test]
    fn a_message_is_opened_once_in_its_turn_and_by_the_other_side_only() {
        let (mut client, mut relay) = pair();
        let (first, second) = (client.seal(b"1").unwrap(), client.seal(b"2").unwrap());
        assert_eq!(client.open(&first), Err(NoiseError::Sealed));
        assert_eq!(relay.open(&second), Err(NoiseError::Sealed));
        assert_eq!(relay.open(&first).as_deref(), Ok(&b"1"[..]));
        assert_eq!(relay.open(&first), Err(NoiseError::Sealed));
        assert_eq!(relay.open(&second).as_deref(), Ok(&b"2"[..]));
        let (_, mut stranger) = pair();
        assert_eq!(stranger.open(&first), Err(NoiseError::Sealed));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        /// What a stranger puts between two messages changes neither.
        #[test]
        fn frames_arrive_whatever_comes_between(
            frames in proptest::collection::vec(
                (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..300), any::<Vec<u8>>(), any::<usize>()), 1..12,
            ),
        ) {
            let (mut client, mut relay) = pair();
            for (to_relay, frame, noise, at) in frames {
                let (from, to) = if to_relay { (&mut client, &mut relay) } else { (&mut relay, &mut client) };
                let message = from.seal(&frame).unwrap();
                prop_assert_eq!(message.len(), frame.len() + TAG_BYTES);
                let mut bent = message.clone();
                bent[at % message.len()] ^= 1;
                for bad in [&noise[..], &bent, &message[..message.len() - 1]] {
                    prop_assert_eq!(to.open(bad), Err(NoiseError::Sealed));
                }
                prop_assert_eq!(to.open(&message), Ok(frame));
            }
        }
    }
}
