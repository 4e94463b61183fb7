//! A gRPC codec that hands messages on as the bytes they are: a [`TraceBatch`](crate::TraceBatch) is a view of them.

use bytes::{Buf as _, BufMut as _, Bytes};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Half of the buffer that tonic reads a message into at least.
const MAX_COPIED: usize = 4096;

/// Neither encodes nor decodes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BytesCodec;

impl Codec for BytesCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(message);
        Ok(())
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = message.remaining();
        // Small messages are held for long, and are not to hold on to the buffer that they came in.
        if length <= MAX_COPIED {
            let mut copy = vec![0; length];
            message.copy_to_slice(&mut copy);
            return Ok(Some(copy.into()));
        }
        Ok(Some(message.copy_to_bytes(length)))
    }
}
