//! Every protocol, compression and header that the variables ask for.

use crate::support::{App, Receiver, TRACEPARENT};

async fn export_one(receiver: &Receiver, vars: &[(&str, &str)]) {
    let app = App::start(vars).await;
    app.get_with("/", &[TRACEPARENT]).await;
    app.stop().await.unwrap();
    let spans = receiver.spans();
    assert_eq!(spans.len(), 1, "{vars:?}");
    assert_eq!(spans[0].span.name, "GET /");
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_go_out_over_grpc_with_headers_and_each_compression() {
    for compression in ["none", "gzip", "zstd"] {
        let receiver = Receiver::start().await;
        let vars = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.grpc.as_str()),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a%20b"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", compression),
        ];
        export_one(&receiver, &vars).await;
        let headers = &receiver.headers()[0];
        assert_eq!(headers["x-tenant"], "a b");
        assert_eq!(headers.get("grpc-encoding").map_or("none", |encoding| encoding), compression);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_go_out_over_http_with_headers_and_compression() {
    for compression in ["none", "gzip"] {
        let receiver = Receiver::start().await;
        let vars = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.http.as_str()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a%20b"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", compression),
        ];
        export_one(&receiver, &vars).await;
        let headers = &receiver.headers()[0];
        assert_eq!(
            (headers["x-tenant"].as_str(), headers["content-type"].as_str()),
            ("a b", "application/x-protobuf")
        );
        assert_eq!(
            headers.get("content-encoding").map_or("none", |encoding| encoding),
            compression
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_resource_is_what_the_variables_say() {
    let receiver = Receiver::start().await;
    let attributes = "service.namespace=GettingStarted,service.name=GettingStartedService";
    let vars = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.grpc.as_str()),
        ("OTEL_RESOURCE_ATTRIBUTES", attributes),
    ];
    export_one(&receiver, &vars).await;
    let resource = receiver.spans()[0].resource.clone();
    assert_eq!(resource["service.namespace"], "GettingStarted");
    assert_eq!(resource["service.name"], "GettingStartedService");
    assert_eq!(resource["telemetry.sdk.language"], "rust");
    assert_eq!(resource["service.instance.id"].len(), 36);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_batch_goes_out_before_the_schedule_is_due() {
    let receiver = Receiver::start().await;
    let vars = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.grpc.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "3600000"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "3"),
    ];
    let app = App::start(&vars).await;
    for _ in 0..3 {
        app.get("/").await;
    }
    crate::support::eventually(async || match receiver.spans().len() {
        3 => Ok(()),
        other => Err(format!("{other} spans")),
    })
    .await;
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sampler_that_samples_nothing_exports_nothing() {
    let receiver = Receiver::start().await;
    let vars = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.grpc.as_str()),
        ("OTEL_TRACES_SAMPLER", "always_off"),
    ];
    let app = App::start(&vars).await;
    app.get_with("/", &[TRACEPARENT]).await;
    assert_eq!(app.ledger().await["spans_ended"], 1);
    app.stop().await.unwrap();
    assert!(receiver.spans().is_empty());
}
