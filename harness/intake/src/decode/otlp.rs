//! Traces as OTLP, as Datadog's OTLP intake takes them: an `ExportTraceServiceRequest` becomes Datadog spans.
//!
//! The mapping is that of Datadog's trace agent v0.85.4, as Datadog's own side does it here; where the intake's documentation
//! says otherwise (the span's name is the resource name unless that is switched off), it is followed. What only a Datadog client puts
//! into its payloads (`_top_level`, `_dd.p.dm`, …) is not made up, nor are statements obfuscated: shown is what was sent.

mod naming;
mod place;
mod tags;
mod value;

use std::collections::{BTreeMap, HashSet};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{InstrumentationScope, KeyValue, any_value::Value},
    trace::v1::{ResourceSpans, Span as OtlpSpan, span::SpanKind, status::StatusCode},
};
use prost::Message;
use serde::{Deserialize, Serialize};

use self::value::Attributes;
use super::{DecodeError, lossy};
use crate::attempt::Attempt;
use harness_core::trace::{PayloadForm, Span, SpanId, TraceId};

/// Header that asks Datadog to compute trace metrics from the spans.
const COMPUTE_STATS: &str = "compute_stats";
/// Header with a [`SpanMapping`].
const SPAN_MAPPING: &str = "dd-otel-span-mapping";

/// A decoded OTLP request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OtlpPayload {
    /// Whether Datadog was asked to compute trace metrics (`compute_stats: "true"`); without it there are none.
    pub compute_stats: bool,
    /// Mapping that the request selects for names.
    pub mapping: SpanMapping,
    /// Number of strings that were not UTF-8; their invalid bytes are shown as U+FFFD.
    pub repaired_strings: usize,
    /// Number of spans that Datadog would drop: their trace id or span id is zero, or their root's resource is
    /// ignored.
    pub dropped_spans: usize,
    /// All other spans, in their order.
    pub spans: Vec<Span>,
}

/// The header `dd-otel-span-mapping`: JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpanMapping {
    /// Regular expressions; a trace whose root's resource name fits one is dropped.
    pub ignore_resources: Vec<String>,
    /// Other operation names, by operation name.
    pub span_name_remappings: BTreeMap<String, String>,
    /// Whether the span's name is the resource name.
    pub span_name_as_resource_name: bool,
}

impl Default for SpanMapping {
    fn default() -> Self {
        Self {
            ignore_resources: Vec::new(),
            span_name_remappings: BTreeMap::new(),
            span_name_as_resource_name: true,
        }
    }
}

/// Returns whether an attempt asks Datadog to compute trace metrics.
pub fn computes_stats(attempt: &Attempt) -> bool {
    attempt.headers.get(COMPUTE_STATS).is_some_and(|value| value.trim() == "true")
}

pub(super) fn decode(body: &[u8], attempt: &Attempt) -> Result<OtlpPayload, DecodeError> {
    let mapping: SpanMapping = match attempt.headers.get(SPAN_MAPPING) {
        Some(text) => serde_json::from_str(text).map_err(DecodeError::SpanMapping)?,
        None => SpanMapping::default(),
    };
    let (request, repaired_strings) = request(body, attempt)?;
    let mut payload = OtlpPayload {
        compute_stats: computes_stats(attempt),
        repaired_strings,
        dropped_spans: 0,
        spans: Vec::new(),
        mapping,
    };
    for resource_spans in request.resource_spans {
        resource(resource_spans, attempt.seq, &mut payload)?;
    }
    ignore(&mut payload)?;
    Ok(payload)
}

/// Reads a request by its content type, and how many of its strings were not UTF-8.
pub(super) fn request(
    body: &[u8],
    attempt: &Attempt,
) -> Result<(ExportTraceServiceRequest, usize), DecodeError> {
    let content_type = attempt.headers.get("content-type").map_or("", String::as_str);
    match content_type.split(';').next().unwrap_or("").trim() {
        "application/x-protobuf" => protobuf(body),
        "application/json" => Ok((serde_json::from_slice(body).map_err(DecodeError::Json)?, 0)),
        other => Err(DecodeError::ContentType(other.to_owned())),
    }
}

/// A request, and how many strings in it were not UTF-8: prost refuses a whole message for one, the Collector takes it.
fn protobuf(body: &[u8]) -> Result<(ExportTraceServiceRequest, usize), DecodeError> {
    let error = match ExportTraceServiceRequest::decode(body) {
        Ok(request) => return Ok((request, 0)),
        Err(error) => error,
    };
    match lossy::repair(lossy::Message::OtlpRequest, body) {
        Some((repaired, count)) if count > 0 => {
            let request = ExportTraceServiceRequest::decode(repaired.as_slice());
            Ok((request.map_err(DecodeError::Otlp)?, count))
        }
        _ => Err(DecodeError::Otlp(error)),
    }
}

/// Drops the traces whose root's resource is not wanted, of those whose root is in the request.
fn ignore(payload: &mut OtlpPayload) -> Result<(), DecodeError> {
    if payload.mapping.ignore_resources.is_empty() {
        return Ok(());
    }
    let ignored = regex::RegexSet::new(&payload.mapping.ignore_resources)
        .map_err(DecodeError::IgnoredResource)?;
    let roots = payload.spans.iter().filter(|span| span.parent_id.is_none());
    let traces: HashSet<TraceId> =
        roots.filter(|root| ignored.is_match(&root.resource)).map(|root| root.trace_id).collect();
    let before = payload.spans.len();
    payload.spans.retain(|span| !traces.contains(&span.trace_id));
    payload.dropped_spans += before - payload.spans.len();
    Ok(())
}

fn resource(
    from: ResourceSpans,
    attempt: u64,
    payload: &mut OtlpPayload,
) -> Result<(), DecodeError> {
    let resource = Attributes(from.resource.as_ref().map_or(&[], |resource| &resource.attributes));
    let facts = Facts {
        resource,
        hostname: place::hostname(resource),
        env: naming::tag_value(
            &resource.text(&["deployment.environment.name", "deployment.environment"]),
        ),
        container_id: resource.text(&["container.id"]),
    };
    for scope_spans in &from.scope_spans {
        for span in &scope_spans.spans {
            let ids = (
                id(&span.trace_id, "trace_id", 16)?,
                id(&span.span_id, "span_id", 8)?,
                id(&span.parent_span_id, "parent_span_id", 8)?,
            );
            // Datadog's trace id is the low half; a span without one is none to it.
            if ids.0 as u64 == 0 || ids.1 == 0 {
                payload.dropped_spans += 1;
                continue;
            }
            let scope = scope_spans.scope.as_ref();
            payload.spans.push(facts.span(span, scope, ids, attempt, &payload.mapping));
        }
    }
    Ok(())
}

/// An id's bytes as a number; one that was left out is 0.
fn id(bytes: &[u8], what: &'static str, length: usize) -> Result<u128, DecodeError> {
    if !bytes.is_empty() && bytes.len() != length {
        return Err(DecodeError::IdLength { what, length, got: bytes.len() });
    }
    Ok(bytes.iter().fold(0, |number, byte| number << 8 | u128::from(*byte)))
}

/// Facts that the spans of one resource share.
struct Facts<'a> {
    resource: Attributes<'a>,
    hostname: String,
    env: String,
    container_id: String,
}

impl Facts<'_> {
    fn span(
        &self,
        span: &OtlpSpan,
        scope: Option<&InstrumentationScope>,
        (trace_id, id, parent_id): (u128, u128, u128),
        attempt: u64,
        mapping: &SpanMapping,
    ) -> Span {
        let (trace_id, own) = (TraceId(trace_id), Attributes(&span.attributes));
        let names = naming::Names { span, own, resource: self.resource };
        let (meta, metrics) = tags::of(names, scope, trace_id);
        let start = i64::try_from(span.start_time_unix_nano).unwrap_or(i64::MAX);
        let end = i64::try_from(span.end_time_unix_nano).unwrap_or(i64::MAX);
        let name = names.operation();
        Span {
            trace_id,
            datadog_trace_id: trace_id.low(),
            id: SpanId(id as u64),
            parent_id: (parent_id != 0).then_some(SpanId(parent_id as u64)),
            service: names.service(),
            name: mapping.span_name_remappings.get(&name).cloned().unwrap_or(name),
            resource: names.resource(mapping.span_name_as_resource_name),
            span_type: names.span_type(),
            error: status(span) == StatusCode::Error,
            start,
            duration: end.saturating_sub(start).max(0),
            hostname: self.hostname.clone(),
            env: self.env.clone(),
            container_id: self.container_id.clone(),
            language: String::new(),
            priority: metrics.get("_sampling_priority_v1").map_or(1, |priority| *priority as i32),
            meta,
            metrics,
            dropped: false,
            form: PayloadForm::Otlp,
            attempt,
        }
    }
}

fn status(span: &OtlpSpan) -> StatusCode {
    span.status.as_ref().map_or(StatusCode::Unset, |status| status.code())
}

/// Returns whether the kind is one of those whose spans answer or make a call.
fn is_call(kind: SpanKind) -> bool {
    matches!(kind, SpanKind::Server | SpanKind::Client)
}

/// An attribute's value, where it has one.
fn value_of(attribute: &KeyValue) -> Option<&Value> {
    attribute.value.as_ref()?.value.as_ref()
}

#[cfg(test)]
mod tests;
