//! A tap: an HTTP server that stands on the edges of a system under test, passes on what goes over them, and changes it on the way.
//!
//! One tap serves any number of edges. Whom a request is for stands at the beginning of its path: a workload that is to go through
//! the tap at `127.0.0.1:7000` is given `http://127.0.0.1:7000/127.0.0.1:4318` in place of `http://127.0.0.1:4318`. What a request is
//! follows from the rest of its path: traces in OTLP, trace payloads or stats of Datadog's, or else a call between services.
//!
//! Without a [`Change`] everything is passed on as it came, byte for byte, so that a system with a tap in it is as sound as one
//! without.

use std::{
    io::{self, Read},
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use libdd_trace_protobuf::pb::{AgentPayload, StatsPayload};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use tokio::{net::TcpListener, task::AbortHandle};

/// Most bytes of a body that is passed on.
const MAX_BODY: usize = 64 << 20;
/// Longest wait for an answer of whom a request is for.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What a tap does to one kind of what passes. The number counts the requests of that kind from 0.
#[derive(Clone, Copy)]
pub enum Change {
    /// Changes the headers of calls between services.
    Headers(fn(&mut HeaderMap, u64)),
    /// Changes the status of answers between services.
    Answer(fn(StatusCode) -> StatusCode),
    /// Changes traces in OTLP, of which `service.name` is what they were exported with.
    Otlp(fn(&mut ExportTraceServiceRequest, u64)),
    /// Changes Datadog's trace payloads.
    Datadog(fn(&mut AgentPayload, u64)),
    /// Changes Datadog's stats payloads.
    Stats(fn(&mut StatsPayload, u64)),
    /// Decides how OTLP requests are delivered.
    OtlpDelivery(fn(&ExportTraceServiceRequest, u64) -> Delivery),
    /// Decides how Datadog's trace payloads are delivered.
    DatadogDelivery(fn(&AgentPayload, u64) -> Delivery),
}

/// How a request is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// As it is meant to be.
    Once,
    /// Twice; the sender sees the second answer.
    Twice,
    /// Not at all, and the sender is told that all is well.
    Swallow,
    /// Not at all, and the sender is answered this.
    Refuse(StatusCode),
}

/// A tap that runs until it is dropped.
#[derive(Debug)]
pub struct Tap {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: AbortHandle,
}

/// Why a tap cannot run.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// No port could be bound.
    #[error("a tap cannot listen on the loopback interface: {0}")]
    Listen(#[source] io::Error),
    /// The HTTP client could not be set up.
    #[error("the HTTP client of a tap cannot be set up: {0}")]
    Client(#[source] reqwest::Error),
}

struct Shared {
    client: reqwest::Client,
    change: Option<Change>,
    calls: AtomicU64,
    otlp: AtomicU64,
    payloads: AtomicU64,
    stats: AtomicU64,
    changed: AtomicU64,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("changed", &self.changed).finish_non_exhaustive()
    }
}

impl Tap {
    /// Starts a tap that makes this change, or none.
    ///
    /// # Errors
    ///
    /// When it cannot listen, or call.
    pub async fn start(change: Option<Change>) -> Result<Self, TapError> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(TapError::Listen)?;
        let address = listener.local_addr().map_err(TapError::Listen)?;
        let client = harness_core::http::client()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .build()
            .map_err(TapError::Client)?;
        let (calls, otlp, payloads, stats, changed) = Default::default();
        let shared = Arc::new(Shared { client, change, calls, otlp, payloads, stats, changed });
        let app = Router::new().fallback(pass).with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).await {
                tracing::warn!(%error, "a tap ended");
            }
        });
        Ok(Self { address, shared, server: server.abort_handle() })
    }

    /// What a workload is given in place of `http://TARGET`; `target` may be a reference that an environment replaces by an
    /// address.
    pub fn instead_of(&self, target: &str) -> String {
        format!("http://{}/{target}", self.address)
    }

    /// How many requests it changed, or delivered otherwise than they were meant to be.
    pub fn changed(&self) -> u64 {
        self.shared.changed.load(Ordering::Relaxed)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Why a request could not be passed on.
#[derive(Debug, thiserror::Error)]
enum PassError {
    #[error("the path `{0}` does not begin with an address")]
    NoTarget(String),
    #[error("the body cannot be read: {0}")]
    Body(#[source] axum::Error),
    #[error("the body is not what its path says: {0}")]
    Decode(String),
    #[error("{0}")]
    Call(#[from] reqwest::Error),
}

impl IntoResponse for PassError {
    fn into_response(self) -> Response {
        tracing::warn!(error = %self, "a tap passed nothing on");
        (StatusCode::BAD_GATEWAY, format!("tap: {self}")).into_response()
    }
}

/// A request on its way.
struct Passing {
    method: Method,
    url: String,
    headers: HeaderMap,
    body: Bytes,
}

async fn pass(State(tap): State<Arc<Shared>>, request: Request) -> Result<Response, PassError> {
    let (parts, body) = request.into_parts();
    let all = parts.uri.path_and_query().map_or("/", |all| all.as_str());
    let (target, rest) = all[1..].split_once('/').unwrap_or((&all[1..], ""));
    if !target.contains(':') {
        return Err(PassError::NoTarget(all.to_owned()));
    }
    let body = to_bytes(body, MAX_BODY).await.map_err(PassError::Body)?;
    let mut passing = Passing {
        method: parts.method,
        url: format!("http://{target}/{rest}"),
        headers: parts.headers,
        body,
    };
    let path = parts.uri.path();
    let (delivery, told) = if path.ends_with("/v1/traces") {
        (tap.otlp(&mut passing)?, StatusCode::OK)
    } else if path.ends_with("/api/v0.2/traces") {
        (tap.payload(&mut passing)?, StatusCode::ACCEPTED)
    } else if path.ends_with("/api/v0.2/stats") {
        (tap.stats(&mut passing)?, StatusCode::ACCEPTED)
    } else {
        return tap.call(passing).await;
    };
    if delivery != Delivery::Once {
        tap.note();
    }
    match delivery {
        Delivery::Once => tap.send(&passing).await,
        Delivery::Twice => {
            tap.send(&passing).await?;
            tap.send(&passing).await
        }
        Delivery::Swallow if told == StatusCode::OK => {
            Ok((told, [(header::CONTENT_TYPE, "application/x-protobuf")]).into_response())
        }
        Delivery::Swallow => Ok((told, "{}").into_response()),
        Delivery::Refuse(status) => Ok(status.into_response()),
    }
}

impl Shared {
    fn note(&self) {
        self.changed.fetch_add(1, Ordering::Relaxed);
    }

    async fn call(&self, mut passing: Passing) -> Result<Response, PassError> {
        // Health checks and validations are nobody's call.
        let is_call = !passing.url.contains("/api/") && !passing.url.ends_with("/health");
        let nth = if is_call { self.calls.fetch_add(1, Ordering::Relaxed) } else { 0 };
        if let (Some(Change::Headers(change)), true) = (self.change, is_call) {
            let before = passing.headers.clone();
            change(&mut passing.headers, nth);
            if before != passing.headers {
                self.note();
            }
        }
        let mut response = self.send(&passing).await?;
        if let (Some(Change::Answer(change)), true) = (self.change, is_call) {
            let status = change(response.status());
            if status != response.status() {
                self.note();
                *response.status_mut() = status;
            }
        }
        Ok(response)
    }

    fn otlp(&self, passing: &mut Passing) -> Result<Delivery, PassError> {
        let nth = self.otlp.fetch_add(1, Ordering::Relaxed);
        match self.change {
            Some(Change::Otlp(change)) => self.alter(passing, change, nth),
            Some(Change::OtlpDelivery(decide)) => Ok(decide(&passing.read()?, nth)),
            _ => Ok(Delivery::Once),
        }
    }

    fn payload(&self, passing: &mut Passing) -> Result<Delivery, PassError> {
        let nth = self.payloads.fetch_add(1, Ordering::Relaxed);
        match self.change {
            Some(Change::Datadog(change)) => self.alter(passing, change, nth),
            Some(Change::DatadogDelivery(decide)) => Ok(decide(&passing.read()?, nth)),
            _ => Ok(Delivery::Once),
        }
    }

    /// Changes a message of protobuf; where that changes nothing, the bytes stay as they came.
    fn alter<T: Message + Default + Clone + PartialEq>(
        &self,
        passing: &mut Passing,
        change: fn(&mut T, u64),
        nth: u64,
    ) -> Result<Delivery, PassError> {
        let mut message: T = passing.read()?;
        let before = message.clone();
        change(&mut message, nth);
        if before != message {
            self.note();
            passing.write(message.encode_to_vec());
        }
        Ok(Delivery::Once)
    }

    fn stats(&self, passing: &mut Passing) -> Result<Delivery, PassError> {
        let nth = self.stats.fetch_add(1, Ordering::Relaxed);
        let Some(Change::Stats(change)) = self.change else { return Ok(Delivery::Once) };
        let bytes = passing.decompressed()?;
        let decode = |error: &dyn std::fmt::Display| PassError::Decode(error.to_string());
        let mut stats: StatsPayload =
            rmp_serde::from_slice(&bytes).map_err(|error| decode(&error))?;
        let before = stats.clone();
        change(&mut stats, nth);
        if before != stats {
            self.note();
            passing.write(rmp_serde::to_vec_named(&stats).map_err(|error| decode(&error))?);
        }
        Ok(Delivery::Once)
    }

    async fn send(&self, passing: &Passing) -> Result<Response, PassError> {
        let mut headers = passing.headers.clone();
        for hop_by_hop in
            [header::HOST, header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING]
        {
            headers.remove(hop_by_hop);
        }
        let request = self.client.request(passing.method.clone(), &passing.url);
        let answer = request.headers(headers).body(passing.body.clone()).send().await?;
        let (status, mut headers) = (answer.status(), answer.headers().clone());
        headers.remove(header::CONNECTION);
        headers.remove(header::TRANSFER_ENCODING);
        headers.remove(header::CONTENT_LENGTH);
        let mut response = Response::new(Body::from(answer.bytes().await?));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

impl Passing {
    fn read<T: Message + Default>(&self) -> Result<T, PassError> {
        let bytes = self.decompressed()?;
        T::decode(bytes.as_slice()).map_err(|error| PassError::Decode(error.to_string()))
    }

    fn decompressed(&self) -> Result<Vec<u8>, PassError> {
        let encoding = self.headers.get(header::CONTENT_ENCODING);
        let mut bytes = Vec::new();
        let read = match encoding.and_then(|value| value.to_str().ok()) {
            None | Some("identity" | "") => return Ok(self.body.to_vec()),
            Some("gzip") => flate2::read::MultiGzDecoder::new(&*self.body)
                .take(MAX_BODY as u64)
                .read_to_end(&mut bytes),
            Some("zstd") => zstd::Decoder::new(&*self.body)
                .and_then(|zstd| zstd.take(MAX_BODY as u64).read_to_end(&mut bytes)),
            Some(other) => return Err(PassError::Decode(format!("its encoding is `{other}`"))),
        };
        read.map_err(|error| PassError::Decode(error.to_string()))?;
        Ok(bytes)
    }

    fn write(&mut self, body: Vec<u8>) {
        self.headers.remove(header::CONTENT_ENCODING);
        self.body = body.into();
    }
}

#[cfg(test)]
mod tests;
