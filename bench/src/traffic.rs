//! Traffic to send: OTLP requests, encoded once, whose ids are replaced each time one is sent.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{
    ResourceSpans, ScopeSpans, Span, Status, status::StatusCode,
};
use prost::Message as _;

/// The form of the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) spans_per_request: usize,
    pub(crate) spans_per_trace: usize,
    pub(crate) attributes: usize,
    /// Resources in a request, each a service of its own.
    pub(crate) services: usize,
    /// Distinct resources of servers and clients, each a group of APM stats of its own; an even number, or 1 for the usual two.
    pub(crate) groups: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Self { spans_per_request: 100, spans_per_trace: 10, attributes: 10, services: 1, groups: 1 }
    }
}

impl Shape {
    /// One dimension at a time, the others as usual.
    pub(crate) fn scale() -> Vec<(String, Self)> {
        let usual = Self { spans_per_request: 1000, ..Self::default() };
        let mut shapes = Vec::new();
        for attributes in [1, 10, 32, 128] {
            shapes.push((format!("{attributes} attributes"), Self { attributes, ..usual }));
        }
        for spans in [1, 10, 100, 1000, 10_000] {
            let spans_per_request = usual.spans_per_request.max(spans);
            let shape = Self { spans_per_trace: spans, spans_per_request, ..usual };
            shapes.push((format!("{spans} spans in a trace"), shape));
        }
        for services in [1, 10, 100] {
            shapes.push((format!("{services} services in a request"), Self { services, ..usual }));
        }
        for groups in [10, 100, 1000, 10_000, 50_000, 100_000] {
            shapes.push((format!("{groups} groups of stats"), Self { groups, ..usual }));
        }
        shapes
    }
}

/// Requests of one shape.
pub(crate) struct Traffic {
    pub(crate) spans_per_request: usize,
    requests: Vec<Request>,
}

struct Request {
    bytes: Vec<u8>,
    /// Positions of ids of eight bytes; a trace id is two of them.
    ids: Vec<usize>,
}

impl Traffic {
    pub(crate) fn new(shape: Shape) -> Self {
        let mut random = Random(7);
        // Fewer distinct ones where each is large.
        let pool = (64_000 / shape.spans_per_request)
            .clamp(8, 64)
            .max(shape.groups.div_ceil(groups_in(shape.spans_per_request)));
        let requests = (0..pool).map(|index| Request::new(shape, index, &mut random)).collect();
        Self { spans_per_request: shape.spans_per_request, requests }
    }

    /// The mean number of bytes of a span.
    pub(crate) fn bytes_per_span(&self) -> f64 {
        let bytes: usize = self.requests.iter().map(|request| request.bytes.len()).sum();
        bytes as f64 / (self.requests.len() * self.spans_per_request) as f64
    }

    /// A request without new ids.
    pub(crate) fn plain(&self, number: usize) -> &[u8] {
        &self.requests[number % self.requests.len()].bytes
    }

    /// The request of this number as a gRPC message. Its ids are its own, and linked as they were.
    pub(crate) fn message(&self, number: u64) -> Vec<u8> {
        let request = &self.requests[number as usize % self.requests.len()];
        let mut out = Vec::with_capacity(request.bytes.len() + 5);
        out.push(0);
        out.extend_from_slice(&(request.bytes.len() as u32).to_be_bytes());
        out.extend_from_slice(&request.bytes);
        let mask = mask(number);
        for at in &request.ids {
            let id = &mut out[at + 5..at + 13];
            for (byte, mask) in id.iter_mut().zip(mask) {
                *byte ^= mask;
            }
        }
        out
    }

    /// The low half of the trace ids in the request of this number.
    pub(crate) fn trace_ids(&self, number: u64) -> Vec<u64> {
        let message = self.message(number);
        let request = ExportTraceServiceRequest::decode(&message[5..]).unwrap_or_default();
        let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
        let id =
            |span: &Span| span.trace_id[8..].try_into().map(u64::from_be_bytes).unwrap_or_default();
        let mut ids: Vec<u64> = scopes.flat_map(|scope| &scope.spans).map(id).collect();
        ids.dedup();
        ids
    }
}

/// How many groups of stats the spans of a request are in at most: two of three spans have one each.
fn groups_in(spans: usize) -> usize {
    2 * spans.div_ceil(3)
}

fn mask(number: u64) -> [u8; 8] {
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1).to_be_bytes()
}

impl Request {
    fn new(shape: Shape, index: usize, random: &mut Random) -> Self {
        let message = message(shape, index, random);
        let bytes = message.encode_to_vec();
        let mut ids = Vec::new();
        let scopes = message.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
        // Spans are encoded in this order, so each id is found behind the one before it.
        let mut from = 0;
        for span in scopes.flat_map(|scope| &scope.spans) {
            let mut find = |id: &[u8]| {
                let at = bytes[from..].windows(id.len()).position(|part| part == id);
                let at = from + at.unwrap_or_default();
                from = at + id.len();
                at
            };
            let trace = find(&span.trace_id);
            ids.extend([trace, trace + 8, find(&span.span_id)]);
            if !span.parent_span_id.is_empty() {
                ids.push(find(&span.parent_span_id));
            }
        }
        Self { bytes, ids }
    }
}

/// A third each: server spans of HTTP, internal ones, and clients of a database.
fn message(shape: Shape, request: usize, random: &mut Random) -> ExportTraceServiceRequest {
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let now = now.as_nanos() as u64;
    let (mut trace, mut parent) = (Vec::new(), Vec::new());
    let mut spans = Vec::new();
    for index in 0..shape.spans_per_request {
        if index % shape.spans_per_trace == 0 {
            trace = [random.next().to_be_bytes(), random.next().to_be_bytes()].concat();
            parent = Vec::new();
        }
        let span_id = random.next().to_be_bytes().to_vec();
        let (kind, mut name, mut attributes) = attributes(index, random);
        // Inner spans are in no stats. Servers have the even numbers, so that none is one of both.
        if shape.groups > 1 && kind != SpanKind::Internal {
            let number =
                request * groups_in(shape.spans_per_request) + index / 3 * 2 + index % 3 / 2;
            let number = number % shape.groups;
            // In one word, of which no number is taken out as a query's literal.
            attributes.insert(0, text("resource.name", &format!("operation_{number}")));
            name = "numbered";
        }
        for extra in attributes.len()..shape.attributes {
            attributes.push(text(
                &format!("app.attribute.{extra}"),
                &format!("value {}", random.below(100)),
            ));
        }
        attributes.truncate(shape.attributes);
        let failed = index % 97 == 0;
        spans.push(Span {
            trace_id: trace.clone(),
            span_id: span_id.clone(),
            parent_span_id: std::mem::replace(&mut parent, span_id),
            name: name.into(),
            kind: kind.into(),
            start_time_unix_nano: now,
            end_time_unix_nano: now + (1 + random.below(50)) * 1_000_000,
            attributes,
            status: failed
                .then(|| Status { message: "boom".into(), code: StatusCode::Error.into() }),
            ..Span::default()
        });
    }
    let share = spans.len().div_ceil(shape.services);
    let resource_spans = spans.chunks(share).enumerate().map(|(index, spans)| ResourceSpans {
        resource: Some(Resource { attributes: resource(index), ..Resource::default() }),
        scope_spans: vec![ScopeSpans {
            scope: Some(InstrumentationScope {
                name: "io.opentelemetry.tomcat-10.0".into(),
                version: "2.6.0".into(),
                ..InstrumentationScope::default()
            }),
            spans: spans.to_vec(),
            ..ScopeSpans::default()
        }],
        ..ResourceSpans::default()
    });
    ExportTraceServiceRequest { resource_spans: resource_spans.collect() }
}

fn resource(service: usize) -> Vec<KeyValue> {
    let name = if service == 0 { "checkout".into() } else { format!("checkout-{service}") };
    vec![
        text("service.name", &name),
        text("service.version", "1.4.2"),
        text("deployment.environment", "prod"),
        text("host.name", "node-1"),
        text("k8s.pod.name", "checkout-abc"),
        text("k8s.namespace.name", "shop"),
        text("container.id", &"c0ffee00".repeat(8)),
        text("telemetry.sdk.language", "java"),
        text("telemetry.sdk.version", "1.40.0"),
    ]
}

fn attributes(index: usize, random: &mut Random) -> (SpanKind, &'static str, Vec<KeyValue>) {
    match index % 3 {
        0 => (
            SpanKind::Server,
            "GET /api/v1/orders/{id}",
            vec![
                text("http.request.method", "GET"),
                text("http.route", "/api/v1/orders/{id}"),
                text("url.path", &format!("/api/v1/orders/{}", random.below(100_000))),
                text("url.scheme", "https"),
                int("http.response.status_code", 200),
                text("server.address", "shop.example.com"),
                int("server.port", 443),
                text("user_agent.original", "Mozilla/5.0 (X11; Linux x86_64)"),
                text("client.address", "203.0.113.9"),
                text("network.protocol.version", "1.1"),
            ],
        ),
        1 => (
            SpanKind::Internal,
            "OrderService.load",
            vec![
                text("code.function", "load"),
                text("code.namespace", "com.shop.OrderService"),
                int("code.lineno", 42),
                text("thread.name", "http-nio-8080-exec-3"),
                int("thread.id", 33),
                pair("cache.hit", Value::BoolValue(false)),
                pair("score", Value::DoubleValue(0.75)),
                text("tenant", &format!("t-{}", random.below(50))),
                text("region", "eu-west-1"),
                text("feature.flag", "new-checkout"),
            ],
        ),
        _ => (
            SpanKind::Client,
            "SELECT shop.orders",
            vec![
                text("db.system", "postgresql"),
                text("db.name", "shop"),
                text("db.user", "app"),
                text(
                    "db.statement",
                    &format!(
                        "SELECT * FROM orders WHERE id = {} AND status = 'open' LIMIT 10",
                        random.below(100_000)
                    ),
                ),
                text("db.operation", "SELECT"),
                text("db.sql.table", "orders"),
                text("server.address", "pg-0.internal"),
                int("server.port", 5432),
                text("net.peer.name", "pg-0.internal"),
                text("thread.name", "pool-1"),
            ],
        ),
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    pair(key, Value::StringValue(value.into()))
}

fn int(key: &str, value: i64) -> KeyValue {
    pair(key, Value::IntValue(value))
}

fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// Numbers that look random and are the same in each run (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}
