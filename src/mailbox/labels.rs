//! What is kept with a blob besides its bytes: a header for its recipient, a receipt for its sender.
//!
//! Both are texts, each behind its length in two bytes, big-endian. They fit the bounds of the store because no
//! name is longer than [`MAX_NAME_BYTES`](super::MAX_NAME_BYTES).

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// What a recipient is told with a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BlobHeader {
    /// Who says to have sent it; empty if nobody does.
    pub sender_id: String,
}

/// What a device is told with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeviceHeader {
    /// The device that it is for.
    pub target_device_id: String,
    /// The device that says to have sent it.
    pub sender_device_id: String,
}

/// Whom to tell what becomes of a blob. Where nobody is to be told, the receipt is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Receipt {
    /// The mailbox of the connection that sent it.
    pub routing_id: String,
    /// The sender's own name for it.
    pub message_id: String,
}

impl BlobHeader {
    pub fn encode(sender_id: &str) -> Bytes {
        write(&[sender_id])
    }

    pub fn decode(bytes: &Bytes) -> Option<Self> {
        let [sender_id] = read(bytes)?;
        Some(Self { sender_id })
    }
}

impl DeviceHeader {
    pub fn encode(target_device_id: &str, sender_device_id: &str) -> Bytes {
        write(&[target_device_id, sender_device_id])
    }

    pub fn decode(bytes: &Bytes) -> Option<Self> {
        let [target_device_id, sender_device_id] = read(bytes)?;
        Some(Self { target_device_id, sender_device_id })
    }
}

impl Receipt {
    pub fn encode(routing_id: &str, message_id: &str) -> Bytes {
        write(&[routing_id, message_id])
    }

    /// `None` if nobody is to be told.
    pub fn decode(bytes: &Bytes) -> Option<Self> {
        let [routing_id, message_id] = read(bytes)?;
        Some(Self { routing_id, message_id })
    }
}

fn write(texts: &[&str]) -> Bytes {
    let mut out = BytesMut::with_capacity(texts.iter().map(|text| 2 + text.len()).sum());
    for text in texts {
        out.put_u16(u16::try_from(text.len()).unwrap_or(u16::MAX));
        out.put_slice(text.as_bytes());
    }
    out.freeze()
}

fn read<const N: usize>(bytes: &Bytes) -> Option<[String; N]> {
    let mut rest = bytes.clone();
    let mut texts = [const { String::new() }; N];
    for text in &mut texts {
        let len = usize::from(rest.try_get_u16().ok()?);
        if rest.len() < len {
            return None;
        }
        *text = String::from_utf8(rest.split_to(len).into()).ok()?;
    }
    rest.is_empty().then_some(texts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mailbox::MAX_NAME_BYTES;
    use crate::store::{MAX_HEADER_BYTES, MAX_RECEIPT_BYTES};
    use crate::wire::vauchi::handshake::ID_BYTES;

    #[test]
    fn the_longest_names_fit_the_store() {
        let (id, name) = ("a".repeat(ID_BYTES), "b".repeat(MAX_NAME_BYTES));
        assert!(Receipt::encode(&id, &name).len() <= MAX_RECEIPT_BYTES);
        assert!(DeviceHeader::encode(&name, &name).len() <= MAX_HEADER_BYTES);
        assert_eq!(Receipt::decode(&Bytes::new()), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(a: String, b: String) {
            let device = DeviceHeader { target_device_id: a.clone(), sender_device_id: b.clone() };
            prop_assert_eq!(DeviceHeader::decode(&DeviceHeader::encode(&a, &b)), Some(device));
            prop_assert_eq!(Receipt::decode(&Receipt::encode(&a, &b)), Some(Receipt { routing_id: a, message_id: b.clone() }));
            prop_assert_eq!(BlobHeader::decode(&BlobHeader::encode(&b)), Some(BlobHeader { sender_id: b }));
        }

        #[test]
        fn anything_else_is_refused_not_misread(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let bytes = Bytes::from(bytes);
            if let Some(receipt) = Receipt::decode(&bytes) {
                prop_assert_eq!(Receipt::encode(&receipt.routing_id, &receipt.message_id), bytes);
            }
        }
    }
}
