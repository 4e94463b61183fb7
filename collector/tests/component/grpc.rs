//! A gRPC client that sends bytes as they are.

use bytes::{Buf as _, BufMut as _, Bytes};
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Endpoint;
use tonic::{Request, Status};

/// Sends one `ExportTraceServiceRequest`; gives the reply's bytes.
pub(crate) async fn export(
    address: &str,
    request: Bytes,
    compression: Option<CompressionEncoding>,
) -> Result<Bytes, Status> {
    call(
        address,
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        request,
        compression,
    )
    .await
}

/// Calls any method.
pub(crate) async fn call(
    address: &str,
    method: &'static str,
    request: Bytes,
    compression: Option<CompressionEncoding>,
) -> Result<Bytes, Status> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let mut client = tonic::client::Grpc::new(endpoint.connect().await.unwrap());
    if let Some(compression) = compression {
        client = client.send_compressed(compression);
    }
    client.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static(method);
    client.unary(Request::new(request), path, BytesCodec).await.map(tonic::Response::into_inner)
}

struct BytesCodec;

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
        Ok(Some(message.copy_to_bytes(message.remaining())))
    }
}
