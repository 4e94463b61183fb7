//! The official OpenTelemetry SDK for Python sends through the collector, and its trace is found whole at the intake.
//!
//! Needs `python3` with `venv` and `pip`, and a package index that pip can reach; where one is missing the tests fail and
//! say what to install. Bytes that our own SDK did not make: that is what this adds to `tests/it`.

mod program;
mod python;

use std::{path::PathBuf, time::Duration};

use harness::{
    intake::client::{IntakeClient, Settings},
    trace::{Span, SpanId, Trace, TraceId},
};
use program::Program;
use serde::Deserialize;

/// Shared by the collector and the intake, which refuses any other.
const API_KEY: (&str, &str) = ("DD_API_KEY", "0123456789abcdef0123456789abcdef");
/// How long a trace may take from the SDK's exit to the intake.
const DELIVERY: Duration = Duration::from_secs(10);

/// What `send.py` prints.
#[derive(Debug, Deserialize)]
struct Sent {
    trace_id: TraceId,
    parent: SpanId,
    child: SpanId,
}

#[tokio::test]
async fn a_trace_of_the_python_sdk_arrives_whole_over_grpc() {
    let system = System::start().await;
    system.send_and_check("grpc", &system.collector.url("otlp-grpc")).await;
    system.stop().await;
}

#[tokio::test]
async fn a_trace_of_the_python_sdk_arrives_whole_over_http() {
    let system = System::start().await;
    system.send_and_check("http/protobuf", &system.collector.url("otlp-http")).await;
    system.stop().await;
}

#[tokio::test]
async fn a_trace_that_reached_no_collector_is_missed() {
    let system = System::start().await;
    let nobody = system.collector.url("otlp-grpc");
    system.collector.stop().await;
    let sent = python::send("grpc", &nobody).await.unwrap_or_else(|error| panic!("{error}"));

    let url = system.intake.url("http");
    let missed = wait_for(&url, sent.trace_id, 2, Duration::from_millis(100)).await.unwrap_err();
    assert!(missed.starts_with("0 of 2 spans arrived within 100ms"), "{missed}");
    let shown = program::output("show", &[&sent.trace_id.to_string(), "--intake", &url]).await;
    let error = shown.unwrap_err();
    assert!(error.contains(&format!("has captured no span of trace {}", sent.trace_id)), "{error}");
    system.intake.stop().await;
}

/// A mock intake and a collector that sends to it, as processes of their own.
struct System {
    intake: Program,
    collector: Program,
}

impl System {
    async fn start() -> Self {
        let intake = Program::start("intake", &["--listen", "127.0.0.1:0"], &[API_KEY]).await;
        let config = here().join("collector.yaml").display().to_string();
        let variables = [API_KEY, ("INTAKE_URL", &intake.url("http"))];
        let collector = Program::start("collector", &["--config", &config], &variables).await;
        Self { intake, collector }
    }

    /// Both must end by themselves, and well.
    async fn stop(self) {
        self.collector.stop().await;
        self.intake.stop().await;
    }

    async fn send_and_check(&self, protocol: &str, endpoint: &str) {
        let sent = python::send(protocol, endpoint).await.unwrap_or_else(|error| panic!("{error}"));
        let url = self.intake.url("http");
        wait_for(&url, sent.trace_id, 2, DELIVERY).await.unwrap_or_else(|error| panic!("{error}"));

        check(&ask(&format!("{url}/_intake/traces/{}", sent.trace_id)).await, &sent);

        let id = sent.trace_id.to_string();
        let shown = program::output("show", &[&id, "--intake", &url]).await;
        let shown = shown.unwrap_or_else(|error| panic!("{error}"));
        for line in [
            format!("trace {id}"),
            "2 spans, 1 services, ".to_owned(),
            "orders server GET /orders/{id} 500 ERROR  |".to_owned(),
            "  orders internal load order ERROR        |".to_owned(),
            format!("span {}  parent none  service orders", sent.parent),
            format!("span {}  parent {}  service orders", sent.child, sent.parent),
            "    test.int: 42".to_owned(),
        ] {
            assert!(shown.contains(&line), "`{line}` is not in what `show` prints:\n{shown}");
        }
    }
}

/// Waits until the intake has accepted that many spans of a trace; it tells of each payload, so nothing is polled.
///
/// # Errors
///
/// When they do not arrive in time, with what arrived instead.
async fn wait_for(intake: &str, id: TraceId, spans: usize, limit: Duration) -> Result<(), String> {
    let client = IntakeClient::connect(intake, Settings::default()).await;
    let client = client.map_err(|error| error.to_string())?;
    let arrived = || client.trace(id).map_or(0, |trace| trace.spans.len());
    let mut changed = client.changed();
    let all = async { while arrived() < spans && changed.changed().await.is_ok() {} };
    let _in_time = tokio::time::timeout(limit, all).await;
    if arrived() >= spans {
        return Ok(());
    }
    let counts = client.counts();
    Err(format!("{} of {spans} spans arrived within {limit:?}; the intake: {counts:?}", arrived()))
}

/// The trace that the intake answers with.
async fn ask(url: &str) -> Trace {
    // The program has installed it; a test is another process.
    let _already_installed = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().timeout(DELIVERY).build();
    let answer = client.expect("a client").get(url).send().await.expect("an answer");
    assert_eq!(answer.status(), 200, "{url}");
    answer.json().await.expect("a trace as JSON")
}

/// The whole trace, field by field: what `send.py` wrote, as Datadog has it.
fn check(trace: &Trace, sent: &Sent) {
    assert_eq!((trace.id, trace.spans.len()), (sent.trace_id, 2), "{trace:?}");
    let parent = trace.span(sent.parent).expect("the parent span");
    let child = trace.span(sent.child).expect("the child span");
    assert_eq!(parent.parent_id, None, "the trace has one root");
    assert_eq!(child.parent_id, Some(parent.id), "the child is linked to its parent");

    for span in [parent, child] {
        assert_eq!(span.service, "orders");
        assert_eq!((span.trace_id, span.datadog_trace_id), (sent.trace_id, sent.trace_id.low()));
        assert!(span.error, "{span:?}");
        assert_eq!((span.env.as_str(), span.hostname.as_str()), ("test", "python-sdk-test"));
        let id = sent.trace_id.to_string();
        let expected = [
            ("otel.trace_id", id.as_str()),
            ("service.version", "1.2.3"),
            ("version", "1.2.3"),
            ("team", "größer & söhne"),
            ("telemetry.sdk.language", "python"),
            ("otel.library.name", "tests/python_sdk"),
            ("otel.status_code", "Error"),
        ];
        expect_meta(span, &expected);
    }

    assert_eq!(parent.name, "http.server.request");
    assert_eq!((parent.resource.as_str(), parent.span_type.as_str()), ("GET /orders/{id}", "web"));
    assert_eq!((parent.kind(), parent.metrics["http.status_code"]), ("server", 500.0));

    assert_eq!((child.resource.as_str(), child.kind()), ("load order", "internal"));
    let exception =
        [("error.msg", "ValueError: no such order"), ("_dd.span_events.has_exception", "true")];
    expect_meta(child, &exception);
    let events: serde_json::Value =
        serde_json::from_str(&child.meta["events"]).expect("events are JSON");
    let attributes = &events[0]["attributes"];
    assert_eq!(
        (&events[0]["name"], &attributes["exception.type"]),
        (&"exception".into(), &"ValueError".into())
    );
    assert_eq!(attributes["exception.message"], "no such order");

    // Text, truth values and lists are meta; numbers are metrics.
    let typed = [
        ("test.string", "größer als 1 €"),
        ("test.bool", "true"),
        ("test.strings", r#"["a","b"]"#),
        ("test.ints", "[1,2]"),
    ];
    expect_meta(child, &typed);
    assert_eq!((child.metrics["test.int"], child.metrics["test.double"]), (42.0, 2.5));
}

#[track_caller]
fn expect_meta(span: &Span, expected: &[(&str, &str)]) {
    for (key, value) in expected {
        let found = span.meta.get(*key).map(String::as_str);
        assert_eq!(found, Some(*value), "meta `{key}` of {span:?}");
    }
}

/// The folder of these tests.
fn here() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/python_sdk")
}
