//! Helpers that changes share: finding spans in what passes.

use libdd_trace_protobuf::pb::{AgentPayload, Span as DatadogSpan, TraceChunk, TracerPayload};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, Span, span::SpanKind},
};

/// The text of an attribute.
pub(super) fn text<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    let found = attributes.iter().find(|one| one.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

/// Sets an attribute to a text.
pub(super) fn set(attributes: &mut Vec<KeyValue>, key: &str, value: &str) {
    attributes.retain(|one| one.key != key);
    attributes.push(KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) }),
        ..KeyValue::default()
    });
}

/// The service that spans were exported of.
pub(super) fn service(spans: &ResourceSpans) -> &str {
    let attributes = spans.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
    text(attributes, "service.name").unwrap_or_default()
}

/// The resources of a service.
pub(super) fn resources<'a>(
    request: &'a mut ExportTraceServiceRequest,
    of: &'a str,
) -> impl Iterator<Item = &'a mut Resource> {
    let all = request.resource_spans.iter_mut().filter(move |spans| is(service(spans), of));
    all.filter_map(|spans| spans.resource.as_mut())
}

/// The spans of a service.
pub(super) fn spans<'a>(
    request: &'a mut ExportTraceServiceRequest,
    of: &'a str,
) -> impl Iterator<Item = &'a mut Span> {
    let all = request.resource_spans.iter_mut().filter(move |spans| is(service(spans), of));
    all.flat_map(|spans| &mut spans.scope_spans).flat_map(|scope| &mut scope.spans)
}

/// Returns whether a span is of a kind.
pub(super) fn is_kind(span: &Span, kind: SpanKind) -> bool {
    span.kind == kind as i32
}

/// Those of them of a kind.
pub(super) fn of_kind<'a>(
    request: &'a mut ExportTraceServiceRequest,
    of: &'a str,
    kind: SpanKind,
) -> impl Iterator<Item = &'a mut Span> {
    spans(request, of).filter(move |span| span.kind == kind as i32)
}

/// Keeps only the spans of a service that are to be kept; those of others all are.
pub(super) fn retain(
    request: &mut ExportTraceServiceRequest,
    of: &str,
    keep: impl Fn(&Span) -> bool,
) {
    for spans in request.resource_spans.iter_mut().filter(|spans| is(service(spans), of)) {
        for scope in &mut spans.scope_spans {
            scope.spans.retain(&keep);
        }
    }
}

/// Returns whether Datadog's form of a service's name is that of this one: it is put into lower case on its way.
pub(super) fn is(service: &str, of: &str) -> bool {
    !of.is_empty() && service.eq_ignore_ascii_case(of)
}

/// The tracers of a payload that hold spans of a service.
pub(super) fn tracers<'a>(
    payload: &'a mut AgentPayload,
    of: &'a str,
) -> impl Iterator<Item = &'a mut TracerPayload> {
    let holds = move |tracer: &&mut TracerPayload| {
        tracer.chunks.iter().flat_map(|chunk| &chunk.spans).any(|span| is(&span.service, of))
    };
    payload.tracer_payloads.iter_mut().filter(holds)
}

/// The chunks of a payload that hold spans of a service.
pub(super) fn chunks<'a>(
    payload: &'a mut AgentPayload,
    of: &'a str,
) -> impl Iterator<Item = &'a mut TraceChunk> {
    let chunks = payload.tracer_payloads.iter_mut().flat_map(|tracer| &mut tracer.chunks);
    chunks.filter(move |chunk| chunk.spans.iter().any(|span| is(&span.service, of)))
}

/// The spans of a service in a payload.
pub(super) fn datadog_spans<'a>(
    payload: &'a mut AgentPayload,
    of: &'a str,
) -> impl Iterator<Item = &'a mut DatadogSpan> {
    let chunks = payload.tracer_payloads.iter_mut().flat_map(|tracer| &mut tracer.chunks);
    chunks.flat_map(|chunk| &mut chunk.spans).filter(move |span| is(&span.service, of))
}
