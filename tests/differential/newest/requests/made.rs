//! Sound requests in each encoding, and how they are sent.

use axum::http::Method;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList, any_value::Value,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use serde_json::{Value as Json, json};

pub(super) type Request = ExportTraceServiceRequest;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Json,
    Protobuf,
    Grpc,
}

/// A request of HTTP.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
}

/// A request, and what is odd about it.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) number: usize,
    pub(super) transport: Transport,
    pub(super) oddities: Vec<&'static str>,
    pub(super) call: Call,
}

impl Case {
    /// The transport and the oddities.
    pub(super) fn name(&self) -> String {
        format!("{:?}: {}", self.transport, self.oddities.join(" and "))
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Call { method, path, headers, body } = &self.call;
        let head = &body[..body.len().min(1_500)];
        let body = String::from_utf8_lossy(head);
        write!(out, "request {}: {method} {path} {headers:?} {body:?}", self.number)
    }
}

impl Transport {
    /// A sound request with this body.
    pub(super) fn call(self, body: Vec<u8>) -> Call {
        let (path, kind, body) = match self {
            Self::Json => ("/v1/traces", "application/json", body),
            Self::Protobuf => ("/v1/traces", "application/x-protobuf", body),
            Self::Grpc => (
                "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
                "application/grpc",
                framed(0, &body),
            ),
        };
        let mut headers = vec![("content-type", kind.to_owned())];
        if self == Self::Grpc {
            headers.push(("te", "trailers".to_owned()));
        }
        Call { method: Method::POST, path: path.to_owned(), headers, body }
    }
}

impl Call {
    /// Sets a header, or takes it away.
    pub(super) fn set(&mut self, name: &'static str, value: &str) {
        self.headers.retain(|(other, _)| *other != name);
        if !value.is_empty() {
            self.headers.push((name, value.to_owned()));
        }
    }
}

/// A message as gRPC sends it, behind a flag and its length.
pub(super) fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[flag][..], &length.to_be_bytes(), message].concat()
}

/// A request of several resources, scopes and spans.
pub(super) fn request(random: &mut StdRng) -> Request {
    let resource_spans = (0..random.random_range(1..=3)).map(|_| ResourceSpans {
        resource: Some(Resource {
            attributes: attributes(random, 2),
            dropped_attributes_count: random.random_range(0..3),
            entity_refs: Vec::new(),
        }),
        scope_spans: (0..random.random_range(1..=2))
            .map(|_| ScopeSpans {
                scope: Some(InstrumentationScope {
                    name: word(random),
                    version: word(random),
                    attributes: attributes(random, 1),
                    dropped_attributes_count: random.random_range(0..3),
                }),
                spans: (0..random.random_range(1..=3)).map(|_| span(random)).collect(),
                schema_url: word(random),
            })
            .collect(),
        schema_url: word(random),
    });
    Request { resource_spans: resource_spans.collect() }
}

fn span(random: &mut StdRng) -> Span {
    let start = 1_700_000_000_000_000_000 + random.random_range(0..1_000_000_000_000);
    Span {
        trace_id: random.random::<[u8; 16]>().to_vec(),
        span_id: random.random::<[u8; 8]>().to_vec(),
        trace_state: (*["", "k=v", "ot=th:8,k=v"].choose(random).unwrap()).to_owned(),
        parent_span_id: match random.random() {
            true => Vec::new(),
            false => random.random::<[u8; 8]>().to_vec(),
        },
        flags: *[0, 1, 0x100, 0x301].choose(random).unwrap(),
        name: word(random),
        kind: random.random_range(0..=5),
        start_time_unix_nano: start,
        end_time_unix_nano: start + random.random_range(0..1_000_000),
        attributes: attributes(random, 3),
        dropped_attributes_count: random.random_range(0..3),
        events: (0..random.random_range(0..=1))
            .map(|_| Event {
                time_unix_nano: start,
                name: word(random),
                attributes: attributes(random, 1),
                dropped_attributes_count: random.random_range(0..3),
            })
            .collect(),
        dropped_events_count: random.random_range(0..3),
        links: (0..random.random_range(0..=1))
            .map(|_| Link {
                trace_id: random.random::<[u8; 16]>().to_vec(),
                span_id: random.random::<[u8; 8]>().to_vec(),
                trace_state: word(random),
                attributes: attributes(random, 1),
                dropped_attributes_count: random.random_range(0..3),
                flags: random.random_range(0..2),
            })
            .collect(),
        dropped_links_count: random.random_range(0..3),
        status: Some(Status { message: word(random), code: random.random_range(0..=2) }),
    }
}

fn word(random: &mut StdRng) -> String {
    (*["", "a", "two words", "naïve ☃", "\u{1F980}\n\t\"\\", "https://x/y"].choose(random).unwrap())
        .to_owned()
}

fn attributes(random: &mut StdRng, most: usize) -> Vec<KeyValue> {
    let count = random.random_range(0..=most);
    (0..count).map(|number| pair(&format!("{}{number}", word(random)), value(random, 2))).collect()
}

pub(super) fn pair(key: &str, value: Value) -> KeyValue {
    let value = Some(AnyValue { value: Some(value) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

fn value(random: &mut StdRng, depth: usize) -> Value {
    match random.random_range(0..if depth == 0 { 5 } else { 7 }) {
        0 => Value::StringValue(word(random)),
        1 => Value::BoolValue(random.random()),
        2 => Value::IntValue(*[0, -1, i64::MAX, i64::MIN, 42].choose(random).unwrap()),
        3 => Value::DoubleValue(*[0.0, -1.5, 1e300, 5e-324, 3.0, 0.1].choose(random).unwrap()),
        4 => Value::BytesValue((0..random.random_range(0..5)).map(|_| random.random()).collect()),
        5 => Value::ArrayValue(ArrayValue {
            values: (0..random.random_range(0..3))
                .map(|_| AnyValue { value: Some(value(random, depth - 1)) })
                .collect(),
        }),
        _ => Value::KvlistValue(KeyValueList {
            values: (0..random.random_range(0..3))
                .map(|number| pair(&format!("k{number}"), value(random, depth - 1)))
                .collect(),
        }),
    }
}

/// A request in OTLP's JSON.
pub(super) fn to_json(request: &Request) -> Json {
    let resources = request.resource_spans.iter().map(|resource| {
        let scopes = resource.scope_spans.iter().map(|scope| {
            let spans: Vec<_> = scope.spans.iter().map(span_json).collect();
            let mut json = json!({ "spans": spans, "schemaUrl": scope.schema_url });
            if let Some(scope) = &scope.scope {
                json["scope"] = json!({
                    "name": scope.name, "version": scope.version,
                    "attributes": attributes_json(&scope.attributes),
                    "droppedAttributesCount": scope.dropped_attributes_count,
                });
            }
            json
        });
        let mut json =
            json!({ "scopeSpans": scopes.collect::<Vec<_>>(), "schemaUrl": resource.schema_url });
        if let Some(resource) = &resource.resource {
            json["resource"] = json!({
                "attributes": attributes_json(&resource.attributes),
                "droppedAttributesCount": resource.dropped_attributes_count,
                "entityRefs": resource.entity_refs.iter().map(entity_json).collect::<Vec<_>>(),
            });
        }
        json
    });
    json!({ "resourceSpans": resources.collect::<Vec<_>>() })
}

fn entity_json(entity: &EntityRef) -> Json {
    json!({
        "schemaUrl": entity.schema_url, "type": entity.r#type, "idKeys": entity.id_keys,
        "descriptionKeys": entity.description_keys,
    })
}

fn span_json(span: &Span) -> Json {
    let events = span.events.iter().map(|event| {
        json!({
            "timeUnixNano": event.time_unix_nano.to_string(), "name": event.name,
            "attributes": attributes_json(&event.attributes),
            "droppedAttributesCount": event.dropped_attributes_count,
        })
    });
    let links = span.links.iter().map(|link| {
        json!({
            "traceId": hex(&link.trace_id), "spanId": hex(&link.span_id),
            "traceState": link.trace_state, "attributes": attributes_json(&link.attributes),
            "droppedAttributesCount": link.dropped_attributes_count, "flags": link.flags,
        })
    });
    let mut json = json!({
        "traceId": hex(&span.trace_id), "spanId": hex(&span.span_id),
        "parentSpanId": hex(&span.parent_span_id), "traceState": span.trace_state,
        "flags": span.flags, "name": span.name, "kind": span.kind,
        "startTimeUnixNano": span.start_time_unix_nano.to_string(),
        "endTimeUnixNano": span.end_time_unix_nano.to_string(),
        "attributes": attributes_json(&span.attributes),
        "droppedAttributesCount": span.dropped_attributes_count,
        "events": events.collect::<Vec<_>>(), "droppedEventsCount": span.dropped_events_count,
        "links": links.collect::<Vec<_>>(), "droppedLinksCount": span.dropped_links_count,
    });
    if let Some(status) = &span.status {
        json["status"] = json!({ "message": status.message, "code": status.code });
    }
    json
}

fn attributes_json(attributes: &[KeyValue]) -> Json {
    let pairs = attributes.iter().map(|pair| {
        let mut json = json!({ "key": pair.key });
        if let Some(value) = &pair.value {
            json["value"] = value_json(value);
        }
        json
    });
    pairs.collect::<Vec<_>>().into()
}

fn value_json(value: &AnyValue) -> Json {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    match &value.value {
        Some(Value::StringValue(text)) => json!({ "stringValue": text }),
        Some(Value::BoolValue(is)) => json!({ "boolValue": is }),
        Some(Value::IntValue(number)) => json!({ "intValue": number.to_string() }),
        Some(Value::DoubleValue(number)) if number.is_finite() => json!({ "doubleValue": number }),
        Some(Value::DoubleValue(number)) if number.is_nan() => json!({ "doubleValue": "NaN" }),
        Some(Value::DoubleValue(number)) if *number > 0.0 => json!({ "doubleValue": "Infinity" }),
        Some(Value::DoubleValue(_)) => json!({ "doubleValue": "-Infinity" }),
        Some(Value::ArrayValue(array)) => {
            let values: Vec<_> = array.values.iter().map(value_json).collect();
            json!({ "arrayValue": { "values": values } })
        }
        Some(Value::KvlistValue(list)) => {
            json!({ "kvlistValue": { "values": attributes_json(&list.values) } })
        }
        Some(Value::BytesValue(bytes)) => json!({ "bytesValue": STANDARD.encode(bytes) }),
        Some(Value::StringValueStrindex(_)) | None => json!({}),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
