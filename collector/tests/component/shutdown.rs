//! A collector that stops sends what it holds, or says what it could not send.

use std::time::Duration;

use wiremock::matchers::path;
use wiremock::{Mock, ResponseTemplate};

use crate::support::{
    DEADLINE, answer, golden, intake, payloads, request, span_ids, start, stats, until,
};

#[tokio::test]
async fn what_is_batched_is_sent_before_the_end() {
    let intake = intake().await;
    answer(&intake, 503, 2).await;
    answer(&intake, 202, u64::MAX).await;
    let settings = ["processors.batch.timeout=1h", "processors.batch.send_batch_size=1000"];
    let rig = start(intake, &settings, DEADLINE).await;
    for id in 1..=20 {
        rig.send(request([id])).await;
    }
    let (drained, intake) = rig.stop().await;
    assert!(drained.is_clean(), "{drained:?}");
    let attempts = payloads(&intake).await;
    assert_eq!(span_ids(&attempts[2..]), (1..=20).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_waits_for_another_attempt_is_tried_before_the_end() {
    let intake = intake().await;
    answer(&intake, 503, 2).await;
    answer(&intake, 202, u64::MAX).await;
    let stats_path = || Mock::given(path("/api/v0.2/stats"));
    stats_path().respond_with(ResponseTemplate::new(503)).up_to_n_times(2).mount(&intake).await;
    stats_path().respond_with(ResponseTemplate::new(202)).mount(&intake).await;
    // The second wait is of a hundred seconds.
    let retry = ["initial_interval=100ms", "multiplier=1000", "max_interval=1h"];
    let settings = retry.map(|setting| format!("exporters.datadog.retry_on_failure.{setting}"));
    let rig = start(intake, &settings.each_ref().map(String::as_str), DEADLINE).await;
    rig.send(golden()).await;
    until("two attempts have failed", async || {
        rig.metric("otelcol_exporter_send_failed_spans").await == 16
    })
    .await;
    let (drained, intake) = rig.stop().await;
    assert!(drained.is_clean(), "{drained:?}");
    assert_eq!(payloads(&intake).await.len(), 3);
    assert_eq!(stats(&intake).await.len(), 3);
}

#[tokio::test]
async fn senders_that_are_held_at_the_end_are_asked_to_come_again_while_there_is_time() {
    let intake = intake().await;
    answer(&intake, 503, u64::MAX).await;
    let settings = [
        "exporters.datadog.sending_queue={queue_size: 1, num_consumers: 1}",
        "service.pipelines.traces.processors=[]",
    ];
    let rig = start(intake, &settings, Duration::from_secs(2)).await;
    rig.send(request([1])).await;
    let post = rig.http.post(format!("http://{}/v1/traces", rig.address("otlp-http")));
    let post = post.header("content-type", "application/x-protobuf").body(request([2]));
    let held = tokio::spawn(async move {
        let response = post.send().await.unwrap();
        (response.status().as_u16(), response.headers()["retry-after"].clone())
    });
    until("it is held", async || rig.metric("otelcol_exporter_held_requests").await == 1).await;
    let (drained, _) = rig.stop().await;
    assert!(held.is_finished(), "the collector has ended, and with it the connection");
    assert_eq!(held.await.unwrap(), (503, "3".parse().unwrap()));
    assert_eq!(drained.left["datadog"], 1);
}

#[tokio::test]
async fn what_cannot_be_sent_in_time_is_reported() {
    let intake = intake().await;
    answer(&intake, 503, u64::MAX).await;
    let rig = start(intake, &[], Duration::from_millis(200)).await;
    rig.send(request(1..=7)).await;
    let (drained, _) = rig.stop().await;
    assert!(!drained.is_clean());
    assert_eq!(drained.left["datadog"], 7);
}

#[tokio::test]
async fn a_collector_that_is_to_fail_on_an_invalid_key_does() {
    let intake = stub_server::StubServer::start().await;
    let forbidden = ResponseTemplate::new(403);
    Mock::given(path("/api/v1/validate")).respond_with(forbidden).mount(&intake).await;
    let rig = start(intake, &["exporters.datadog.api.fail_on_invalid_key=true"], DEADLINE).await;
    // It ends by itself, whether or not it is asked to; `stop` would hang otherwise.
    let drained = tokio::time::timeout(DEADLINE, rig.ended()).await.expect("it ends");
    assert!(drained.invalid_key && !drained.is_clean());
}

#[tokio::test]
async fn open_stats_are_sent_before_the_end() {
    let intake = intake().await;
    answer(&intake, 202, u64::MAX).await;
    let stats_path = || Mock::given(path("/api/v0.2/stats"));
    stats_path().respond_with(ResponseTemplate::new(503)).up_to_n_times(2).mount(&intake).await;
    stats_path().respond_with(ResponseTemplate::new(202)).mount(&intake).await;
    let rig = start(intake, &[], DEADLINE).await;
    rig.send(golden()).await;
    let (drained, intake) = rig.stop().await;
    assert!(drained.is_clean());
    let attempts = stats(&intake).await;
    assert_eq!(attempts.len(), 3, "two that failed, and the one that did not");
    let groups =
        attempts[2].stats.iter().flat_map(|client| &client.stats).flat_map(|bucket| &bucket.stats);
    let hits: u64 = groups.map(|group| group.hits).sum();
    assert_eq!(hits, 7, "all spans but the internal one");
}
