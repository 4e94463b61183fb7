//! Decodes an attempt's bytes into our own small types. Pure: bytes in, values out, never a panic.
//!
//! Uses Datadog's published types (`libdd-trace-protobuf`) for the wire, so that no second hand-written schema can
//! agree with our own exporter's mistakes. It does not judge, and it does not know replies.

mod encoding;
mod lossy;
mod otlp;
mod passed;
mod raw;
mod stats;
mod traces;

use serde::{Deserialize, Serialize};

pub use self::otlp::computes_stats;
pub use self::passed::{SentSpan, TakenSpan};
pub use self::{
    otlp::{OtlpPayload, SpanMapping},
    raw::{RawPayload, RawSpan, raw},
    stats::{Sketch, StatsGroup, StatsPayload},
    traces::{TracerFacts, TracesPayload},
};
use crate::attempt::Attempt;

/// Most bytes that a body may have after decompression, by default.
pub const DEFAULT_MAX_DECODED: usize = 64 << 20;

/// The routes that a Datadog client calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Route {
    /// `POST /api/v0.2/traces`
    Traces,
    /// `POST /v1/traces`: Datadog's OTLP intake
    OtlpTraces,
    /// `POST /api/v0.2/stats`
    Stats,
    /// `GET /api/v1/validate`
    Validate,
    /// `POST /api/v2/series`
    Series,
    /// `POST /intake`
    HostMetadata,
}

impl Route {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Traces,
        Self::OtlpTraces,
        Self::Stats,
        Self::Validate,
        Self::Series,
        Self::HostMetadata,
    ];

    /// Routes that accept spans.
    pub const OF_SPANS: [Self; 2] = [Self::Traces, Self::OtlpTraces];

    /// Returns the route's path, without a trailing slash.
    pub fn path(self) -> &'static str {
        match self {
            Self::Traces => "/api/v0.2/traces",
            Self::OtlpTraces => "/v1/traces",
            Self::Stats => "/api/v0.2/stats",
            Self::Validate => "/api/v1/validate",
            Self::Series => "/api/v2/series",
            Self::HostMetadata => "/intake",
        }
    }

    /// Finds the route of a path, with or without a trailing slash.
    pub fn of(path: &str) -> Option<Self> {
        let path = path.strip_suffix('/').unwrap_or(path);
        Self::ALL.into_iter().find(|route| route.path() == path)
    }
}

/// Decoded content of an attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decoded {
    /// Spans, with what their payload said about them.
    Traces(TracesPayload),
    /// Spans sent as OTLP, with what their request said about them.
    OtlpTraces(OtlpPayload),
    /// APM stats.
    Stats(StatsPayload),
    /// A query whether the API key is valid.
    Validate,
    /// Metrics, as sent.
    Series(serde_json::Value),
    /// Host tags and facts, as sent.
    HostMetadata(serde_json::Value),
    /// A body that could not be decoded.
    Undecodable {
        /// The problem.
        reason: String,
    },
    /// No Datadog client is known to call this path.
    UnknownPath,
}

/// Error for a body that cannot be decoded.
#[derive(Debug, thiserror::Error)]
enum DecodeError {
    #[error("its content encoding `{0}` is none of gzip, deflate, zstd and identity")]
    UnknownEncoding(String),
    #[error("it cannot be decompressed as {encoding}: {source}")]
    Decompress { encoding: &'static str, source: std::io::Error },
    #[error("it is larger than {limit} bytes once decompressed")]
    TooLarge { limit: usize },
    #[error("it is not a protobuf AgentPayload: {0}")]
    Protobuf(prost::DecodeError),
    #[error(
        "it carries {0} of the newer `idxTracerPayloads`, which this intake cannot read: have the agent send \
         `tracerPayloads`"
    )]
    IndexedPayload(usize),
    #[error("it is not an OTLP request: {0}")]
    Otlp(prost::DecodeError),
    #[error(
        "its content type `{0}` is none of those that the OTLP intake takes: application/x-protobuf and \
         application/json"
    )]
    ContentType(String),
    #[error("a span's `{what}` has {got} bytes instead of {length}")]
    IdLength { what: &'static str, length: usize, got: usize },
    #[error("its header `dd-otel-span-mapping` cannot be read: {0}")]
    SpanMapping(serde_json::Error),
    #[error("`ignore_resources` in its header `dd-otel-span-mapping` cannot be read: {0}")]
    IgnoredResource(regex::Error),
    #[error("it is not a msgpack StatsPayload: {0}")]
    MessagePack(rmp_serde::decode::Error),
    #[error("it is not JSON: {0}")]
    Json(serde_json::Error),
}

/// Reads an attempt's body by its path. A body that has more than `max_decoded` bytes once decompressed is not read.
///
/// Spans are given the attempt's `seq`.
pub fn decode(attempt: &Attempt, max_decoded: usize) -> Decoded {
    let Some(route) = Route::of(&attempt.path) else { return Decoded::UnknownPath };
    match decode_route(route, attempt, max_decoded) {
        Ok(decoded) => decoded,
        Err(error) => Decoded::Undecodable { reason: error.to_string() },
    }
}

fn decode_route(
    route: Route,
    attempt: &Attempt,
    max_decoded: usize,
) -> Result<Decoded, DecodeError> {
    if route == Route::Validate {
        return Ok(Decoded::Validate);
    }
    let encoding = attempt.headers.get("content-encoding").map_or("", String::as_str);
    let body = encoding::decompress(encoding, &attempt.body, max_decoded)?;
    Ok(match route {
        Route::Traces => Decoded::Traces(traces::decode(&body, attempt.seq)?),
        Route::OtlpTraces => Decoded::OtlpTraces(otlp::decode(&body, attempt)?),
        Route::Stats => Decoded::Stats(stats::decode(&body)?),
        Route::Series => Decoded::Series(json(&body)?),
        Route::HostMetadata => Decoded::HostMetadata(json(&body)?),
        Route::Validate => Decoded::Validate,
    })
}

fn json(body: &[u8]) -> Result<serde_json::Value, DecodeError> {
    serde_json::from_slice(body).map_err(DecodeError::Json)
}

#[cfg(test)]
mod reference_tests;
#[cfg(test)]
mod tests;
