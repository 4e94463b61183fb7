//! Fields that were sent around spans and of them beyond their model: for people who look at a single span.

use libdd_trace_protobuf::pb;
use serde_json::{Map, Value, json};

use super::{DEFAULT_MAX_DECODED, DecodeError, Route, encoding, otlp, traces};
use crate::attempt::Attempt;
use harness_core::trace::SpanId;

/// Largest number that a JavaScript program reads from JSON as it is.
const MAX_EXACT: u64 = (1 << 53) - 1;

/// A payload of spans as it was sent.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RawPayload {
    /// Fields that spans share: for Datadog's form payload, tracer payload and chunk without their spans, for OTLP resource and scope.
    pub shared: Vec<Value>,
    /// The spans, in their order.
    pub spans: Vec<RawSpan>,
}

/// A span of a payload.
#[derive(Debug, Clone, PartialEq)]
pub struct RawSpan {
    /// The low half of its trace id.
    pub trace: u64,
    /// Its id.
    pub id: SpanId,
    /// Index in [`RawPayload::shared`] of the part that it is sent with.
    pub shared: usize,
    /// For Datadog's form the fields that the span's model lacks, for OTLP the whole span; null where there is nothing. Integers that a
    /// double cannot hold are texts.
    pub value: Value,
}

/// Reads an attempt's spans as they were sent; empty if it has none or cannot be read.
pub fn raw(attempt: &Attempt) -> RawPayload {
    read(attempt).unwrap_or_default()
}

fn read(attempt: &Attempt) -> Result<RawPayload, DecodeError> {
    let mut raw = RawPayload::default();
    let route = Route::of(&attempt.path).filter(|route| Route::OF_SPANS.contains(route));
    let Some(route) = route else { return Ok(raw) };
    let content = attempt.headers.get("content-encoding").map_or("", String::as_str);
    let body = encoding::decompress(content, &attempt.body, DEFAULT_MAX_DECODED)?;
    match route {
        Route::OtlpTraces => of_otlp(otlp::request(&body, attempt)?.0, &mut raw),
        _ => of_datadog(traces::payload(&body)?.0, &mut raw),
    }
    Ok(raw)
}

fn of_datadog(payload: pb::AgentPayload, raw: &mut RawPayload) {
    let around = json!({
        "hostName": payload.host_name,
        "env": payload.env,
        "agentVersion": payload.agent_version,
        "targetTPS": payload.target_tps,
        "errorTPS": payload.error_tps,
        "rareSamplerEnabled": payload.rare_sampler_enabled,
        "tags": sorted(&payload.tags),
    });
    for tracer in payload.tracer_payloads {
        let of_tracer = json!({
            "containerID": tracer.container_id,
            "languageName": tracer.language_name,
            "languageVersion": tracer.language_version,
            "tracerVersion": tracer.tracer_version,
            "runtimeID": tracer.runtime_id,
            "env": tracer.env,
            "hostname": tracer.hostname,
            "appVersion": tracer.app_version,
            "tags": sorted(&tracer.tags),
        });
        for chunk in tracer.chunks {
            raw.shared.push(json!({
                "agentPayload": around,
                "tracerPayload": of_tracer,
                "chunk": {
                    "priority": chunk.priority,
                    "origin": chunk.origin,
                    "droppedTrace": chunk.dropped_trace,
                    "tags": sorted(&chunk.tags),
                },
            }));
            let shared = raw.shared.len() - 1;
            raw.spans.extend(chunk.spans.iter().map(|span| RawSpan {
                trace: span.trace_id,
                id: SpanId(span.span_id),
                shared,
                value: beyond_the_model(span),
            }));
        }
    }
}

/// The tags by name, so that equal payloads look alike.
fn sorted(tags: &std::collections::HashMap<String, String>) -> Value {
    let sorted: std::collections::BTreeMap<_, _> = tags.iter().collect();
    json!(sorted)
}

fn beyond_the_model(span: &pb::Span) -> Value {
    let mut more = Map::new();
    if !matches!(span.error, 0 | 1) {
        more.insert("error".to_owned(), json!(span.error));
    }
    if !span.span_links.is_empty() {
        more.insert("spanLinks".to_owned(), exact(json!(span.span_links)));
    }
    if !span.span_events.is_empty() {
        more.insert("spanEvents".to_owned(), exact(json!(span.span_events)));
    }
    if !span.meta_struct.is_empty() {
        let sizes = span.meta_struct.iter();
        let sizes =
            sizes.map(|(key, bytes)| (key.clone(), json!(format!("{} bytes", bytes.len()))));
        more.insert("metaStruct".to_owned(), Value::Object(sizes.collect()));
    }
    if more.is_empty() { Value::Null } else { Value::Object(more) }
}

fn of_otlp(
    request: opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest,
    raw: &mut RawPayload,
) {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte));
    for resource in request.resource_spans {
        for scope in resource.scope_spans {
            raw.shared.push(exact(json!({
                "resource": resource.resource,
                "schemaUrl": resource.schema_url,
                "scope": scope.scope,
                "scopeSchemaUrl": scope.schema_url,
            })));
            let shared = raw.shared.len() - 1;
            raw.spans.extend(scope.spans.iter().map(|span| RawSpan {
                trace: number(&span.trace_id),
                id: SpanId(number(&span.span_id)),
                shared,
                value: exact(json!(span)),
            }));
        }
    }
}

/// Writes integers that a double cannot hold as texts.
fn exact(value: Value) -> Value {
    match value {
        Value::Number(number) => match number.as_u64().or(number.as_i64().map(i64::unsigned_abs)) {
            Some(size) if size > MAX_EXACT => Value::String(number.to_string()),
            _ => Value::Number(number),
        },
        Value::Array(values) => values.into_iter().map(exact).collect(),
        Value::Object(map) => map.into_iter().map(|(key, value)| (key, exact(value))).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::attempt::Reply;

    fn attempt(path: &str, content_type: &str, body: Vec<u8>) -> Attempt {
        let headers = [("content-type".to_owned(), content_type.to_owned())];
        Attempt {
            seq: 1,
            received_at: 0,
            method: "POST".to_owned(),
            path: path.to_owned(),
            headers: headers.into(),
            body,
            reply: Reply::Status(202),
        }
    }

    #[test]
    fn a_span_of_datadogs_form_has_what_its_model_lacks() {
        let link = pb::SpanLink { trace_id: u64::MAX, span_id: 7, ..pb::SpanLink::default() };
        let span = |id| pb::Span { trace_id: 5, span_id: id, ..pb::Span::default() };
        let linked = pb::Span { span_links: vec![link], error: 2, ..span(1) };
        let chunk = |spans| pb::TraceChunk { priority: 2, spans, ..pb::TraceChunk::default() };
        let chunks = vec![chunk(vec![linked]), chunk(vec![span(2)])];
        let tracer = pb::TracerPayload {
            language_version: "1.95".to_owned(),
            chunks,
            ..pb::TracerPayload::default()
        };
        let payload =
            pb::AgentPayload { tracer_payloads: vec![tracer], ..pb::AgentPayload::default() };
        let body = payload.encode_to_vec();
        let raw = raw(&attempt("/api/v0.2/traces", "application/x-protobuf", body));
        assert_eq!(raw.shared.len(), 2);
        assert_eq!(raw.shared[1]["tracerPayload"]["languageVersion"], "1.95");
        assert_eq!(raw.shared[0]["chunk"]["priority"], 2);
        let [linked, plain] = raw.spans.as_slice() else { panic!("{raw:?}") };
        assert_eq!((linked.id, linked.trace, plain.shared), (SpanId(1), 5, 1));
        assert_eq!(linked.value["error"], 2);
        assert_eq!(linked.value["spanLinks"][0]["trace_id"], u64::MAX.to_string());
        assert_eq!(plain.value, Value::Null);
    }

    #[test]
    fn an_otlp_span_is_there_as_it_was_sent_and_what_cannot_be_read_is_nothing() {
        let body = br#"{"resourceSpans":[{"resource":{"attributes":[]},"scopeSpans":[{"scope":{"name":"lib"},"spans":[
            {"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"00f067aa0ba902b7","name":"GET /"}]}]}]}"#;
        let raw_of = |body: &[u8]| raw(&attempt("/v1/traces", "application/json", body.to_vec()));
        let raw = raw_of(body);
        assert_eq!(raw.shared[0]["scope"]["name"], "lib");
        assert_eq!(
            (raw.spans[0].id, raw.spans[0].trace),
            (SpanId(0x00f0_67aa_0ba9_02b7), 0x8448_eb21_1c80_319c)
        );
        assert_eq!(raw.spans[0].value["name"], "GET /");
        assert_eq!(raw_of(b"no json"), RawPayload::default());
    }
}
