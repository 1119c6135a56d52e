//! Records and their expiry index as bytes.
//!
//! A record: one byte, 1 if it expires and 0 if not; if it does, the moment in 8 bytes, big-endian; the value.
//! An entry of the expiry index has no value; its key: the moment in 8 bytes, big-endian, then the record's key.
//! So the index is in order of expiry.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::domain::clock::Millis;
use crate::store::{Record, StoreError};

const LASTING: u8 = 0;
const EXPIRING: u8 = 1;
const MOMENT_BYTES: usize = 8;

/// A record as it is stored.
pub(super) fn encode_record(record: &Record) -> Bytes {
    let mut stored = BytesMut::with_capacity(1 + MOMENT_BYTES + record.value.len());
    match record.expires {
        None => stored.put_u8(LASTING),
        Some(expires) => {
            stored.put_u8(EXPIRING);
            stored.put_u64(expires.0);
        }
    }
    stored.put_slice(&record.value);
    stored.freeze()
}

/// The record, from what was stored; shares its memory.
pub(super) fn decode_record(mut stored: Bytes) -> Result<Record, StoreError> {
    match stored.try_get_u8() {
        Ok(LASTING) => Ok(Record { value: stored, expires: None }),
        Ok(EXPIRING) => match stored.try_get_u64() {
            Ok(expires) => Ok(Record { value: stored, expires: Some(Millis(expires)) }),
            Err(_) => Err(unreadable("a record is cut short")),
        },
        _ => Err(unreadable("a record is of no known kind")),
    }
}

/// The index entry of a record that expires.
pub(super) fn encode_expiry(expires: Millis, key: &[u8]) -> Bytes {
    let mut entry = BytesMut::with_capacity(MOMENT_BYTES + key.len());
    entry.put_u64(expires.0);
    entry.put_slice(key);
    entry.freeze()
}

/// The moment and the record's key, from an index entry.
pub(super) fn decode_expiry(mut entry: &[u8]) -> Result<(Millis, Bytes), StoreError> {
    let expires = entry.try_get_u64().map_err(|_| unreadable("an entry of the expiry index is cut short"))?;
    Ok((Millis(expires), Bytes::copy_from_slice(entry)))
}

fn unreadable(detail: &str) -> StoreError {
    StoreError::Read { detail: detail.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_record_survives_the_trip(value: Vec<u8>, expires: Option<u64>) {
            let record = Record { value: value.into(), expires: expires.map(Millis) };
            prop_assert_eq!(decode_record(encode_record(&record)), Ok(record));
        }

        #[test]
        fn the_index_is_in_order_of_expiry_then_key(a: (u64, Vec<u8>), b: (u64, Vec<u8>)) {
            let entry = |(expires, key): &(u64, Vec<u8>)| encode_expiry(Millis(*expires), key);
            prop_assert_eq!(entry(&a).cmp(&entry(&b)), a.cmp(&b));
            prop_assert_eq!(decode_expiry(&entry(&a)), Ok((Millis(a.0), a.1.into())));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            if let Ok(record) = decode_record(bytes.clone().into()) {
                prop_assert_eq!(encode_record(&record), bytes.clone());
            }
            if let Ok((expires, key)) = decode_expiry(&bytes) {
                prop_assert_eq!(encode_expiry(expires, &key), bytes);
            }
        }
    }
}
