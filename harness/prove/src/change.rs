//! Changes of what passes over the edges of a system.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use libdd_trace_protobuf::pb::{AgentPayload, StatsPayload};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;

/// The services between which a change strikes, as they call themselves in OTLP.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sites {
    /// The one that is called from outside.
    pub entry: String,
    /// The one that calls the last.
    pub caller: String,
    /// The last one, at which most changes strike.
    pub at: String,
}

/// Context of a change beside what passes.
#[derive(Debug, Clone, Copy)]
pub struct On<'a> {
    /// Number of requests of that kind that passed before.
    pub nth: u64,
    /// The service that is called from outside.
    pub entry: &'a str,
    /// The service that calls the last.
    pub caller: &'a str,
    /// The last service.
    pub at: &'a str,
}

/// Change of one kind of what passes.
#[derive(Clone, Copy)]
pub enum Change {
    /// Changes the headers of calls between services.
    Headers(fn(&mut HeaderMap, &On<'_>)),
    /// Changes the status of answers between services.
    Answer(fn(StatusCode) -> StatusCode),
    /// Changes traces in OTLP, of which `service.name` is what they were exported with.
    Otlp(fn(&mut ExportTraceServiceRequest, &On<'_>)),
    /// Changes Datadog's trace payloads.
    Datadog(fn(&mut AgentPayload, &On<'_>)),
    /// Changes Datadog's stats payloads.
    Stats(fn(&mut StatsPayload, &On<'_>)),
    /// Decides how OTLP requests are delivered.
    OtlpDelivery(fn(&ExportTraceServiceRequest, &On<'_>) -> Delivery),
    /// Decides how Datadog's trace payloads are delivered.
    DatadogDelivery(fn(&AgentPayload, &On<'_>) -> Delivery),
}

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Headers(_) => "Headers",
            Self::Answer(_) => "Answer",
            Self::Otlp(_) => "Otlp",
            Self::Datadog(_) => "Datadog",
            Self::Stats(_) => "Stats",
            Self::OtlpDelivery(_) => "OtlpDelivery",
            Self::DatadogDelivery(_) => "DatadogDelivery",
        })
    }
}

/// Delivery of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Delivers the request once, as its sender intended.
    Once,
    /// Delivers the request twice; the sender gets the second response.
    Twice,
    /// Delivers the request as its sender intended, and once more after this time.
    Again(Duration),
    /// Drops the request, and answers its sender with success.
    Swallow,
    /// Drops the request, and answers its sender with this status.
    Refuse(StatusCode),
}
