//! OTLP over gRPC: `opentelemetry.proto.collector.trace.v1.TraceService/Export`.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::Incoming;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::server::{Grpc, UnaryService};
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::config;
use super::{Entry, RETRY_DELAY};
use crate::consumer::Refused;
use crate::grpc_codec::BytesCodec;
use crate::trace_batch::TraceBatch;

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Answers gRPC requests on one port.
pub(super) fn service(config: &config::Grpc, entry: Entry) -> Service {
    Service { entry, max_message_bytes: config.max_recv_msg_size_mib << 20 }
}

#[derive(Clone)]
pub(super) struct Service {
    entry: Entry,
    max_message_bytes: usize,
}

impl tower::Service<http::Request<Incoming>> for Service {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Incoming>) -> Self::Future {
        let Self { entry, max_message_bytes } = self.clone();
        Box::pin(async move {
            if request.uri().path() != EXPORT {
                let status = match request.uri().path() {
                    path if path.starts_with("/opentelemetry.proto.collector.") => {
                        "this collector carries traces only"
                    }
                    _ => "the only method is TraceService/Export",
                };
                return Ok(Status::unimplemented(status).into_http());
            }
            let malformed = entry.malformed.clone();
            let mut grpc = Grpc::new(BytesCodec)
                .max_decoding_message_size(max_message_bytes)
                .accept_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Zstd)
                .accept_compressed(CompressionEncoding::Deflate);
            let response = grpc.unary(Export(entry), request).await;
            let code = response.headers().get("grpc-status").map(|code| code.as_bytes());
            let refused =
                [Code::ResourceExhausted, Code::Unavailable, Code::FailedPrecondition, Code::Ok];
            let refused = refused.map(|code| code as i32);
            if code.is_some_and(|code| {
                std::str::from_utf8(code)
                    .is_ok_and(|code| code.parse().is_ok_and(|code| !refused.contains(&code)))
            }) {
                malformed.add(1);
            }
            Ok(response)
        })
    }
}

struct Export(Entry);

impl UnaryService<Bytes> for Export {
    type Response = Bytes;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Bytes>, Status>> + Send>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        Box::pin(export(self.0.clone(), request.into_inner()))
    }
}

async fn export(entry: Entry, message: Bytes) -> Result<Response<Bytes>, Status> {
    let batch = TraceBatch::from_protobuf(message)
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    match entry.offer(batch).await {
        // An `ExportTraceServiceResponse` without partial success is empty.
        Ok(()) => Ok(Response::new(Bytes::new())),
        Err(refused) => {
            // Both codes are retryable by the OTLP specification, the first one only with this detail.
            let code = match refused {
                Refused::Full => Code::ResourceExhausted,
                Refused::Memory | Refused::Storage | Refused::Closed | Refused::Undecided => {
                    Code::Unavailable
                }
                // Sending it again would not help, and so this code is none of the retryable ones.
                Refused::Dropped(_) => {
                    return Err(Status::failed_precondition(refused.to_string()));
                }
            };
            let details = ErrorDetails::with_retry_info(Some(RETRY_DELAY));
            Err(Status::with_error_details(code, refused.to_string(), details))
        }
    }
}
