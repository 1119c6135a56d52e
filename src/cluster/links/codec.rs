//! How a link's batches become gRPC messages: they are encoded when they are queued, so nothing is left to do.

use bytes::{BufMut, Bytes};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic_prost::ProstDecoder;

use crate::cluster::proto::Welcome;

/// Of the buffer that batches are copied into on their way to HTTP/2: most of them whole.
const BUFFER_BYTES: usize = 64 << 10;

/// The caller's end of a link.
#[derive(Debug, Clone, Copy)]
pub struct LinkCodec;

impl Codec for LinkCodec {
    type Encode = Bytes;
    type Decode = Welcome;
    type Encoder = Self;
    type Decoder = ProstDecoder<Welcome>;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> ProstDecoder<Welcome> {
        ProstDecoder::default()
    }
}

impl Encoder for LinkCodec {
    type Item = Bytes;
    type Error = Status;

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, BUFFER_BYTES)
    }

    fn encode(&mut self, batch: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(batch);
        Ok(())
    }
}
