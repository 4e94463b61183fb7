//! Single spans as a collector's ledger shows them: as they came to it in OTLP, and as it sent them in Datadog's form.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use harness_core::trace::SpanId;
use libdd_trace_protobuf::pb;
use opentelemetry_proto::tonic::{
    common::v1::any_value::Value,
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use prost::Message;
use serde::{Deserialize, Serialize};

/// A span as it came to a collector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TakenSpan {
    /// Its id.
    pub id: SpanId,
    /// Its parent's.
    pub parent_id: Option<SpanId>,
    /// OpenTelemetry's span name.
    pub name: String,
    /// `server`, `client`, …; empty where it is not set.
    pub kind: String,
    /// Nanoseconds since the Unix epoch.
    pub start: u64,
    /// Nanoseconds since the Unix epoch.
    pub end: u64,
    /// `unset`, `ok` or `error`.
    pub status: String,
    /// Text of each attribute; `None` of lists and maps.
    pub attributes: BTreeMap<String, Option<String>>,
    /// Number of the span's events.
    pub events: usize,
    /// Number of the span's links.
    pub links: usize,
}

/// A span as a collector sent it to Datadog.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SentSpan {
    /// `Span.spanID`.
    pub id: SpanId,
    /// `Span.parentID`; `None` for 0.
    pub parent_id: Option<SpanId>,
    /// `Span.service`.
    pub service: String,
    /// `Span.name`.
    pub name: String,
    /// `Span.resource`.
    pub resource: String,
    /// `Span.type`.
    #[serde(rename = "type")]
    pub span_type: String,
    /// `Span.error` is not 0.
    pub error: bool,
    /// `Span.start`: nanoseconds since the Unix epoch.
    pub start: i64,
    /// `Span.duration`: nanoseconds.
    pub duration: i64,
    /// `Span.meta`.
    pub meta: BTreeMap<String, String>,
    /// `Span.metrics`.
    pub metrics: BTreeMap<String, f64>,
}

fn id(bytes: &[u8]) -> Option<SpanId> {
    Some(SpanId(u64::from_be_bytes(bytes.try_into().ok()?))).filter(|id| id.0 != 0)
}

impl TakenSpan {
    /// Reads a message of OTLP in Base64; `None` where it is none, or its texts are not UTF-8.
    pub fn read(message: &str) -> Option<Self> {
        let span = Span::decode(STANDARD.decode(message).ok()?.as_slice()).ok()?;
        let kind = match span.kind() {
            SpanKind::Unspecified => "",
            SpanKind::Internal => "internal",
            SpanKind::Server => "server",
            SpanKind::Client => "client",
            SpanKind::Producer => "producer",
            SpanKind::Consumer => "consumer",
        };
        let status = match span.status.as_ref().map_or(StatusCode::Unset, |status| status.code()) {
            StatusCode::Unset => "unset",
            StatusCode::Ok => "ok",
            StatusCode::Error => "error",
        };
        let attributes = span.attributes.into_iter().map(|one| {
            let text = match one.value.and_then(|value| value.value) {
                Some(Value::StringValue(text)) => Some(text),
                Some(Value::BoolValue(value)) => Some(value.to_string()),
                Some(Value::IntValue(value)) => Some(value.to_string()),
                Some(Value::DoubleValue(value)) => Some(value.to_string()),
                _ => None,
            };
            (one.key, text)
        });
        Some(Self {
            id: id(&span.span_id)?,
            parent_id: id(&span.parent_span_id),
            name: span.name,
            kind: kind.to_owned(),
            start: span.start_time_unix_nano,
            end: span.end_time_unix_nano,
            status: status.to_owned(),
            attributes: attributes.collect(),
            events: span.events.len(),
            links: span.links.len(),
        })
    }
}

impl SentSpan {
    /// Reads a message of Datadog's in Base64; `None` where it is none, or its texts are not UTF-8.
    pub fn read(message: &str) -> Option<Self> {
        let span = pb::Span::decode(STANDARD.decode(message).ok()?.as_slice()).ok()?;
        Some(Self {
            id: SpanId(span.span_id),
            parent_id: (span.parent_id != 0).then_some(SpanId(span.parent_id)),
            service: span.service,
            name: span.name,
            resource: span.resource,
            span_type: span.r#type,
            error: span.error != 0,
            start: span.start,
            duration: span.duration,
            meta: span.meta.into_iter().collect(),
            metrics: span.metrics.into_iter().collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::{
        common::v1::{AnyValue, ArrayValue, KeyValue},
        trace::v1::{Status, span::Event},
    };

    use super::*;

    #[test]
    fn a_span_is_read_as_it_came_and_as_it_was_sent() {
        let of = |key: &str, value: Value| KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue { value: Some(value) }),
            ..KeyValue::default()
        };
        let span = Span {
            span_id: 7_u64.to_be_bytes().to_vec(),
            name: "GET".to_owned(),
            kind: SpanKind::Client as i32,
            status: Some(Status { code: StatusCode::Error as i32, ..Status::default() }),
            attributes: vec![
                of("a", Value::IntValue(3)),
                of("b", Value::ArrayValue(ArrayValue::default())),
            ],
            events: vec![Event::default()],
            ..Span::default()
        };
        let read = TakenSpan::read(&STANDARD.encode(span.encode_to_vec())).unwrap();
        assert_eq!(
            (read.id, read.kind.as_str(), read.status.as_str()),
            (SpanId(7), "client", "error")
        );
        assert_eq!((read.events, read.links, read.attributes["a"].as_deref()), (1, 0, Some("3")));
        assert_eq!(read.attributes["b"], None);
        let span = pb::Span { span_id: 7, error: 1, r#type: "http".into(), ..pb::Span::default() };
        let read = SentSpan::read(&STANDARD.encode(span.encode_to_vec())).unwrap();
        assert_eq!((read.id, read.parent_id, read.error), (SpanId(7), None, true));
        assert_eq!((TakenSpan::read("?"), SentSpan::read("AQ==")), (None, None));
    }
}
