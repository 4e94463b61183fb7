//! A collector that stops sends what it holds, or says what it could not send.

use std::time::Duration;

use crate::support::{DEADLINE, answer, intake, payloads, request, span_ids, start};

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
    let intake = wiremock::MockServer::start().await;
    let forbidden = wiremock::ResponseTemplate::new(403);
    wiremock::Mock::given(wiremock::matchers::path("/api/v1/validate"))
        .respond_with(forbidden)
        .mount(&intake)
        .await;
    let rig = start(intake, &["exporters.datadog.api.fail_on_invalid_key=true"], DEADLINE).await;
    // It ends by itself, whether or not it is told to; `stop` would hang otherwise.
    let drained = tokio::time::timeout(DEADLINE, rig.ended()).await.expect("it ends");
    assert!(drained.invalid_key && !drained.is_clean());
}
