//! Sends frames that are bytes already, reads frames as messages. What was encoded once for the buffer is not encoded
//! again for each try to send it.

use bytes::{BufMut, Bytes};
use hookbus_proto::v1::ServerFrame;
use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

#[derive(Default)]
pub(crate) struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = ServerFrame;
    type Encoder = RawEncoder;
    type Decoder = FrameDecoder;

    fn encoder(&mut self) -> RawEncoder {
        RawEncoder
    }

    fn decoder(&mut self) -> FrameDecoder {
        FrameDecoder
    }
}

pub(crate) struct RawEncoder;

impl Encoder for RawEncoder {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

pub(crate) struct FrameDecoder;

impl Decoder for FrameDecoder {
    type Item = ServerFrame;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<ServerFrame>, Status> {
        ServerFrame::decode(bytes)
            .map(Some)
            .map_err(|error| Status::internal(format!("a frame does not decode: {error}")))
    }
}
