//! A stand-in for Datadog's API: it shows what a mock intake captured, some time later, in the form of the API's reference.
//!
//! The way from the payloads to the answers is short on purpose: what is judged is the whole of driving, exporting, asking and
//! judging. Only keys of its own are let in.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use harness::{
    intake::client::{IntakeClient, Settings},
    trace::{Span, TraceId},
};
use serde_json::{Value, json};
use stub_server::StubServer;
use wiremock::{
    Mock, Request, Respond, ResponseTemplate,
    matchers::{method, path, path_regex},
};

/// The keys that it lets in; no output may ever hold them.
pub(crate) const API_KEY: &str = "4pi5ecret0123456789abcdef01234567";
pub(crate) const APP_KEY: &str = "4pp5ecret0123456789abcdef0123456789abcdef";

/// Datadog's API, as far as it is played.
pub(crate) struct StandIn {
    server: StubServer,
}

struct Shown {
    intake: Arc<IntakeClient>,
    /// How long a span takes until it is shown.
    delay: Duration,
    /// Requests left in its rate limit.
    left: AtomicU64,
    /// Whether the trace API is refused, as for keys that have no preview.
    search_alone: bool,
}

impl StandIn {
    /// Shows what the intake at this URL captures, so much later. `budget` is how often it answers.
    pub(crate) async fn over(intake: &str, delay: Duration, budget: u64) -> Self {
        Self::start(intake, delay, budget, false).await
    }

    /// The same for keys that may only search.
    pub(crate) async fn search_alone(intake: &str, delay: Duration) -> Self {
        Self::start(intake, delay, 600, true).await
    }

    async fn start(intake: &str, delay: Duration, budget: u64, search_alone: bool) -> Self {
        let intake = IntakeClient::connect(intake, Settings::default()).await.expect("the intake");
        let left = AtomicU64::new(budget);
        let shown = Arc::new(Shown { intake: Arc::new(intake), delay, left, search_alone });
        let server = StubServer::start().await;
        let by_id = Mock::given(method("GET")).and(path_regex("^/api/v2/trace/"));
        by_id.respond_with(Answer(Arc::clone(&shown), by_trace_id)).mount(&server).await;
        let search = Mock::given(method("POST")).and(path("/api/v2/spans/events/search"));
        search.respond_with(Answer(shown, by_search)).mount(&server).await;
        Self { server }
    }

    /// Its base URL.
    pub(crate) fn url(&self) -> String {
        self.server.uri()
    }
}

/// Starts Datadog's side for a collector that has Datadog's key: an intake of its own, which takes that key
/// alone. Gives it, with its port.
pub(crate) async fn intake_with_key() -> (harness::intake::server::RunningServer, u16) {
    let settings = harness::intake::server::Settings {
        listen: "0.0.0.0:0".to_owned(),
        api_key: Some(API_KEY.parse().expect("a key")),
        ..harness::intake::server::Settings::default()
    };
    let server = harness::intake::server::Server::bind(settings).await.expect("a free port");
    let port = server.address().port();
    (server.spawn(), port)
}

/// A collector's config with Datadog's exporter, whose Datadog is at this URL.
pub(crate) fn collector_config(datadog: &str) -> String {
    format!(
        "receivers: {{ otlp: {{ protocols: {{ grpc: , http:  }} }} }}\nexporters:\n  datadog:\n    api: {{ key: \"${{env:DD_API_KEY}}\" }}\n    traces: {{ endpoint: \"{datadog}\" }}\n    metrics: {{ endpoint: \"{datadog}\" }}\nservice: {{ pipelines: {{ traces: {{ receivers: [otlp], exporters: [datadog] }} }} }}\n"
    )
}

/// Looks into every file below a path for a key; how many files there were, and how many of them were workloads' logs that said
/// something.
pub(crate) fn without_keys(path: &std::path::Path) -> (usize, usize) {
    if path.is_dir() {
        let entries = std::fs::read_dir(path).expect("a folder of this test");
        let of = |entry: std::io::Result<std::fs::DirEntry>| {
            without_keys(&entry.expect("a file of this test").path())
        };
        return entries.map(of).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    }
    let text =
        String::from_utf8_lossy(&std::fs::read(path).expect("a file of this test")).into_owned();
    for key in [API_KEY, APP_KEY] {
        assert!(!text.contains(key), "{} holds a key", path.display());
    }
    let is_log = path.extension().is_some_and(|end| end == "log") && !text.is_empty();
    (1, usize::from(is_log))
}

struct Answer(Arc<Shown>, fn(&Shown, &Request) -> ResponseTemplate);

impl Respond for Answer {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let Self(shown, answer) = self;
        let is =
            |name: &str, key: &str| request.headers.get(name).is_some_and(|value| value == key);
        if !is("dd-api-key", API_KEY) || !is("dd-application-key", APP_KEY) {
            return ResponseTemplate::new(403).set_body_json(json!({ "errors": ["Forbidden"] }));
        }
        let taken =
            shown.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        let (status, left) = match taken {
            Ok(before) => (200, before - 1),
            Err(_) => (429, 0),
        };
        let template = match status {
            200 => answer(shown, request),
            _ => {
                ResponseTemplate::new(429).set_body_json(json!({ "errors": ["Too many requests"] }))
            }
        };
        template
            .insert_header("x-ratelimit-limit", "600")
            .insert_header("x-ratelimit-period", "60")
            .insert_header("x-ratelimit-remaining", left.to_string())
            .insert_header("x-ratelimit-reset", "59")
            .insert_header("x-ratelimit-name", "stand_in")
    }
}

impl Shown {
    /// Everything that is shown by now.
    fn spans(&self) -> Vec<Span> {
        self.intake.with_store(|store| {
            let old = store.entries().filter(|entry| entry.received.elapsed() >= self.delay);
            old.flat_map(|entry| entry.spans()).map(|span| Span::clone(span)).collect()
        })
    }
}

fn by_trace_id(shown: &Shown, request: &Request) -> ResponseTemplate {
    if shown.search_alone {
        return ResponseTemplate::new(403).set_body_json(json!({ "errors": ["Forbidden"] }));
    }
    let asked = request.url.path().rsplit('/').next().unwrap_or_default();
    let spans: Vec<Value> =
        shown.spans().iter().filter(|span| is(span, asked)).map(of_trace).collect();
    if spans.is_empty() {
        return ResponseTemplate::new(404).set_body_json(json!({ "errors": ["Not Found"] }));
    }
    let attributes = json!({ "is_truncated": false, "spans": spans });
    let data = json!({ "id": asked, "type": "trace", "attributes": attributes });
    ResponseTemplate::new(200).set_body_json(json!({ "data": data }))
}

/// Returns whether a span is of the trace that is written so: in hex or decimal digits.
fn is(span: &Span, text: &str) -> bool {
    let low = span.trace_id.low();
    text.parse::<TraceId>().map_or_else(|_| text == low.to_string(), |id| id == span.trace_id)
}

fn of_trace(span: &Span) -> Value {
    let meta: serde_json::Map<String, Value> = span
        .meta
        .iter()
        .filter(|(key, _)| !key.starts_with('_'))
        .map(|(key, value)| (key.clone(), value.clone().into()))
        .collect();
    let metrics: serde_json::Map<String, Value> = span
        .metrics
        .iter()
        .filter(|(key, _)| !key.starts_with('_'))
        .map(|(key, value)| (key.clone(), (*value).into()))
        .collect();
    json!({
        "traceID": span.datadog_trace_id, "traceIDFull": span.trace_id.to_string(), "spanID": span.id.0,
        "parentID": span.parent_id.map_or(0, |id| id.0), "service": span.service, "name": span.name,
        "resource": span.resource, "type": span.span_type, "error": u8::from(span.error), "startTime": span.start,
        "endTime": span.end(), "duration": span.duration, "meta": meta, "metrics": metrics
    })
}

fn by_search(shown: &Shown, request: &Request) -> ResponseTemplate {
    let body: Value = serde_json::from_slice(&request.body).expect("the search is JSON");
    let attributes = &body["data"]["attributes"];
    let query = attributes["filter"]["query"].as_str().unwrap_or_default();
    let time = |name: &str| {
        let text = attributes["filter"][name].as_str().unwrap_or_default();
        let time =
            humantime::parse_rfc3339(text).unwrap_or_else(|error| panic!("{name} {text}: {error}"));
        harness::trace::unix_nanos(time)
    };
    let (from, to) = (time("from"), time("to"));
    let within = |term: &str| {
        let inside = query.split_once(&format!("{term}:("))?.1.split_once(')')?.0;
        Some(inside.split(" OR ").map(|word| word.trim_matches('"').to_owned()).collect::<Vec<_>>())
    };
    let (ids, services) = (within("trace_id"), within("service"));
    let fits = |span: &Span| match (&ids, &services) {
        (Some(ids), _) => ids.iter().any(|id| is(span, id)),
        (None, Some(services)) => services.contains(&span.service),
        (None, None) => panic!("a query that is not played: {query}"),
    };
    let mut spans = shown.spans();
    spans.retain(|span| fits(span) && (from..=to).contains(&span.start));
    spans.sort_by_key(|span| span.start);
    // Small pages, so that there are several.
    let limit = attributes["page"]["limit"].as_u64().map_or(3, |limit| limit.min(3) as usize);
    let at: usize = attributes["page"]["cursor"]
        .as_str()
        .map_or(0, |cursor| cursor.parse().expect("a cursor of its own"));
    let limit = if services.is_some() { spans.len().max(1) } else { limit };
    let after = (at + limit < spans.len()).then(|| (at + limit).to_string());
    let page: Vec<Value> = spans.iter().skip(at).take(limit).map(found).collect();
    let meta = json!({ "elapsed": 3, "status": "done", "page": { "after": after }, "request_id": "stand-in" });
    ResponseTemplate::new(200).set_body_json(json!({ "data": page, "meta": meta }))
}

fn found(span: &Span) -> Value {
    let time = |nanos: i64| {
        let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos.unsigned_abs());
        humantime::format_rfc3339_millis(time).to_string()
    };
    let mut custom = serde_json::Map::new();
    for (key, value) in span.meta.iter().filter(|(key, _)| !key.starts_with('_')) {
        nest(&mut custom, key, value.clone().into());
    }
    for (key, value) in span.metrics.iter().filter(|(key, _)| !key.starts_with('_')) {
        nest(&mut custom, key, (*value).into());
    }
    json!({ "id": format!("AQ{}", span.id), "type": "spans", "attributes": {
        "trace_id": span.datadog_trace_id.to_string(), "span_id": span.id.0.to_string(),
        "parent_id": span.parent_id.map_or(0, |id| id.0).to_string(), "service": span.service,
        "operation_name": span.name, "resource_name": span.resource, "type": span.span_type, "env": span.env,
        "host": span.hostname, "status": if span.error { "error" } else { "ok" },
        "start_timestamp": time(span.start), "end_timestamp": time(span.end()), "custom": custom
    }})
}

/// Puts `a.b.c` where it is found as nested objects.
fn nest(into: &mut serde_json::Map<String, Value>, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            into.insert(key.to_owned(), value);
        }
        Some((first, rest)) => {
            let inner = into.entry(first).or_insert_with(|| json!({}));
            match inner.as_object_mut() {
                Some(inner) => nest(inner, rest, value),
                None => {
                    into.insert(key.to_owned(), value);
                }
            }
        }
    }
}
