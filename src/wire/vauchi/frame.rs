//! The frame around a message's JSON (section 1), and how a Noise connection begins (section 8).

/// Length of the prefix: the number of JSON bytes after it, big-endian.
pub const PREFIX_BYTES: usize = 4;

/// What a message begins with that starts a Noise connection; the answer begins with it too.
pub const NOISE_MAGIC: [u8; 3] = [0, b'V', b'2'];

/// Length of both Noise handshake messages: the magic, an ephemeral key of 32 bytes and a tag of 16.
pub const NOISE_START_BYTES: usize = NOISE_MAGIC.len() + 48;

/// Why a message is ignored, or ends the connection if it is the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Fewer than [`PREFIX_BYTES`].
    #[error("the frame is too short: begin it with four bytes for the length of its JSON")]
    TooShort,
    /// No JSON, or a member that is needed is not there, of another type, or there twice.
    #[error("the frame holds no message: send version, message_id, timestamp and a payload with its members")]
    Malformed,
}

/// The JSON of a frame. As the shipped relay does, it does not look at what the prefix says.
///
/// # Errors
/// [`DecodeError::TooShort`] if there is no prefix.
pub fn json_of(frame: &[u8]) -> Result<&[u8], DecodeError> {
    frame.get(PREFIX_BYTES..).ok_or(DecodeError::TooShort)
}

/// The prefix for so many bytes of JSON.
#[must_use]
pub(super) fn prefix(json_bytes: usize) -> [u8; PREFIX_BYTES] {
    u32::try_from(json_bytes).unwrap_or(u32::MAX).to_be_bytes()
}

/// Whether the first message of a connection starts Noise. As a frame it would have 5.6 MB.
#[must_use]
pub fn starts_noise(message: &[u8]) -> bool {
    message.starts_with(&NOISE_MAGIC) && message.len() >= NOISE_START_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_of_the_prefix_is_not_looked_at() {
        assert_eq!(json_of(b"\xff\xff\xff\xff{}"), Ok(&b"{}"[..]));
        assert_eq!(json_of(b"\0\0\0\0"), Ok(&b""[..]));
        for short in [&b""[..], b"\0", b"\0\0\0"] {
            assert_eq!(json_of(short), Err(DecodeError::TooShort));
        }
        assert_eq!(prefix(0x0102_0304), [1, 2, 3, 4]);
    }

    #[test]
    fn noise_is_known_by_its_magic_and_its_length() {
        let start = |magic: &[u8], len: usize| [magic, &vec![7; len - magic.len()]].concat();
        assert!(starts_noise(&start(b"\x00V2", 51)));
        assert!(starts_noise(&start(b"\x00V2", 200)));
        assert!(!starts_noise(&start(b"\x00V2", 50)));
        assert!(!starts_noise(&start(b"\x00V3", 51)));
        assert!(!starts_noise(b""));
    }
}
