//! OTLP over HTTP: `POST /v1/traces`, protobuf or JSON.

use std::borrow::Cow;
use std::convert::Infallible;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use tonic::Status;

use super::arrival::Broken;
use super::wrong_port::{WrongPort, is_grpc};
use super::{Entry, config, partial_success};
use crate::consumer::{AT_ONCE, Refused};
use crate::trace_batch::wire::{put_bytes, put_uint};
use crate::trace_batch::{DecodeError, TraceBatch};

/// The largest window of zstd that memory is given to: 8 MiB, which RFC 8878 (3.1.1.1.2) asks decoders to support.
const MAX_ZSTD_WINDOW_LOG: u32 = 23;

/// Answers HTTP requests on one port.
pub(super) fn service(
    config: &config::Http,
    entry: Entry,
    wrong_port: WrongPort,
) -> impl tower::Service<
    Request<Incoming>,
    Response = Response<Full<Bytes>>,
    Error = Infallible,
    Future: Send + 'static,
> + Clone
+ Send
+ 'static {
    let config: Arc<config::Http> = Arc::new(config.clone());
    tower::service_fn(move |request: Request<Incoming>| {
        let (config, entry, wrong_port) = (Arc::clone(&config), entry.clone(), wrong_port.clone());
        async move {
            if is_grpc(request.headers()) {
                // Only as a status of gRPC does its sender read the message.
                return Ok(Status::unimplemented(wrong_port.refuse(request.headers())).into_http());
            }
            Ok(answer(&config, &entry, request).await)
        }
    })
}

/// The encodings of a request, and so of its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Protobuf,
    Json,
}

/// An answer that is not OK.
#[derive(Debug)]
struct Rejection {
    status: StatusCode,
    message: String,
    /// How long the sender is asked to wait.
    retry_after: Option<Duration>,
    /// Whether it was counted already, and does not blame the request.
    is_counted: bool,
}

impl Rejection {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), retry_after: None, is_counted: false }
    }

    /// Asks the sender to come again after a while.
    fn later(why: &dyn std::error::Error, after: Duration) -> Self {
        let retry_after = Some(after);
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self { status, message: why.to_string(), retry_after, is_counted: false }
    }
}

async fn answer(
    config: &config::Http,
    entry: &Entry,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let encoding = encoding(request.headers());
    let reply_in = encoding.as_ref().map_or(Encoding::Protobuf, |encoding| *encoding);
    let outcome = match (encoding, route(config, &request)) {
        (_, Err(rejection)) | (Err(rejection), _) => Err(rejection),
        (Ok(encoding), Ok(())) => export(config, entry, encoding, request).await,
    };
    let rejection = match outcome {
        Ok(warning) => {
            return respond(StatusCode::OK, reply_in, ok_body(reply_in, warning.as_deref()));
        }
        Err(rejection) => rejection,
    };
    if rejection.status.is_client_error() && !rejection.is_counted {
        entry.malformed.add(1);
    }
    let body = status_body(reply_in, rejection.status, &rejection.message);
    let mut response = respond(rejection.status, reply_in, body);
    if let Some(after) = rejection.retry_after {
        response.headers_mut().insert(RETRY_AFTER, after.as_secs().into());
    }
    if rejection.status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(http::header::ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

fn route(config: &config::Http, request: &Request<Incoming>) -> Result<(), Rejection> {
    match request.uri().path() {
        path if path == config.traces_url_path => match *request.method() {
            Method::POST => Ok(()),
            _ => Err(Rejection::new(StatusCode::METHOD_NOT_ALLOWED, "traces are sent by POST")),
        },
        "/v1/metrics" | "/v1/logs" => Err(Rejection::new(
            StatusCode::NOT_FOUND,
            "this collector carries traces only; switch this signal's exporter off",
        )),
        _ => {
            let message = format!("traces are sent to {}", config.traces_url_path);
            Err(Rejection::new(StatusCode::NOT_FOUND, message))
        }
    }
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, Rejection> {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let essence = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if essence.eq_ignore_ascii_case(b"application/x-protobuf") {
        Ok(Encoding::Protobuf)
    } else if essence.eq_ignore_ascii_case(b"application/json") {
        Ok(Encoding::Json)
    } else {
        let message = "the content type is neither application/x-protobuf nor application/json";
        Err(Rejection::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
    }
}

async fn export(
    config: &config::Http,
    entry: &Entry,
    encoding: Encoding,
    request: Request<Incoming>,
) -> Result<Option<Cow<'static, str>>, Rejection> {
    let sender = entry.sender(&request);
    let (head, body) = request.into_parts();
    let limit = config.max_request_body_size;
    let arriving = entry.room.begin();
    let body = Limited::new(arriving.bound(body), limit).collect().await;
    let body = body.map_err(|error| broken_off(entry, &*error, limit))?.to_bytes();
    let body = decompress(&head.headers, body, limit)?;
    arriving.arrived(body.len()).map_err(|broken| no_arrival(entry, broken))?;
    let batch = match encoding {
        Encoding::Protobuf => TraceBatch::from_protobuf(body),
        Encoding::Json => TraceBatch::from_json(&body),
    };
    let batch = batch.map_err(|error| {
        let status = match error {
            DecodeError::TooMuch => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        };
        Rejection::new(status, error.to_string())
    })?;
    let offered = entry.offer_request(batch, &sender).await;
    offered.map_err(|refused| match (&refused, refused.retry_after()) {
        (Refused::Scripted(reply), retry_after) => {
            let status = StatusCode::from_u16(reply.status).unwrap_or_default();
            Rejection { status, message: refused.to_string(), retry_after, is_counted: true }
        }
        (_, Some(after)) => Rejection::later(&refused, after),
        // Sending it again would not help, and so this status is none of the retryable ones.
        (_, None) => Rejection::new(StatusCode::INTERNAL_SERVER_ERROR, refused.to_string()),
    })
}

fn broken_off(
    entry: &Entry,
    error: &(dyn std::error::Error + Send + Sync + 'static),
    limit: usize,
) -> Rejection {
    if error.is::<LengthLimitError>() {
        return too_large(limit);
    }
    match error.downcast_ref::<Broken>() {
        Some(broken) => no_arrival(entry, *broken),
        None => Rejection::new(StatusCode::BAD_REQUEST, format!("the body broke off: {error}")),
    }
}

fn no_arrival(entry: &Entry, broken: Broken) -> Rejection {
    match broken {
        Broken::TooSlow => entry.malformed.add(1),
        Broken::NoRoom => entry.failed.add(1),
    }
    // Also a slow one may come again: exporters drop what is answered 408.
    Rejection::later(&broken, AT_ONCE)
}

fn too_large(limit: usize) -> Rejection {
    let message = format!("the body is larger than {limit} bytes (`max_request_body_size`)");
    Rejection::new(StatusCode::PAYLOAD_TOO_LARGE, message)
}

fn decompress(headers: &HeaderMap, body: Bytes, limit: usize) -> Result<Bytes, Rejection> {
    let encoding = headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes).unwrap_or_default();
    match encoding.to_ascii_lowercase().as_slice() {
        b"" | b"identity" => Ok(body),
        b"gzip" => inflate(flate2::read::MultiGzDecoder::new(&*body), "gzip", limit),
        b"deflate" | b"zlib" => inflate(flate2::read::ZlibDecoder::new(&*body), "deflate", limit),
        b"zstd" => match zstd::stream::read::Decoder::new(&*body) {
            Ok(mut decoder) => {
                let bounded = decoder.window_log_max(MAX_ZSTD_WINDOW_LOG);
                bounded.map_err(|error| broken("zstd", &error))?;
                inflate(decoder, "zstd", limit)
            }
            Err(error) => Err(broken("zstd", &error)),
        },
        _ => {
            let message = "the content encoding is none of gzip, zstd, deflate, identity";
            Err(Rejection::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
        }
    }
}

fn inflate(decoder: impl Read, name: &str, limit: usize) -> Result<Bytes, Rejection> {
    let mut out = Vec::new();
    decoder.take(limit as u64 + 1).read_to_end(&mut out).map_err(|error| broken(name, &error))?;
    if out.len() > limit { Err(too_large(limit)) } else { Ok(out.into()) }
}

fn broken(name: &str, error: &std::io::Error) -> Rejection {
    Rejection::new(StatusCode::BAD_REQUEST, format!("the body is not whole {name}: {error}"))
}

/// An `ExportTraceServiceResponse`, with a warning if there is one.
fn ok_body(encoding: Encoding, warning: Option<&str>) -> Vec<u8> {
    match (encoding, warning) {
        (Encoding::Protobuf, warning) => partial_success(warning),
        (Encoding::Json, None) => b"{}".to_vec(),
        (Encoding::Json, Some(warning)) => {
            serde_json::json!({ "partialSuccess": { "errorMessage": warning } }).to_string().into()
        }
    }
}

/// A `google.rpc.Status`, as the OTLP specification asks for in replies that are not OK.
fn status_body(encoding: Encoding, status: StatusCode, message: &str) -> Vec<u8> {
    // gRPC's codes: unavailable, failed precondition, unimplemented, invalid argument.
    let code = match status {
        StatusCode::SERVICE_UNAVAILABLE => 14,
        StatusCode::INTERNAL_SERVER_ERROR => 9,
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => 12,
        _ => 3,
    };
    match encoding {
        Encoding::Json => {
            serde_json::json!({ "code": code, "message": message }).to_string().into()
        }
        Encoding::Protobuf => {
            let mut out = Vec::new();
            put_uint(&mut out, 1, code);
            put_bytes(&mut out, 2, message.as_bytes());
            out
        }
    }
}

fn respond(status: StatusCode, encoding: Encoding, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let kind = match encoding {
        Encoding::Protobuf => "application/x-protobuf",
        Encoding::Json => "application/json",
    };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
