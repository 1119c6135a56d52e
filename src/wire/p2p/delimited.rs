//! Framing of libp2p messages: an unsigned varint with the length, then so many bytes.

/// Longest length of a message that is read here, as a varint: three bytes say up to 2,097,151.
const MAX_PREFIX_BYTES: usize = 3;

/// Why a length is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LengthError {
    /// The message would be longer than it may be.
    #[error("the message is longer than it may be")]
    TooLong,
    /// The varint has a byte more than it needs.
    #[error("the length is not written in its shortest form")]
    NotShortest,
}

/// Reads a length byte by byte, so that nothing behind the message is touched: on a stream that becomes a circuit, the
/// next bytes are not the relay's.
#[derive(Debug)]
pub struct Length {
    value: usize,
    bytes: usize,
    most: usize,
}

impl Length {
    /// Of a message of at most `most` bytes; less than 2 MiB.
    #[must_use]
    pub fn at_most(most: usize) -> Self {
        Self { value: 0, bytes: 0, most }
    }

    /// Takes the next byte; the length, once it is whole.
    ///
    /// # Errors
    /// [`LengthError`]: nothing that follows makes sense.
    pub fn push(&mut self, byte: u8) -> Result<Option<usize>, LengthError> {
        self.value |= usize::from(byte & 0x7f) << (7 * self.bytes);
        self.bytes += 1;
        if self.value > self.most {
            return Err(LengthError::TooLong);
        }
        if byte & 0x80 != 0 {
            // One byte more says at least so much more.
            let least = 1 << (7 * self.bytes);
            let goes_on = self.bytes < MAX_PREFIX_BYTES && least <= self.most;
            return if goes_on { Ok(None) } else { Err(LengthError::TooLong) };
        }
        if byte == 0 && self.bytes > 1 {
            return Err(LengthError::NotShortest);
        }
        Ok(Some(self.value))
    }
}

/// `message` with its length before it.
#[must_use]
pub fn framed(message: &impl prost::Message) -> Vec<u8> {
    message.encode_length_delimited_to_vec()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8], most: usize) -> Result<Option<usize>, LengthError> {
        let mut length = Length::at_most(most);
        for byte in bytes {
            if let Some(whole) = length.push(*byte)? {
                return Ok(Some(whole));
            }
        }
        Ok(None)
    }

    #[test]
    fn a_length_is_bounded_and_has_one_form() {
        assert_eq!(read(&[0x02], 4096), Ok(Some(2)));
        assert_eq!(read(&[0x80, 0x20], 4096), Ok(Some(4096)));
        assert_eq!(read(&[0x81, 0x20], 4096), Err(LengthError::TooLong));
        assert_eq!(read(&[0x80, 0x80, 0x01], 4096), Err(LengthError::TooLong));
        assert_eq!(read(&[0x82, 0x00], 4096), Err(LengthError::NotShortest));
        assert_eq!(read(&[0x82], 4096), Ok(None));
        assert_eq!(read(&[0x80, 0x80, 0x04], 65_536), Ok(Some(65_536)));
        assert_eq!(read(&[0x81, 0x80, 0x04], 65_536), Err(LengthError::TooLong));
        assert_eq!(read(&[0x80, 0x80, 0x80], 65_536), Err(LengthError::TooLong));
        assert_eq!(read(&[0x80, 0x80, 0x00], 65_536), Err(LengthError::NotShortest));
    }

    proptest! {
        #[test]
        fn what_prost_writes_is_read(length in 0usize..=70_000) {
            let mut prefix = Vec::new();
            prost::encode_length_delimiter(length, &mut prefix).unwrap();
            prop_assert_eq!(read(&prefix, 70_000), Ok(Some(length)));
        }
    }
}
