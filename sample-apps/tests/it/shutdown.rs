//! Stopping: what is in flight, what is not yet exported, what cannot be.

use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use sample_apps::{FlushError, RunError};
use stub_server::StubServer;
use tokio::net::TcpStream;
use wiremock::matchers::method;
use wiremock::{Mock, ResponseTemplate};

use crate::support::{App, DEADLINE, Receiver, TRACE_ID, TRACEPARENT, client, eventually};

async fn one_open(app: &App) {
    eventually(async || match app.ledger().await["open_spans"].as_u64() {
        Some(1) => Ok(()),
        open => Err(format!("{open:?} open spans")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_flight_is_finished() {
    let receiver = Receiver::start().await;
    let vars = [("NAME", "a"), ("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.grpc.as_str())];
    let app = App::start(&vars).await;
    let url = app.url("/");
    let request = tokio::spawn(async move {
        let headers = [TRACEPARENT, ("x-tracecheck-fault", "a=delay:300ms")];
        crate::support::get(&url, &headers, DEADLINE).await
    });
    one_open(&app).await;
    app.stop().await.unwrap();
    assert_eq!(request.await.unwrap().unwrap().status, 200);
    assert_eq!(receiver.spans().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_hangs_is_ended_at_the_drain_timeout_and_its_span_exported() {
    let receiver = Receiver::start().await;
    let vars = [("NAME", "a"), ("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.grpc.as_str())];
    let app =
        App::start_with(&vars, |settings| settings.drain_timeout = Duration::from_millis(50)).await;
    let url = app.url("/");
    let request = tokio::spawn(async move {
        let headers = [TRACEPARENT, ("x-tracecheck-fault", "a=hang")];
        crate::support::get(&url, &headers, DEADLINE).await
    });
    one_open(&app).await;
    app.stop().await.unwrap();
    let answer = request.await.unwrap().unwrap();
    assert_eq!((answer.status, answer.trace_id()), (503, TRACE_ID));
    let spans = receiver.spans();
    assert_eq!(spans.len(), 1);
    assert!(spans[0].is_error());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_a_request_does_not_hold_the_app() {
    let vars = [("OTEL_TRACES_EXPORTER", "none")];
    let app = App::start_with(&vars, |settings| settings.drain_timeout = DEADLINE).await;
    let unused = TcpStream::connect(app.address).await.unwrap();
    // An answer on a later connection proves that this one was accepted.
    app.get("/").await;
    let started = Instant::now();
    app.stop().await.unwrap();
    assert!(started.elapsed() < DEADLINE / 2, "{:?}", started.elapsed());
    drop(unused);
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_that_cannot_be_delivered_are_reported() {
    for protocol in ["grpc", "http/protobuf"] {
        // Port 9 (discard) is served by nobody here.
        let vars = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "200"),
        ];
        let app = App::start(&vars).await;
        app.get("/").await;
        let error = app.stop().await.unwrap_err();
        assert!(
            matches!(error, RunError::Flush(FlushError::Lost { lost: 1, of: 1, .. })),
            "{protocol}: {error:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_that_the_queue_had_no_room_for_are_reported() {
    let slow = StubServer::start().await;
    let answer = ResponseTemplate::new(200).set_delay(Duration::from_millis(400));
    Mock::given(method("POST")).respond_with(answer).mount(&slow).await;
    let vars = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", slow.uri()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf".to_owned()),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "1".to_owned()),
    ];
    let app = App::start(&vars.each_ref().map(|(name, value)| (*name, value.as_str()))).await;
    // One span is being exported, one waits, for the others there is no room.
    let requests = (0..20).map(|_| client().get(app.url("/")).send());
    futures_util::future::join_all(requests).await;
    let error = app.stop().await.unwrap_err();
    let RunError::Flush(FlushError::Lost { lost, of: 20, reason }) = error else {
        panic!("{error:?}")
    };
    assert!(reason.contains("OTEL_BSP_MAX_QUEUE_SIZE"), "{reason}");
    let exports = slow.received_requests().await.unwrap();
    let delivered: usize = exports
        .iter()
        .map(|export| ExportTraceServiceRequest::decode(&export.body[..]).unwrap())
        .flat_map(|export| export.resource_spans)
        .flat_map(|resource| resource.scope_spans)
        .map(|scope| scope.spans.len())
        .sum();
    assert!(delivered > 0);
    assert_eq!(lost, 20 - delivered as u64);
}
