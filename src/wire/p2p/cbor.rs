//! CBOR, as the protocols of Dusk are written in it: one item, and nothing behind it.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// How deep items may lie in one another: no message of these protocols is as deep, and each level takes stack.
const MAX_DEPTH: usize = 16;

/// The bytes are not what is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not one CBOR item of the kind that is asked for")]
pub struct NotRead;

/// Reads one item that is all of `bytes`. Entries of maps that nobody knows are passed over.
///
/// # Errors
/// [`NotRead`].
pub fn read<T: DeserializeOwned>(mut bytes: &[u8]) -> Result<T, NotRead> {
    let item = ciborium::de::from_reader_with_recursion_limit(&mut bytes, MAX_DEPTH).map_err(|_| NotRead)?;
    if bytes.is_empty() { Ok(item) } else { Err(NotRead) }
}

/// `item` in bytes; none if it cannot be written, which no type of a message brings about by itself.
#[must_use]
pub fn write(item: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    match ciborium::into_writer(item, &mut bytes) {
        Ok(()) => bytes,
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_item_is_read_and_nothing_behind_it() {
        assert_eq!(read::<String>(&[0x62, b'O', b'k']), Ok("Ok".to_owned()));
        assert_eq!(read::<String>(&[0x7f, 0x61, b'O', 0x61, b'k', 0xff]), Ok("Ok".to_owned()), "in parts");
        for bad in [&[][..], &[0x62, b'O'], &[0x62, b'O', b'k', 0], &[0x01], &[0x62, 0xff, 0xff]] {
            assert_eq!(read::<String>(bad), Err(NotRead), "{bad:x?}");
        }
    }

    #[test]
    fn items_lie_only_so_deep_in_one_another_and_are_only_as_long_as_they_are() {
        for level in [0x81, 0x9f, 0xa1, 0xbf, 0xc1] {
            assert_eq!(read::<ciborium::Value>(&vec![level; 1 << 20]), Err(NotRead), "{level:x}");
        }
        // Said to be 2^62 long.
        for kind in [0x5b, 0x7b, 0x9b, 0xbb] {
            let said = [&[kind, 0x40][..], &[0; 7]].concat();
            assert_eq!(read::<ciborium::Value>(&said), Err(NotRead), "{kind:x}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(text: String, numbers: Vec<u64>) {
            let item = (text, numbers);
            prop_assert_eq!(read(&write(&item)), Ok(item));
        }

        #[test]
        fn arbitrary_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _any = read::<ciborium::Value>(&bytes);
        }
    }
}
