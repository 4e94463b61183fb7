//! OTLP over gRPC: `opentelemetry.proto.collector.trace.v1.TraceService/Export`.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{StatusCode, Version};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::server::{ClientStreamingService, Grpc};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::arrival::{Arriving, Broken};
use super::wrong_port::{WrongPort, is_grpc};
use super::{Entry, config, grpc_timeout, partial_success};
use crate::consumer::{AT_ONCE, Refused};
use crate::extension::credentials::NotAuthentic;
use crate::extension::trace_ledger::Reply;
use crate::grpc_codec::BytesCodec;
use crate::grpc_snappy;
use crate::sender::Sender;
use crate::server;
use crate::trace_batch::wire::{put_bytes, put_uint};
use crate::trace_batch::{DecodeError, TraceBatch};

/// The header of what a status says beside its code and message.
const DETAILS: &str = "grpc-status-details-bin";

/// The trailer in which Python's exporter looks for the time to wait.
const RETRY_INFO: &str = "google.rpc.retryinfo-bin";

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Answers gRPC requests on one port.
pub(super) fn service(config: &config::Grpc, entry: Entry, wrong_port: WrongPort) -> Service {
    Service { entry, wrong_port, max_message_bytes: config.max_recv_msg_size_mib << 20 }
}

#[derive(Clone)]
pub(super) struct Service {
    entry: Entry,
    wrong_port: WrongPort,
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
        let Self { entry, wrong_port, max_message_bytes } = self.clone();
        Box::pin(async move {
            if request.version() != Version::HTTP_2 || !is_grpc(request.headers()) {
                return Ok(not_grpc(wrong_port.refuse(request.headers())));
            }
            if request.uri().path() != EXPORT {
                let status = match request.uri().path() {
                    path if path.starts_with("/opentelemetry.proto.collector.") => {
                        "this collector carries traces only"
                    }
                    _ => "the only method is TraceService/Export",
                };
                return Ok(Status::unimplemented(status).into_http());
            }
            let waits = match grpc_timeout::read(request.headers()) {
                Ok(Some(Duration::ZERO)) => {
                    entry.malformed.add(1);
                    return Ok(Status::deadline_exceeded(Broken::GivenUp.to_string()).into_http());
                }
                Ok(waits) => waits,
                Err(problem) => {
                    entry.malformed.add(1);
                    // The code of gRPC's other servers.
                    return Ok(Status::internal(problem).into_http());
                }
            };
            let peer = server::peer(&request);
            let sender = match entry.sender(request.headers(), request.uri(), peer).await {
                Ok(sender) => sender.within(waits),
                Err(busy @ NotAuthentic::Busy) => return Ok(later(&busy, AT_ONCE).into_http()),
                Err(error) => return Ok(Status::unauthenticated(error.to_string()).into_http()),
            };
            let (malformed, refused) = (entry.malformed.clone(), entry.refused_requests.clone());
            let mut grpc = Grpc::new(BytesCodec)
                .max_decoding_message_size(max_message_bytes)
                .accept_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Zstd)
                .accept_compressed(CompressionEncoding::Deflate);
            let arriving = Arc::new(entry.room.begin());
            let request = request.map(|body| arriving.bound(body, waits));
            let export = Export { entry, arriving: Arc::clone(&arriving), sender };
            let response = if grpc_snappy::is_used(request.headers()) {
                match decompress(request, max_message_bytes).await {
                    Ok(request) => grpc.client_streaming(export, request).await,
                    Err(status) => status.into_http(),
                }
            } else {
                grpc.client_streaming(export, request).await
            };
            let response = match arriving.broken() {
                Some(Broken::NoRoom) => {
                    refused.add(1);
                    later(&Broken::NoRoom, AT_ONCE).into_http()
                }
                Some(Broken::TooSlow) => {
                    malformed.add(1);
                    later(&Broken::TooSlow, AT_ONCE).into_http()
                }
                Some(Broken::GivenUp) => {
                    Status::deadline_exceeded(Broken::GivenUp.to_string()).into_http()
                }
                None => right_status(response),
            };
            if is_malformed(response.headers()) {
                malformed.add(1);
            }
            Ok(response)
        })
    }
}

/// Takes snappy off a request, which tonic does not know.
async fn decompress<B>(
    request: http::Request<B>,
    limit: usize,
) -> Result<http::Request<Full<Bytes>>, Status>
where
    B: hyper::body::Body<Data = Bytes, Error = Box<dyn std::error::Error + Send + Sync>>,
{
    let (mut head, body) = request.into_parts();
    let largest = limit + grpc_snappy::PREFIX;
    let body = Limited::new(body, largest).collect().await.map_err(|error| match error
        .is::<LengthLimitError>(
    ) {
        true => {
            Status::resource_exhausted(format!("the message is larger than max ({limit} bytes)"))
        }
        false => Status::internal(format!("the body broke off: {error}")),
    })?;
    let body = grpc_snappy::take_off(&mut head.headers, body.to_bytes(), limit)?;
    Ok(http::Request::from_parts(head, Full::new(body)))
}

/// An answer to what is no gRPC: a status of gRPC inside an HTTP 200 would be read as success.
fn not_grpc(message: &str) -> http::Response<Body> {
    let mut response = http::Response::new(Body::new(Full::from(message.to_owned())));
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// The code for a message that is too large. tonic's is one that OTLP has clients send again; gRPC's other servers use this one.
fn right_status(response: http::Response<Body>) -> http::Response<Body> {
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() == Code::OutOfRange => {
            Status::resource_exhausted(status.message()).into_http()
        }
        _ => response,
    }
}

/// Returns whether an answer blames the request: it is neither OK nor says, by its details, that it can be sent again, nor that its
/// spans were dropped.
fn is_malformed(headers: &http::HeaderMap) -> bool {
    let code = headers.get(Status::GRPC_STATUS).map(|code| Code::from_bytes(code.as_bytes()));
    let is_fine = matches!(code, None | Some(Code::Ok | Code::FailedPrecondition));
    !is_fine && !headers.contains_key(DETAILS)
}

/// Asks a sender to come again after a while: by the one code that most exporters take for that, with the while where each
/// of them looks for it (in the details of the status, or in a trailer).
fn later(why: &dyn std::error::Error, after: Duration) -> Status {
    refusal(Code::Unavailable, &why.to_string(), Some(after))
}

/// A status that does not blame the request, with the while after which to come again.
fn refusal(code: Code, why: &str, after: Option<Duration>) -> Status {
    let (mut details, mut trailers) = (ErrorDetails::new(), MetadataMap::new());
    if let Some(after) = after {
        details.set_retry_info(Some(after));
        trailers.insert_bin(RETRY_INFO, MetadataValue::from_bytes(&retry_info(after)));
    }
    Status::with_error_details_and_metadata(code, why, details, trailers)
}

/// The code that stands for a status of HTTP, as gRPC's clients map them.
fn scripted(reply: Reply) -> Status {
    let code = match reply.status {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502..=504 => Code::Unavailable,
        _ => Code::Unknown,
    };
    refusal(code, &Refused::Scripted(reply).to_string(), reply.retry_after)
}

/// A `google.rpc.RetryInfo`.
fn retry_info(after: Duration) -> Vec<u8> {
    let (mut duration, mut info) = (Vec::new(), Vec::new());
    put_uint(&mut duration, 1, after.as_secs());
    put_bytes(&mut info, 1, &duration);
    info
}

/// A call has one message. It is read as if it could have several, since of a call that is said to have one, tonic passes over the rest.
struct Export {
    entry: Entry,
    arriving: Arc<Arriving>,
    sender: Sender,
}

impl ClientStreamingService<Bytes> for Export {
    type Response = Bytes;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Bytes>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let (entry, arriving) = (self.entry.clone(), Arc::clone(&self.arriving));
        let sender = self.sender.clone();
        Box::pin(async move {
            let mut messages = request.into_inner();
            let first = messages.message().await?;
            let first = first.ok_or_else(|| Status::internal("the call has no message"))?;
            // Nothing of a call is taken that is not one.
            if messages.message().await?.is_some() {
                return Err(Status::internal("the call has more than one message"));
            }
            export(entry, &arriving, &sender, first).await
        })
    }
}

async fn export(
    entry: Entry,
    arriving: &Arriving,
    sender: &Sender,
    message: Bytes,
) -> Result<Response<Bytes>, Status> {
    if let Err(broken) = arriving.arrived(message.len()) {
        entry.count_broken(broken);
        return Err(later(&broken, AT_ONCE));
    }
    let batch = TraceBatch::from_protobuf(message).map_err(|error| match error {
        DecodeError::TooMuch => Status::resource_exhausted(error.to_string()),
        _ => Status::invalid_argument(error.to_string()),
    })?;
    match entry.offer_request(batch, sender).await {
        Ok(warning) => Ok(Response::new(partial_success(warning.as_deref()).into())),
        Err(Refused::Scripted(reply)) => Err(scripted(reply)),
        Err(refused @ Refused::Undecided) if sender.gives_up.is_some() => {
            Err(refusal(Code::DeadlineExceeded, &refused.to_string(), refused.retry_after()))
        }
        Err(refused) => Err(match refused.retry_after() {
            Some(after) => later(&refused, after),
            // Sending it again would not help, and so this code is none of the retryable ones.
            None => Status::failed_precondition(refused.to_string()),
        }),
    }
}
