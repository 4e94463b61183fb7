//! A gRPC client that sends bytes as they are.

use std::future::ready;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes};
use futures_util::{StreamExt as _, stream};
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Sends one `ExportTraceServiceRequest`; gives the reply's bytes.
pub(crate) async fn export(
    address: &str,
    request: Bytes,
    compression: Option<CompressionEncoding>,
) -> Result<Bytes, Status> {
    call(address, EXPORT, request, compression).await
}

/// Sends a message in a call that does not end; gives the status with which it is ended.
pub(crate) async fn refusal_of_endless(address: &str, request: Bytes) -> Status {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let mut client = tonic::client::Grpc::new(endpoint.connect().await.unwrap());
    client.ready().await.unwrap();
    let messages = stream::once(ready(request)).chain(stream::pending());
    let path = http::uri::PathAndQuery::from_static(EXPORT);
    let ended = client.client_streaming(Request::new(messages), path, BytesCodec).await;
    ended.unwrap_err()
}

/// Looks that a status asks to wait for so many seconds, in each of the two places in which exporters look for that.
pub(crate) fn expect_delay(status: &Status, seconds: u8) {
    let delay = status.get_error_details().retry_info().and_then(|info| info.retry_delay);
    assert_eq!(delay, Some(Duration::from_secs(seconds.into())), "{status:?}");
    let trailer = status.metadata().get_bin("google.rpc.retryinfo-bin");
    let trailer = trailer.map(|trailer| trailer.to_bytes().unwrap());
    assert_eq!(trailer.as_deref(), Some(&[0x0a, 2, 0x08, seconds][..]), "{status:?}");
}

/// Sends one `ExportTraceServiceRequest` with metadata.
pub(crate) async fn export_with(
    address: &str,
    request: Bytes,
    metadata: &[(&'static str, &str)],
) -> Result<Bytes, Status> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let mut client = tonic::client::Grpc::new(endpoint.connect().await.unwrap());
    client.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static(EXPORT);
    let mut request = Request::new(request);
    for (name, value) in metadata {
        request.metadata_mut().insert(*name, value.parse().unwrap());
    }
    client.unary(request, path, BytesCodec).await.map(tonic::Response::into_inner)
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

/// Sends one `ExportTraceServiceRequest` with the header `grpc-timeout`, by a client that waits longer than that; gives the status.
pub(crate) async fn refusal_within(
    address: &str,
    request: &[u8],
    timeout: &'static str,
) -> (Code, String) {
    let message = framed(request);
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let post = client.post(format!("http://{address}{EXPORT}"));
    let post = post.header("content-type", "application/grpc").header("grpc-timeout", timeout);
    let reply = post.body(message).send().await.unwrap();
    let status = Status::from_header_map(reply.headers()).expect("a status without a message");
    (status.code(), status.message().to_owned())
}

/// Sends several messages in one call; gives the status.
pub(crate) async fn refusal_of_several(address: &str, requests: &[&[u8]]) -> (Code, String) {
    let body: Vec<_> = requests.iter().map(|request| framed(request)).collect();
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let post = client.post(format!("http://{address}{EXPORT}"));
    let post = post.header("content-type", "application/grpc").body(body.concat());
    let reply = post.send().await.unwrap();
    let status = Status::from_header_map(reply.headers()).expect("a status without a message");
    (status.code(), status.message().to_owned())
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0][..], &length, message].concat()
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
