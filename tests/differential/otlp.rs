//! OTLP's trace messages with bytes in place of strings, so that text which is not UTF-8 can be sent.
//!
//! The tags are those of `opentelemetry/proto/trace/v1/trace.proto` and the files it imports. Their JSON is for the
//! reader of a difference, and is sent too, where nothing in it is beyond JSON.

use std::collections::BTreeSet;

use prost::{Message, Oneof};
use serde_json::{Value as Json, json};

use crate::datadog::readable;

/// Returns whether a sampler's rate may be in a tracestate: it has a member of OpenTelemetry's.
pub(crate) fn may_have_rate(trace_state: &[u8]) -> bool {
    trace_state.windows(3).any(|window| window == b"ot=")
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Request {
    #[prost(message, repeated, tag = "1")]
    pub(crate) resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    pub(crate) resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) scope_spans: Vec<ScopeSpans>,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) schema_url: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub(crate) attributes: Vec<KeyValue>,
    #[prost(uint32, tag = "2")]
    pub(crate) dropped_attributes_count: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    pub(crate) scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) spans: Vec<Span>,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) schema_url: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Scope {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) name: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) version: Vec<u8>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) attributes: Vec<KeyValue>,
    #[prost(uint32, tag = "4")]
    pub(crate) dropped_attributes_count: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Span {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) trace_state: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) parent_span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) name: Vec<u8>,
    #[prost(int32, tag = "6")]
    pub(crate) kind: i32,
    #[prost(fixed64, tag = "7")]
    pub(crate) start: u64,
    #[prost(fixed64, tag = "8")]
    pub(crate) end: u64,
    #[prost(message, repeated, tag = "9")]
    pub(crate) attributes: Vec<KeyValue>,
    #[prost(uint32, tag = "10")]
    pub(crate) dropped_attributes_count: u32,
    #[prost(message, repeated, tag = "11")]
    pub(crate) events: Vec<Event>,
    #[prost(uint32, tag = "12")]
    pub(crate) dropped_events_count: u32,
    #[prost(message, repeated, tag = "13")]
    pub(crate) links: Vec<Link>,
    #[prost(uint32, tag = "14")]
    pub(crate) dropped_links_count: u32,
    #[prost(message, optional, tag = "15")]
    pub(crate) status: Option<Status>,
    #[prost(fixed32, tag = "16")]
    pub(crate) flags: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Event {
    #[prost(fixed64, tag = "1")]
    pub(crate) time: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) name: Vec<u8>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) attributes: Vec<KeyValue>,
    #[prost(uint32, tag = "4")]
    pub(crate) dropped_attributes_count: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Link {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) trace_state: Vec<u8>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) attributes: Vec<KeyValue>,
    #[prost(uint32, tag = "5")]
    pub(crate) dropped_attributes_count: u32,
    #[prost(fixed32, tag = "6")]
    pub(crate) flags: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Status {
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) message: Vec<u8>,
    #[prost(int32, tag = "3")]
    pub(crate) code: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeyValue {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) key: Vec<u8>,
    #[prost(message, optional, tag = "2")]
    pub(crate) value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AnyValue {
    #[prost(oneof = "Value", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub(crate) value: Option<Value>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Value {
    #[prost(bytes = "vec", tag = "1")]
    Text(Vec<u8>),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(int64, tag = "3")]
    Int(i64),
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(message, tag = "5")]
    Array(Array),
    #[prost(message, tag = "6")]
    Map(Map),
    #[prost(bytes = "vec", tag = "7")]
    Bytes(Vec<u8>),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Array {
    #[prost(message, repeated, tag = "1")]
    pub(crate) values: Vec<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Map {
    #[prost(message, repeated, tag = "1")]
    pub(crate) values: Vec<KeyValue>,
}

impl ResourceSpans {
    /// Returns whether it has spans of several traces, distinguished by the lower halves of their ids.
    pub(crate) fn has_several_traces(&self) -> bool {
        let spans = self.scope_spans.iter().flat_map(|scope| &scope.spans);
        let ids: BTreeSet<_> = spans.map(Span::lower_trace_id).collect();
        ids.len() > 1
    }

    /// The spans that have this one's trace id, by its lower half.
    pub(crate) fn trace_of(&self, span: &Span) -> impl Iterator<Item = &Span> {
        let spans = self.scope_spans.iter().flat_map(|scope| &scope.spans);
        spans.filter(|other| other.lower_trace_id() == span.lower_trace_id())
    }

    /// Returns whether the reference has several spans of this one's trace to choose a root from, and takes any.
    pub(crate) fn root_is_random(&self, span: &Span) -> bool {
        let chunk: Vec<_> = self.trace_of(span).collect();
        let mut parents: BTreeSet<_> = chunk.iter().map(|span| &span.parent_span_id).collect();
        if parents.iter().any(|parent| parent.iter().all(|byte| *byte == 0)) {
            return false;
        }
        for span in chunk {
            parents.remove(&span.span_id);
        }
        parents.len() > 1
    }
}

impl Span {
    fn lower_trace_id(&self) -> &[u8] {
        &self.trace_id[self.trace_id.len().saturating_sub(8)..]
    }
}

impl KeyValue {
    pub(crate) fn new(key: impl Into<Vec<u8>>, value: Value) -> Self {
        Self { key: key.into(), value: Some(AnyValue { value: Some(value) }) }
    }

    pub(crate) fn text(key: &str, value: &str) -> Self {
        Self::new(key, Value::Text(value.into()))
    }
}

impl Request {
    /// All spans, with what surrounds them.
    pub(crate) fn spans(&self) -> impl Iterator<Item = (&ResourceSpans, &ScopeSpans, &Span)> {
        self.resource_spans.iter().flat_map(|resource| {
            resource
                .scope_spans
                .iter()
                .flat_map(move |scope| scope.spans.iter().map(move |span| (resource, scope, span)))
        })
    }

    pub(crate) fn spans_mut(&mut self) -> impl Iterator<Item = &mut Span> {
        let scopes = self.resource_spans.iter_mut().flat_map(|resource| &mut resource.scope_spans);
        scopes.flat_map(|scope| &mut scope.spans)
    }

    /// OTLP's JSON; `None` where something cannot be said in it.
    pub(crate) fn to_json(&self) -> Option<String> {
        let mut writer = Writer { exact: true };
        let resources: Vec<_> =
            self.resource_spans.iter().map(|resource| writer.resource(resource)).collect();
        writer.exact.then(|| json!({ "resourceSpans": resources }).to_string())
    }
}

/// One span with its resource and scope, as a request in OTLP's JSON. Bytes that are not UTF-8 are shown as `\xNN`.
pub(crate) fn evidence(resource: &ResourceSpans, scope: &ScopeSpans, span: &Span) -> Json {
    let mut scope = ScopeSpans { spans: Vec::new(), ..scope.clone() };
    scope.spans.push(span.clone());
    let resource = ResourceSpans { scope_spans: vec![scope], ..resource.clone() };
    let mut json = Writer { exact: true }.resource(&resource);
    shorten(&mut json);
    json!({ "resourceSpans": [json] })
}

/// All spans of a resource that have the span's trace id, as a request in OTLP's JSON.
pub(crate) fn trace_evidence(resource: &ResourceSpans, span: &Span) -> Json {
    let mut resource = resource.clone();
    for scope in &mut resource.scope_spans {
        scope.spans.retain(|other| other.trace_id == span.trace_id);
    }
    resource.scope_spans.retain(|scope| !scope.spans.is_empty());
    let mut json = Writer { exact: true }.resource(&resource);
    shorten(&mut json);
    json!({ "resourceSpans": [json] })
}

/// Cuts long text, and says how long it was.
fn shorten(json: &mut Json) {
    match json {
        Json::String(text) if text.len() > 200 => {
            let head: String = text.chars().take(60).collect();
            *text = format!("{head}... ({} bytes)", text.len());
        }
        Json::Array(values) => values.iter_mut().for_each(shorten),
        Json::Object(fields) => fields.values_mut().for_each(shorten),
        _ => {}
    }
}

struct Writer {
    /// Nothing was beyond JSON so far.
    exact: bool,
}

impl Writer {
    fn text(&mut self, bytes: &[u8]) -> Json {
        self.exact &= std::str::from_utf8(bytes).is_ok();
        readable(bytes).into()
    }

    fn resource(&mut self, resource: &ResourceSpans) -> Json {
        let scopes: Vec<_> = resource.scope_spans.iter().map(|scope| self.scope(scope)).collect();
        let mut fields = json!({ "scopeSpans": scopes });
        if let Some(resource) = &resource.resource {
            fields["resource"] = json!({
                "attributes": self.attributes(&resource.attributes),
                "droppedAttributesCount": resource.dropped_attributes_count,
            });
        }
        fields["schemaUrl"] = self.text(&resource.schema_url);
        fields
    }

    fn scope(&mut self, scope: &ScopeSpans) -> Json {
        let spans: Vec<_> = scope.spans.iter().map(|span| self.span(span)).collect();
        let mut fields = json!({ "spans": spans });
        if let Some(scope) = &scope.scope {
            fields["scope"] = json!({
                "name": self.text(&scope.name),
                "version": self.text(&scope.version),
                "attributes": self.attributes(&scope.attributes),
                "droppedAttributesCount": scope.dropped_attributes_count,
            });
        }
        fields["schemaUrl"] = self.text(&scope.schema_url);
        fields
    }

    fn span(&mut self, span: &Span) -> Json {
        let events: Vec<_> = span.events.iter().map(|event| self.event(event)).collect();
        let links: Vec<_> = span.links.iter().map(|link| self.link(link)).collect();
        let mut fields = json!({
            "traceId": hex(&span.trace_id), "spanId": hex(&span.span_id),
            "parentSpanId": hex(&span.parent_span_id),
            "traceState": self.text(&span.trace_state), "name": self.text(&span.name),
            "kind": span.kind, "flags": span.flags,
            "startTimeUnixNano": span.start.to_string(), "endTimeUnixNano": span.end.to_string(),
            "attributes": self.attributes(&span.attributes),
            "droppedAttributesCount": span.dropped_attributes_count,
            "events": events, "droppedEventsCount": span.dropped_events_count,
            "links": links, "droppedLinksCount": span.dropped_links_count,
        });
        if let Some(status) = &span.status {
            fields["status"] =
                json!({ "message": self.text(&status.message), "code": status.code });
        }
        fields
    }

    fn event(&mut self, event: &Event) -> Json {
        json!({
            "timeUnixNano": event.time.to_string(), "name": self.text(&event.name),
            "attributes": self.attributes(&event.attributes),
            "droppedAttributesCount": event.dropped_attributes_count,
        })
    }

    fn link(&mut self, link: &Link) -> Json {
        json!({
            "traceId": hex(&link.trace_id), "spanId": hex(&link.span_id),
            "traceState": self.text(&link.trace_state),
            "attributes": self.attributes(&link.attributes),
            "droppedAttributesCount": link.dropped_attributes_count, "flags": link.flags,
        })
    }

    fn attributes(&mut self, attributes: &[KeyValue]) -> Json {
        attributes.iter().map(|pair| self.key_value(pair)).collect::<Vec<_>>().into()
    }

    fn key_value(&mut self, pair: &KeyValue) -> Json {
        let mut fields = json!({ "key": self.text(&pair.key) });
        if let Some(value) = &pair.value {
            fields["value"] = self.value(value);
        }
        fields
    }

    fn value(&mut self, value: &AnyValue) -> Json {
        match &value.value {
            None => json!({}),
            Some(Value::Text(text)) => json!({ "stringValue": self.text(text) }),
            Some(Value::Bool(value)) => json!({ "boolValue": value }),
            Some(Value::Int(value)) => json!({ "intValue": value.to_string() }),
            Some(Value::Double(value)) if value.is_finite() => json!({ "doubleValue": value }),
            Some(Value::Double(value)) => {
                self.exact = false;
                json!({ "doubleValue": value.to_string() })
            }
            Some(Value::Array(array)) => {
                let values: Vec<_> = array.values.iter().map(|value| self.value(value)).collect();
                json!({ "arrayValue": { "values": values } })
            }
            Some(Value::Map(map)) => {
                json!({ "kvlistValue": { "values": self.attributes(&map.values) } })
            }
            Some(Value::Bytes(bytes)) => {
                use base64::{Engine as _, engine::general_purpose::STANDARD};
                json!({ "bytesValue": STANDARD.encode(bytes) })
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
