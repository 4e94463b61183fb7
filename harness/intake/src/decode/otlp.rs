//! Traces as OTLP, as Datadog's OTLP intake takes them: an `ExportTraceServiceRequest` becomes Datadog spans.
//!
//! The mapping is the one that was measured on the reference exporter v0.155.0, as Datadog's own side does it here; where the
//! intake's documentation says otherwise (the span's name is the resource name unless told not to), it is followed. What only a
//! Datadog client puts into its payloads (`_top_level`, `_dd.p.dm`, …) is not made up, nor are statements obfuscated.

mod naming;
mod value;

use std::collections::{BTreeMap, HashSet};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{InstrumentationScope, KeyValue, any_value::Value},
    trace::v1::{ResourceSpans, Span as OtlpSpan, span::SpanKind, status::StatusCode},
};
use prost::Message;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use self::value::{Attributes, json_object, text};
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
    /// How names were to be made.
    pub mapping: SpanMapping,
    /// How many strings were not UTF-8; in these the broken bytes are shown as U+FFFD.
    pub repaired_strings: usize,
    /// How many spans Datadog would drop: their trace id or span id is zero, or their root's resource is ignored.
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

/// Whether an attempt asks Datadog to compute trace metrics.
pub fn computes_stats(attempt: &Attempt) -> bool {
    attempt.headers.get(COMPUTE_STATS).is_some_and(|value| value.trim() == "true")
}

pub(super) fn decode(body: &[u8], attempt: &Attempt) -> Result<OtlpPayload, DecodeError> {
    let mapping: SpanMapping = match attempt.headers.get(SPAN_MAPPING) {
        Some(text) => serde_json::from_str(text).map_err(DecodeError::SpanMapping)?,
        None => SpanMapping::default(),
    };
    let content_type = attempt.headers.get("content-type").map_or("", String::as_str);
    let mut repaired_strings = 0;
    let request = match content_type.split(';').next().unwrap_or("").trim() {
        "application/x-protobuf" => {
            let (request, repaired) = protobuf(body)?;
            repaired_strings = repaired;
            request
        }
        "application/json" => serde_json::from_slice(body).map_err(DecodeError::Json)?,
        other => return Err(DecodeError::ContentType(other.to_owned())),
    };
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
        hostname: hostname(resource),
        env: resource.text(&["deployment.environment.name", "deployment.environment"]),
        container_id: resource.text(&["container.id", "k8s.pod.uid"]),
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

/// The host that Datadog would show; the order of the reference exporter, without its rules for hosts in the cloud that need
/// more than one attribute.
fn hostname(resource: Attributes<'_>) -> String {
    let own = resource.text(&["host", "datadog.host.name"]);
    if !own.is_empty() {
        return own;
    }
    match resource.text(&["cloud.provider"]).as_str() {
        "aws" | "azure" => resource.text(&["host.id"]),
        "gcp" => resource.text(&["host.name"]),
        _ => {
            let node = resource.text(&["k8s.node.name"]);
            let cluster = resource.text(&["k8s.cluster.name"]);
            match (node.is_empty(), cluster.is_empty()) {
                (true, _) => resource.text(&["host.id", "host.name"]),
                (false, true) => node,
                (false, false) => format!("{node}-{cluster}"),
            }
        }
    }
}

/// What the spans of one resource share.
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
        let (mut meta, metrics) = self.tags(own, scope);
        self.add_meta(span, trace_id, &mut meta);
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
            meta,
            metrics,
            hostname: self.hostname.clone(),
            env: self.env.clone(),
            container_id: self.container_id.clone(),
            priority: own.integer("sampling.priority").map_or(1, |priority| priority as i32),
            dropped: false,
            form: PayloadForm::Otlp,
            attempt,
        }
    }

    /// The attributes: the span's before the resource's, whose values are always text; the scope's last.
    fn tags(
        &self,
        own: Attributes<'_>,
        scope: Option<&InstrumentationScope>,
    ) -> (BTreeMap<String, String>, BTreeMap<String, f64>) {
        let (mut meta, mut metrics) = (BTreeMap::new(), BTreeMap::new());
        for (key, value) in self.resource.iter() {
            if let Some(key) = tag_name(key) {
                meta.insert(key, text(value));
            }
        }
        for (key, value) in own.iter() {
            let Some(key) = tag_name(key) else { continue };
            let number = match value {
                Value::IntValue(number) => Some(*number as f64),
                Value::DoubleValue(number) => Some(*number),
                _ => None,
            };
            match number {
                Some(number) => {
                    meta.remove(&key);
                    metrics.insert(key, number);
                }
                None => {
                    meta.insert(key, text(value));
                }
            }
        }
        let Some(scope) = scope else { return (meta, metrics) };
        for (key, value) in Attributes(&scope.attributes).iter() {
            if let Some(key) = tag_name(key) {
                meta.insert(key, text(value));
            }
        }
        for (key, value) in
            [("otel.library.name", &scope.name), ("otel.library.version", &scope.version)]
        {
            if !value.is_empty() {
                meta.insert(key.to_owned(), value.clone());
            }
        }
        (meta, metrics)
    }

    /// What a span says of itself beyond its attributes.
    fn add_meta(&self, span: &OtlpSpan, trace_id: TraceId, meta: &mut BTreeMap<String, String>) {
        let mut add = |key: &str, value: String| {
            if !value.is_empty() {
                meta.insert(key.to_owned(), value);
            }
        };
        add("otel.trace_id", trace_id.to_string());
        add("span.kind", naming::kind_name(span.kind()).to_owned());
        add("env", self.env.clone());
        add("version", self.resource.text(&["service.version"]));
        let namespace = Attributes(&span.attributes).text(&["db.namespace"]);
        add("db.name", namespace);
        add("w3c.tracestate", span.trace_state.clone());
        let status_code = match status(span) {
            StatusCode::Unset => "Unset",
            StatusCode::Ok => "Ok",
            StatusCode::Error => "Error",
        };
        add("otel.status_code", status_code.to_owned());
        let message = span.status.as_ref().map_or("", |status| &status.message).to_owned();
        if status(span) == StatusCode::Error {
            let error = if message.is_empty() { http_error(span) } else { message.clone() };
            add("error.msg", error);
        }
        add("otel.status_description", message);
        if span.events.iter().any(|event| event.name == "exception") {
            add("_dd.span_events.has_exception", "true".to_owned());
        }
        add("events", events(span));
        add("_dd.span_links", links(span));
    }
}

fn status(span: &OtlpSpan) -> StatusCode {
    span.status.as_ref().map_or(StatusCode::Unset, |status| status.code())
}

/// An HTTP status that is told as text, with its words: what an error without a message is shown by.
fn http_error(span: &OtlpSpan) -> String {
    let code = Attributes(&span.attributes).text(&["http.status_code"]);
    let known = code.parse().ok().and_then(|code| http::StatusCode::from_u16(code).ok());
    match known.and_then(|status| status.canonical_reason()) {
        Some(words) => format!("{code} {words}"),
        None => code,
    }
}

/// The events as JSON; empty where there are none.
fn events(span: &OtlpSpan) -> String {
    list(span.events.iter().map(|event| {
        without_empty(json!({
            "time_unix_nano": event.time_unix_nano,
            "name": event.name,
            "attributes": json_object(&event.attributes),
            "dropped_attributes_count": event.dropped_attributes_count,
        }))
    }))
}

/// The links as JSON; empty where there are none.
fn links(span: &OtlpSpan) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    list(span.links.iter().map(|link| {
        let attributes = Attributes(&link.attributes).iter();
        let attributes = attributes.map(|(key, value)| (key.to_owned(), text(value).into()));
        without_empty(json!({
            "trace_id": hex(&link.trace_id),
            "span_id": hex(&link.span_id),
            "tracestate": link.trace_state,
            "attributes": attributes.collect::<serde_json::Map<_, _>>(),
            "dropped_attributes_count": link.dropped_attributes_count,
        }))
    }))
}

/// An object without the members that say nothing.
fn without_empty(mut object: Json) -> Json {
    if let Json::Object(members) = &mut object {
        members
            .retain(|_, value| !(*value == json!(0) || *value == json!("") || *value == json!({})));
    }
    object
}

fn list(values: impl Iterator<Item = Json>) -> String {
    let values: Vec<Json> = values.collect();
    if values.is_empty() { String::new() } else { Json::Array(values).to_string() }
}

/// The tag that an attribute becomes; `None` for those that name the span.
fn tag_name(key: &str) -> Option<String> {
    if let Some(header) = key.strip_prefix("http.request.header.")
        && header != "referrer"
    {
        return Some(format!("http.request.headers.{header}"));
    }
    let name = match key {
        "service.name" | "operation.name" | "resource.name" | "span.type" => return None,
        "client.address" => "http.client_ip",
        "http.response.body.size" => "http.response.content_length",
        "http.response.status_code" => "http.status_code",
        "http.request.body.size" => "http.request.content_length",
        "http.request.header.referrer" => "http.referrer",
        "http.request.method" => "http.method",
        "network.protocol.version" => "http.version",
        "server.address" => "http.server_name",
        "url.full" => "http.url",
        "user_agent.original" => "http.useragent",
        other => other,
    };
    Some(name.to_owned())
}

/// Whether the kind is one of those whose spans answer or make a call.
fn is_call(kind: SpanKind) -> bool {
    matches!(kind, SpanKind::Server | SpanKind::Client)
}

/// An attribute's value, where it has one.
fn value_of(attribute: &KeyValue) -> Option<&Value> {
    attribute.value.as_ref()?.value.as_ref()
}

#[cfg(test)]
mod tests;
