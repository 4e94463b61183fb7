//! Traces are kept whole or dropped whole, and nothing is lost that is kept.

use std::path::Path;

use crate::support::{DEADLINE, answer, intake, request, span_ids, start, until};

/// A request in JSON of one span with this status.
fn span(trace: u64, id: u64, status: u8) -> String {
    format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"{trace:032x}","spanId":"{id:016x}","name":"n","status":{{"code":{status}}}}}]}}]}}]}}"#
    )
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn a_trace_is_kept_or_dropped_whole_and_what_is_late_follows() {
    let intake = intake().await;
    answer(&intake, 202, u64::MAX).await;
    let settings = [
        "processors.tail_sampling={decision_wait: 300ms, policies: [{name: errors, type: status_code, status_code: {status_codes: [ERROR]}}]}",
        "extensions.trace_ledger={endpoint: '127.0.0.1:0'}",
        "service.extensions=[health_check, trace_ledger]",
        "service.pipelines.traces.processors=[tail_sampling, batch]",
    ];
    let rig = start(intake, &settings, DEADLINE).await;
    // A trace with an error in its second request, and one without.
    for body in [span(1, 11, 0), span(2, 21, 1), span(1, 12, 2), span(2, 22, 0)] {
        assert_eq!(rig.post(&[JSON], body).await.status, 200);
    }
    until("one is sent", async || span_ids(&rig.attempts().await) == [11, 12]).await;
    let dropped = "otelcol_processor_tail_sampling_dropped_spans";
    until("one is dropped", async || rig.metric(dropped).await == 2).await;
    for body in [span(1, 13, 0), span(2, 23, 2)] {
        assert_eq!(rig.post(&[JSON], body).await.status, 200);
    }
    until("the late one is sent", async || span_ids(&rig.attempts().await) == [11, 12, 13]).await;
    until("the late one is dropped", async || rig.metric(dropped).await == 3).await;
    let url = format!("http://{}/debug/traces/{:032x}", rig.address("ledger"), 2);
    let entry = rig.http.get(url).send().await.unwrap().text().await.unwrap();
    let entry: serde_json::Value = serde_json::from_str(&entry).unwrap();
    assert_eq!(entry["accepted"], 3);
    assert_eq!(
        entry["sampled_out"],
        serde_json::json!({ "tail_sampling": { "not_sampled": 2, "late": 1 } })
    );
    assert_eq!(rig.metric("otelcol_receiver_accepted_spans").await, 6);
    assert!(rig.stop().await.0.is_clean());
}

#[tokio::test]
async fn traces_that_still_wait_are_judged_when_the_collector_stops() {
    let intake = intake().await;
    answer(&intake, 202, u64::MAX).await;
    let settings = [
        "processors.tail_sampling={decision_wait: 1h, policies: [{name: all, type: always_sample}]}",
        "processors.groupbytrace={wait_duration: 1h}",
        "service.pipelines.traces.processors=[tail_sampling, groupbytrace, batch]",
    ];
    let rig = start(intake, &settings, DEADLINE).await;
    rig.send(request(1..=100)).await;
    let (drained, intake) = rig.stop().await;
    assert!(drained.is_clean(), "{drained:?}");
    let expected: Vec<u64> = (1..=100).collect();
    assert_eq!(span_ids(&crate::support::payloads(&intake).await), expected);
}

#[tokio::test]
async fn what_is_kept_is_on_disk_before_it_leaves_the_processor() {
    let folder = tempfile::tempdir().unwrap();
    let storage = storage(folder.path());
    let settings: Vec<&str> = storage.iter().map(String::as_str).collect();
    let refusing = intake().await;
    answer(&refusing, 503, u64::MAX).await;
    let rig = start(refusing, &settings, std::time::Duration::from_millis(500)).await;
    rig.send(request(1..=5)).await;
    until("it is written down", async || rig.metric("otelcol_exporter_queue_size").await > 0).await;
    let (drained, _) = rig.stop().await;
    assert_eq!(drained.kept.get("datadog"), Some(&5), "{drained:?}");
    let taking = intake().await;
    answer(&taking, 202, u64::MAX).await;
    let rig = start(taking, &settings, DEADLINE).await;
    until("all are sent", async || span_ids(&rig.attempts().await) == [1, 2, 3, 4, 5]).await;
    assert!(rig.stop().await.0.is_clean());
}

fn storage(folder: &Path) -> Vec<String> {
    [
        &format!(
            "extensions.file_storage={{directory: '{}', create_directory: true}}",
            folder.display()
        ),
        "service.extensions=[health_check, file_storage]",
        "exporters.datadog.sending_queue.storage=file_storage",
        "processors.groupbytrace={wait_duration: 10ms}",
        "service.pipelines.traces.processors=[groupbytrace]",
    ]
    .map(str::to_owned)
    .into()
}
