//! OTLP over HTTP: `POST /v1/traces`, protobuf or JSON.

use std::borrow::Cow;
use std::convert::Infallible;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, EXPECT, HeaderValue, ORIGIN, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use tonic::Status;

use super::arrival::Broken;
use super::cors::{Asked, Cors};
use super::wrong_port::{WrongPort, is_grpc};
use super::{Entry, config, partial_success};
use crate::consumer::{AT_ONCE, Refused};
use crate::extension::credentials::NotAuthentic;
use crate::sender::Sender;
use crate::server;
use crate::trace_batch::wire::{put_bytes, put_uint};
use crate::trace_batch::{DecodeError, TraceBatch};

/// The largest window of zstd that memory is given to: 8 MiB, which RFC 8878 (3.1.1.1.2) asks decoders to support.
const MAX_ZSTD_WINDOW_LOG: u32 = 23;

/// How many bytes of a request that is refused anyway are read.
const MAX_DISCARDED: usize = 256 << 10;

/// The beginning of a stream in snappy's framing format.
const SNAPPY_FRAMES: &[u8] = b"\xff\x06\0\0sNaPpY";

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
    let cors = Cors::new(&config.cors).map(Arc::new);
    tower::service_fn(move |request: Request<Incoming>| {
        let (config, entry, wrong_port) = (Arc::clone(&config), entry.clone(), wrong_port.clone());
        let asked = cors.as_ref().map(|cors| cors.look(request.method(), request.headers()));
        async move {
            // Over HTTP/1 it is no gRPC, whatever its type says, and an HTTP 200 would be read as success.
            if request.version() == Version::HTTP_2 && is_grpc(request.headers()) {
                // Only as a status of gRPC does its sender read the message.
                return Ok(Status::unimplemented(wrong_port.refuse(request.headers())).into_http());
            }
            let (mut response, headers) = match asked {
                Some(Asked::Preflight(headers)) => (no_content(), headers),
                Some(Asked::Actual(headers)) => (answer(&config, &entry, request).await, headers),
                None => return Ok(answer(&config, &entry, request).await),
            };
            response.headers_mut().extend(headers);
            Ok(response)
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
    /// Whether the body was not read to its end, so that the connection cannot be used again.
    is_unread: bool,
}

impl Rejection {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            retry_after: None,
            is_counted: false,
            is_unread: false,
        }
    }

    /// Asks the sender to come again after a while.
    fn later(why: &dyn std::error::Error, after: Duration) -> Self {
        let retry_after = Some(after);
        Self { retry_after, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, why.to_string()) }
    }
}

async fn answer(
    config: &config::Http,
    entry: &Entry,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let encoding = encoding(request.headers());
    let reply_in = encoding.as_ref().map_or(Encoding::Protobuf, |encoding| *encoding);
    let version = request.version();
    // A page's browser would ask its user for a password.
    let is_of_page = request.headers().contains_key(ORIGIN);
    let peer = server::peer(&request);
    let sender = entry.sender(request.headers(), request.uri(), peer).await.map_err(not_let_in);
    let outcome = match (sender, encoding, route(config, &request)) {
        (Err(rejection), ..) | (_, _, Err(rejection)) | (_, Err(rejection), _) => {
            Err(Rejection { is_unread: !discard(entry, request).await, ..rejection })
        }
        (Ok(sender), Ok(encoding), Ok(())) => {
            export(config, entry, encoding, &sender, request).await
        }
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
    if rejection.is_unread && version != Version::HTTP_2 {
        // Else the sender's next request may be sent on it, and be lost.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if rejection.status == StatusCode::UNAUTHORIZED
        && !is_of_page
        && let Some(challenge) = entry.door.challenge()
    {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    if rejection.status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(http::header::ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

/// The answer to a request whose sender may not send, or is not known to.
fn not_let_in(error: NotAuthentic) -> Rejection {
    match error {
        NotAuthentic::Busy => Rejection::later(&error, AT_ONCE),
        _ => Rejection {
            is_counted: true,
            ..Rejection::new(StatusCode::UNAUTHORIZED, error.to_string())
        },
    }
}

/// Reads the body of a request that is refused, for the connection to be of use for the next one. Returns whether it came to its end.
async fn discard(entry: &Entry, request: Request<Incoming>) -> bool {
    // Who asks first has not sent it.
    if request.headers().contains_key(EXPECT) {
        return request.body().is_end_stream();
    }
    let arriving = entry.room.begin();
    let body = Limited::new(arriving.bound(request.into_body(), None), MAX_DISCARDED);
    body.collect().await.is_ok()
}

fn route(config: &config::Http, request: &Request<Incoming>) -> Result<(), Rejection> {
    match single_slash(request.uri().path()) {
        path if path == single_slash(&config.traces_url_path) => match *request.method() {
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

/// A path without more than one slash at its beginning: senders whose endpoint ends with one write two.
fn single_slash(path: &str) -> &str {
    let slashes = path.len() - path.trim_start_matches('/').len();
    &path[slashes.saturating_sub(1)..]
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
    sender: &Sender,
    request: Request<Incoming>,
) -> Result<Option<Cow<'static, str>>, Rejection> {
    let (head, body) = request.into_parts();
    let limit = config.max_request_body_size;
    let arriving = entry.room.begin();
    let body = Limited::new(arriving.bound(body, None), limit).collect().await;
    let body =
        body.map_err(|error| Rejection { is_unread: true, ..broken_off(entry, &*error, limit) })?;
    let body = body.to_bytes();
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
    let offered = entry.offer_request(batch, sender).await;
    offered.map_err(|refused| match (&refused, refused.retry_after()) {
        (Refused::Scripted(reply), retry_after) => {
            let status = StatusCode::from_u16(reply.status).unwrap_or_default();
            Rejection {
                retry_after,
                is_counted: true,
                ..Rejection::new(status, refused.to_string())
            }
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
    entry.count_broken(broken);
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
        b"lz4" => inflate(lz4_flex::frame::FrameDecoder::new(&*body), "lz4", limit),
        // Under this name the Collector sent framed snappy once.
        b"snappy" if !body.starts_with(SNAPPY_FRAMES) => {
            let length =
                snap::raw::decompress_len(&body).map_err(|error| broken("snappy", &error))?;
            if length > limit {
                return Err(too_large(limit));
            }
            let out = snap::raw::Decoder::new().decompress_vec(&body);
            out.map(Bytes::from).map_err(|error| broken("snappy", &error))
        }
        b"snappy" | b"x-snappy-framed" => {
            inflate(snap::read::FrameDecoder::new(&*body), "snappy", limit)
        }
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
            let message = "the content encoding is none of gzip, zstd, deflate, zlib, snappy, x-snappy-framed, lz4, identity";
            Err(Rejection::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
        }
    }
}

fn inflate(decoder: impl Read, name: &str, limit: usize) -> Result<Bytes, Rejection> {
    let mut out = Vec::new();
    decoder.take(limit as u64 + 1).read_to_end(&mut out).map_err(|error| broken(name, &error))?;
    if out.len() > limit { Err(too_large(limit)) } else { Ok(out.into()) }
}

fn broken(name: &str, error: &dyn std::error::Error) -> Rejection {
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
    // gRPC's codes: unavailable, unauthenticated, failed precondition, unimplemented, invalid argument.
    let code = match status {
        StatusCode::UNAUTHORIZED => 16,
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

fn no_content() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
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
