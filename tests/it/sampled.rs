//! Samplers of the collector keep traces whole or drop them whole, and the harness blames nobody for those that they drop.

use std::time::{Duration, Instant};

use crate::support::ScenarioFile;

/// A collector config with this processor.
fn config(processor: &str) -> String {
    let name = processor.split(':').next().unwrap_or_default();
    format!(
        "receivers: {{ otlp: {{ protocols: {{ grpc: , http: }} }} }}\nprocessors: {{ {processor}, batch: {{ timeout: 50ms }} }}\nexporters: {{ datadog: {{ api: {{ key: '${{env:DD_API_KEY}}' }} }} }}\nservice: {{ pipelines: {{ traces: {{ receivers: [otlp], processors: [{name}, batch], exporters: [datadog] }} }} }}\n"
    )
}

fn scenario(requests: &str) -> String {
    format!(
        "name: sampled\ndescription: The collector samples.\nsystem: {{ chain: {{ collector_config: collector.yaml }} }}\nrequests: [{requests}]\nexpect: {{ within: 8s }}\n"
    )
}

const TAIL: &str = "tail_sampling: { decision_wait: 2s, policies: [{ name: n, type: string_attribute, string_attribute: { key: url.path, values: [/health, /outgoing-sampleapp] } }] }";

#[test]
fn a_trace_is_kept_whole_or_dropped_whole_by_its_id() {
    let half = "probabilistic_sampler: { sampling_percentage: 50, mode: equalizing }";
    ScenarioFile::new(&scenario("{ get: /outgoing-sampleapp, times: 16 }"))
        .with("collector.yaml", &config(half))
        .run(&["-v"])
        .expect_code(0)
        .expect_stdout("the collector's sampler `probabilistic_sampler` dropped the whole trace");
}

#[test]
fn a_trace_is_kept_whole_by_what_is_in_it() {
    ScenarioFile::new(&scenario("{ get: /outgoing-sampleapp, times: 3 }"))
        .with("collector.yaml", &config(TAIL))
        .run(&[])
        .expect_code(0);
}

#[test]
fn nothing_passes_where_every_trace_was_dropped() {
    let none = TAIL.replace("/outgoing-sampleapp", "/nowhere");
    let patient = scenario("{ get: /outgoing-sampleapp, times: 2 }").replace("8s", "2m");
    let began = Instant::now();
    ScenarioFile::new(&patient)
        .with("collector.yaml", &config(&none))
        .run(&[])
        .expect_code(3)
        .expect_stdout("sampler `tail_sampling` dropped every trace");
    assert!(began.elapsed() < Duration::from_secs(120), "it waited for traces that were dropped");
}
