use std::path::Path;

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, ArrayValue},
    resource::v1::Resource,
    trace::v1::{ScopeSpans, Status, span::Event},
};

use serde_json::{Value as Json, json};

use super::*;
use crate::{
    decode::{Decoded, decode as decode_attempt},
    testing::{self, TRACE_ID, TRACE_ID_LOW},
};

const PATH: &str = "/v1/traces";

fn attempt(body: Vec<u8>, headers: &[(&str, &str)]) -> Attempt {
    let mut attempt = testing::attempt(7, PATH, body);
    attempt.headers.insert("content-type".to_owned(), "application/x-protobuf".to_owned());
    let given = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    attempt.headers.extend(given);
    attempt
}

fn decoded(attempt: &Attempt) -> OtlpPayload {
    match decode_attempt(attempt, 1 << 20) {
        Decoded::OtlpTraces(payload) => payload,
        other => panic!("{other:?}"),
    }
}

fn reason(attempt: &Attempt) -> String {
    match decode_attempt(attempt, 1 << 20) {
        Decoded::Undecodable { reason } => reason,
        other => panic!("{other:?}"),
    }
}

fn tag(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

fn word(key: &str, value: &str) -> KeyValue {
    tag(key, Value::StringValue(value.to_owned()))
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// A server span of `Shop` and below it a failed client span.
fn request() -> ExportTraceServiceRequest {
    let span = |id: u8, parent: Vec<u8>, name: &str, kind: SpanKind| OtlpSpan {
        trace_id: bytes(TRACE_ID),
        span_id: vec![0, 0, 0, 0, 0, 0, 0, id],
        parent_span_id: parent,
        name: name.to_owned(),
        kind: kind.into(),
        start_time_unix_nano: 1_750_000_000_000_000_000,
        end_time_unix_nano: 1_750_000_000_090_000_000,
        attributes: vec![
            word("http.request.method", "GET"),
            tag("http.response.status_code", Value::IntValue(500)),
            word("http.route", "/cart"),
        ],
        ..OtlpSpan::default()
    };
    let mut client = span(2, vec![0, 0, 0, 0, 0, 0, 0, 1], "call stock", SpanKind::Client);
    client.status = Some(Status { message: "no stock".to_owned(), code: StatusCode::Error.into() });
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: vec![
                    word("service.name", "Shop"),
                    word("service.instance.id", "inst-7"),
                    word("deployment.environment.name", "staging"),
                    word("host.name", "node-1"),
                    word("container.id", "aaaa"),
                ],
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                spans: vec![span(1, Vec::new(), "handle cart", SpanKind::Server), client],
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}

#[test]
fn an_otlp_request_becomes_spans_as_datadogs_side_names_them() {
    let payload = decoded(&attempt(request().encode_to_vec(), &[("compute_stats", "true")]));
    assert!(payload.compute_stats);
    assert_eq!(payload.dropped_spans, 0);
    let [server, client] = payload.spans.as_slice() else { panic!("{:?}", payload.spans) };
    assert_eq!(server.trace_id.to_string(), TRACE_ID);
    assert_eq!(server.datadog_trace_id, TRACE_ID_LOW);
    assert_eq!((server.id, server.parent_id), (SpanId(1), None));
    assert_eq!((client.id, client.parent_id), (SpanId(2), Some(SpanId(1))));
    assert_eq!((server.service.as_str(), server.resource.as_str()), ("shop", "handle cart"));
    assert_eq!(
        (server.name.as_str(), client.name.as_str()),
        ("http.server.request", "http.client.request")
    );
    assert_eq!((server.span_type.as_str(), client.span_type.as_str()), ("web", "http"));
    assert_eq!(
        (server.kind(), client.kind(), client.instance()),
        ("server", "client", Some("inst-7"))
    );
    assert_eq!((server.error, client.error), (false, true));
    assert_eq!(client.meta["error.msg"], "no stock");
    assert_eq!((server.start, server.duration), (1_750_000_000_000_000_000, 90_000_000));
    assert_eq!(server.metrics["http.status_code"], 500.0);
    assert_eq!(
        (&*server.hostname, &*server.env, &*server.container_id),
        ("node-1", "staging", "aaaa")
    );
    assert_eq!((server.priority, server.attempt, server.form), (1, 7, PayloadForm::Otlp));
}

#[test]
fn json_gives_the_same_spans_as_protobuf() {
    let json = serde_json::to_vec(&request()).unwrap();
    let json = attempt(json, &[("content-type", "application/json; charset=utf-8")]);
    let payload = decoded(&json);
    assert_eq!(payload.spans, decoded(&attempt(request().encode_to_vec(), &[])).spans);
    assert!(!payload.compute_stats);
}

#[test]
fn the_span_mapping_of_the_header_is_followed() {
    let with = |mapping: &str| {
        decoded(&attempt(request().encode_to_vec(), &[("dd-otel-span-mapping", mapping)]))
    };
    let by_route = with(r#"{"span_name_as_resource_name": false}"#);
    assert_eq!(by_route.spans[0].resource, "GET /cart");
    assert_eq!(by_route.spans[1].resource, "GET");
    let renamed = with(r#"{"span_name_remappings": {"http.client.request": "outgoing"}}"#);
    assert_eq!(
        (&*renamed.spans[0].name, &*renamed.spans[1].name),
        ("http.server.request", "outgoing")
    );
    let ignored = with(r#"{"ignore_resources": ["^handle"]}"#);
    assert_eq!((ignored.spans.len(), ignored.dropped_spans), (0, 2));
    assert_eq!(with(r#"{"ignore_resources": ["^call"]}"#).spans.len(), 2);
}

#[test]
fn what_cannot_be_read_says_what_and_why() {
    let body = request().encode_to_vec();
    let mut long = request();
    long.resource_spans[0].scope_spans[0].spans[0].span_id.push(1);
    for (attempt, expected) in [
        (attempt(vec![0xff; 9], &[]), "it is not an OTLP request: "),
        (attempt(b"{".to_vec(), &[("content-type", "application/json")]), "it is not JSON: "),
        (
            attempt(body.clone(), &[("content-type", "text/plain")]),
            "its content type `text/plain` is none of",
        ),
        (attempt(long.encode_to_vec(), &[]), "a span's `span_id` has 9 bytes instead of 8"),
        (
            attempt(body.clone(), &[("dd-otel-span-mapping", "{\"ignore\": []}")]),
            "its header `dd-otel-span-mapping`",
        ),
        (
            attempt(body, &[("dd-otel-span-mapping", "{\"ignore_resources\": [\"(\"]}")]),
            "`ignore_resources` in its header",
        ),
    ] {
        assert!(reason(&attempt).starts_with(expected), "{}", reason(&attempt));
    }
}

#[test]
fn strings_that_are_not_utf_8_are_repaired_wherever_they_stand() {
    // Bytes of the same number as UTF-8 letters, so that no length changes: `~~` stands where broken ones are to be.
    let mut request = request();
    let nested = AnyValue { value: Some(Value::StringValue("in ~~".to_owned())) };
    let list = ArrayValue { values: vec![nested] };
    let resource = request.resource_spans[0].resource.as_mut().unwrap();
    resource.attributes.push(word("of ~~ resource", "x"));
    let span = &mut request.resource_spans[0].scope_spans[0].spans[0];
    span.name = "name ~~".to_owned();
    span.attributes.push(tag("list", Value::ArrayValue(list)));
    span.events.push(Event { name: "event ~~".to_owned(), ..Event::default() });
    let mut body = request.encode_to_vec();
    for at in 1..body.len() {
        if body[at - 1..=at] == *b"~~" {
            body[at - 1..=at].copy_from_slice(&[0xff, 0xfe]);
        }
    }
    assert!(ExportTraceServiceRequest::decode(&*body).is_err());
    let payload = decoded(&attempt(body, &[]));
    assert_eq!((payload.repaired_strings, payload.spans.len()), (4, 2));
    let span = &payload.spans[0];
    assert_eq!(span.resource, "name \u{fffd}\u{fffd}");
    assert_eq!(span.meta["of \u{fffd}\u{fffd} resource"], "x");
    assert_eq!(span.meta["list"], "[\"in \u{fffd}\u{fffd}\"]");
    assert!(span.meta["events"].contains("event \u{fffd}\u{fffd}"));
}

#[test]
fn a_request_that_is_nested_without_end_is_refused() {
    // A list in a list in a list …, of which the innermost is no UTF-8: neither prost nor the repair goes so deep.
    let mut body = vec![0x0a, 1, 0xff];
    let wrap = |tag: u8, inner: Vec<u8>| {
        let mut out = vec![tag << 3 | 2];
        prost::encoding::encode_varint(inner.len() as u64, &mut out);
        out.extend(inner);
        out
    };
    for _ in 0..5000 {
        body = wrap(5, wrap(1, body));
    }
    for tag in [2, 9, 2, 2, 1] {
        body = wrap(tag, body);
    }
    assert!(reason(&attempt(body, &[])).starts_with("it is not an OTLP request"));
}

#[test]
fn spans_without_an_id_are_dropped_and_counted() {
    let mut request = request();
    let spans = &mut request.resource_spans[0].scope_spans[0].spans;
    spans[0].span_id.clear();
    spans[1].trace_id[8..].fill(0);
    let payload = decoded(&attempt(request.encode_to_vec(), &[]));
    assert_eq!((payload.spans.len(), payload.dropped_spans), (0, 2));
}

/// Returns whether only Datadog's clients write a key into their payloads.
fn is_clients_own(key: &str) -> bool {
    key.starts_with("_dd.p.")
        || key == "_top_level"
        || key.starts_with("_sampling_priority_rate")
        || matches!(
            key,
            "_dd1.sr.rcusr" | "_dd1.sr.eausr" | "_dd.analyzed" | "_dd.errors_sr" | "_dd.no_p_sr"
        )
}

/// Meta without what only clients put there; JSON as such, since its members have no order.
fn reported(meta: &BTreeMap<String, String>) -> BTreeMap<&str, Json> {
    let reported = meta.iter().filter(|(key, _)| !is_clients_own(key));
    reported
        .map(|(key, value)| {
            (key.as_str(), serde_json::from_str(value).unwrap_or_else(|_| value.as_str().into()))
        })
        .collect()
}

/// Each request that was recorded with Datadog's trace agent v0.85.4, taken as OTLP by the intake, gives the spans that the
/// agent made of it.
#[test]
fn the_recorded_requests_give_the_spans_that_datadogs_agent_made_of_them() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../collector/testdata/golden-085");
    let (mut compared, mut wrong) = (0, Vec::new());
    for case in [
        "40-http",
        "41-db",
        "42-messaging",
        "43-rpc-aws",
        "44-app",
        "45-errors",
        "46-links-events",
        "47-sampling",
        "48-dd-attributes",
        "49-cloud",
        "50-scopes",
        "60-stats",
        "68-sql",
    ] {
        let text = std::fs::read_to_string(golden.join(case).join("canonical.json")).unwrap();
        let canonical: Json = serde_json::from_str(&text).unwrap();
        let mut spans = Vec::new();
        for entry in std::fs::read_dir(golden.join(case)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "bin") {
                let mapping = [("dd-otel-span-mapping", r#"{"span_name_as_resource_name":false}"#)];
                spans.extend(decoded(&attempt(std::fs::read(path).unwrap(), &mapping)).spans);
            }
        }
        for entry in canonical.as_array().unwrap() {
            let wanted = &entry["span"];
            let of = |key: &str| wanted[key].as_str().unwrap_or_default();
            let (id, trace) = (of("spanID"), of("traceID"));
            let found = spans.iter().find(|span| {
                span.id.0.to_string() == id && span.datadog_trace_id.to_string() == trace
            });
            let Some(span) = found else { panic!("{case}: no span {id}") };
            let mut check = |what: &str, ours: Json, theirs: Json| {
                if ours != theirs {
                    wrong.push(format!(
                        "{case}, span {id}, {what}: {ours}, and the agent's {theirs}"
                    ));
                }
            };
            check("service", json!(span.service), json!(of("service")));
            check("name", json!(span.name), json!(of("name")));
            check("type", json!(span.span_type), json!(of("type")));
            // Queries and commands are shown as they were sent.
            if !matches!(&*span.span_type, "sql" | "cassandra" | "redis" | "valkey") {
                check("resource", json!(span.resource), json!(of("resource")));
            }
            check("error", json!(span.error), json!(wanted["error"] == 1));
            let parent = span.parent_id.map_or(String::new(), |id| id.0.to_string());
            check("parent", json!(parent), json!(of("parentID")));
            let payload = |key: &str| entry["tracer_payload"][key].as_str().unwrap_or_default();
            // The client's own host, where the resource has none.
            let host = Some(payload("hostname")).filter(|host| *host != "cfg-host");
            check("host", json!(span.hostname), json!(host.unwrap_or_default()));
            check("env", json!(span.env), json!(payload("env")));
            check("container", json!(span.container_id), json!(payload("containerID")));
            let meta: BTreeMap<String, String> =
                serde_json::from_value(wanted["meta"].clone()).unwrap();
            let (ours, theirs) = (reported(&span.meta), reported(&meta));
            let is_query =
                |key: &str| matches!(key, "db.statement" | "db.query.text" | "sql.query");
            let queries_differ = matches!(&*span.span_type, "sql" | "cassandra");
            for key in ours.keys().chain(theirs.keys()) {
                if !(queries_differ && is_query(key)) {
                    check(key, json!(ours.get(key)), json!(theirs.get(key)));
                }
            }
            let metrics = wanted["metrics"].as_object().unwrap();
            let metrics: BTreeMap<_, _> = metrics
                .iter()
                .filter(|(key, _)| !is_clients_own(key))
                .map(|(key, value)| (key.as_str(), value.as_f64()))
                .collect();
            let ours: BTreeMap<_, _> = span
                .metrics
                .iter()
                .filter(|(key, _)| !is_clients_own(key))
                .map(|(key, value)| (key.as_str(), Some(*value)))
                .collect();
            for key in ours.keys().chain(metrics.keys()) {
                check(key, json!(ours.get(key)), json!(metrics.get(key)));
            }
            compared += 1;
        }
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared > 60, "{compared}");
}
