//! The other ways out: OTLP over HTTP and gRPC, with and without TLS.

use stub_server::StubServer;
use wiremock::matchers::{header, path};
use wiremock::{Mock, ResponseTemplate};

use crate::certificates::Certificates;
use crate::support::{DEADLINE, answer, golden, intake, request, span_ids, start, until};

const PATH: &str = "/v1/traces";

#[tokio::test]
async fn otlphttp_sends_what_came_to_datadogs_otlp_intake() {
    let otlp = StubServer::start().await;
    let traces = || {
        Mock::given(path(PATH))
            .and(header("dd-api-key", "secret"))
            .and(header("compute_stats", "true"))
    };
    traces().respond_with(ResponseTemplate::new(503)).up_to_n_times(1).mount(&otlp).await;
    traces().respond_with(ResponseTemplate::new(413)).up_to_n_times(1).mount(&otlp).await;
    traces().respond_with(ResponseTemplate::new(202)).mount(&otlp).await;
    let settings = [
        &format!("exporters.otlphttp.endpoint={}/", otlp.uri()),
        "exporters.otlphttp.headers={dd-api-key: secret, compute_stats: 'true'}",
        "exporters.otlphttp.retry_on_failure.initial_interval=10ms",
        "exporters.otlphttp.compression=zstd",
        "service.pipelines.traces.exporters=[otlphttp]",
    ];
    let rig = start(intake().await, &settings, DEADLINE).await;
    rig.send(request(1..=4)).await;
    until("four sent", async || rig.metric("otelcol_exporter_sent_spans").await == 4).await;
    let requests = otlp.received_requests().await.unwrap();
    let sizes: Vec<_> =
        requests.iter().map(|request| zstd::decode_all(&*request.body).unwrap().len()).collect();
    assert_eq!((sizes.len(), sizes[0]), (4, request(1..=4).len()));
    assert!(sizes[2] < sizes[0] && sizes[2] == sizes[3], "413 is answered by halves: {sizes:?}");
    assert!(rig.stop().await.0.is_clean());
}

#[tokio::test]
async fn spans_that_the_receiver_rejects_are_counted_as_dropped() {
    let otlp = StubServer::start().await;
    // An `ExportTraceServiceResponse` with two rejected spans.
    let partial = ResponseTemplate::new(200).set_body_bytes([10, 2, 8, 2].as_slice());
    Mock::given(path(PATH)).respond_with(partial).mount(&otlp).await;
    let settings = [
        &format!("exporters.otlphttp.traces_endpoint={}{PATH}", otlp.uri()),
        "service.pipelines.traces.exporters=[otlphttp]",
    ];
    let rig = start(intake().await, &settings, DEADLINE).await;
    rig.send(request(1..=5)).await;
    until("two dropped", async || rig.metric("otelcol_exporter_dropped_spans").await == 2).await;
    assert_eq!(rig.metric("otelcol_exporter_sent_spans").await, 3);
    assert!(rig.stop().await.0.is_clean());
}

#[tokio::test]
async fn collectors_chain_over_both_protocols_and_every_compression() {
    let second = {
        let intake = intake().await;
        answer(&intake, 202, u64::MAX).await;
        start(intake, &[], DEADLINE).await
    };
    let grpc = ["gzip", "zstd", "snappy", "none"].map(|compression| ("otlp", compression));
    let http = ["gzip", "zstd", "zlib", "deflate", "snappy", "x-snappy-framed", "lz4", "none"];
    let http = http.map(|compression| ("otlphttp", compression));
    for (number, (exporter, compression)) in (1..).zip(grpc.into_iter().chain(http)) {
        let endpoint = match exporter {
            "otlp" => second.address("otlp-grpc"),
            _ => format!("http://{}", second.address("otlp-http")),
        };
        let settings = [
            &format!("exporters.{exporter}.endpoint={endpoint}"),
            &format!("exporters.{exporter}.compression={compression}"),
            &format!("exporters.{exporter}.tls.insecure=true"),
            &format!("service.pipelines.traces.exporters=[{exporter}]"),
        ];
        let first = start(intake().await, &settings.map(String::as_str), DEADLINE).await;
        first.send(golden()).await;
        let arrived = async || span_ids(&second.attempts().await).len() == 8 * number;
        until(&format!("eight spans by {exporter}, {compression}"), arrived).await;
        assert!(first.stop().await.0.is_clean());
    }
    assert!(second.stop().await.0.is_clean());
}

#[tokio::test]
async fn with_mutual_tls_both_sides_show_certificates_and_strangers_stay_out() {
    let certificates = Certificates::make();
    let second = {
        let intake = intake().await;
        answer(&intake, 202, u64::MAX).await;
        let settings = [
            &format!("receivers.otlp.protocols.grpc.tls={}", certificates.server()),
            &format!("receivers.otlp.protocols.http.tls={}", certificates.server()),
        ];
        start(intake, &settings.map(String::as_str), DEADLINE).await
    };
    let settings = [
        &format!("exporters.otlp.endpoint={}", second.address("otlp-grpc")),
        &format!("exporters.otlp.tls={}", certificates.client()),
        &format!("exporters.otlphttp.endpoint=https://{}", second.address("otlp-http")),
        &format!("exporters.otlphttp.tls={}", certificates.client()),
        "service.pipelines.traces.exporters=[otlp, otlphttp]",
    ];
    let first = start(intake().await, &settings, DEADLINE).await;
    first.send(request(1..=2)).await;
    until("sent both ways", async || span_ids(&second.attempts().await) == [1, 1, 2, 2]).await;
    assert!(first.stop().await.0.is_clean());

    let settings = [
        &format!("exporters.otlp.endpoint={}", second.address("otlp-grpc")),
        &format!("exporters.otlp.tls.ca_file={}", certificates.path("ca.pem")),
        "exporters.otlp.retry_on_failure.initial_interval=10ms",
        "exporters.otlp.timeout=300ms",
        "service.pipelines.traces.exporters=[otlp]",
    ];
    let stranger = start(intake().await, &settings, std::time::Duration::from_millis(100)).await;
    stranger.send(request([3])).await;
    until("refused", async || stranger.metric("otelcol_exporter_send_failed_spans").await > 1)
        .await;
    assert_eq!(stranger.stop().await.0.left["otlp"], 1);
    assert_eq!(span_ids(&second.attempts().await).len(), 4);
}
