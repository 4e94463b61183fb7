//! A request on its way: its bytes, and what they say.

use std::io::Read as _;

use axum::{
    body::{Body, to_bytes},
    extract::Request,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Version, header};
use prost::Message;

use super::grpc;

/// Most bytes of a body that is passed on.
const MAX_BODY: usize = 64 << 20;
/// The call by which traces come in gRPC.
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// The header with the API key, which says whose it is.
const API_KEY: &str = "dd-api-key";

/// Error of a request that could not be passed on.
#[derive(Debug, thiserror::Error)]
pub(super) enum PassError {
    #[error("the path `{0}` does not begin with an address")]
    NoTarget(String),
    #[error("the body cannot be read: {0}")]
    Body(#[source] axum::Error),
    #[error("the body is not what its path says: {0}")]
    Decode(String),
    #[error("`{0}` is not an address to forward to")]
    Url(String),
    #[error("{0}")]
    Call(#[from] hyper_util::client::legacy::Error),
    #[error("it was not answered in time")]
    Late,
}

impl IntoResponse for PassError {
    fn into_response(self) -> Response {
        tracing::warn!(error = %self, "a tap passed nothing on");
        (StatusCode::BAD_GATEWAY, format!("tap: {self}")).into_response()
    }
}

/// Kind of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Call,
    /// Neither a call between services nor traces or their stats: asking whether somebody is well, other signals of OTLP, and what else
    /// a collector sends to Datadog.
    Aside,
    Otlp,
    Payload,
    Stats,
}

/// A request on its way.
pub(super) struct Passing {
    pub(super) method: Method,
    /// Path and query.
    pub(super) path: String,
    pub(super) version: Version,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Passing {
    pub(super) async fn read(request: Request) -> Result<Self, PassError> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", |all| all.as_str()).to_owned();
        let body = to_bytes(body, MAX_BODY).await.map_err(PassError::Body)?;
        let (method, version) = (parts.method, parts.version);
        Ok(Self { method, path, version, headers: parts.headers, body })
    }

    pub(super) fn kind(&self) -> Kind {
        match self.path.split('?').next().unwrap_or_default() {
            path if path.ends_with("/v1/traces") || path == EXPORT => Kind::Otlp,
            path if path.ends_with("/api/v0.2/traces") => Kind::Payload,
            path if path.ends_with("/api/v0.2/stats") => Kind::Stats,
            path if path.ends_with("/health") => Kind::Aside,
            path if self.is_another_signal(path) || self.is_for_datadog() => Kind::Aside,
            _ => Kind::Call,
        }
    }

    /// Returns whether it is of metrics or logs in OTLP.
    fn is_another_signal(&self, path: &str) -> bool {
        let media = self.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_protobuf = media.is_some_and(|media| media.starts_with("application/x-protobuf"));
        path.starts_with("/opentelemetry.proto.collector.")
            || is_protobuf && (path.ends_with("/v1/metrics") || path.ends_with("/v1/logs"))
    }

    /// Returns whether it is meant for Datadog, as host metadata, a collector's own metrics and the check of the API key are. Their paths alone
    /// do not show it: `/api/v1/orders` is a service's.
    fn is_for_datadog(&self) -> bool {
        self.headers.contains_key(API_KEY)
    }

    /// Reads the body as a message of protobuf.
    pub(super) fn message<T: Message + Default>(&self) -> Result<T, PassError> {
        let bytes = self.decompressed()?;
        T::decode(bytes.as_slice()).map_err(|error| PassError::Decode(error.to_string()))
    }

    pub(super) fn decompressed(&self) -> Result<Vec<u8>, PassError> {
        let (body, encoding) = match grpc::is(&self.headers) {
            true => {
                let torn = || PassError::Decode("it is not one message of gRPC".to_owned());
                let (is_compressed, message) = grpc::unframed(&self.body).ok_or_else(torn)?;
                (message, is_compressed.then(|| self.headers.get("grpc-encoding")).flatten())
            }
            false => (&*self.body, self.headers.get(header::CONTENT_ENCODING)),
        };
        let mut bytes = Vec::new();
        let read = match encoding.and_then(|value| value.to_str().ok()) {
            None | Some("identity" | "") => return Ok(body.to_vec()),
            Some("gzip") => flate2::read::MultiGzDecoder::new(body)
                .take(MAX_BODY as u64)
                .read_to_end(&mut bytes),
            Some("zstd") => zstd::Decoder::new(body)
                .and_then(|zstd| zstd.take(MAX_BODY as u64).read_to_end(&mut bytes)),
            Some(other) => return Err(PassError::Decode(format!("its encoding is `{other}`"))),
        };
        read.map_err(|error| PassError::Decode(error.to_string()))?;
        Ok(bytes)
    }

    /// Puts another message into the body, which is not compressed then.
    pub(super) fn write(&mut self, message: Vec<u8>) {
        if grpc::is(&self.headers) {
            self.body = grpc::framed(&message);
        } else {
            self.headers.remove(header::CONTENT_ENCODING);
            self.body = message.into();
        }
    }

    /// That it was taken, by somebody who is not asked.
    pub(super) fn done(&self) -> Response {
        match self.kind() {
            _ if grpc::is(&self.headers) => grpc::done(),
            Kind::Otlp => {
                (StatusCode::OK, [(header::CONTENT_TYPE, "application/x-protobuf")]).into_response()
            }
            Kind::Payload | Kind::Stats => (StatusCode::ACCEPTED, "{}").into_response(),
            Kind::Call | Kind::Aside => StatusCode::OK.into_response(),
        }
    }

    /// That it was not taken.
    pub(super) fn refused(&self, status: StatusCode) -> Response {
        match grpc::is(&self.headers) {
            true => grpc::refused(status),
            false => status.into_response(),
        }
    }

    /// The request as it is sent on.
    pub(super) fn request(&self, target: &str) -> Result<http::Request<Body>, PassError> {
        let url = format!("http://{target}{}", self.path);
        let mut request = http::Request::new(Body::from(self.body.clone()));
        *request.uri_mut() = url.parse().map_err(|_| PassError::Url(url))?;
        request.method_mut().clone_from(&self.method);
        *request.headers_mut() = self.headers.clone();
        for hop_by_hop in
            [header::HOST, header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING]
        {
            request.headers_mut().remove(hop_by_hop);
        }
        Ok(request)
    }
}
