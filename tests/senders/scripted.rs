//! A stand-in for a collector that gives one reply, always the same, and notes who came when.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::Response,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use tokio::{net::TcpListener, task::AbortHandle};
use tonic::{
    Code, Status,
    metadata::{MetadataMap, MetadataValue},
};
use tonic_types::{ErrorDetails, StatusExt as _};

/// Response to every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) kind: Kind,
    /// How long the sender is asked to wait: in `RetryInfo` and the trailer `google.rpc.retryinfo-bin`, or in `Retry-After`.
    pub(crate) after: Option<Duration>,
    /// How long the reply takes.
    pub(crate) delay: Duration,
}

/// Kind of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// OK.
    Taken,
    /// OK, and a span is said to be rejected.
    Partial,
    /// This status of HTTP.
    Http(u16),
    /// This status of gRPC.
    Grpc(Code),
}

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) at: Instant,
    pub(crate) agent: String,
    pub(crate) compression: String,
    /// Its content type.
    pub(crate) kind: String,
}

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// A stand-in that listens until it is dropped.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    server: AbortHandle,
}

struct Shared {
    reply: Reply,
    /// Message of a partial success.
    rejected: String,
    attempts: Mutex<Vec<Attempt>>,
}

impl Scripted {
    /// Starts one that replies this; a partial success says `rejected`.
    pub(crate) async fn start(reply: Reply, rejected: String) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { reply, rejected, attempts: Mutex::default() });
        let app = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self { address, shared, server: server.abort_handle() })
    }

    /// Returns the attempts that came so far.
    pub(crate) fn attempts(&self) -> Vec<Attempt> {
        self.shared.attempts().clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Shared {
    fn attempts(&self) -> MutexGuard<'_, Vec<Attempt>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let kind = text(request.headers(), "content-type");
    let is_grpc = kind.starts_with("application/grpc");
    let is_json = kind.starts_with("application/json");
    let compression = if is_grpc { "grpc-encoding" } else { "content-encoding" };
    // Agents send metrics and logs, too.
    if request.uri().path().ends_with("/v1/traces") || request.uri().path() == EXPORT {
        shared.attempts().push(Attempt {
            at: Instant::now(),
            agent: text(request.headers(), "user-agent"),
            compression: text(request.headers(), compression),
            kind,
        });
    }
    // What is not read to its end would break the connection off.
    let _ = request.into_body().collect().await;
    let Reply { kind, after, delay } = shared.reply;
    tokio::time::sleep(delay).await;
    match kind {
        Kind::Taken if is_grpc => grpc_ok(None),
        Kind::Partial if is_grpc => grpc_ok(Some(&shared.rejected)),
        Kind::Taken => http_ok(None, is_json),
        Kind::Partial => http_ok(Some(&shared.rejected), is_json),
        Kind::Http(status) => refused(status, after),
        Kind::Grpc(code) => grpc_refused(code, after),
    }
}

fn text(headers: &HeaderMap, name: &str) -> String {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}

/// An `ExportTraceServiceResponse`, with a partial success or without one.
fn response(rejected: Option<&str>) -> Vec<u8> {
    use opentelemetry_proto::tonic::collector::trace::v1 as otlp;
    let partial_success = rejected.map(|text| otlp::ExportTracePartialSuccess {
        rejected_spans: 1,
        error_message: text.to_owned(),
    });
    otlp::ExportTraceServiceResponse { partial_success }.encode_to_vec()
}

fn http_ok(rejected: Option<&str>, is_json: bool) -> Response {
    let (kind, body) = match (is_json, rejected) {
        (true, Some(text)) => {
            let partial = serde_json::json!({ "rejectedSpans": "1", "errorMessage": text });
            let body = serde_json::json!({ "partialSuccess": partial }).to_string();
            ("application/json", body.into_bytes())
        }
        (true, None) => ("application/json", b"{}".to_vec()),
        (false, rejected) => ("application/x-protobuf", response(rejected)),
    };
    let mut answer = Response::new(Body::from(body));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

fn grpc_ok(rejected: Option<&str>) -> Response {
    let message = response(rejected);
    let length = u32::try_from(message.len()).unwrap_or_default();
    let framed = [&[0][..], &length.to_be_bytes(), &message].concat();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::new(Bytes::from(framed)).with_trailers(async { Some(Ok(trailers)) });
    let mut answer = Response::new(Body::new(body));
    let kind = HeaderValue::from_static("application/grpc");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

fn refused(status: u16, after: Option<Duration>) -> Response {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    if let Some(after) = after {
        answer.headers_mut().insert(header::RETRY_AFTER, after.as_secs().into());
    }
    answer
}

fn grpc_refused(code: Code, after: Option<Duration>) -> Response {
    let status = match after {
        None => Status::new(code, "as the script has it"),
        Some(_) => {
            let details = ErrorDetails::with_retry_info(after);
            let seconds = after.unwrap_or_default().as_secs();
            let info = [0x0a, 2, 0x08, u8::try_from(seconds).unwrap_or_default()];
            let mut trailers = MetadataMap::new();
            trailers.insert_bin("google.rpc.retryinfo-bin", MetadataValue::from_bytes(&info));
            let text = "as the script has it";
            Status::with_error_details_and_metadata(code, text, details, trailers)
        }
    };
    status.into_http()
}
