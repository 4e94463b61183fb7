//! Shared parts of the tests of all SDKs: a collector and an intake to send through, each way to send, and the trace that must
//! arrive.
//!
//! Each SDK has a program that ends the same two spans, with everything about where and how they are sent left to the
//! standard `OTEL_*` variables, as in a user's service.

mod certificates;
pub(crate) mod program;
mod relay;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use certificates::Certificates;
use harness::{
    intake::client::{IntakeClient, Settings},
    trace::{Span, SpanId, Trace, TraceId},
};
use program::Program;
use relay::Relay;
use serde::Deserialize;
use tokio::process::Command;

/// Shared by the collector and the intake, which refuses any other.
const API_KEY: (&str, &str) = ("DD_API_KEY", "0123456789abcdef0123456789abcdef");
/// How long a trace may take from the SDK's exit to the intake.
const DELIVERY: Duration = Duration::from_secs(10);
/// How long a small program may take.
pub(crate) const RUN: Duration = Duration::from_secs(60);
/// How long a package manager may take to download and build.
pub(crate) const INSTALL: Duration = Duration::from_secs(300);
/// The message of the exception: to be found in what is sent as it is, and nowhere in what is compressed or encrypted.
const PLAIN: &[u8] = b"no such order";

/// Particulars of one SDK.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sdk {
    /// As `telemetry.sdk.language` spells it.
    pub(crate) language: &'static str,
    /// The exception's type.
    pub(crate) exception: &'static str,
    /// The message of the status that the exception makes.
    pub(crate) error: &'static str,
}

/// A protocol, as `OTEL_EXPORTER_OTLP_PROTOCOL` spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Protocol(pub(crate) &'static str);

impl Protocol {
    fn port(self, secured: bool) -> &'static str {
        match (self.0, secured) {
            ("grpc", false) => "otlp-grpc",
            ("grpc", true) => "otlp/mtls-grpc",
            (_, false) => "otlp-http",
            (_, true) => "otlp/mtls-http",
        }
    }
}

/// How the bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    AsTheyAre,
    Gzip,
    /// With TLS, in which the client shows a certificate too.
    MutualTls,
}

impl Way {
    const ALL: [Self; 3] = [Self::AsTheyAre, Self::Gzip, Self::MutualTls];
}

/// Output of a sending program.
#[derive(Debug, Deserialize)]
pub(crate) struct Sent {
    pub(crate) trace_id: TraceId,
    parent: SpanId,
    child: SpanId,
    /// Complaints that the SDK printed beside it.
    #[serde(skip)]
    complaints: String,
}

/// A mock intake and a collector that sends to it, as processes of their own.
pub(crate) struct System {
    pub(crate) intake: Program,
    pub(crate) collector: Program,
    certificates: Certificates,
}

impl System {
    pub(crate) async fn start() -> Self {
        let certificates = Certificates::make();
        let intake = Program::start("intake", &["--listen", "127.0.0.1:0"], &[API_KEY]).await;
        let config = here().join("collector.yaml").display().to_string();
        let certificates_dir = certificates.dir().display().to_string();
        let variables = [
            API_KEY,
            ("INTAKE_URL", &intake.url("http")),
            ("CERTIFICATES", certificates_dir.as_str()),
        ];
        let collector = Program::start("collector", &["--config", &config], &variables).await;
        Self { intake, collector, certificates }
    }

    /// Both must end by themselves, and well.
    pub(crate) async fn stop(self) {
        self.collector.stop().await;
        self.intake.stop().await;
    }

    /// Sends a trace each way, and checks what went over the wire, what arrived, and what `show` prints of it.
    pub(crate) async fn check_every_way(
        &self,
        sdk: Sdk,
        protocol: Protocol,
        sender: impl Fn() -> Command,
    ) {
        for way in Way::ALL {
            let secured = way == Way::MutualTls;
            let relay = Relay::start(self.collector.address(protocol.port(secured))).await;
            let mut command = sender();
            let mut scheme = "http";
            if way == Way::Gzip {
                command.env("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip");
            }
            if secured {
                scheme = "https";
                self.certificates.pass_to(&mut command);
            }
            let endpoint = format!("{scheme}://{}", relay.address);
            let sent = send(command, protocol, &endpoint).await;
            let sent = sent.unwrap_or_else(|error| panic!("{protocol:?} {way:?}: {error}"));
            self.check_arrived(sdk, &sent).await.unwrap_or_else(|error| {
                panic!("{protocol:?} {way:?}: {error}\nthe SDK: {}", sent.complaints)
            });
            check_wire(&relay.stop(), protocol, way);
        }
    }

    async fn check_arrived(&self, sdk: Sdk, sent: &Sent) -> Result<(), String> {
        let url = self.intake.url("http");
        wait_for(&url, sent.trace_id, 2, DELIVERY).await?;

        check(&ask(&format!("{url}/_intake/traces/{}", sent.trace_id)).await, sent, sdk);

        let id = sent.trace_id.to_string();
        let shown = program::output("show", &[&id, "--intake", &url]).await?;
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
        Ok(())
    }
}

/// Has a program send its trace, or try to.
///
/// # Errors
///
/// When the program ends badly.
pub(crate) async fn send(
    mut command: Command,
    protocol: Protocol,
    endpoint: &str,
) -> Result<Sent, String> {
    let resource = [
        "service.version=1.2.3",
        "deployment.environment.name=test",
        // As the specification has it: values are percent-encoded.
        "team=gr%C3%B6%C3%9Fer%20%26%20s%C3%B6hne",
    ];
    command
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.0)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .env("OTEL_SERVICE_NAME", "orders")
        .env("OTEL_RESOURCE_ATTRIBUTES", resource.join(","))
        .env("NO_PROXY", "127.0.0.1");
    let printed = program::run(&mut command, RUN).await?;
    let sent: Sent = serde_json::from_str(&printed.stdout)
        .map_err(|error| format!("the program printed {:?}: {error}", printed.stdout))?;
    Ok(Sent { complaints: printed.stderr, ..sent })
}

/// Waits until the intake has accepted that many spans of a trace; it reports each payload, so nothing is polled.
///
/// # Errors
///
/// When they do not arrive in time, with what arrived instead.
pub(crate) async fn wait_for(
    intake: &str,
    id: TraceId,
    spans: usize,
    limit: Duration,
) -> Result<(), String> {
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

/// That the bytes were of that protocol, and travelled that way: what was asked for is what was tried.
fn check_wire(bytes: &[u8], protocol: Protocol, way: Way) {
    let has = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    let of = format!("{protocol:?} {way:?}, {} bytes", bytes.len());
    assert_eq!(has(PLAIN), way == Way::AsTheyAre, "{of}: the message as it is");
    if way == Way::MutualTls {
        assert!(bytes.starts_with(&[0x16, 0x03]), "{of}: begins with a TLS handshake");
        return;
    }
    let first: &[u8] = if protocol.0 == "grpc" { b"PRI * HTTP/2.0" } else { b"POST /v1/traces " };
    assert!(bytes.starts_with(first), "{of}: begins with {:?}", String::from_utf8_lossy(first));
    assert_eq!(has(&[0x1f, 0x8b, 0x08]), way == Way::Gzip, "{of}: gzip's magic number");
    if way == Way::AsTheyAre {
        assert_eq!(has(b"\"traceId\""), protocol.0 == "http/json", "{of}: JSON");
    }
}

/// The whole trace, field by field: what the program wrote, as Datadog has it.
fn check(trace: &Trace, sent: &Sent, sdk: Sdk) {
    assert_eq!((trace.id, trace.spans.len()), (sent.trace_id, 2), "{trace:?}");
    let parent = trace.span(sent.parent).expect("the parent span");
    let child = trace.span(sent.child).expect("the child span");
    assert_eq!(parent.parent_id, None, "the trace has one root");
    assert_eq!(child.parent_id, Some(parent.id), "the child is linked to its parent");

    for span in [parent, child] {
        assert_eq!(span.service, "orders");
        assert_eq!((span.trace_id, span.datadog_trace_id), (sent.trace_id, sent.trace_id.low()));
        assert!(span.error, "{span:?}");
        assert_eq!((span.env.as_str(), span.hostname.as_str()), ("test", "sdk-test"));
        let id = sent.trace_id.to_string();
        let expected = [
            ("otel.trace_id", id.as_str()),
            ("service.version", "1.2.3"),
            ("version", "1.2.3"),
            ("team", "größer & söhne"),
            ("telemetry.sdk.language", sdk.language),
            ("otel.library.name", "tests/sdk"),
            ("otel.library.version", "1.0"),
            ("otel.status_code", "Error"),
        ];
        expect_meta(span, &expected);
    }

    assert_eq!(parent.name, "http.server.request");
    assert_eq!((parent.resource.as_str(), parent.span_type.as_str()), ("GET /orders/{id}", "web"));
    assert_eq!((parent.kind(), parent.metrics["http.status_code"]), ("server", 500.0));

    assert_eq!((child.resource.as_str(), child.kind()), ("load order", "internal"));
    let exception = [("error.msg", sdk.error), ("_dd.span_events.has_exception", "true")];
    expect_meta(child, &exception);
    let events: serde_json::Value =
        serde_json::from_str(&child.meta["events"]).expect("events are JSON");
    let attributes = &events[0]["attributes"];
    assert_eq!(
        (&events[0]["name"], &attributes["exception.type"]),
        (&"exception".into(), &sdk.exception.into())
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
pub(crate) fn here() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/sdk")
}

/// A folder for what an SDK's package manager makes; it outlives the test, so that the next run need not make it again.
pub(crate) fn workshop(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}
