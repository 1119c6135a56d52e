//! Messages that are read only so far as they cost no more memory than they should.
//!
//! Two bytes on the wire can be an element of a few hundred in memory, so a bound on bytes is none on memory. What is
//! counted instead is how often the decoder takes something: it takes a key and a length for every element of every
//! list, however deep it lies. When it has taken as much as it may, there is nothing left to take, and the message is
//! refused; what has been decoded until then is all that there ever is of it.

use std::marker::PhantomData;

use bytes::{Buf, Bytes};
use prost::{DecodeError, Message};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::ProstEncoder;

/// The codec of messages of which at most `READS` keys, lengths and values are read.
#[derive(Debug, Clone)]
pub struct Counted<T, U, const READS: usize>(PhantomData<(T, U)>);

/// Between nodes of one cluster: one for each byte of the largest batch of more than one frame, so that no such batch
/// has too many, whatever is in it.
pub type NodeCodec<T, U> = Counted<T, U, { super::queue::BATCH_BYTES }>;

/// Why a message was not decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undecoded {
    /// It is no such message.
    #[error("a message that cannot be read: {0}")]
    Malformed(#[from] DecodeError),
    /// It has more parts than it may have.
    #[error("a message of more than {0} parts")]
    TooMany(usize),
}

/// Decodes a message, of which at most `reads` keys, lengths and values are read.
///
/// # Errors
/// [`Undecoded`].
pub fn decode<M: Message + Default>(bytes: impl Buf, reads: usize) -> Result<M, Undecoded> {
    let mut counting = Counting { bytes, left: reads, is_over: false };
    let decoded = M::decode(&mut counting);
    // A message that is cut off between two elements is one all the same.
    if counting.is_over { Err(Undecoded::TooMany(reads)) } else { Ok(decoded?) }
}

impl<T, U, const READS: usize> Default for Counted<T, U, READS> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U, const READS: usize> Codec for Counted<T, U, READS>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = CountedDecoder<U, READS>;

    fn encoder(&mut self) -> ProstEncoder<T> {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> CountedDecoder<U, READS> {
        CountedDecoder(PhantomData)
    }
}

/// The reading half of [`Counted`].
#[derive(Debug, Clone)]
pub struct CountedDecoder<U, const READS: usize>(PhantomData<U>);

impl<U: Message + Default + Send + 'static, const READS: usize> Decoder for CountedDecoder<U, READS> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        match decode(bytes, READS) {
            Ok(message) => Ok(Some(message)),
            Err(malformed @ Undecoded::Malformed(_)) => Err(Status::internal(malformed.to_string())),
            Err(many @ Undecoded::TooMany(_)) => Err(Status::resource_exhausted(many.to_string())),
        }
    }
}

/// Bytes that can be taken so many times, and are at an end then.
struct Counting<B> {
    bytes: B,
    left: usize,
    is_over: bool,
}

impl<B: Buf> Counting<B> {
    /// Something of so many bytes has been taken. Nothing is free, so that no message has more parts than bytes.
    #[inline]
    fn count(&mut self, bytes: usize) {
        match self.left.checked_sub(bytes.min(1)) {
            Some(left) => self.left = left,
            None => self.is_over = true,
        }
    }
}

impl<B: Buf> Buf for Counting<B> {
    #[inline]
    fn remaining(&self) -> usize {
        if self.is_over { 0 } else { self.bytes.remaining() }
    }

    #[inline]
    fn chunk(&self) -> &[u8] {
        if self.is_over { &[] } else { self.bytes.chunk() }
    }

    #[inline]
    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.count(count);
    }

    /// A number of several bytes is begun once it is known that there are enough of them: it is read to its end.
    #[inline]
    fn get_u8(&mut self) -> u8 {
        let byte = self.bytes.get_u8();
        self.count(1);
        byte
    }

    /// Without a copy, where the bytes can be shared.
    #[inline]
    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        let taken = self.bytes.copy_to_bytes(length);
        self.count(length);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::proto::{Batch, Frame, MailHinted, MailKnown, Notify, OwnersFound, Reply, frame::Body, reply};

    fn reads(message: &impl Message) -> usize {
        let bytes = Bytes::from(message.encode_to_vec());
        let mut counting = Counting { bytes, left: usize::MAX, is_over: false };
        Batch::decode(&mut counting).unwrap();
        usize::MAX - counting.left
    }

    fn batch(body: Body) -> Batch {
        Batch { hello: None, frames: vec![body.into()] }
    }

    #[test]
    fn every_element_counts_however_deep_it_lies() {
        let of = |frames: usize| Batch { hello: None, frames: vec![Frame::default(); frames] };
        assert_eq!(reads(&of(100)), 200, "a key and a length each");
        let replied = |body| batch(Body::Reply(Reply { ask: 0, body: Some(body) }));
        let owners = |count| replied(reply::Body::Owners(OwnersFound { keys: vec![Bytes::new(); count] }));
        let hints = |count| replied(reply::Body::MailHinted(MailHinted { hints: vec![Default::default(); count] }));
        let known = |count| batch(Body::MailKnown(MailKnown { mailbox: Bytes::new(), messages: vec![7; count] }));
        for (name, few, many) in [
            ("names", reads(&owners(1)), reads(&owners(101))),
            ("hints", reads(&hints(1)), reads(&hints(101))),
            ("numbers", reads(&known(1)), reads(&known(101))),
        ] {
            assert!(many - few >= 100, "{name}: {few}, {many}");
        }
    }

    #[test]
    fn a_message_is_read_up_to_its_bound_and_not_an_element_farther() {
        let message = Batch { hello: None, frames: vec![Frame::default(); 100] };
        let bytes = Bytes::from(message.encode_to_vec());
        assert_eq!(decode(bytes.clone(), 200), Ok(message));
        // The first is cut off between two frames, where protobuf sees a whole message.
        for fewer in [198, 199] {
            assert_eq!(decode::<Batch>(bytes.clone(), fewer), Err(Undecoded::TooMany(fewer)));
        }
        assert!(matches!(decode::<Batch>(Bytes::from_static(&[0x12, 7]), 200), Err(Undecoded::Malformed(_))));
    }

    #[test]
    fn what_is_kept_as_bytes_is_not_copied() {
        let message = batch(Body::Notify(Notify { vault_id: String::new(), frame: vec![7; 1000].into() }));
        let bytes = Bytes::from(message.encode_to_vec());
        let mut decoded: Batch = decode(bytes.clone(), 100).unwrap();
        let Some(Body::Notify(notify)) = decoded.frames.remove(0).body else { panic!("a notification") };
        assert!(bytes.as_ptr_range().contains(&notify.frame.as_ptr()));
    }

    #[test]
    fn no_message_has_more_parts_than_bytes() {
        let owners = reply::Body::Owners(OwnersFound { keys: vec![Bytes::new(); 1000] });
        let replied = batch(Body::Reply(Reply { ask: 1, body: Some(owners) }));
        for message in [replied, Batch { hello: None, frames: vec![Frame::default(); 1000] }] {
            let bytes = Bytes::from(message.encode_to_vec());
            assert_eq!(decode(bytes.clone(), bytes.len()), Ok(message));
        }
    }
}
