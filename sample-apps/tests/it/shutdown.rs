//! Stopping: what is in flight, what is not yet exported, what cannot be.

use std::time::Duration;

use sample_apps::{FlushError, RunError};

use crate::support::{App, Receiver, TRACE_ID, TRACEPARENT, eventually};

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
        crate::support::get(&url, &headers, crate::support::DEADLINE).await
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
        crate::support::get(&url, &headers, crate::support::DEADLINE).await
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
    let receiver = Receiver::start().await;
    let vars = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.grpc.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "3600000"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "1"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1"),
    ];
    let app = App::start(&vars).await;
    let client = reqwest::Client::new();
    let requests = (0..300).map(|_| client.get(app.url("/")).send());
    futures_util::future::join_all(requests).await;
    let ended = app.ledger().await["spans_ended"].as_u64().unwrap();
    let outcome = app.stop().await;
    let received = receiver.spans().len() as u64;
    // How many fit depends on the exporter's speed; what was lost is told to the span.
    match outcome {
        Ok(()) => assert_eq!(received, ended),
        Err(RunError::Flush(FlushError::Lost { lost, of, .. })) => {
            assert_eq!((of, lost), (ended, ended - received))
        }
        Err(other) => panic!("{other:?}"),
    }
}
